"""Which operations of a traced function become kernel calls; the others do not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import fit, kernels, layers, losses, models, optimizers
from jaxnets.data import Dataset, Split
from tests.kernels import assert_close, calls

RNGS = nnx.Rngs(0)


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


class Stock(nnx.Module):
    """A LeNet of Flax's own layers and pools."""

    def __init__(self):
        self.conv = nnx.Conv(1, 4, (3, 3), padding="VALID", rngs=RNGS)
        self.first, self.last = nnx.Linear(36, 8, rngs=RNGS), nnx.Linear(8, 3, rngs=RNGS)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv(x)), (2, 2), (2, 2))
        return self.last(nnx.relu(self.first(x.reshape(len(x), -1))))


class Block(nnx.Module):
    """A residual block whose shortcut is computed last."""

    def __init__(self):
        self.conv = layers.Conv2d(4, 4, 3, padding=1, bias=False, rngs=RNGS)
        self.shortcut = layers.Conv2d(4, 4, 1, bias=False, rngs=RNGS)
        self.norm = layers.BatchNorm2d(4)

    def __call__(self, x):
        return jax.nn.relu(self.norm(self.conv(x)) + self.shortcut(x))


class StockBlock(nnx.Module):
    """A residual block of Flax's layers."""

    def __init__(self, **options):
        self.conv = nnx.Conv(4, 4, (3, 3), use_bias=False, rngs=RNGS)
        self.norm = nnx.BatchNorm(4, **options, rngs=RNGS)

    def __call__(self, x):
        return nnx.relu(self.norm(self.conv(x)) + x)


class StockEncoder(nnx.Module):
    """Layer normalization before and after a sum, in Flax's layers."""

    def __init__(self):
        self.first = nnx.LayerNorm(6, rngs=RNGS)
        self.second = nnx.LayerNorm(6, use_bias=False, rngs=RNGS)
        self.linear = nnx.Linear(6, 6, rngs=RNGS)

    def __call__(self, x):
        x = x + self.linear(self.first(x))
        return self.second(x) + x


NETWORKS = {
    "stock-batch-norm": (
        StockBlock,
        (4, 5, 5, 4),
        [
            "convolution 3 × 3, 4 → 4 channels",
            "batch normalization of 4 × 5 × 5 × 4 plus another array and ReLU",
        ],
    ),
    "stock-batch-norm-without-scale": (
        lambda: nnx.BatchNorm(4, use_scale=False, use_bias=False, rngs=RNGS),
        (8, 4),
        ["batch normalization of 8 × 4"],
    ),
    "stock-batch-norm-in-evaluation": (
        lambda: nnx.BatchNorm(4, use_running_average=True, rngs=RNGS),
        (8, 4),
        [],
    ),
    "stock-layer-norm": (
        StockEncoder,
        (4, 5, 6),
        [
            "layer normalization of 4 × 5 × 6",
            "layer normalization of 4 × 5 × 6, a sum",
        ],
    ),
    "stock-group-norm": (
        lambda: nnx.Sequential(nnx.GroupNorm(4, 2, rngs=RNGS), nnx.silu),
        (8, 3, 4),
        ["group normalization of 8 × 3 × 4, 2 groups and SiLU"],
    ),
    "stock-rms-norm": (lambda: nnx.RMSNorm(4, rngs=RNGS), (8, 4), []),
    "group-norm": (
        lambda: nnx.Sequential(layers.GroupNorm(2, 4), jax.nn.silu),
        (2, 3, 4),
        ["group normalization of 2 × 3 × 4, 2 groups and SiLU"],
    ),
    "instance-norm": (
        lambda: nnx.Sequential(layers.InstanceNorm1d(4), lambda x: x * jax.nn.sigmoid(x)),
        (2, 3, 4),
        ["group normalization of 2 × 3 × 4, 4 groups and SiLU"],
    ),
    "batch-norm-and-silu": (
        lambda: nnx.Sequential(layers.BatchNorm1d(4), jax.nn.silu),
        (8, 4),
        ["batch normalization of 8 × 4 and SiLU"],
    ),
    "group-norm-read-twice": (
        lambda: nnx.Sequential(layers.GroupNorm(2, 4), lambda x: jax.nn.silu(x) + x),
        (2, 3, 4),
        ["group normalization of 2 × 3 × 4, 2 groups"],
    ),
    "lenet": (
        lambda: models.LeNet(rngs=RNGS),
        (16, 28, 28, 1),
        [
            "convolution 5 × 5, 1 → 6 channels, ReLU and max pooling",
            "convolution 5 × 5, 6 → 16 channels, ReLU and max pooling",
            "linear 400 → 120 → 84 → 10",
        ],
    ),
    "mlp": (lambda: models.MLP((6, 5, 4), rngs=RNGS), (16, 6), ["linear 6 → 5 → 4"]),
    "stock": (
        Stock,
        (16, 8, 8, 1),
        ["convolution 3 × 3, 1 → 4 channels, ReLU and max pooling", "linear 36 → 8 → 3"],
    ),
    "depthwise": (
        lambda: layers.Conv2d(4, 4, 3, groups=4, rngs=RNGS),
        (2, 6, 6, 4),
        ["convolution 3 × 3, 4 → 4 channels"],
    ),
    "block": (
        Block,
        (4, 5, 5, 4),
        [
            "convolution 3 × 3, 4 → 4 channels",
            "batch normalization of 4 × 5 × 5 × 4 plus another array and ReLU",
            "convolution 1 × 1, 4 → 4 channels",
        ],
    ),
}


def loss_of(model):
    """A function from all variables and an input to a scalar and the updated variables."""
    graphdef, state = nnx.split(model)

    def run(state, x):
        merged = nnx.merge(graphdef, state, copy=True)
        y = merged(x)
        return (jnp.sin(y) * jnp.arange(float(y.size)).reshape(y.shape)).sum(), nnx.state(merged)

    return run, state


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_computed_by_kernels(name):
    make, shape, expected = NETWORKS[name]
    model, x = make(), normal(*shape)
    run, state = loss_of(model)
    assert kernels.explain(run, state, x) == expected
    parameters, rest = nnx.split_state(state, nnx.Param, ...)

    def both(function):
        def of(parameters, x):
            return function(nnx.merge_state(parameters, rest), x)

        gradient = jax.value_and_grad(of, argnums=(0, 1), has_aux=True)
        return jax.jit(gradient)(parameters, x)

    assert_close(both(kernels.with_kernels(run)), both(run), 2e-5)


def two_layers(x, first, second):
    return jax.nn.relu(x @ first + first[:1]) @ second + second[:1]


def test_unmatched_operations_are_unchanged():
    def function(x, weight):
        return jnp.tanh(x @ weight).sum()

    x, weight = normal(4, 3), normal(3, 2)
    traced = jax.make_jaxpr(kernels.with_kernels(function))(x, weight)
    assert str(traced) == str(jax.make_jaxpr(function)(x, weight))
    assert kernels.explain(function, x, weight) == []


def test_loops_and_checkpoints_are_looked_into():
    layer = models.MLP((5, 5, 5), rngs=RNGS)
    x = normal(16, 5)

    def repeated(x):
        def body(carry, number):
            return carry + jax.checkpoint(layer)(carry), carry.sum() * number

        return jax.lax.scan(body, x, jnp.arange(3.0))

    def total(x):
        last, sums = repeated(x)
        return (last**2).sum() + sums.sum()

    assert kernels.explain(repeated, x) == ["linear 5 → 5 → 5"]
    ours = jax.jit(jax.grad(kernels.with_kernels(total)))(x)
    assert_close(ours, jax.jit(jax.grad(total))(x), 1e-5)


def test_a_value_that_others_read_is_kept():
    layer, x = models.MLP((5, 5, 5), rngs=RNGS), normal(16, 5)

    def function(x):
        hidden = layer.fc1(x)
        return layer.fc2(jax.nn.relu(hidden)) + hidden

    assert kernels.explain(function, x) == []
    assert kernels.explain(layer, x) == ["linear 5 → 5 → 5"]


def test_a_sum_that_needs_the_statistics_is_no_residual():
    x = normal(8, 3)

    def function(x):
        norm = layers.BatchNorm1d(3)
        y = norm(x)
        return y + jnp.broadcast_to(norm.mean[...], y.shape)

    assert kernels.explain(function, x) == ["batch normalization of 8 × 3"]
    assert_close(kernels.with_kernels(function)(x), function(x), 1e-5)


@pytest.mark.parametrize(
    ("widths", "filling", "kept"),
    [
        pytest.param(((1, 0), (2, 3)), 0, 0, id="of both axes"),
        pytest.param(((1, 0), (0, 0)), 1, 1, id="with ones"),
        pytest.param(((2, -1), (0, 0)), 0, 1, id="and a cropped edge"),
    ],
)
def test_padding_with_zeros_becomes_that_of_the_convolution(widths, filling, kept):
    layer = layers.Conv2d(3, 4, 2, stride=2, padding=1, rngs=RNGS)
    up = layers.ConvTranspose2d(3, 2, 3, stride=2, rngs=RNGS)
    config = [(0, 0, 0), *((low, high, 0) for low, high in widths), (0, 0, 0)]

    def function(x):
        padded = jax.lax.pad(x, jnp.float32(filling), config)
        return layer(padded), up(padded)

    def gradient(function):
        def total(x):
            return sum((jnp.sin(y) * y).sum() for y in function(x))

        return jax.jit(jax.grad(total))(x)

    x = normal(2, 5, 6, 3)
    ours = kernels.with_kernels(function)
    assert calls(ours, x) == 2
    assert str(jax.make_jaxpr(ours)(x)).count(" pad[") == kept
    assert_close(gradient(ours), gradient(function), 1e-5)


def recurrent(x):
    """A loop over time that reads some steps twice and leaves others out."""
    state = jnp.zeros_like(x[:, 0])
    for step in range(1, 10):
        state = jnp.tanh(state * x[:, step] + x[:, step] - x[:, 0])
    return state


def test_time_steps_of_a_loop_are_one_split():
    x = normal(3, 12, 4)
    assert kernels.explain(recurrent, x) == ["10 slices of 3 × 12 × 4"]
    ours = kernels.with_kernels(recurrent)

    def gradient(function):
        return jax.grad(lambda x: jnp.sin(function(x)).sum())

    def change(function):
        return jax.jvp(function, (x,), (jnp.cos(x),))[1]

    for of in (gradient, lambda function: jax.grad(lambda x: gradient(function)(x).sum())):
        assert_close(jax.jit(of(ours))(x), jax.jit(of(recurrent))(x), 1e-5)
    assert_close(change(ours), change(recurrent), 1e-5)
    assert " pad[" not in str(jax.make_jaxpr(gradient(ours))(x))


def gated(steps):
    """A loop whose state is a mixture of the state before and a new one."""

    def run(x, weight):
        state = jnp.zeros_like(x[:, 0])
        for step in range(steps):
            gate = jax.nn.sigmoid(x[:, step])
            state = (1 - gate) * jnp.tanh(state @ weight) + gate * state
        return state

    return run


def test_the_state_of_a_loop_is_not_computed_again_by_later_steps():
    def gradient(function):
        total = jax.value_and_grad(lambda x, w: jnp.sin(function(x, w)).sum(), argnums=(0, 1))
        return jax.jit(total)

    weight = 0.1 * normal(4, 4)
    operations = []  # of the compiled program, with those that fusions repeat
    for steps in (16, 32):
        x, function = normal(3, steps, 4), gated(steps)
        ours = gradient(kernels.with_kernels(function))
        assert_close(ours(x, weight), gradient(function)(x, weight), 1e-5)
        operations.append(ours.lower(x, weight).compile().as_text().count(" = "))
    assert operations[1] < 2.2 * operations[0]
    many = jax.vmap(kernels.with_kernels(function), (0, None))
    assert_close(many(x[None], weight)[0], function(x, weight), 1e-5)


def test_windows_that_overlap_are_no_split():
    def function(x):
        return sum(x[:, start : start + 2] for start in range(10))

    assert kernels.explain(function, normal(3, 12)) == []


def test_maximum_with_zero_is_no_relu():
    """The gradient of ``jnp.maximum`` at zero is one half."""
    first, second = normal(4, 3), normal(3, 2)

    def function(x):
        return jnp.maximum(x @ first + first[:1, :3], 0) @ second + second[:1]

    assert kernels.explain(function, normal(16, 4)) == []


def test_inner_derivatives_are_computed_before_the_rewrite():
    """Includes forward mode, which kernels do not support."""
    layer = models.MLP((5, 5, 5), rngs=RNGS)

    def change(x):
        return jax.jvp(layer, (x,), (jnp.ones_like(x),))[1].sum()

    x = normal(16, 5)
    ours = jax.jit(jax.grad(kernels.with_kernels(change)))(x)
    assert_close(ours, jax.jit(jax.grad(change))(x), 1e-5)


def test_bfloat16_is_computed_in_float32_and_rounded():
    layer = layers.Linear(24, 16, rngs=RNGS)
    kernel, x, d = (
        each.astype(jnp.bfloat16) for each in (layer.kernel[...], normal(48, 24), normal(48, 16))
    )

    def function(kernel, x):
        return jax.nn.relu(x @ kernel)

    def both(function, *arrays):
        y, pull_back = jax.vjp(kernels.with_kernels(function), *arrays)
        return y, *pull_back(d.astype(y.dtype))

    assert kernels.explain(function, kernel, x) == ["linear 24 → 16 and ReLU"]
    found = both(function, kernel, x)
    wide = both(function, kernel.astype(jnp.float32), x.astype(jnp.float32))
    for ours, theirs in zip(found, wide, strict=True):
        np.testing.assert_array_equal(ours, theirs.astype(jnp.bfloat16))


def test_effects_are_kept():
    model, seen = models.MLP((5, 5, 5), rngs=RNGS), []

    def function(x):
        y = model(x)
        jax.debug.callback(lambda value: seen.append(float(value)), x[0, 0])
        return y

    jax.block_until_ready(jax.jit(kernels.with_kernels(function))(normal(16, 5)))
    jax.effects_barrier()
    assert seen == [float(normal(16, 5)[0, 0])]


def test_aside_functions_are_themselves():
    model, x = models.MLP((6, 5, 4), rngs=RNGS), normal(16, 6)
    with kernels.aside():
        assert kernels.explain(model, x) == []
        assert calls(kernels.with_kernels(model), x) == 0
    assert calls(kernels.with_kernels(model), x) == 1


def test_on_accelerators_functions_are_themselves(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    model, x = models.MLP((6, 5, 4), rngs=RNGS), normal(16, 6)
    assert kernels.explain(model, x) == []
    assert calls(kernels.with_kernels(model), x) == 0


def test_a_network_is_exported_without_kernels_for_any_batch_and_platform():
    model = models.LeNet(rngs=RNGS)
    (batch,) = jax.export.symbolic_shape("b")
    spec = jax.ShapeDtypeStruct((batch, 28, 28, 1), jnp.float32)
    made = jax.export.export(jax.jit(model), platforms=("cpu", "cuda"))(spec)
    assert "custom_call @jaxnets" not in made.mlir_module()
    x = normal(3, 28, 28, 1)
    assert_close(made.call(x), model(x), 1e-5)


def test_training_is_the_same_with_and_without():
    inputs, labels = normal(48, 8, 8, 1), np.arange(48) % 3

    def trained():
        model = Stock()
        nnx.update(model, nnx.state(START))
        run = fit(
            model,
            Dataset("random", Split(np.asarray(inputs), labels.astype(np.int32))),
            loss=losses.cross_entropy,
            optimizer=optimizers.sgd(0.1),
            epochs=2,
            batch_size=16,
            progress="none",
        )
        return nnx.state(run.model)

    ours = trained()
    with kernels.aside():
        theirs = trained()
    assert_close(ours, theirs, 1e-4)


START = Stock()
