import pickle
import re
import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import prune

from jaxnets import layers
from jaxnets.interop import WeightsError, load_torch, read_torch, table, to_numpy, to_torch
from jaxnets.interop.links import Leaf
from jaxnets.models import MLP, LeNet

RNGS = nnx.Rngs(0)


def mlp():
    return MLP((3, 4, 2), rngs=RNGS)


def weights(model):
    return {k: v.tobytes() for k, v in to_numpy(model).items()}


def random_state(model, seed=0):
    draw = np.random.default_rng(seed)
    return {k: draw.normal(size=v.shape).astype(v.dtype) for k, v in to_numpy(model).items()}


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


class Holder(nnx.Module):
    """A network that contains others under chosen names."""

    def __init__(self, **parts):
        for name, part in parts.items():
            setattr(self, name, part)


# Wrappings


@given(
    prefixes=st.lists(st.sampled_from(["module", "_orig_mod", "net", "backbone"]), max_size=4),
    keys=st.lists(st.sampled_from(["state_dict", "model_state_dict", "model", "mine"]), max_size=3),
    inner=st.sampled_from(["", "_orig_mod", "module", "_fsdp_wrapped_module"]),
    beside=st.booleans(),
)
def test_nested_prefixes_are_removed(prefixes, keys, inner, beside):
    model = mlp()
    state = random_state(model)
    wrapped = prefixed(state, "".join(f"{prefix}." for prefix in prefixes))
    if inner:
        wrapped = {name.replace("fc2", f"fc2.{inner}"): value for name, value in wrapped.items()}
    for key in reversed(keys):
        wrapped = {key: wrapped}
        if beside:
            wrapped |= {"epoch": 3, "optimizer": {"state": {0: {"step": np.ones(())}}, "lr": 0.1}}
    report = load_torch(model, wrapped)
    assert weights(model) == {k: v.tobytes() for k, v in state.items()}
    assert set(report.wrapping) == {
        *keys, *(f"{part}." for part in [*prefixes, inner] if part)
    }  # fmt: skip
    assert ("epoch" in report.aside) == (beside and bool(keys))


def test_names_that_the_model_knows_are_no_wrapping():
    model = Holder(module=Holder(model=mlp()))
    state = random_state(model)
    assert next(iter(state)) == "module.model.fc1.weight"
    assert load_torch(model, state).wrapping == ()
    for prefix in ("module.", "_orig_mod.", "net.", "_orig_mod.module."):
        report = load_torch(model, prefixed(state, prefix))
        assert "".join(report.wrapping) == prefix
        assert weights(model) == {k: v.tobytes() for k, v in state.items()}


def test_a_first_part_that_could_be_one_or_two_is_asked_for():
    model = Holder(fc=layers.Linear(2, 2, rngs=RNGS), a=Holder(fc=layers.Linear(2, 2, rngs=RNGS)))
    source = prefixed(random_state(layers.Linear(2, 2, rngs=RNGS)), "b.a.fc.")
    message = r"rename=\{'b': ''\}\), got b\., b\.a\., which fit equally well"
    for strict in (True, False):
        with pytest.raises(ValueError, match=message):
            load_torch(model, source, strict=strict)
    report = load_torch(model, source, strict=False, rename={"b": ""})
    assert report.loaded == ("a.fc.weight", "a.fc.bias")
    report = load_torch(model, source, strict=False, rename={"b.a": ""})
    assert report.loaded == ("fc.weight", "fc.bias")


def test_unknown_names_do_not_hide_a_prefix():
    model = mlp()
    state = random_state(model)
    strangers = {"loss_fn.weight": np.ones(3), "train_acc.total": np.ones(())}
    source = {"state_dict": prefixed(state, "model.") | strangers, "epoch": 1}
    message = r"unexpected: loss_fn\.weight float64\[3\], train_acc\.total float64\[\]\n"
    with pytest.raises(WeightsError, match=message):
        load_torch(model, source)
    report = load_torch(model, source, rename={"loss_fn": None, "train_acc": None})
    assert report.wrapping == ("state_dict", "model.")
    assert weights(model) == {k: v.tobytes() for k, v in state.items()}


def test_unknown_arrays_are_not_loaded():
    model = Holder(fc=layers.Linear(2, 2, rngs=RNGS), scale=nnx.Param(jnp.ones(())))
    source = random_state(model)
    source["aux.scale"] = source.pop("scale")
    with pytest.raises(WeightsError, match=r"missing: scale .*\n.*unexpected: aux\.scale"):
        load_torch(model, source)


def test_one_of_two_networks_is_chosen_by_dropping_the_other():
    model = mlp()
    online, ema = random_state(model), random_state(model, 1)
    source = prefixed(online, "online_model.") | prefixed(ema, "ema_model.")
    source |= {"initted": np.ones(()), "step": np.ones(())}
    with pytest.raises(
        ValueError, match=r"\(pass, say, rename=\{'online_model': '', 'ema_model': "
    ):
        load_torch(model, source)
    others = {"step": None, "initted": None}
    load_torch(model, source, rename={"online_model": None} | others)
    assert weights(model) == {k: v.tobytes() for k, v in ema.items()}
    load_torch(model, source, rename={"online_model": "", "ema_model": None} | others)
    assert weights(model) == {k: v.tobytes() for k, v in online.items()}


def test_the_count_of_an_averaged_model_is_left_aside():
    twin = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    averaged = torch.optim.swa_utils.AveragedModel(twin)
    model = nnx.Sequential(layers.Linear(2, 3, rngs=RNGS), layers.BatchNorm1d(3))
    report = load_torch(model, averaged.state_dict())
    assert (report.wrapping, report.aside) == (("module.",), ("n_averaged",))
    model.n_averaged = nnx.Variable(jnp.asarray(7, jnp.int32))
    assert load_torch(model, averaged.state_dict()).aside == ()
    assert int(model.n_averaged[...]) == 0


def test_one_array_too_many_hides_no_wrapping():
    model = mlp()
    source = prefixed(random_state(model) | {"extra": np.ones(3, np.float32)}, "net.")
    with pytest.raises(
        WeightsError, match=r"unexpected: extra float32\[3\]\n  \(unwrapped: net\.\)"
    ):
        load_torch(model, source)


def test_the_place_that_fits_the_model_is_taken():
    model = mlp()
    state = random_state(model)
    other = random_state(layers.Linear(2, 2, rngs=RNGS))
    report = load_torch(model, {"generator": state, "discriminator": other})
    assert report.wrapping == ("generator",)
    assert report.aside == ("discriminator",)
    load_torch(model, {"state_dict": state, "state_dict_ema": state, "loss": np.ones(())})
    with pytest.raises(ValueError, match=r"such as source\['a'\]\), got .* 'a', 'b.c'"):
        load_torch(model, {"a": state, "b": {"c": state}})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"epoch": 3}, "a mapping without tensors, with the keys epoch"),
        ({"state_dict": {}}, "a mapping without tensors, with the keys state_dict"),
        ([1, 2], "which contains a list"),
        (torch.nn.Linear(2, 2), r"which contains a Linear; pass its state_dict\(\)"),
        (None, "which contains a NoneType"),
        (np.ones(3), "which contains a ndarray"),
    ],
)
def test_what_holds_no_weights_is_refused(source, message):
    with pytest.raises(ValueError, match=f"source: expected a state_dict: a mapping .*{message}"):
        load_torch(mlp(), source)


def test_a_network_without_weights_takes_an_empty_state():
    assert load_torch(layers.ReLU(), {}).loaded == ()
    with pytest.raises(ValueError, match="missing: fc1.weight"):
        load_torch(mlp(), {})


# Names


def test_rename_takes_parts_and_whole_names():
    model = mlp()
    state = random_state(model)
    source = {
        "layers.0.weight": state["fc1.weight"],
        "layers.0.bias": state["fc1.bias"],
        "last": state["fc2.weight"],
        "last.b": state["fc2.bias"],
        "rotary.inv_freq": np.ones(3),
    }
    rename = {
        "layers.0": "fc1", "last": "fc2.weight", "last.b": "fc2.bias", "rotary.inv_freq": None
    }  # fmt: skip
    report = load_torch(model, prefixed(source, "module."), rename=rename)
    assert weights(model) == {k: v.tobytes() for k, v in state.items()}
    assert report.aside == ("module.rotary.inv_freq",)


def test_rename_may_be_a_function_and_may_add_a_first_part():
    model = Holder(encoder=mlp())
    state = random_state(mlp())
    load_torch(model, state, rename={"": "encoder"})
    load_torch(model, prefixed(state, "net."), rename={"net.": "encoder."})
    load_torch(
        model,
        state | {"n": np.ones(())},
        rename=lambda n: f"encoder.{n}" if n != "n" else None,
    )
    assert weights(model) == {f"encoder.{k}": v.tobytes() for k, v in state.items()}


def test_names_to_rename_may_have_their_wrapping():
    model = mlp()
    state = random_state(model)
    source = prefixed(state | {"old.weight": np.ones(3)}, "module.net.")
    for key in ("old", "net.old", "module.net.old", "net.old.", "o?d.*", "old.[uvw]*"):
        load_torch(model, source, rename={key: None})
        assert weights(model) == {k: v.tobytes() for k, v in state.items()}
    with pytest.raises(ValueError, match="got 'net.fc3'; the source has fc1.bias, fc2.bias"):
        load_torch(model, source, rename={"net.fc3": None})


def test_a_pattern_drops_all_that_are_like_it():
    model = Holder(h=nnx.List([layers.Linear(2, 2, rngs=RNGS) for _ in range(3)]))
    state = random_state(model)
    masks = {f"h.{i}.attn.bias": np.ones((2, 2)) for i in range(3)}
    report = load_torch(model, state | masks, rename={"*.attn.bias": None})
    assert report.aside == tuple(masks)
    with pytest.raises(ValueError, match="a unique name for each array, got x for h.0"):
        load_torch(model, state | masks, rename={"*.attn.bias": "x"})
    with pytest.raises(ValueError, match=r"rename: expected names in .* got '\*\.mask'"):
        load_torch(model, state, rename={"*.mask": None})


def test_a_part_is_replaced_only_as_a_whole():
    model = Holder(fc=layers.Linear(2, 2, rngs=RNGS), fc1=layers.Linear(2, 2, rngs=RNGS))
    state = random_state(model)
    source = {name.replace("fc.", "f."): value for name, value in state.items()}
    load_torch(model, source, rename={"f": "fc"})
    assert weights(model) == {k: v.tobytes() for k, v in state.items()}


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        ({"fc3": "fc2"}, "names in the source, or .* got 'fc3'; the source has fc1.bias, fc2."),
        ({"fc1": "fc2"}, "a unique name for each array, got fc2.weight for fc1.weight and fc2"),
        (lambda name: 3, "a name or None for each name, got 3 for fc1.weight"),
        ("fc1", "a mapping of names or a function, got 'fc1'"),
    ],
)
def test_a_bad_rename_is_refused(rename, message):
    model = mlp()
    before = weights(model)
    with pytest.raises(ValueError, match=f"rename: expected {message}"):
        load_torch(model, random_state(model), rename=rename)
    assert weights(model) == before


# What does not fit


def faulty(model):
    state = random_state(model)
    state["fc1.weight"] = state["fc1.weight"].T
    state["fc2.bias"] = state["fc2.bias"].astype(np.int32)
    del state["fc1.bias"]
    state["attn.bias"] = np.ones((2, 3), np.float16)
    return state


def test_everything_wrong_is_said_at_once_and_nothing_is_changed():
    model = mlp()
    before = weights(model)
    with pytest.raises(WeightsError) as caught:
        load_torch(model, faulty(model))
    assert str(caught.value) == (
        "state_dict: expected the weights of MLP, got\n"
        "  missing: fc1.bias float32[4];\n"
        "  unexpected: attn.bias float16[2, 3];\n"
        "  mismatched: fc1.weight is float32[3, 4], not float32[4, 3] "
        "(for fc1.kernel float32[3, 4]), "
        "fc2.bias is integer (int32), not floating-point (float32)\n"
        "  (to leave arrays out: rename={'attn.bias': None}, or strict=False)"
    )
    assert weights(model) == before


def test_without_strict_what_fits_is_filled():
    model = mlp()
    before, state = weights(model), faulty(model)
    report = load_torch(model, state, strict=False)
    with pytest.raises(WeightsError) as caught:
        load_torch(model, state)
    assert report == caught.value.report == pickle.loads(pickle.dumps(caught.value)).report
    assert report.loaded == ("fc2.weight",)
    assert weights(model) == before | {"fc2.weight": state["fc2.weight"].tobytes()}


def test_nothing_at_all_is_an_error_without_strict_too():
    model = mlp()
    before = weights(model)
    for source in ({"conv.weight": np.ones(3, np.float32)}, {}):
        with pytest.raises(WeightsError, match=r"missing: fc1\.weight float32\[4, 3\], fc1\.bias"):
            load_torch(model, source, strict=False)
    assert weights(model) == before


class Encoding(nnx.Module):
    def __init__(self):
        self.pe = jnp.ones((4, 2))
        self.fc = layers.Linear(2, 2, rngs=RNGS)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("block.pe", "the model has `block.pe` as a plain array: make it an nnx.Variable"),
        ("block.fc.weight_g", "torch.nn.utils.remove_weight_norm first, in PyTorch"),
        ("block.fc.weight_orig", "remove_spectral_norm or prune.remove first"),
        ("block.fc.parametrizations.weight.original0", "parametrize.remove_parametrizations first"),
        ("block.mask", r"rename=\{'block.mask': None\}, or strict=False"),
    ],
)
def test_the_next_step_is_said(name, hint):
    model = Holder(block=Encoding())
    with pytest.raises(WeightsError, match=hint):
        load_torch(model, random_state(model) | {name: np.ones((4, 2), np.float32)})


def perceptron():
    return nnx.Sequential(layers.Linear(3, 4, rngs=RNGS), layers.Linear(4, 2, rngs=RNGS))


def torch_perceptron(change):
    twin = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)).eval()
    for layer in twin:
        change(layer)
    twin(torch.ones(1, 3))
    return twin


utils = torch.nn.utils
COMPUTED = {
    "weight_norm": utils.weight_norm,
    "weight_norm of columns": lambda layer: utils.weight_norm(layer, dim=1),
    "weight_norm of all": lambda layer: utils.weight_norm(layer, dim=None),
    "parametrized": utils.parametrizations.weight_norm,
    "pruned": lambda layer: prune.random_unstructured(layer, "weight", 0.5),
    "pruned bias": lambda layer: prune.random_unstructured(layer, "bias", 0.5),
}


@pytest.mark.parametrize("change", COMPUTED.values(), ids=COMPUTED)
@pytest.mark.parametrize("kind", ["tensors", "arrays", "wrapped"])
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_weights_that_were_split_are_computed(change, kind):
    twin, model = torch_perceptron(change), perceptron()
    state = twin.state_dict()
    if kind == "arrays":
        state = {name: value.numpy() for name, value in state.items()}
    if kind == "wrapped":
        state = {"epoch": 1, "net": {f"module.{name}": value for name, value in state.items()}}
    report = load_torch(model, state)
    assert report.aside == (("epoch",) if kind == "wrapped" else ())
    for number, layer in enumerate(twin):
        for name in ("weight", "bias"):
            assert torch.equal(to_torch(model)[f"{number}.{name}"], getattr(layer, name))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weight_norm_of_any_dtype_is_computed(dtype):
    twin = torch_perceptron(utils.parametrizations.weight_norm)
    expected, model = twin[0].weight.detach(), perceptron()
    load_torch(model, {name: value.to(dtype) for name, value in twin.state_dict().items()})
    error = (to_torch(model)["0.weight"] - expected).abs().max() / expected.abs().max()
    assert error < (0.02 if dtype is torch.bfloat16 else 0.003)


def test_weight_norm_needs_no_torch(monkeypatch):
    twin, model = torch_perceptron(utils.parametrizations.weight_norm), perceptron()
    state = {name: value.numpy() for name, value in twin.state_dict().items()}
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "torch", None)
        report = load_torch(model, state)
        found = to_numpy(model)
    assert report.conversions["0.weight"] == (
        "from 0.parametrizations.weight.original0 and 0.parametrizations.weight.original1"
    )
    np.testing.assert_allclose(found["0.weight"], twin[0].weight.detach(), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_recurrent_layers_weights_are_computed_too():
    twin, model = torch.nn.LSTM(3, 4), layers.LSTM(3, 4, rngs=RNGS)
    utils.weight_norm(twin, "weight_hh_l0")
    load_torch(model, twin.state_dict())
    assert torch.equal(to_torch(model)["weight_hh_l0"], twin.weight_hh_l0)


def test_older_names_of_layer_norm():
    model, old = nnx.Sequential(layers.LayerNorm(2)), {"gamma": np.ones(2), "beta": np.zeros(2)}
    report = load_torch(model, prefixed(old, "bert.0."))
    assert report.wrapping == ("bert.",)
    assert report.conversions["0.weight"] == "from bert.0.gamma, float64 to float32"
    load_torch(model, prefixed(old, "0."), rename={"0.gamma": "0.weight", "0.beta": "0.bias"})


def test_parts_that_the_model_has_itself_remain():
    names = ("weight_g", "weight_v", "gamma")
    model = Holder(**{name: nnx.Param(jnp.ones(2)) for name in names})
    state = random_state(model)
    assert load_torch(model, state).conversions == {}
    assert weights(model) == {k: v.tobytes() for k, v in state.items()}
    assert set(read_torch(state).arrays) == set(names)


UNDO = "a weight is computed from others: use torch.nn.utils"
NO_PLAIN_WEIGHTS = {
    "spectral_norm": (
        lambda: torch_perceptron(utils.spectral_norm).state_dict(),
        rf"{UNDO}.remove_spectral_norm first, .*: remove_spectral_norm\(layer, 'weight'\)",
    ),
    "spectral parametrization": (
        lambda: torch_perceptron(utils.parametrizations.spectral_norm).state_dict(),
        rf"{UNDO}.parametrize.remove_parametrizations .*_parametrizations\(layer, 'weight'\)",
    ),
    "orthogonal": (
        lambda: torch_perceptron(utils.parametrizations.orthogonal).state_dict(),
        rf"{UNDO}.parametrize.remove_parametrizations first",
    ),
    "a part that does not fit": (
        lambda: {"0.weight_hh_g": np.ones((4, 2)), "0.weight_hh_v": np.ones((4, 3))},
        rf"{UNDO}.remove_weight_norm first, .*: remove_weight_norm\(layer, 'weight_hh'\)",
    ),
    "quantized": (
        lambda: {"0.scale": np.ones(()), "0._packed_params._packed_params": (1, None)},
        r"are quantized: save the state_dict\(\) of the network before torch.ao.quantization.conv",
    ),
    "GPTQ": (lambda: {"0.qweight": np.ones(2, np.int32)}, "the weights are quantized: save"),
    "LoRA": (
        lambda: {"0.base_layer.weight": np.ones(2), "0.lora_A.default.weight": np.ones(2)},
        r"the weights are an adapter's: use model.merge_and_unload\(\) first, in PEFT, and save",
    ),
}


@pytest.mark.parametrize(("state", "hint"), NO_PLAIN_WEIGHTS.values(), ids=NO_PLAIN_WEIGHTS)
@pytest.mark.filterwarnings("ignore:.*spectral_norm:FutureWarning")
def test_what_has_no_plain_weights_is_refused_with_the_remedy(state, hint):
    model = perceptron()
    before = weights(model)
    with pytest.raises(WeightsError, match=hint):
        load_torch(model, state())
    assert weights(model) == before


@pytest.mark.parametrize(
    ("ours", "theirs", "rename"),
    [
        ("encoder", "", {"": "encoder"}),
        ("net.encoder", "", {"": "net.encoder"}),
        ("net", "model.inner", {"model.inner": "net"}),
        ("net.encoder", "net.backbone", {"net.backbone": "net.encoder"}),
    ],
)
def test_another_first_part_is_offered(ours, theirs, rename):
    model = inner = mlp()
    for part in reversed(ours.split(".")):
        model = Holder(**{part: model})
    state = random_state(inner)
    source = prefixed(state, f"{theirs}." if theirs else "")
    hint = re.escape(f"(all that are missing have other names: rename={rename})")
    with pytest.raises(WeightsError, match=hint):
        load_torch(model, source)
    load_torch(model, source, rename=rename)
    assert weights(inner) == {k: v.tobytes() for k, v in state.items()}


def test_a_first_part_is_offered_where_a_head_is_missing():
    model = Holder(encoder=mlp(), head=layers.Linear(5, 6, rngs=RNGS))
    hint = re.escape("(4 of 6 that are missing have other names: rename={'': 'encoder'})")
    with pytest.raises(WeightsError, match=hint):
        load_torch(model, random_state(mlp()))
    with pytest.raises(WeightsError) as caught:  # of other shapes
        load_torch(model, {"fc1.weight": np.ones(3), "fc1.bias": np.ones(3)})
    assert "other names" not in str(caught.value)


def test_a_layer_that_was_never_run_does_not_fit():
    lazy = torch.nn.LazyLinear(3).state_dict()
    with pytest.raises(WeightsError, match=r"mismatched: weight is an UninitializedParameter: run"):
        load_torch(layers.Linear(2, 3, rngs=RNGS), lazy)
    with pytest.raises(WeightsError, match=r"unexpected: weight an UninitializedParameter: run"):
        load_torch(Holder(scale=nnx.Param(jnp.ones(()))), lazy)


def test_tied_weights_and_buffers_are_filled():
    class Head(nnx.Module):
        def __init__(self, embedding):
            self.weight = embedding.embedding

    embedding = layers.Embedding(5, 3, rngs=RNGS)
    mask = nnx.Variable(jnp.zeros((2, 2)))
    model = Holder(wte=embedding, lm_head=Head(embedding), bias=mask)
    table = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    tied = {"wte.weight": table, "lm_head.weight": table, "bias": np.tri(2, dtype=np.float32)}
    load_torch(model, tied)
    np.testing.assert_array_equal(embedding.embedding[...], table)
    np.testing.assert_array_equal(mask[...], np.tri(2))
    with pytest.raises(WeightsError, match="wte.weight, to which the model ties it"):
        load_torch(model, tied | {"lm_head.weight": table + 1})


def test_a_number_beside_networks_of_other_names_hides_none():
    model = mlp()
    state = random_state(model)
    for best in (np.float64(0.9), np.ones(()), torch.tensor(0.9)):
        report = load_torch(model, {"best": best, "generator": state})
        assert (report.wrapping, report.aside) == (("generator",), ("best",))


BESIDE = {
    "latent_avg": torch.ones(3),
    "rng_state": torch.get_rng_state(),
    "cuda_rng_state": [torch.get_rng_state()],
    "epoch": torch.tensor(3),
    "step": torch.tensor([3]),
    "losses": [0.5, 0.25],
    "loss_history": np.ones(1000),
    "best": np.float32(0.5),
    "classes": np.array(["cat", "dog"]),
    "made": np.array(["2026-01-01"], "M8[D]"),
    "objects": np.array([{}], object),
}


@pytest.mark.parametrize("key", ["g_ema", "my_weights", "state_dict"])
def test_arrays_beside_the_weights_hide_none(key):
    model = mlp()
    state = random_state(model)
    for name, value in BESIDE.items():
        report = load_torch(model, {name: value, key: state})
        assert (report.wrapping, report.aside) == ((key,), (name,))
    report = load_torch(model, BESIDE | {"nested": {key: state}} | {"optimizer": {"state": {}}})
    assert report.wrapping == ("nested", key)
    assert report.aside == (*BESIDE, "optimizer")
    assert weights(model) == {k: v.tobytes() for k, v in state.items()}
    assert list(read_torch({"rng_state": torch.get_rng_state(), key: state}).arrays) == list(state)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [list, tuple])
def test_weights_in_a_list_are_found(kind):
    model = mlp()
    state = random_state(model)
    optimizer = torch.optim.Adam(torch.nn.Linear(2, 2).parameters()).state_dict()
    report = load_torch(model, kind([state, optimizer, 3]))
    assert (report.wrapping, report.aside) == (("0",), ("1", "2"))
    assert weights(model) == {k: v.tobytes() for k, v in state.items()}
    report = load_torch(model, {"epoch": 1, "models": kind([{"a": np.ones(3)}, state])})
    assert (report.wrapping, report.aside) == (("models", "1"), ("epoch", "0"))
    with pytest.raises(ValueError, match=r"such as source\['models'\]\[0\]\), got .* 'models.0', "):
        load_torch(model, {"models": kind([state, dict(state)])})


def test_the_outer_of_two_mappings_that_fit_equally_is_taken():
    model = mlp()
    state = random_state(model)
    report = load_torch(model, state | {"average": random_state(model, 1)})
    assert (report.wrapping, report.aside) == ((), ("average",))
    assert weights(model) == {k: v.tobytes() for k, v in state.items()}


def test_what_is_no_weight_of_any_layer_is_left_aside():
    model = mlp()
    others = {name: BESIDE[name] for name in ("classes", "made", "objects", "best")}
    others["freqs"] = np.ones(2, np.complex64)
    report = load_torch(model, random_state(model) | others)
    assert set(report.aside) == set(others)


def nested(depth=40):
    """A nested tuple whose text would not fit into memory."""
    found = ()
    for _ in range(depth):
        found = (found, found)
    return found


def test_what_is_held_many_times_is_walked_once():
    tree = random_state(mlp())
    for _ in range(2):
        tree = [dict.fromkeys(map(str, range(300)), tree)] * 300
    with pytest.raises(ValueError, match="expected one state_dict"):
        load_torch(mlp(), tree)
    with pytest.raises(ValueError, match="a mapping without tensors, with the keys tuple, a"):
        load_torch(mlp(), {nested(10): 1, "a": nested()})


def test_numbers_without_an_array_are_weights_where_the_model_knows_them():
    model = Holder(norm=layers.BatchNorm1d(2), scale=nnx.Param(jnp.ones((), jnp.float32)))
    state = random_state(model) | {"norm.num_batches_tracked": 7, "scale": np.float32(0.5)}
    assert load_torch(model, state | {"epoch": 3}).aside == ("epoch",)
    assert (int(model.norm.num_batches_tracked[...]), float(model.scale[...])) == (7, 0.5)


def test_many_faults_are_counted():
    model = Holder(many=nnx.List([layers.Linear(1, 1, rngs=RNGS) for _ in range(30)]))
    with pytest.raises(ValueError, match=r"many\.9\.bias float32\[1\], and 40 more$"):
        load_torch(model, {})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(2, dtype=torch.int64), r"is integer \(int64\), not floating-point"),
        (torch.ones(2, dtype=torch.bool), r"is boolean \(bool\), not floating-point"),
        (torch.ones(2, dtype=torch.complex64), r"is complex \(complex64\), not floating-point"),
        (np.array([1e300, 1.0]), "has float64 values that are too large for float32"),
        (torch.ones(2).to_sparse(), "is a tensor without plain values: "),
        (torch.ones(2, device="meta"), "is a tensor without plain values: "),
        (torch.ones(2).to(torch.float8_e4m3fn), "is a tensor without plain values: "),
        (np.array(["a", "b"]), "is <U1"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(value, message):
    model = mlp()
    with pytest.raises(ValueError, match=rf"mismatched: fc2\.bias {message}"):
        load_torch(model, random_state(model) | {"fc2.bias": value})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_converted_and_reported(dtype):
    model = mlp()
    state = {k: torch.tensor(v).to(dtype) for k, v in random_state(model).items()}
    report = load_torch(model, state)
    name = str(dtype).removeprefix("torch.")
    assert report.conversions == dict.fromkeys(state, f"{name} to float32")
    for key, value in to_torch(model).items():
        assert torch.equal(value, state[key].float())
    assert f"{name} to float32: fc1.weight, fc1.bias, fc2.weight, fc2.bias" in str(report)


def test_not_a_number_and_infinities_come_through():
    model = mlp()
    state = random_state(model) | {"fc2.bias": np.array([np.nan, -np.inf])}
    load_torch(model, state)
    np.testing.assert_array_equal(model.fc2.bias[...], [np.nan, -np.inf])


def test_a_half_model_refuses_what_it_cannot_hold():
    model = layers.Linear(1, 2, rngs=RNGS, param_dtype=jnp.float16)
    state = {"weight": np.ones((2, 1), np.float32), "bias": np.array([1e6, 0], np.float32)}
    with pytest.raises(ValueError, match="bias has float32 values that are too large for float16"):
        load_torch(model, state)


# Statistics and shared weights


def test_the_count_of_batches_may_be_absent():
    model = layers.BatchNorm2d(2)
    model.num_batches_tracked[...] = jnp.asarray(5, jnp.int32)
    state = torch.nn.BatchNorm2d(2).state_dict()
    count = state.pop("num_batches_tracked")
    report = load_torch(model, state)
    assert report.kept == ("num_batches_tracked",)
    assert "kept: num_batches_tracked" in str(report)
    assert int(model.num_batches_tracked[...]) == 5
    assert load_torch(model, state | {"num_batches_tracked": count}).kept == ()
    assert int(model.num_batches_tracked[...]) == 0
    with pytest.raises(ValueError, match="int64 values that are too large for int32"):
        load_torch(model, state | {"num_batches_tracked": count + 2**31})


@pytest.mark.parametrize(
    "count",
    [
        torch.tensor(7.0),
        torch.tensor([7]),
        torch.tensor([[7.0]], dtype=torch.float64),
        torch.tensor(7, dtype=torch.int32),
        torch.tensor(7, dtype=torch.bfloat16),
        torch.tensor(7.0).half(),
        np.uint8(7),
        np.float64(7),
        7,
    ],
)
def test_the_count_of_batches_may_be_any_whole_number(count):
    model = layers.BatchNorm2d(2)
    state = torch.nn.BatchNorm2d(2).state_dict() | {"num_batches_tracked": count}
    for source in (state, prefixed(state, "module.")):
        model.num_batches_tracked[...] = jnp.asarray(5, jnp.int32)
        assert "num_batches_tracked" in load_torch(model, source).loaded
        assert int(model.num_batches_tracked[...]) == 7
        assert model.num_batches_tracked[...].dtype == jnp.int32


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (torch.tensor(0.5), "is 0.5, not a whole number"),
        (torch.tensor(float("nan")), "is nan, not a whole number"),
        (torch.tensor(float("inf")).half(), "is inf, not a whole number"),
        (torch.tensor([1, 2]), r"is int64\[2\], not a whole number"),
        (torch.tensor(True), r"is bool\[\], not a whole number"),
        (torch.tensor(1e30), r"is 1e\+30, which is too large for int64"),
    ],
)
def test_a_count_that_is_none_is_refused_with_the_remedy(count, message):
    model, state = layers.BatchNorm2d(2), torch.nn.BatchNorm2d(2).state_dict()
    remedy = {"*num_batches_tracked": None}
    message += rf"\n.*may be absent: rename={re.escape(repr(remedy))}"
    with pytest.raises(WeightsError, match=f"mismatched: num_batches_tracked {message}"):
        load_torch(model, state | {"num_batches_tracked": count})
    load_torch(model, state | {"num_batches_tracked": count}, rename=remedy)


def test_flax_has_no_count_of_batches_and_torch_gets_a_zero():
    model = nnx.BatchNorm(2, rngs=RNGS)
    assert to_torch(model)["num_batches_tracked"].dtype == torch.int64
    state = torch.nn.BatchNorm2d(2).state_dict()
    assert load_torch(model, state).aside == ("num_batches_tracked",)
    del state["num_batches_tracked"]
    assert load_torch(model, state).aside == ()


def shared_pair():
    ours = Holder(a=layers.Linear(2, 2, rngs=RNGS), b=layers.Linear(2, 2, rngs=RNGS))
    ours.b.kernel = ours.a.kernel
    ours.c = ours.a
    theirs = torch.nn.Module()
    theirs.a, theirs.b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    theirs.b.weight, theirs.c = theirs.a.weight, theirs.a
    return ours, theirs


def test_shared_weights_have_all_their_names():
    ours, theirs = shared_pair()
    report = load_torch(ours, theirs.state_dict())
    assert set(report.loaded) == set(theirs.state_dict())
    assert ours.b.kernel is ours.a.kernel
    theirs.load_state_dict(to_torch(ours), strict=True)
    state = to_torch(ours)
    assert torch.equal(state["a.weight"], state["b.weight"])
    assert state["a.weight"].data_ptr() != state["b.weight"].data_ptr()


def test_one_name_of_a_shared_weight_is_enough():
    ours, theirs = shared_pair()
    state = theirs.state_dict()
    for name in ("b.weight", "a.weight", "a.bias"):
        del state[name]
    load_torch(ours, state)
    np.testing.assert_array_equal(ours.a.kernel[...], theirs.a.weight.detach().numpy().T)


def test_shared_weights_that_differ_are_refused():
    ours, theirs = shared_pair()
    state = theirs.state_dict() | {"b.weight": torch.zeros(2, 2)}
    with pytest.raises(ValueError, match="b.weight differs from a.weight, to which the model ties"):
        load_torch(ours, state)


def test_a_module_that_holds_itself_is_walked_once():
    model = Holder(fc=layers.Linear(2, 2, rngs=RNGS))
    model.fc.parent = nnx.data(model)
    assert list(to_numpy(model)) == ["fc.weight", "fc.bias"]


# Memory, placement and kinds of models


def test_no_memory_is_shared():
    model = mlp()
    state = {k: torch.tensor(v) for k, v in random_state(model).items()}
    arrays = random_state(model)
    for source in (state, arrays):
        load_torch(model, source)
        before = weights(model)
        for value in source.values():
            value[...] = 99
        for value in (*to_torch(model).values(), *to_numpy(model).values()):
            value[...] = 99
        assert weights(model) == before


def test_weights_stay_on_their_devices():
    model = mlp()
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    model.fc1.kernel.set_value(jax.device_put(model.fc1.kernel[...], sharding))
    load_torch(model, random_state(model))
    assert model.fc1.kernel[...].sharding == sharding


def test_an_abstract_model_is_filled():
    model = nnx.eval_shape(lambda: MLP((3, 4, 2), rngs=nnx.Rngs(0)))
    state = random_state(mlp())
    load_torch(model, state)
    assert weights(model) == {k: v.tobytes() for k, v in state.items()}
    assert model(jnp.ones((1, 3), jnp.float32)).shape == (1, 2)


def test_jax_arrays_are_a_source_too():
    model = mlp()
    state = random_state(model)
    load_torch(model, {k: jnp.asarray(v) for k, v in state.items()})
    assert weights(model) == {k: v.tobytes() for k, v in state.items()}


def test_a_variable_without_an_array_is_no_weight():
    model = Holder(count=nnx.Variable(3), fc=layers.Linear(1, 1, rngs=RNGS))
    assert list(to_numpy(model)) == ["fc.weight", "fc.bias"]


def test_random_streams_and_caches_are_no_weights():
    attention = nnx.MultiHeadAttention(2, 4, decode=True, dropout_rate=0.5, rngs=RNGS)
    attention.init_cache((1, 3, 4))
    model = Holder(attention=attention, dropout=layers.Dropout(0.5, rngs=RNGS))
    assert set(to_numpy(model)) == {
        f"attention.{name}"
        for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    }


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nnx.LinearGeneral(2, (3, 4), rngs=RNGS), "LinearGeneral at the top"),
        (lambda: Holder(a=nnx.Einsum("ab,bc->ac", (2, 3), rngs=RNGS)), "Einsum at a"),
        (lambda: Holder(a=nnx.LoRALinear(2, 3, lora_rank=1, rngs=RNGS)), "LoRA at a.lora"),
        (
            lambda: nnx.MultiHeadAttention(4, 8, num_kv_heads=2, rngs=RNGS),
            "num_kv_heads = num_heads",
        ),
        (lambda: nnx.MultiHeadAttention(4, 8, qkv_features=4, rngs=RNGS), "in_features = qkv"),
        (lambda: 3, "model: expected an nnx.Module, got int"),
        (lambda: Holder(a=nnx.data(Hidden(nnx.Param(jnp.ones(2))))), "got a.weight"),
        (
            lambda: Holder(a=nnx.Sequential(layers.PReLU()), b=Clash()),
            "a unique PyTorch name for each weight, got b.0.weight",
        ),
    ],
)
def test_models_without_a_counterpart_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        to_numpy(build())


@jax.tree_util.register_dataclass
@dataclass
class Hidden:
    """A user-defined pytree, whose contents have no attribute path."""

    weight: nnx.Param


class Clash(nnx.Sequential):
    def __init__(self):
        super().__init__(layers.PReLU())
        setattr(self, "0", layers.PReLU())


def test_a_user_may_add_a_rule():
    class Scale(nnx.Module):
        def __init__(self):
            self.gain = nnx.Param(jnp.ones(3, jnp.float32))

    assert list(to_numpy(Scale())) == ["gain"]  # without a rule: the same name and layout
    table.RULES[Scale] = lambda layer: {"gain": Leaf("log_gain", np.exp, np.log)}
    try:
        np.testing.assert_array_equal(to_numpy(Scale())["log_gain"], np.zeros(3))
    finally:
        del table.RULES[Scale]


def test_the_report_reads_well():
    model = LeNet(rngs=RNGS)
    state = prefixed(random_state(model), "module.")
    report = load_torch(model, {"epoch": 7, "state_dict": state})
    assert str(report) == (
        "10 arrays of state_dict loaded into LeNet\n"
        "  unwrapped: state_dict, module.\n"
        "  ignored: epoch"
    )


def test_a_checkpoint_is_read_without_a_model():
    state = random_state(mlp())
    found = read_torch({"epoch": 1, "model": prefixed(state, "module.")})
    assert list(found.arrays) == list(state)
    assert found.wrapping == ("model", "module.")
    assert found.aside == ("epoch",)
