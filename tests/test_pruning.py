import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn
from torch.nn.utils import prune as theirs

from jaxnets import fit, interop, losses, optimizers, pruning
from jaxnets.data import Dataset, Split
from jaxnets.layers import LSTM, BatchNorm1d, Conv2d, ConvTranspose2d, Linear
from jaxnets.models import MLP
from jaxnets.training import Saving
from jaxnets.training.weights import load_weights, save_weights

KINDS = [
    (Linear, nn.Linear, (6, 5), "weight"),
    (Linear, nn.Linear, (6, 5), "bias"),
    (Conv2d, nn.Conv2d, (4, 6, 3, 1, 0, 1, 2), "weight"),
    (ConvTranspose2d, nn.ConvTranspose2d, (4, 6, 3, 1, 0, 0, 2), "weight"),
    (LSTM, nn.LSTM, (3, 4), "weight_hh_l0"),
]


def pair(kind, torch_kind, sizes):
    torch.manual_seed(0)
    twin, layer = torch_kind(*sizes), kind(*sizes, rngs=nnx.Rngs(0))
    interop.load_torch(layer, twin.state_dict())
    return layer, twin


def same_masks(layer, twin):
    ours = interop.to_numpy(layer)
    for name, mask in twin.named_buffers():
        if name.endswith("_mask"):
            name = name.removesuffix("_mask")
            expected = getattr(twin, name).detach().numpy()
            assert np.array_equal(ours[name], expected), name
            keep = pruning.weights.Weight.of(layer, name).mask
            assert np.array_equal(keep, mask.numpy().astype(bool)), name


@pytest.mark.parametrize(("kind", "torch_kind", "sizes", "name"), KINDS)
def test_masks_are_those_of_pytorch_and_compose_as_its_container(kind, torch_kind, sizes, name):
    layer, twin = pair(kind, torch_kind, sizes)
    steps = [
        lambda p, m: p.l1_unstructured(m, name, amount=0.3),
        lambda p, m: p.l1_unstructured(m, name, amount=1),
    ]
    if name != "bias":
        steps += [
            lambda p, m: p.ln_structured(m, name, amount=1, n=2, dim=0),
            lambda p, m: p.ln_structured(m, name, amount=0.4, n=1, dim=1),
            lambda p, m: p.ln_structured(m, name, amount=0.5, n=float("inf"), dim=-1),
            lambda p, m: p.l1_unstructured(m, name, amount=0.5),
        ]
    for step in steps:
        step(pruning, layer)
        step(theirs, twin)
        same_masks(layer, twin)


def test_scores_global_and_given_masks_are_those_of_pytorch():
    layer, twin = pair(Linear, nn.Linear, (6, 5))
    scores = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    pruning.l1_unstructured(layer, "weight", 0.4, importance_scores=scores)
    theirs.l1_unstructured(twin, "weight", 0.4, importance_scores=torch.from_numpy(scores))
    same_masks(layer, twin)
    mask = np.tri(5, 6)
    pruning.custom_from_mask(layer, "weight", mask)
    theirs.custom_from_mask(twin, "weight", torch.from_numpy(mask))
    same_masks(layer, twin)
    other, other_twin = pair(Conv2d, nn.Conv2d, (2, 3, 3))
    ours = [(layer, "weight"), (other, "weight"), (other, "bias")]
    pruning.global_unstructured(
        ours, pruning.L1Unstructured, {(layer, "weight"): scores}, amount=0.5
    )
    pairs = [(twin, "weight"), (other_twin, "weight"), (other_twin, "bias")]
    given = {(twin, "weight"): torch.from_numpy(scores)}
    theirs.global_unstructured(pairs, theirs.L1Unstructured, given, amount=0.5)
    same_masks(layer, twin)
    same_masks(other, other_twin)
    assert pruning.is_pruned(other) is theirs.is_pruned(other_twin) is True
    pruning.remove(other, "bias")
    theirs.remove(other_twin, "bias")
    assert not pruning.is_pruned(other, "bias")
    assert np.array_equal(other.bias[...], other_twin.bias.detach().numpy())
    same_masks(other, other_twin)


@pytest.mark.parametrize("amount", [0.3, 7])
def test_ties_are_pruned_in_the_same_number(amount):
    layer, twin = pair(Linear, nn.Linear, (6, 5))
    signs = np.where(np.random.default_rng(0).random((5, 6)) < 0.5, -0.5, 0.5)
    twin.weight.data = torch.from_numpy(signs.astype(np.float32))
    interop.load_torch(layer, twin.state_dict())
    pruning.l1_unstructured(layer, "weight", amount)
    theirs.l1_unstructured(twin, "weight", amount)
    assert int((layer.kernel[...] == 0).sum()) == int((twin.weight == 0).sum())


def test_random_pruning_removes_as_many_and_others_for_each_key():
    layers = [Linear(8, 6, rngs=nnx.Rngs(0)) for _ in range(3)]
    for layer, seed in zip(layers, (0, 0, 1), strict=True):
        pruning.random_unstructured(layer, "weight", 0.25, rngs=jax.random.key(seed))
        assert int((layer.kernel[...] == 0).sum()) == 12
        pruning.random_structured(layer, "weight", 2, dim=0, rngs=jax.random.key(seed))
        assert int((layer.kernel[...] == 0).all(0).sum()) == 2
    first, again, other = (np.asarray(layer.kernel[...] == 0) for layer in layers)
    assert (first == again).all()
    assert (first != other).any()


def test_regions_and_diagonals_are_in_the_layout_of_pytorch():
    layer = Linear(6, 5, rngs=nnx.Rngs(0))
    for index in (np.s_[3, 4], np.s_[1, 2:5], np.s_[:, 0], np.s_[4]):
        pruning.region(layer, "weight", index)
    gone = np.asarray(layer.kernel[...]).T == 0
    expected = np.zeros((5, 6), bool)
    expected[3, 4] = expected[1, 2:5] = expected[:, 0] = expected[4] = True
    assert (gone == expected).all()
    for options, expected in (
        ({}, np.eye(5, 6)),
        ({"offset": 1}, np.eye(5, 6, 1)),
        ({"width": 3}, np.eye(5, 6, -1) + np.eye(5, 6) + np.eye(5, 6, 1)),
        ({"anti": True}, np.eye(5, 6)[:, ::-1]),
    ):
        layer = pruning.diagonal(Linear(6, 5, rngs=nnx.Rngs(0)), "weight", **options)
        assert (expected == np.asarray(layer.kernel[...] == 0).T).all()
    conv = pruning.diagonal(Conv2d(3, 3, 2, rngs=nnx.Rngs(0)), "weight")
    assert (np.asarray(conv.kernel[...] == 0).all((0, 1)) == np.eye(3)).all()


def halved(model):
    pruning.l1_unstructured(model.fc1, "weight", 0.5)
    pruning.ln_structured(model.fc2, "weight", 0.5, n=2, dim=1)
    return model


def points():
    rng = np.random.default_rng(0)
    split = Split(rng.normal(size=(24, 4)).astype(np.float32), np.arange(24, dtype=np.int32) % 3)
    return Dataset("points", split, split)


OPTIMIZERS = {
    "sgd": (
        lambda: optimizers.sgd(0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    ),
    "clipped": (
        lambda: optax.chain(optimizers.clip_grad_norm(0.05), optimizers.adamw(0.1)),
        lambda p: torch.optim.AdamW(p, 0.1),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_keeps_zeros_and_takes_the_steps_of_pytorch(name):
    ours, make = OPTIMIZERS[name]
    model = halved(MLP((4, 6, 3), rngs=nnx.Rngs(0)))
    twin = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    state = interop.to_torch(MLP((4, 6, 3), rngs=nnx.Rngs(0)))
    names = {"fc1": "0", "fc2": "2"}
    twin.load_state_dict({names[k[:3]] + k[3:]: v for k, v in state.items()})
    theirs.l1_unstructured(twin[0], "weight", 0.5)
    theirs.ln_structured(twin[2], "weight", 0.5, n=2, dim=1)
    optimizer, data = make(twin.parameters()), points()
    inputs, labels = torch.from_numpy(data.train.inputs), torch.from_numpy(data.train.labels).long()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(twin(inputs), labels).backward()
        if name == "clipped":
            nn.utils.clip_grad_norm_(twin.parameters(), 0.05)
        optimizer.step()
    settings = {"loss": losses.cross_entropy, "batch_size": 24, "shuffle": False, "epochs": 3}
    trained = fit(model, data, optimizer=ours(), progress="none", **settings).model
    twin(inputs)
    for layer, its in ((trained.fc1, twin[0]), (trained.fc2, twin[2])):
        expected = its.weight.detach().numpy().T
        assert np.allclose(layer.kernel[...], expected, rtol=1e-4, atol=1e-6)
        assert ((np.asarray(layer.kernel[...]) == 0) == (expected == 0)).all()


def test_an_interrupted_run_goes_on_with_the_same_bits_and_masks(tmp_path):
    model, data = halved(MLP((4, 6, 3), rngs=nnx.Rngs(0))), points()
    settings = {"loss": losses.cross_entropy, "batch_size": 8, "progress": "none"}
    settings["optimizer"] = optimizers.adamw(0.1)
    whole = fit(model, data, epochs=3, **settings)
    fit(model, data, epochs=1, save=Saving(tmp_path / "saved"), **settings)
    rest = fit(model, data, epochs=3, save=Saving(tmp_path / "saved"), resume=True, **settings)
    for one, other in zip(
        jax.tree.leaves(nnx.state(whole.model)), jax.tree.leaves(nnx.state(rest.model)), strict=True
    ):
        assert jnp.array_equal(one, other)
    assert pruning.is_pruned(rest.model)
    assert pruning.sparsity(rest.model)["fc1.weight"] == 0.5


def test_zeros_survive_a_file_and_are_masked_again(tmp_path):
    model = halved(MLP((4, 6, 3), rngs=nnx.Rngs(0)))
    save_weights(model, tmp_path / "weights")
    fresh = MLP((4, 6, 3), rngs=nnx.Rngs(1))
    load_weights(fresh, tmp_path / "weights")
    assert not pruning.is_pruned(fresh)
    assert str(pruning.sparsity(fresh)) == str(pruning.sparsity(model))
    assert pruning.is_pruned(pruning.mask_zeros(fresh))
    assert not pruning.is_pruned(pruning.make_permanent(fresh))


def test_a_loop_of_ones_own_keeps_zeros_by_a_wrapped_optimizer():
    layer = Linear(6, 6, bias=False, rngs=nnx.Rngs(0))
    pruning.l1_unstructured(layer, "weight", 0.5)
    trained = nnx.Optimizer(layer, pruning.keep_masks(optimizers.muon(0.1)), wrt=nnx.Param)
    before = np.asarray(layer.kernel[...])
    trained.update(layer, nnx.grad(lambda layer: (layer(jnp.ones((2, 6))) ** 2).sum())(layer))
    after = np.asarray(layer.kernel[...])
    assert ((before == 0) == (after == 0)).all()
    assert (before != after).any()
    with pytest.raises(ValueError, match="params: expected .* of a model with pruned parameter"):
        pruning.keep_masks(optax.sgd(0.1)).init({"w": jnp.ones(2)})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: pruning.l1_unstructured(m, "weight", 1.2), r"amount: expected a fraction in"),
        (lambda m: pruning.l1_unstructured(m, "weight", 31), r"amount: expected a count of at mo"),
        (lambda m: pruning.l1_unstructured(m, "kernel", 0.5), r"name: expected a parameter of Lin"),
        (lambda m: pruning.l1_unstructured("fc1", "weight", 0.5), "module: expected a layer"),
        (lambda m: pruning.l1_unstructured(m, "weight", 0.5, [1.0]), "importance_scores: expected"),
        (lambda m: pruning.ln_structured(m, "weight", 0.5, n="nuc", dim=0), "n: expected a number"),
        (lambda m: pruning.ln_structured(m, "weight", 0.5, n=2, dim=2), "dim: expected an axis of"),
        (lambda m: pruning.random_unstructured(m, "weight", 0.5, rngs=0), "rngs: expected a rand"),
        (lambda m: pruning.custom_from_mask(m, "weight", np.ones((6, 5))), "mask: expected an arr"),
        (
            lambda m: pruning.custom_from_mask(m, "bias", [2] * 5),
            "mask: expected an array of 0 and 1",
        ),
        (lambda m: pruning.region(m, "weight", np.s_[5]), "index: expected an index of a part"),
        (lambda m: pruning.diagonal(m, "bias"), "name: expected a weight of two axes"),
        (lambda m: pruning.diagonal(m, "weight", 9), "offset: expected a diagonal of a weight"),
        (lambda m: pruning.diagonal(m, "weight", 0.5), "offset: expected an integer"),
        (lambda m: pruning.remove(m, "weight"), "name: expected a parameter that is pruned"),
        (lambda m: pruning.make_permanent(m), "model: expected a network with pruned"),
        (lambda m: pruning.sparsity(nnx.Module()), "model: expected a network with parameters"),
        (lambda m: pruning.mask_zeros(3), "model: expected an nnx.Module"),
        (lambda m: pruning.global_unstructured([], pruning.L1Unstructured, amount=1), "parameters"),
        (
            lambda m: pruning.global_unstructured(
                [(m, "weight")], pruning.LnStructured, amount=1, n=2, dim=0
            ),
            "pruning_method: expected a class that chooses",
        ),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call(Linear(6, 5, rngs=nnx.Rngs(0)))


def test_statistics_are_not_pruned():
    with pytest.raises(ValueError, match=r"name: expected a parameter of BatchNorm1d \(weight, b"):
        pruning.l1_unstructured(BatchNorm1d(3), "running_mean", 0.5)
