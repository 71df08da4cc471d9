"""Transfer learning compared with PyTorch: frozen parameters, parameter groups, LoRA."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import layers, losses, optimizers, runs
from jaxnets.arrays import InputError
from jaxnets.changes import Change
from jaxnets.interop import load_torch, to_numpy
from jaxnets.models import MLP
from jaxnets.training import initialize, minimize, supervised, train_step
from jaxnets.transfer import (
    gradual_unfreezing,
    layer_wise,
    load_pretrained,
    lora,
    merge_lora,
    unfrozen,
)
from tests.parity.oracle import assert_equal

DTYPE = "float64"
DRAW = np.random.default_rng(0)
INPUTS, LABELS = DRAW.normal(size=(12, 5)), DRAW.integers(0, 3, 12).astype(np.int32)
OBJECTIVE = supervised(losses.cross_entropy)


class LowRank(torch.nn.Linear):
    """The paper's definition: h = W₀ x + b + α/r B A x, with W₀ and b frozen."""

    def __init__(self, entering, leaving, rank, alpha):
        super().__init__(entering, leaving)
        self.lora_A = torch.nn.Parameter(torch.empty(rank, entering))
        self.lora_B = torch.nn.Parameter(torch.zeros(leaving, rank))
        torch.nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.weight.requires_grad = self.bias.requires_grad = False
        self.scaling = alpha / rank

    def forward(self, x):
        return super().forward(x) + self.scaling * (self.lora_B @ (self.lora_A @ x.T)).T


def torch_network(last=None):
    torch.manual_seed(0)
    parts = torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU()
    return torch.nn.Sequential(*parts, last or torch.nn.Linear(4, 3)).double()


def network():
    options = {"rngs": nnx.Rngs(0), "param_dtype": DTYPE}
    first = layers.Linear(5, 4, **options), layers.BatchNorm1d(4, **options), nnx.relu
    return nnx.Sequential(*first, layers.Linear(4, 3, **options))


def check_steps(model, step, theirs, optimizer, before=lambda number: None):
    """Takes six steps in both libraries, compares all weights, and returns our network."""
    load_torch(model, theirs.state_dict())
    state, take = initialize(model, step), jax.jit(train_step, static_argnums=0)
    batch = {"inputs": INPUTS, "labels": LABELS}
    for number in range(6):
        before(number)
        state, _ = take(step, state, batch)
        optimizer.zero_grad()
        outputs = theirs(torch.tensor(INPUTS))
        torch.nn.functional.cross_entropy(outputs, torch.tensor(LABELS).long()).backward()
        optimizer.step()
    ours = to_numpy(state.model)
    for name, value in theirs.state_dict().items():
        assert_equal(ours[name].astype(value.numpy().dtype), value, name)
    return state.model


def test_frozen_parameters_stay_and_statistics_move_as_without_requires_grad():
    model, theirs = network(), torch_network()
    for name, parameter in theirs.named_parameters():
        parameter.requires_grad = not (name.startswith("0.") or name == "1.weight")
    step = minimize(OBJECTIVE, optimizers.adam(0.1), wrt=unfrozen(model, "0", "layers.1.sc*"))
    after = check_steps(model, step, theirs, torch.optim.Adam(theirs.parameters(), 0.1))
    np.testing.assert_array_equal(after.layers[0].kernel, model.layers[0].kernel)
    assert np.abs(after.layers[1].mean).max() > 0


def test_unfreezing_by_epochs_is_requires_grad_from_a_step_on():
    model, theirs = network(), torch_network()
    optimizer = gradual_unfreezing(
        optimizers.adam(0.1, weight_decay=0.1), {"layers.0": 2, "layers.1": 1}, steps_per_epoch=2
    )

    def unfreeze(number):
        theirs[0].requires_grad_(number >= 4)
        theirs[1].requires_grad_(number >= 2)

    adam = torch.optim.Adam(theirs.parameters(), 0.1, weight_decay=0.1)
    check_steps(model, minimize(OBJECTIVE, optimizer), theirs, adam, unfreeze)


def test_rates_by_layer_are_parameter_groups():
    model, theirs = network(), torch_network()
    sgd = functools.partial(optimizers.sgd, momentum=0.9)
    optimizer = layer_wise(sgd, 0.3, ["layers.1", "layers.0"], factor=2.0)
    groups = [
        {"params": theirs[place].parameters(), "lr": rate}
        for place, rate in ((3, 0.3), (1, 0.15), (0, 0.075))
    ]
    step = minimize(OBJECTIVE, optimizer)
    check_steps(model, step, theirs, torch.optim.SGD(groups, momentum=0.9))
    assert optimizers.learning_rates(initialize(model, step).optimizer_state) == [0.3, 0.15, 0.075]


def test_lora_is_the_papers_definition():
    plain, theirs = network(), torch_network(LowRank(4, 3, 2, alpha=6.0))
    theirs[0].requires_grad_(False)
    theirs[1].requires_grad_(False)
    model = lora(plain, rank=2, alpha=6.0, layers="layers.3")
    np.testing.assert_array_equal(model(INPUTS), plain(INPUTS))
    step = minimize(OBJECTIVE, optimizers.adam(0.1), wrt=nnx.LoRAParam)
    trained = [p for p in theirs.parameters() if p.requires_grad]
    after = check_steps(model, step, theirs, torch.optim.Adam(trained, 0.1))
    inputs = torch.tensor(INPUTS)
    assert_equal(after(INPUTS), theirs.eval()(inputs), "outputs")
    merged = merge_lora(after)
    assert_equal(merged(INPUTS), theirs(inputs), "merged")
    assert type(merged.layers[3]) is layers.Linear
    assert not hasattr(merged.layers[3], "lora_A")


def test_stock_layers_are_adapted_too_and_shared_ones_once():
    class Shared(nnx.Module):
        def __init__(self):
            self.one = self.two = nnx.Linear(3, 3, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.two(self.one(x))

    model = lora(Shared(), 1)
    assert model.one is model.two
    assert model.one.lora_A.shape == (1, 3)
    bound = np.abs(model.one.lora_A).max()
    assert 0 < bound <= 1 / np.sqrt(3)
    model.one.lora_B[...] = jnp.ones((3, 1), jnp.float32)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(merge_lora(model)(x), model(x), rtol=1e-5)


@pytest.mark.slow
def test_a_lora_run_is_a_run_again(tmp_path):
    from jaxnets import fit, load
    from jaxnets.data import Dataset, Split

    with jax.enable_x64(False):
        split = Split(INPUTS.astype(np.float32), LABELS)
        data, told = Dataset("drawn", split, split), {"epochs": 1, "progress": "none"}
        step = minimize(OBJECTIVE, optimizers.sgd(0.1))
        base = fit(MLP((5, 4, 3), rngs=nnx.Rngs(0)), data, step, **told)
        base.save(tmp_path / "base")
        settings = {"rank": 2, "alpha": 4.0, "layers": ["fc2"]}
        step = minimize(OBJECTIVE, optimizers.sgd(0.1), wrt=nnx.LoRAParam)
        tuned = fit(lora(base.model, **settings), data, step, **told)
        change = Change("lora", settings)
        runs.write_changed(tmp_path / "tuned", tmp_path / "base", tuned.model, change, tuned.test)
        saved = load(tmp_path / "tuned")
        assert np.abs(saved.model.fc2.lora_B).max() > 0
        np.testing.assert_array_equal(saved.model.fc1.kernel, base.model.fc1.kernel)
        np.testing.assert_array_equal(saved.predict(split.inputs), tuned.model(split.inputs))


def test_weights_come_as_far_as_they_fit_and_the_rest_is_named(tmp_path):
    other = torch.nn.Sequential(*torch_network()[:3], torch.nn.Linear(4, 7)).double()
    other.extra = torch.nn.Linear(2, 2)
    wrapped = {f"module.{name}": value for name, value in other.state_dict().items()}
    torch.save({"state_dict": wrapped}, tmp_path / "a.pt")
    model = network()
    told = load_pretrained(model, tmp_path / "a.pt")
    assert_equal(model.layers[0].kernel[...].T, other[0].weight, "trunk")
    np.testing.assert_array_equal(model.layers[3].kernel, network().layers[3].kernel)
    text = str(told)
    assert text.splitlines()[0].endswith("a.pt loaded into Sequential")
    assert "new: 3.weight (is float64[7, 4], not float64[3, 4]" in text
    assert "not used: extra.weight torch.float32[2, 2], extra.bias torch.float32[2]" in text
    fresh = load_pretrained(model, network(), head="3")
    assert fresh.new == {"3.weight": "part of the head", "3.bias": "part of the head"}
    assert fresh.unused == {}
    absent = load_pretrained(model, {"0.weight": np.zeros((4, 5))})
    assert absent.new["0.bias"] == "float64[4], not in the source"


class Trunk(nnx.Module):
    """A network whose attributes are not in alphabetical order."""

    def __init__(self, seed):
        self.trunk = layers.Sequential(
            layers.Linear(5, 4, rngs=nnx.Rngs(seed)), layers.BatchNorm1d(4)
        )
        self.fc = layers.Linear(4, 3, rngs=nnx.Rngs(seed))


def test_a_head_is_kept_by_its_name_which_can_be_that_of_pytorch():
    source, model, fresh = Trunk(0), Trunk(1), Trunk(1)
    source.trunk[1].mean[...] = jnp.arange(4, dtype=jnp.float32)
    told = load_pretrained(model, source, head="fc")
    assert set(told.new) == {"fc.weight", "fc.bias"}
    np.testing.assert_array_equal(model.fc.kernel, fresh.fc.kernel)
    np.testing.assert_array_equal(model.trunk[0].kernel, source.trunk[0].kernel)
    np.testing.assert_array_equal(model.trunk[1].mean, source.trunk[1].mean)
    assert unfrozen(model, "*.weight").frozen == (
        "fc.kernel",
        "trunk.0.kernel",
        "trunk.1.scale",
    )


def plain_network():
    return MLP((4, 5, 3), rngs=nnx.Rngs(0))


ADAM = optimizers.adam(1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_pretrained(plain_network(), {"conv.weight": np.ones(3)}), "missing: fc1"),
        (
            lambda: load_pretrained(plain_network(), plain_network(), head="fc9"),
            "head: expected a pattern that matches one of fc1.weight, .* got 'fc9'",
        ),
        (
            lambda: load_pretrained(plain_network(), plain_network(), head="fc*"),
            "source: expected weights that fit outside of the head, got none",
        ),
        (lambda: load_pretrained(3, {}), "model: expected an nnx.Module, got a int"),
        (
            lambda: unfrozen(plain_network(), "conv*"),
            r"freeze: expected a pattern that matches one of fc1.bias, fc1.kernel, .* got 'conv\*'",
        ),
        (
            lambda: unfrozen(plain_network(), "*"),
            "freeze: expected patterns that leave something to train, got",
        ),
        (lambda: unfrozen(plain_network(), 3), "patterns: expected names or patterns, such as"),
        (
            lambda: gradual_unfreezing(ADAM, ["fc1"], 2),
            "epochs: expected numbers of epochs by the names of parameters, got",
        ),
        (lambda: gradual_unfreezing(ADAM, {"fc1": -1}, 2), "epochs: expected an integer"),
        (lambda: gradual_unfreezing(ADAM, {"fc1": 1}, 0), "steps_per_epoch: expected a positive"),
        (lambda: gradual_unfreezing(3, {"fc1": 1}, 1), "optimizer: expected a gradient transfor"),
        (
            lambda: gradual_unfreezing(ADAM, {"no": 1}, 1).init({"fc1": jnp.ones(2)}),
            r"groups\[0\]: expected a selector that matches one of fc1, got no",
        ),
        (lambda: layer_wise(3, 0.1, []), "optimizer: expected a function from a learning rate"),
        (lambda: layer_wise(lambda lr: lr, 0.1, []), "optimizer: .* returned 0.1"),
        (lambda: layer_wise(optimizers.adam, -1, []), "lr: expected a finite number >= 0"),
        (lambda: layer_wise(optimizers.adam, 1, "fc1", 0), "factor: expected a finite number > 0"),
        (lambda: layer_wise(optimizers.adam, 1, [3]), "layers: expected names or patterns"),
        (lambda: lora(plain_network(), 0), "rank: expected a positive integer, got 0"),
        (lambda: lora(plain_network(), 1, 0), "alpha: expected a finite number > 0, got 0"),
        (
            lambda: lora(plain_network(), layers="conv"),
            "layers: expected a pattern that matches one of fc1",
        ),
        (lambda: lora(layers.BatchNorm1d(3)), "model: expected a network with linear layers, got"),
        (lambda: lora(plain_network(), rngs=3), "rngs: expected nnx.Rngs or None, got 3"),
        (lambda: merge_lora(plain_network()), "model: expected a network that lora returned, got"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
