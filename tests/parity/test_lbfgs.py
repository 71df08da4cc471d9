"""LBFGS compared with ``torch.optim.LBFGS``: line search, steps, and training."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch.optim.lbfgs import _strong_wolfe as torch_strong_wolfe

from jaxnets import layers, losses, optimizers
from jaxnets.data import Dataset, Split
from jaxnets.interop import to_numpy, to_torch
from jaxnets.optimizers.wolfe import Point, strong_wolfe
from jaxnets.training import fit, initialize, minimize, supervised, train_step
from tests import tier
from tests.parity.oracle import relative_difference

WOLFE = {"line_search_fn": "strong_wolfe"}
LBFGS = [
    {"lr": 0.3, "history_size": 3, "max_iter": 9},
    {"lr": 0.3, "max_eval": 6, "tolerance_grad": 0.3},
    {"lr": 0.3, "max_iter": 1},
    {"lr": 1.6, "max_iter": 50, "tolerance_change": 0.25},
    WOLFE,
    WOLFE | {"lr": 0.01, "history_size": 2},
    WOLFE | {"lr": 50.0, "max_iter": 5},
]


def bent(params, batch, library):
    """A loss that is not quadratic, but almost convex, and depends on the batch."""
    total = sum((library.sum(curve * p**2) for p, curve in zip(params, (1, 3), strict=True)), 0.0)
    mixed = params[0] @ params[1] - batch
    return total + library.sum(library.log(1 + mixed**2)) + library.sum(mixed**4) / 9


def closure_of(optimizer, loss):
    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


@pytest.mark.parametrize("options", tier.one_in(3, LBFGS))
def test_lbfgs_in_float64(options):
    """Compares parameters, iterations and evaluations after each step."""
    draw = np.random.default_rng(0)
    starts, batches = (
        [draw.normal(size=shape) for shape in ((4, 3), (3,))],
        draw.normal(size=(3, 4)),
    )
    tensors = [torch.tensor(value, requires_grad=True) for value in starts]
    optimizer = torch.optim.LBFGS(tensors, **options)
    transformation = optimizers.lbfgs(**options)
    params = [jnp.asarray(value) for value in starts]
    state = transformation.init(params)

    @jax.jit
    def step(params, state, batch):
        of_batch = partial(bent, batch=batch, library=jnp)
        value, gradients = jax.value_and_grad(of_batch)(params)
        updates, state = transformation.update(
            gradients, state, params, value=value, grad=gradients, value_fn=of_batch
        )
        return optax.apply_updates(params, updates), state

    for number, batch in enumerate(np.repeat(batches, 2, axis=0)):
        optimizer.step(closure_of(optimizer, partial(bent, tensors, torch.tensor(batch), torch)))
        params, state = step(params, state, jnp.asarray(batch))
        kept = optimizer.state[tensors[0]]
        for slot in ("n_iter", "func_evals"):
            assert int(state.slots[slot]) == kept[slot], (slot, number)
        for value, tensor in zip(params, tensors, strict=True):
            assert relative_difference(value, tensor.detach().numpy()) <= 1e-9, number


LINES, WAVES, TRIALS = 200, 4, (0, 3, 25)


def wavy(t, line, library):
    """A loss along a line, waves plus a parabola, and its slope."""
    height, length, phase, bowl = line
    inner = length * t + phase
    loss = library.sum(height * library.cos(inner)) + bowl * (t - 1) ** 2
    return loss, 2 * bowl * (t - 1) - library.sum(height * length * library.sin(inner))


def test_the_line_search_makes_the_trials_of_pytorch():
    draw = np.random.default_rng(0)
    shape = (LINES, WAVES)
    height, length = draw.normal(size=shape), draw.uniform(0.1, 4, shape)
    phase, bowl = draw.uniform(0, 7, shape), 10 ** draw.uniform(-3, 0, LINES)
    first = 10 ** draw.uniform(-1, 2, LINES)
    most = np.resize(TRIALS, LINES).astype(np.int32)

    def ours(line, first, most):
        slope = wavy(0.0, line, jnp)[1]

        def at(t):
            loss, gradient = wavy(t * -jnp.sign(slope), line, jnp)
            return Point(t, loss, gradient[None], gradient * -jnp.sign(slope))

        point, trials = strong_wolfe(
            at, at(jnp.zeros(())), first, size=jnp.ones(()), most=most, tolerance_change=0.5
        )
        return point.t, point.loss, trials

    lines = height, length, phase, bowl
    found = jax.device_get(jax.jit(jax.vmap(ours))(lines, first, most))
    tensors = [torch.tensor(part) for part in lines]
    for number, (t, loss, trials) in enumerate(zip(*found, strict=True)):
        line = [part[number] for part in tensors]
        start, slope = wavy(torch.zeros((), dtype=torch.float64), line, torch)
        direction = -slope.sign()

        def at(x, t, d, line=line):
            value, gradient = wavy(x + t * d[0], line, torch)
            return float(value), gradient[None]

        value, _, expected, count = torch_strong_wolfe(
            at, 0.0, float(first[number]), direction[None], float(start), slope[None],
            slope * direction, max_ls=int(most[number]), tolerance_change=0.5,
        )  # fmt: skip
        assert trials == count, number
        np.testing.assert_allclose([t, loss], [float(expected), value], rtol=1e-9, atol=1e-12)


class Network(nnx.Module):
    def __init__(self):
        options = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
        self.fc1 = layers.Linear(3, 4, **options)
        self.norm = layers.BatchNorm1d(4, **options)
        self.fc2 = layers.Linear(4, 2, **options)

    def __call__(self, x):
        return self.fc2(jnp.tanh(self.norm(self.fc1(x))))


class TorchNetwork(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(3, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.fc2 = torch.nn.Linear(4, 2)
        self.double()

    def forward(self, x):
        return self.fc2(torch.tanh(self.norm(self.fc1(x))))


def drawn():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(8, 3))
    return x, np.sin(x @ draw.normal(size=(3, 2)))


@pytest.mark.parametrize(
    "options", [WOLFE | {"lr": 0.5, "max_iter": 6}, tier.slow({"lr": 0.05, "max_iter": 8})]
)
def test_steps_of_fit_equal_torch(options):
    model, twin, (x, y) = Network(), TorchNetwork(), drawn()
    twin.load_state_dict(to_torch(model))
    optimizer = torch.optim.LBFGS(twin.parameters(), **options)

    def loss():
        return torch.nn.functional.mse_loss(twin(torch.tensor(x)), torch.tensor(y))

    closure = closure_of(optimizer, loss)
    expected = [optimizer.step(closure).item() for _ in range(3)]
    run = fit(
        model,
        Dataset("drawn", Split(x, y), None),
        loss=losses.mse_loss,
        optimizer=optimizers.lbfgs(**options),
        epochs=3,
        batch_size=8,
        progress="none",
    )
    found = [record.train["loss"] for record in run.history]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    weights = to_numpy(run.model)
    for name, parameter in twin.named_parameters():
        assert relative_difference(weights[name], parameter.detach().numpy()) <= 1e-9, name


@pytest.mark.slow
def test_a_batch_in_parts_is_searched_as_a_whole():
    model, (x, y) = layers.Linear(3, 2, rngs=nnx.Rngs(0), param_dtype=jnp.float64), drawn()
    optimizer, kernels = optimizers.lbfgs(**WOLFE, max_iter=5), []
    for accumulate in (1, 3):
        step = minimize(supervised(losses.mse_loss), optimizer, accumulate=accumulate)
        run = jax.jit(train_step, static_argnums=0)
        state, _ = run(step, initialize(model, step), {"inputs": x, "labels": y})
        assert int(state.optimizer_state.slots["func_evals"]) > 5
        kernels.append(np.asarray(state.parameters["kernel"].get_value()))
    assert relative_difference(*kernels) <= 1e-10
