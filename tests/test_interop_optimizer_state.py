import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from jaxnets import layers, optimizers
from jaxnets.interop import (
    load_torch_optimizer,
    optimizer_from_torch,
    to_numpy,
    to_torch_optimizer,
)
from jaxnets.models import MLP

RNGS = nnx.Rngs(0)
SHAPES = {"fc1.weight": (4, 3), "fc1.bias": (4,), "fc2.weight": (2, 4), "fc2.bias": (2,)}
NAMES = list(SHAPES)
SLOTS = {
    "adam": ("exp_avg", "exp_avg_sq"),
    "amsgrad": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "sgd": ("momentum_buffer",),
}
OURS = {
    "adam": optimizers.adam(),
    "amsgrad": optimizers.adam(amsgrad=True),
    "sgd": optimizers.sgd(0.1, momentum=0.9),
    "plain": optimizers.sgd(0.1),
}


@pytest.fixture(scope="module")
def model():
    return MLP((3, 4, 2), rngs=RNGS)


def parameters(model):
    return nnx.state(model, nnx.Param)


def tensors(shapes):
    return [torch.nn.Parameter(torch.ones(shape)) for shape in shapes]


def torch_optimizer(kind, groups=None):
    groups = groups or tensors(SHAPES.values())
    if kind in ("sgd", "plain"):
        return torch.optim.SGD(groups, lr=0.1, momentum=0.9 if kind == "sgd" else 0)
    return torch.optim.Adam(groups, amsgrad=kind == "amsgrad")


def source(kind, step=3):
    """The state_dict of an optimizer that has taken some steps."""
    draw = np.random.default_rng(0)
    state_dict = torch_optimizer(kind).state_dict()
    if step:
        state_dict["state"] = {
            number: {slot: draw.uniform(size=shape).astype(np.float32) for slot in SLOTS[kind]}
            for number, shape in enumerate(SHAPES.values())
        }
    if step and kind != "sgd":
        for slots in state_dict["state"].values():
            slots["step"] = torch.tensor(float(step))
    return state_dict


def load(model, kind, state_dict, names=NAMES, **options):
    state = OURS[kind].init(parameters(model))
    return load_torch_optimizer(state, state_dict, model, names=names, **options)


def bits(state):
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return [(path, str(leaf.dtype), np.asarray(leaf).tobytes()) for path, leaf in leaves]


class Holder(nnx.Module):
    """A network that contains others under chosen names."""

    def __init__(self, **parts):
        for name, part in parts.items():
            setattr(self, name, part)


# Where the state and the names come from


@pytest.mark.parametrize("key", ["optimizer", "optimizer_state_dict", "optim", "optimizer_state"])
@pytest.mark.parametrize("weights", ["model", "state_dict", "model_state_dict", "net"])
def test_any_key_of_a_checkpoint_will_do(model, key, weights):
    state_dict = source("adam")
    network = {f"module.{name}": array for name, array in to_numpy(model).items()}
    checkpoint = {"epoch": 3, key: state_dict, weights: network, "loss": [0.1, 0.2]}
    expected = bits(load(model, "adam", state_dict))
    assert bits(load(model, "adam", checkpoint, None)) == expected
    assert bits(load(model, "adam", {"nested": checkpoint}, None)) == expected


def test_a_list_of_one_optimizer_is_lightnings(model):
    state_dict = source("adam")
    network = {f"model.{name}": array for name, array in to_numpy(model).items()}
    checkpoint = {"state_dict": network, "optimizer_states": [state_dict], "lr_schedulers": []}
    assert bits(load(model, "adam", checkpoint, None)) == bits(load(model, "adam", state_dict))


def test_numbers_that_are_names_are_those_of_distributed_checkpoints(model):
    state_dict = source("adam")
    named = {
        "state": {f"module.{NAMES[number]}": kept for number, kept in state_dict["state"].items()},
        "param_groups": [
            state_dict["param_groups"][0] | {"params": [f"module.{name}" for name in NAMES]}
        ],
    }
    assert bits(load(model, "adam", named, None)) == bits(load(model, "adam", state_dict))


def test_the_names_of_a_state_dict_are_without_buffers_and_repetitions():
    first = layers.Linear(2, 2, rngs=RNGS)
    second = layers.Linear(2, 2, rngs=RNGS)
    second.kernel = first.kernel
    model = nnx.Sequential(first, layers.BatchNorm1d(2), second)
    names = to_numpy(model)
    assert "1.running_mean" in names
    assert "2.weight" in names
    own = ["0.weight", "0.bias", "1.weight", "1.bias", "2.bias"]
    draw = np.random.default_rng(0)
    state = {
        number: {"momentum_buffer": draw.normal(size=names[name].shape).astype(np.float32)}
        for number, name in enumerate(own)
    }
    state_dict = {"state": state, "param_groups": [{"lr": 0.1, "params": list(range(5))}]}
    fresh = OURS["sgd"].init(parameters(model))
    found = load_torch_optimizer(fresh, state_dict, model, names=names)
    assert bits(found) == bits(load_torch_optimizer(fresh, state_dict, model, names=own))
    back = to_torch_optimizer(found, model, state_dict, names=names)
    assert back["state"].keys() == state.keys()
    for number, slots in state.items():
        np.testing.assert_array_equal(
            back["state"][number]["momentum_buffer"], slots["momentum_buffer"]
        )


def test_renamed_and_dropped_parameters(model):
    state_dict = source("adam")
    theirs = [name.replace("fc", "layer") for name in NAMES]
    expected = bits(load(model, "adam", state_dict))
    rename = {"layer1": "fc1", "layer2": "fc2"}
    assert bits(load(model, "adam", state_dict, theirs, rename=rename)) == expected
    # Parameter 0 is a head that the model lacks; its state is ignored.
    state = {number + 1: kept for number, kept in state_dict["state"].items()}
    state[0] = {"exp_avg": torch.ones(7), "exp_avg_sq": torch.ones(7), "step": torch.tensor(1.0)}
    group = state_dict["param_groups"][0] | {"params": [0, 1, 2, 3, 4]}
    more = {"state": state, "param_groups": [group]}
    names = ["head.weight", *NAMES]
    assert bits(load(model, "adam", more, names, rename={"head": None})) == expected


# What is loaded


def test_a_state_that_has_steps_is_overwritten_and_stays_as_it_is(model):
    first = load(model, "adam", source("adam", 3))
    before = bits(first)
    second = load_torch_optimizer(first, source("adam", 0), model, names=NAMES)
    assert bits(first) == before
    assert bits(second) == bits(OURS["adam"].init(parameters(model)))


def test_steps_and_learning_rate(model):
    state_dict = source("adam")
    state_dict["param_groups"][0]["lr"] = torch.tensor(0.25)
    state = load(model, "adam", state_dict, step=3)
    assert (int(state.step), float(state.lr)) == (3, 0.25)
    for kept in state_dict["state"].values():
        kept["step"] = 3  # as in PyTorch before 1.12
    assert int(load(model, "adam", state_dict).step) == 3


@pytest.mark.parametrize(
    ("kind", "steps", "given", "expected"),
    [
        ("sgd", 3, None, 1),
        ("sgd", 3, 7, 7),
        ("sgd", 0, None, 0),
        ("sgd", 0, 0, 0),
        ("plain", 0, None, 0),
        ("plain", 0, 7, 7),
    ],
)
def test_steps_of_sgd(model, kind, steps, given, expected):
    state = load(model, kind, source(kind, steps), step=given)
    assert int(state.step) == expected
    assert state.step.dtype == jnp.int32


def test_missing_buffers_stay_none(model):
    state_dict = source("plain", 0)
    state_dict["state"] = {number: {"momentum_buffer": None} for number in range(4)}
    assert int(load(model, "plain", state_dict).step) == 0
    assert (
        int(load(model, "sgd", state_dict | {"param_groups": source("sgd")["param_groups"]}).step)
        == 0
    )


def test_the_sum_of_adagrad_begins_where_its_options_say(model):
    like = torch.optim.Adagrad(tensors(SHAPES.values()), initial_accumulator_value=0.25)
    state_dict = like.state_dict() | {"state": {}}
    fresh = optimizers.adagrad(initial_accumulator_value=0.25).init(parameters(model))
    other = jax.tree.map(jnp.ones_like, fresh)
    state = load_torch_optimizer(other, state_dict, model, names=NAMES)
    assert bits(state) == bits(fresh)


def test_the_learning_rate_goes_back_as_it_was_written(model):
    like = torch_optimizer("adam")
    state = load(model, "adam", source("adam"))
    for written in (0.1, 1 / 3, 0.001, 3e-5):
        state = optimizers.set_learning_rate(state, written)
        like.param_groups[0]["lr"] = written
        found = to_torch_optimizer(state, model, like, names=NAMES)
        assert found["param_groups"][0]["lr"] == written
    like.param_groups[0]["lr"] = 7.0
    found = to_torch_optimizer(state, model, like, names=NAMES)
    assert found["param_groups"][0]["lr"] == 3e-5
    like.param_groups[0]["lr"] = torch.tensor(7.0)
    found = to_torch_optimizer(state, model, like, names=NAMES)
    assert torch.equal(found["param_groups"][0]["lr"], torch.tensor(3e-5))
    assert torch.equal(like.param_groups[0]["lr"], torch.tensor(7.0))


def test_tensors_share_no_memory(model):
    state_dict = source("adam")
    state = load(model, "adam", state_dict)
    before = bits(state)
    back = to_torch_optimizer(state, model, state_dict, names=NAMES)
    for slots in back["state"].values():
        slots["exp_avg"].fill_(7)
    for slots in state_dict["state"].values():
        slots["exp_avg"][:] = 8
    back["param_groups"][0]["params"].clear()
    assert bits(state) == before
    assert state_dict["param_groups"][0]["params"] == [0, 1, 2, 3]


def test_the_state_of_nnx_optimizer(model):
    optimizer = nnx.Optimizer(model, optimizers.adam(), wrt=nnx.Param)
    state_dict = source("adam")
    state = load_torch_optimizer(optimizer.opt_state, state_dict, model, names=NAMES)
    assert jax.tree.structure(state) == jax.tree.structure(optimizer.opt_state)
    plain = load(model, "adam", state_dict)
    assert [b for _, *b in bits(state)] == [b for _, *b in bits(plain)]


def test_the_shapes_of_a_state_are_enough(model):
    shapes = jax.eval_shape(OURS["adam"].init, parameters(model))
    state_dict = source("adam")
    state = load_torch_optimizer(shapes, state_dict, model, names=NAMES)
    assert bits(state) == bits(load(model, "adam", state_dict))


def test_arrays_lie_where_they_lay(model):
    fresh = OURS["adam"].init(parameters(model))
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    fresh = fresh._replace(slots=jax.device_put(fresh.slots, place))
    state = load_torch_optimizer(fresh, source("adam"), model, names=NAMES)
    assert not state.step.committed
    assert not state.lr.committed
    assert all(leaf.committed for leaf in jax.tree.leaves(state.slots))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_dtypes_come_back_bit_for_bit(dtype):
    twin = torch.nn.Linear(3, 4).to(getattr(torch, dtype))
    model = layers.Linear(3, 4, param_dtype=dtype, rngs=RNGS)
    optimizer = torch.optim.Adam(twin.parameters(), eps=1e-3)
    for parameter in twin.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    fresh = OURS["adam"].init(parameters(model))
    state = load_torch_optimizer(fresh, optimizer, model, names=twin.state_dict())
    assert state.slots["exp_avg"]["kernel"].get_value().dtype == dtype
    back = to_torch_optimizer(state, model, optimizer, names=twin.state_dict())
    for number, kept in optimizer.state_dict()["state"].items():
        for slot, value in kept.items():
            assert back["state"][number][slot].dtype == value.dtype
            assert torch.equal(back["state"][number][slot], value)


def test_a_slot_of_a_fused_weight_is_cut_as_the_weight():
    model = nnx.MultiHeadAttention(2, 6, decode=False, rngs=RNGS)
    twin = torch.nn.MultiheadAttention(6, 2)
    names = [name for name, _ in twin.named_parameters()]
    optimizer = torch.optim.NAdam(twin.parameters())
    for parameter in twin.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    fresh = optimizers.nadam().init(parameters(model))
    state = load_torch_optimizer(fresh, optimizer.state_dict(), model, names=names)
    key = state.slots["exp_avg"]["key"]["kernel"].get_value()
    rows = optimizer.state[twin.in_proj_weight]["exp_avg"][6:12]
    np.testing.assert_array_equal(key, rows.T.reshape(6, 2, 3))
    product = state.slots["mu_product"]["key"]["kernel"].get_value()
    assert float(product) == optimizer.state[twin.in_proj_weight]["mu_product"].item()
    back = to_torch_optimizer(state, model, optimizer, names=names)
    for number, kept in optimizer.state_dict()["state"].items():
        for slot, value in kept.items():
            assert torch.equal(back["state"][number][slot], value), slot


def test_parameters_that_stay_as_they_are_need_no_state(model):
    """A frozen layer: PyTorch's optimizer has no state for it, and ours does not include it."""
    state_dict = source("adam")
    del state_dict["state"][0], state_dict["state"][1]
    transformation = optimizers.param_groups(optimizers.adam(), [("fc1.*", optax.set_to_zero())])
    fresh = transformation.init(parameters(model))
    state = load_torch_optimizer(fresh, state_dict, model, names=NAMES)
    assert [int(leaf) for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.int32] == [3]
    back = to_torch_optimizer(state, model, state_dict, names=NAMES)
    assert back["state"].keys() == {2, 3}


PARTLY = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}, 0),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, 1),
    "adam": (torch.optim.Adam, {"amsgrad": True}, 3),
    "adamw": (torch.optim.AdamW, {}, 3),
    "nadam": (torch.optim.NAdam, {}, 3),
    "rmsprop": (torch.optim.RMSprop, {"momentum": 0.9, "centered": True}, 3),
    "adagrad": (torch.optim.Adagrad, {"initial_accumulator_value": 0.5}, 3),
}


@pytest.mark.parametrize(("make", "options", "steps"), PARTLY.values(), ids=PARTLY)
@pytest.mark.parametrize("without", [{0, 1}, {2}, {0, 3}])
def test_parameters_without_a_gradient_start_at_zeros(model, make, options, steps, without):
    """Frozen and unused parameters, for which PyTorch's optimizers have no state."""
    own = tensors(SHAPES.values())
    optimizer = make(own, **options)
    for number, parameter in enumerate(own):
        parameter.requires_grad = number not in without
    for _ in range(3):
        for parameter in own:
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        optimizer.step()
    transformation = optimizer_from_torch(optimizer)
    fresh = transformation.init(parameters(model))
    state = load_torch_optimizer(fresh, optimizer, model, names=NAMES)
    assert int(state.step) == steps
    for slot, tree in state.slots.items():
        start = fresh.slots[slot]
        for number, name in enumerate(NAMES):
            layer, key = name.replace("weight", "kernel").split(".")
            found, first = tree[layer][key].get_value(), start[layer][key].get_value()
            assert np.array_equal(found, first) == (number in without), (slot, name)
    back = to_torch_optimizer(state, model, optimizer, names=NAMES)
    kept = {
        number: {slot: value for slot, value in kept.items() if value is not None}
        for number, kept in optimizer.state_dict()["state"].items()
    }
    if make is torch.optim.Adagrad:  # has a state with zero steps from the start
        assert back["state"].keys() == set(range(4))
        kept = {number: value for number, value in kept.items() if number not in without}
    else:
        assert back["state"].keys() == {number for number, slots in kept.items() if slots}
    for number, slots in kept.items():
        for slot, value in slots.items():
            assert torch.equal(back["state"][number][slot], value), (number, slot)
    other = make(tensors(SHAPES.values()), **options)
    other.load_state_dict(to_torch_optimizer(state, model, other, names=NAMES))


def test_a_parameter_that_has_been_trained_since_has_a_state(model):
    like = source("adam")
    del like["state"][0], like["state"][1]
    state = load(model, "adam", source("adam"))
    assert to_torch_optimizer(state, model, like, names=NAMES)["state"].keys() == set(range(4))


@pytest.mark.parametrize("count", [torch.ones(2), [3], torch.ones(2, device="meta"), None])
def test_a_count_that_is_no_number(model, count):
    state_dict = source("adam")
    for kept in state_dict["state"].values():
        kept["step"] = count
    if count is None:
        assert int(load(model, "adam", state_dict, step=7).step) == 7
    else:
        refuses(model, "adam", state_dict, "different numbers of steps: ")


def test_lists_that_are_shared_many_times_are_walked_once(model):
    tree = {}
    for _ in range(5):
        tree = [tree] * 1000
    refuses(model, "adam", {"a": tree}, "source, which has a")
    state_dict = source("adam")
    expected = bits(load(model, "adam", state_dict))
    assert bits(load(model, "adam", {"loss": tree, "last": state_dict})) == expected


def test_param_groups_without_slots_go_by_their_order(model):
    groups = [{"params": tensors([(4,), (2,)])}, {"params": tensors([(4, 3), (2, 4)]), "lr": 0.01}]
    optimizer = torch_optimizer("plain", groups)
    names = [["fc1.bias", "fc2.bias"], ["fc1.weight", "fc2.weight"]]
    transformation = optimizers.param_groups(
        optimizers.sgd(7.0), [("*.kernel", optimizers.sgd(8.0))]
    )
    fresh = transformation.init(parameters(model))
    state = load_torch_optimizer(fresh, optimizer, model, names=names)
    rates = [0.10000000149011612, 0.009999999776482582]
    assert [float(lr) for lr in optimizers.learning_rates(state)] == rates
    back = to_torch_optimizer(state, model, optimizer, names=names)
    assert back == optimizer.state_dict()


# Errors in loading


def refuses(model, kind, state_dict, match, names=NAMES, **options):
    with pytest.raises(ValueError, match=match):
        load(model, kind, state_dict, names, **options)


@pytest.mark.parametrize("step", [-1, 0.5, True, "3", 2**31])
def test_a_step_that_is_no_count(model, step):
    refuses(
        model, "sgd", source("sgd"), r"^step: expected an integer from 0 to 2147483647", step=step
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict, "source, which has nothing"),
        (lambda: {"weight": torch.ones(2)}, "source, which has weight"),
        (lambda: [3], "source, a list"),
        (
            lambda: {"a": source("adam"), "b": [source("adam")]},  # slow: imports more of torch
            "source, which has several at 'a', 'b.0'",
        ),
    ],
)
def test_a_source_without_one_optimizer(model, given, message):
    expected = "^source: expected the state_dict of one torch optimizer, with state and param_gr"
    refuses(model, "adam", given(), expected)
    refuses(model, "adam", given(), f"got {message}")


@pytest.mark.parametrize(
    "change",
    [
        {"state": [1, 2]},
        {"state": {0: torch.ones(2)}},
        {"param_groups": {}},
        {"param_groups": []},
        {"param_groups": [3]},
        {"param_groups": [{"lr": 0.1}]},
        {"param_groups": [{"params": [0]}]},
        {"param_groups": [{"lr": None, "params": [0]}]},
    ],
)
def test_a_malformed_state_dict(model, change):
    refuses(model, "adam", source("adam") | change, "expected param_groups with params and lr")


def test_a_file_that_is_none(model, tmp_path):
    refuses(model, "adam", tmp_path / "none.pt", "expected a checkpoint file, got .*none.pt")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("fc1.weight", "^names: expected a list, got fc1.weight"),
        (3, "^names: expected a list, got 3"),
        ([3, 4], r"^names: expected a list, got \[3, 4\]"),
        ([NAMES, NAMES], "^names: expected a list, got "),
        (NAMES[:3], "^names: expected the names of the 4 parameters of a param_group, got 3: fc1."),
        ([*NAMES, "fc3.bias"], "got 5: fc1.weight, fc1.bias, fc2.weight, fc2.bias, fc3.bias"),
        ([*NAMES[:3], "fc1.weight"], "^names: expected each parameter once, got fc1.weight m"),
        (None, "^names: expected PyTorch's parameter names in PyTorch's order, as the source"),
    ],
)
def test_bad_names(model, names, message):
    refuses(model, "adam", source("adam"), message, names)


def test_names_that_a_checkpoint_does_not_tell(model):
    message = "^names: expected PyTorch's parameter names in PyTorch's order, as the source"
    refuses(model, "adam", {"epoch": 3, "optimizer": source("adam")}, message, None)
    weights = to_numpy(model)
    both = {"optimizer": source("adam"), "best": weights, "last": weights}
    refuses(model, "adam", both, message, None)
    refuses(model, "adam", source("adam"), "^rename: expected a mapping", rename=3)
    refuses(model, "adam", source("adam"), "^rename: expected names in the so", rename={"a": "b"})


def test_several_param_groups_without_lists_of_names(model):
    groups = [{"params": tensors([shape])} for shape in SHAPES.values()]
    state_dict = torch_optimizer("adam", groups).state_dict()
    message = "^names: expected 4 lists of names, one for each param_group, got "
    refuses(model, "adam", state_dict, message)
    checkpoint = {"optimizer": state_dict, "model": to_numpy(model)}
    message = "^names: expected a list of names for each of the 4 param_groups, as the source has"
    refuses(model, "adam", checkpoint, message, None)
    lists = [[name] for name in NAMES]
    refuses(model, "adam", state_dict, "param_groups: 4 in PyTorch, 1 in JAX", lists)


def test_param_groups_of_other_parameters(model):
    groups = [{"params": tensors([(4, 3), (4,)])}, {"params": tensors([(2, 4), (2,)])}]
    state_dict = torch_optimizer("adam", groups).state_dict()
    transformation = optimizers.param_groups(optimizers.adam(), [("*.bias", optimizers.adam())])
    fresh = transformation.init(parameters(model))
    with pytest.raises(ValueError, match="param_groups: none in PyTorch has fc1.weight and f"):
        load_torch_optimizer(fresh, state_dict, model, names=[NAMES[:2], NAMES[2:]])


@pytest.mark.parametrize("transformation", [optax.adam(1e-3), optax.sgd(1e-3)])
def test_the_state_of_an_optimizer_that_is_not_ours(model, transformation):
    message = "^optimizer_state: expected the state of an optimizer of jaxnets, got tuple"
    with pytest.raises(ValueError, match=message):
        load_torch_optimizer(transformation.init(parameters(model)), source("adam"), model)


def test_the_state_for_another_model(model):
    other = parameters(MLP((3, 4, 2, 2), rngs=RNGS))
    message = "^optimizer_state: expected a state for the parameters of MLP, got one for fc3.bias"
    with pytest.raises(ValueError, match=message):
        load_torch_optimizer(OURS["adam"].init(other), source("adam"), model, names=NAMES)
    other = parameters(MLP((3, 5, 2), rngs=RNGS))
    with pytest.raises(ValueError, match=r"one with exp_avg float32\[5\] for fc1.bias \[4\]"):
        load_torch_optimizer(OURS["adam"].init(other), source("adam"), model, names=NAMES)
    with pytest.raises(ValueError, match="got one for one array"):
        load_torch_optimizer(OURS["adam"].init(jnp.ones(2)), source("adam"), model, names=NAMES)


def test_the_slots_of_another_optimizer(model):
    refuses(model, "adam", source("amsgrad"), "unexpected: max_exp_avg_sq of fc1.weight, max_exp_a")
    refuses(model, "amsgrad", source("adam"), "missing: max_exp_avg_sq of fc1.weight, max_exp_avg")
    refuses(model, "plain", source("sgd"), "unexpected: momentum_buffer of fc1.weight, momentum_b")
    message = "slots: exp_avg and exp_avg_sq in PyTorch, momentum_buffer in JAX"
    refuses(model, "sgd", source("adam", 0), message)
    refuses(model, "plain", source("adam", 0), "exp_avg and exp_avg_sq in PyTorch, none in JAX")
    refuses(model, "sgd", source("plain", 0), "slots: none in PyTorch, momentum_buffer in JAX")


def test_slots_that_do_not_fit(model):
    state_dict = source("adam")
    state = state_dict["state"]
    state[0]["exp_avg"] = np.ones((3, 4), np.float32)
    state[1]["exp_avg"] = np.ones(4, np.int32)
    state[2]["exp_avg"] = np.full((2, 4), 1e300)
    state[3]["exp_avg"] = torch.ones(2, device="meta")
    refuses(
        model,
        "adam",
        state_dict,
        r"mismatched: exp_avg of fc1.weight is float32\[3, 4\], not \[4, 3\], "
        r"exp_avg of fc1.bias is integer \(int32\), not floating-point \(float32\), "
        r"exp_avg of fc2.weight has float64 values that are too large for float32, "
        r"exp_avg of fc2.bias is a tensor without plain values",
    )


def test_names_in_another_order_do_not_fit(model):
    message = r"exp_avg of fc2.weight is float32\[4, 3\], not \[2, 4\]"
    refuses(model, "adam", source("adam"), message, NAMES[2:] + NAMES[:2])


def test_step_counts_that_differ(model):
    state_dict = source("adam")
    state_dict["state"][1]["step"] = torch.tensor(5.0)
    state_dict["state"][3] = {}  # it never had a gradient
    message = (
        r"expected the state of this optimizer of MLP, got \n"
        r"  different numbers of steps: 3 of fc1.weight, fc2.weight and 5 of fc1.bias$"
    )
    refuses(model, "adam", state_dict, message)


@pytest.mark.parametrize("step", [0.5, -1.0, float("nan"), float("inf")])
def test_invalid_step_count(model, step):
    state_dict = source("adam")
    for kept in state_dict["state"].values():
        kept["step"] = torch.tensor(step)
    refuses(model, "adam", state_dict, f"different numbers of steps: {step} of")


@pytest.mark.parametrize(
    ("kind", "there", "given"), [("adam", 3, 4), ("sgd", 1, 0), ("adam", 0, 4), ("sgd", 0, 4)]
)
def test_a_step_that_is_not_the_sources(model, kind, there, given):
    message = f"step: {there} in PyTorch, {given} given"
    refuses(model, kind, source(kind, there), message, step=given)


def test_parameters_without_a_place(model):
    fresh = OURS["adam"].init(parameters(Holder(fc1=model.fc1)))
    with pytest.raises(
        ValueError, match="unexpected: fc2.weight, for which this optimizer has no "
    ):
        load_torch_optimizer(fresh, source("adam"), model, names=NAMES)


def test_parameters_without_a_state(model):
    state_dict = source("adam")
    state_dict["param_groups"][0]["params"] = [0, 2]
    message = "missing: fc1.bias, fc2.bias$"
    refuses(model, "adam", state_dict, message, ["fc1.weight", "fc2.weight"])


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_changed(model):
    state_dict = source("amsgrad")
    del state_dict["state"][0]["exp_avg"]
    state_dict["state"][1]["exp_avg"] = np.ones(5, np.float32)
    state_dict["state"][2]["step"] = torch.tensor(9.0)
    state_dict["param_groups"][0]["params"] = [0, 1, 2, 4]
    before = copy.deepcopy(state_dict)
    fresh = OURS["adam"].init(parameters(model))
    found = bits(fresh)
    with pytest.raises(ValueError) as caught:  # noqa: PT011, all of its lines are checked
        load_torch_optimizer(fresh, state_dict, model, names=[*NAMES[:3], "head.bias"])
    assert str(caught.value).splitlines() == [
        "source: expected the state of this optimizer of MLP, got ",
        "  unexpected: head.bias, max_exp_avg_sq of fc1.weight, max_exp_avg_sq of fc1.bias, "
        "max_exp_avg_sq of fc2.weight",
        "  missing: fc2.bias, exp_avg of fc1.weight",
        "  mismatched: exp_avg of fc1.bias is float32[5], not [4]",
        "  different numbers of steps: 3 of fc1.weight, fc1.bias and 9 of fc2.weight",
    ]
    assert bits(fresh) == found
    assert str(state_dict) == str(before)


def test_one_bias_for_two_has_no_state_that_comes_over():
    """PyTorch updates both biases, so their sum changes twice as much as our single bias."""
    model = nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=RNGS))
    twin = torch.nn.LSTM(3, 4)
    optimizer = torch.optim.Adam(twin.parameters())
    names = [name for name, _ in twin.named_parameters()]
    fresh = OURS["adam"].init(parameters(model))
    message = r"bias_ih_l0 \(cell.dense_h.bias combines bias_ih_l0 and bias_hh_l0, which have separ"
    with pytest.raises(ValueError, match=message):
        load_torch_optimizer(fresh, optimizer, model, names=names)
    state = fresh._replace(step=jnp.ones((), jnp.int32))
    with pytest.raises(ValueError, match=message):
        to_torch_optimizer(state, model, optimizer, names=names)


# Errors in writing


def test_like_another_optimizer(model):
    state = load(model, "adam", source("adam"))
    for kind, slots in (
        ("sgd", "momentum_buffer"),
        ("plain", "none"),
        ("amsgrad", "exp_avg and exp_avg_sq and max_exp_avg_sq"),
    ):
        message = f"slots: {slots} in PyTorch, exp_avg and exp_avg_sq in JAX"
        with pytest.raises(ValueError, match=message):
            to_torch_optimizer(state, model, torch_optimizer(kind), names=NAMES)


def test_like_requires_an_optimizer(model):
    state = OURS["adam"].init(parameters(model))
    with pytest.raises(ValueError, match="^like: expected the state_dict of one torch optimizer"):
        to_torch_optimizer(state, model, {"lr": 0.1}, names=NAMES)
    with pytest.raises(ValueError, match="^names: expected PyTorch's parameter names"):
        to_torch_optimizer(state, model, torch_optimizer("adam"))


def test_like_an_optimizer_of_other_parameters(model):
    state = OURS["adam"].init(parameters(model))
    names = NAMES[2:] + NAMES[:2]
    with pytest.raises(ValueError, match=r"mismatched: fc2.weight is \[4, 3\], not \[2, 4\]"):
        to_torch_optimizer(state, model, torch_optimizer("adam"), names=names)
    some = torch_optimizer("adam", tensors([(4, 3), (4,)]))
    with pytest.raises(ValueError, match="missing: fc2.bias, fc2.weight"):
        to_torch_optimizer(state, model, some, names=NAMES[:2])


# Optimizers made from PyTorch's


def test_an_optimizer_that_is_not_ours():
    like = torch.optim.SparseAdam(tensors([(2,)]))
    with pytest.raises(
        ValueError, match="^name: expected one of adadelta, .*got None, and the hyp"
    ):
        optimizer_from_torch(like)
    with pytest.raises(ValueError, match="^name: expected one of adadelta, .*got sparseadam"):
        optimizer_from_torch(like, "sparseadam")


@pytest.mark.parametrize(
    "make",
    [torch.optim.Adamax, torch.optim.SparseAdam],
)
def test_hyperparameters_that_do_not_tell_the_optimizer(make):
    state_dict = make(tensors([(2, 2)])).state_dict()
    with pytest.raises(ValueError, match="got None, and the hyperparameters are ambiguous"):
        optimizer_from_torch(state_dict)


def test_hyperparameters_of_adam_before_it_said_whether_its_decay_is_decoupled():
    state_dict = torch_optimizer("adam").state_dict()
    del state_dict["param_groups"][0]["decoupled_weight_decay"]
    with pytest.raises(ValueError, match="the hyperparameters are ambiguous"):
        optimizer_from_torch(state_dict)
    optimizer_from_torch(state_dict, "adam")
    optimizer_from_torch(state_dict, "adamw")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (
            "adam",
            "sgd",
            "expected an optimizer with the options amsgrad, betas, decoupled_weight_",
        ),
        ("sgd", "rmsprop", "expected an optimizer with the options dampening, nesterov, got"),
        ("adam", "adamw", "expected an optimizer with the options decoupled_weight_decay, g"),
    ],
)
def test_a_name_that_the_hyperparameters_belie(kind, name, message):
    with pytest.raises(ValueError, match=f"^name: {message}"):
        optimizer_from_torch(torch_optimizer(kind).state_dict(), name)


def test_several_param_groups_need_the_model(model):
    groups = [{"params": tensors([(4,), (2,)])}, {"params": tensors([(4, 3), (2, 4)]), "lr": 0.01}]
    optimizer = torch_optimizer("sgd", groups)
    with pytest.raises(
        ValueError, match="^model: expected the model, to identify the parameters o"
    ):
        optimizer_from_torch(optimizer)
    names = [["fc1.bias", "fc2.bias"], ["fc1.weight", "head"]]
    with pytest.raises(
        ValueError, match="^names: expected the names of parameters of MLP, got un.*head"
    ):
        optimizer_from_torch(optimizer, model=model, names=names)


def test_parameters_in_no_group_stay_as_they_are(model):
    groups = [{"params": tensors([(4,)])}, {"params": tensors([(4, 3)]), "lr": 0.01}]
    optimizer = torch_optimizer("sgd", groups)
    names = [["fc1.bias"], ["fc1.weight"]]
    transformation = optimizer_from_torch(optimizer, model=model, names=names)
    own = nnx.to_pure_dict(parameters(model))
    state = transformation.init(own)
    state = load_torch_optimizer(state, optimizer, model, names=names)
    updates, _ = transformation.update(jax.tree.map(jnp.ones_like, own), state, own)
    assert float(updates["fc1"]["bias"][0]) == pytest.approx(-0.1)
    assert float(updates["fc1"]["kernel"][0, 0]) == pytest.approx(-0.01)
    assert not updates["fc2"]["kernel"].any()
    with pytest.raises(ValueError, match="got the group of fc1.kernel"):
        transformation.init({"fc1": {"bias": own["fc1"]["bias"]}})


def test_options_of_schedulers_and_tensors_are_no_hindrance():
    optimizer = torch.optim.Adam(tensors([(2,)]), lr=torch.tensor(0.1), betas=(0.8, 0.9))
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, 10)
    transformation = optimizer_from_torch(optimizer.state_dict())
    state = transformation.init(jnp.ones(2))
    assert float(state.lr) == pytest.approx(0.02)
    assert set(state.slots) == set(SLOTS["adam"])


# LBFGS


def lbfgs_source(pairs=2, **other):
    """The state_dict of an LBFGS that has taken some steps."""
    size = sum(np.prod(shape) for shape in SHAPES.values())
    vectors = list(np.random.default_rng(0).normal(size=(2 + 2 * pairs, size)).astype(np.float32))
    kept = {"func_evals": 9, "n_iter": 7, "t": 0.5, "H_diag": 1, "prev_loss": 0.1}
    kept |= {"d": vectors[0], "prev_flat_grad": vectors[1], "ro": [0.1] * pairs, "al": [None]}
    kept |= {"old_dirs": vectors[2 : 2 + pairs], "old_stps": vectors[2 + pairs :]}
    state_dict = torch.optim.LBFGS(tensors(SHAPES.values()), history_size=3).state_dict()
    kept = {name: value for name, value in (kept | other).items() if value is not None}
    return {**state_dict, "state": {0: kept}}


def load_lbfgs(model, state_dict, names=NAMES, **options):
    fresh = optimizers.lbfgs(history_size=3).init(parameters(model))
    return load_torch_optimizer(fresh, state_dict, model, names=names, **options)


def test_the_pairs_of_lbfgs_are_those_of_the_vectors(model):
    state_dict = lbfgs_source()
    state = load_lbfgs(model, state_dict, step=4)
    counts = {name: int(state.slots[name]) for name in ("n_iter", "func_evals", "pairs")}
    assert (int(state.step), counts) == (4, {"n_iter": 7, "func_evals": 9, "pairs": 2})
    assert int(load_lbfgs(model, state_dict).step) == 1
    second = state_dict["state"][0]["old_stps"][1][:12].reshape(4, 3)
    found = state.slots["old_stps"]["fc1"]["kernel"].get_value()[1]
    np.testing.assert_array_equal(found, second.T)
    early = lbfgs_source()
    early["state"][0] = {"func_evals": 2, "n_iter": 0}
    state = load_lbfgs(model, early)
    back = to_torch_optimizer(state, model, early, names=NAMES)
    assert back["state"] == early["state"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"pairs": 4}, r"\(histories of 4 and 4 and 4 pairs, for a h"),
        ({"ro": [0.1]}, r"\(histories of 1 and 2 and 2 pairs, for a h"),
        ({"d": np.ones(3)}, r"\(d is .*\[3\], not \[26\]\)"),
        ({"t": None}, r"\(without t\)"),
        ({"n_iter": 0.5}, r"\(n_iter is not a count\)"),
        ({"t": "far"}, ""),
        ({"ro": 3}, ""),
    ],
)
def test_a_state_of_lbfgs_that_does_not_fit(model, other, message):
    with pytest.raises(ValueError, match=f"mismatched: the state of LBFGS {message}"):
        load_lbfgs(model, lbfgs_source(**other))


def test_lbfgs_of_more_parameters_than_the_model_has(model):
    state_dict = lbfgs_source()
    state_dict["param_groups"][0]["params"] = [0, 1, 2, 3, 4]
    expected = "unexpected: 1 parameters in the vectors of LBFGS"
    with pytest.raises(ValueError, match=expected):
        load_lbfgs(model, state_dict, [*NAMES, "head"], rename={"head": None})


def test_factors_of_another_shape_do_not_fit(model):
    state_dict = torch.optim.Adafactor(tensors(SHAPES.values())).state_dict()
    fresh = optimizers.adafactor().init(parameters(model))
    kept = {"step": torch.tensor(1.0), "row_var": torch.ones(4, 3), "col_var": torch.ones(1, 3)}
    state_dict["state"][0] = kept
    with pytest.raises(ValueError, match=r"row_var of fc1.weight is float32\[4, 3\], not \[4, 1\]"):
        load_torch_optimizer(fresh, state_dict, model, names=NAMES)
