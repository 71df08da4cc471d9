import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import example, given
from hypothesis import strategies as st

from jaxnets import layers
from jaxnets.interop import to_numpy
from tests import tier
from tests.parity.oracle import (
    DTYPES,
    assert_equal,
    check_layer,
    copy_weights,
    images_first,
    images_last,
)

#: Spatial axes after [N, C]. A batch has at least four samples: with two or three values per
#: channel, the input gradient consists of rounding errors, also in torch.
SPACES = st.lists(st.integers(1, 4), max_size=2).map(tuple)


def randomized(layer: torch.nn.Module, dtype) -> torch.nn.Module:
    """Draws all parameters and statistics, which are ones and zeros initially."""
    layer = layer.to(torch.tensor(np.zeros(0, dtype)).dtype)
    torch.manual_seed(0)
    for value in layer.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return layer


def draw(shape, dtype) -> np.ndarray:
    return np.random.default_rng(0).normal(1.0, 2.0, size=shape).astype(dtype)


def batch_norms(channels, space, dtype, *options, **keywords):
    """Our and torch's BatchNorm for inputs with a number of spatial axes."""
    name = "BatchNorm2d" if len(space) == 2 else "BatchNorm1d"
    ours = getattr(layers, name)(channels, *options, **keywords, param_dtype=dtype)
    return ours, randomized(getattr(torch.nn, name)(channels, *options, **keywords), dtype)


@pytest.mark.parametrize("training", [True, False])
@DTYPES
@example(4, 3, (2, 3), 1e-3, True, True)
@tier.examples(4)
@given(
    batch=st.integers(4, 6),
    channels=st.integers(1, 5),
    space=SPACES,
    eps=st.sampled_from([1e-5, 1e-2]),
    affine=st.booleans(),
    track=st.booleans(),
)
def test_batch_norm_equals_torch(dtype, training, batch, channels, space, eps, affine, track):
    ours, theirs = batch_norms(channels, space, dtype, eps, 0.1, affine, track)
    (ours.train if training else ours.eval)()
    inputs = draw((batch, channels, *space), dtype)
    check_layer(ours, theirs.train(training), inputs, to_ours=images_last, from_ours=images_first)


@DTYPES
@pytest.mark.parametrize("momentum", [0.1, 0.0, None])
@pytest.mark.parametrize("space", [(3,), (2, 3)])
def test_running_statistics_follow_torch(dtype, momentum, space):
    ours, theirs = batch_norms(3, space, dtype, 1e-5, momentum, bias=False)
    copy_weights(ours, theirs)
    theirs.train()

    def step(state, x, graphdef):
        model = nnx.merge(graphdef, state)
        return model(x), nnx.state(model)

    step = jax.jit(step, static_argnums=2)
    graphdef, state = nnx.split(ours)
    for inputs in draw((3, 4, 3, *space), dtype):
        expected = theirs(torch.tensor(inputs))
        outputs, state = step(state, jnp.asarray(images_last(inputs)), graphdef)
        assert_equal(images_first(np.asarray(outputs)), expected, "outputs")
    nnx.update(ours, state)
    for name, value in to_numpy(ours).items():
        assert_equal(value, theirs.state_dict()[name], name)
    assert int(ours.num_batches_tracked.get_value()) == 3
    ours.eval()
    inputs = draw((2, 3, *space), dtype)
    graphdef, state = nnx.split(ours)
    outputs, after = step(state, jnp.asarray(images_last(inputs)), graphdef)
    expected = theirs.eval()(torch.tensor(inputs))
    assert_equal(images_first(np.asarray(outputs)), expected, "outputs in evaluation mode")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), state, after))


@DTYPES
@example([2, 3], [4, 5], 1e-3, True, True)
@tier.examples(4)
@given(
    leading=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    shape=st.lists(st.integers(4, 6), min_size=1, max_size=2),
    eps=st.sampled_from([1e-5, 1e-2]),
    affine=st.booleans(),
    bias=st.booleans(),
)
def test_layer_norm_equals_torch(dtype, leading, shape, eps, affine, bias):
    ours = layers.LayerNorm(shape, eps, affine, bias, channels_last=False, param_dtype=dtype)
    theirs = randomized(torch.nn.LayerNorm(shape, eps, affine, bias), dtype)
    check_layer(ours, theirs, draw((*leading, *shape), dtype))


@DTYPES
def test_layer_norm_over_an_image_equals_torch(dtype):
    ours = layers.LayerNorm((4, 5, 3), param_dtype=dtype)
    theirs = randomized(torch.nn.LayerNorm((3, 4, 5)), dtype)
    inputs = draw((2, 3, 4, 5), dtype)
    check_layer(ours, theirs, inputs, to_ours=images_last, from_ours=images_first)


@DTYPES
@pytest.mark.parametrize("length", [4, 3])
def test_layer_norm_after_a_convolution_equals_torch(dtype, length):
    ours = layers.LayerNorm((length, 3), channels_last=True, param_dtype=dtype)
    theirs = randomized(torch.nn.LayerNorm((3, length)), dtype)
    inputs = draw((2, 3, length), dtype)
    check_layer(ours, theirs, inputs, to_ours=images_last, from_ours=images_first)
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(to_numpy(ours)[name], value)


@DTYPES
@example(2, 3, 4, (2, 3), 1e-3, True)
@tier.examples(4)
@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 3),
    size=st.integers(4, 5),
    space=SPACES,
    eps=st.sampled_from([1e-5, 1e-2]),
    affine=st.booleans(),
)
def test_group_norm_equals_torch(dtype, batch, groups, size, space, eps, affine):
    ours = layers.GroupNorm(groups, groups * size, eps, affine, param_dtype=dtype)
    theirs = randomized(torch.nn.GroupNorm(groups, groups * size, eps, affine), dtype)
    inputs = draw((batch, groups * size, *space), dtype)
    check_layer(ours, theirs, inputs, to_ours=images_last, from_ours=images_first)


@DTYPES
@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm_equals_torch(dtype, affine):
    ours = layers.InstanceNorm2d(3, 1e-3, affine=affine, param_dtype=dtype)
    theirs = randomized(torch.nn.InstanceNorm2d(3, 1e-3, affine=affine), dtype)
    inputs = draw((2, 3, 4, 5), dtype)
    check_layer(ours, theirs, inputs, to_ours=images_last, from_ours=images_first)


def test_instance_norm_takes_a_single_image_as_torch_does():
    ours, theirs = layers.InstanceNorm2d(3), torch.nn.InstanceNorm2d(3)
    inputs = draw((3, 4, 5), np.float32)
    outputs = ours(jnp.asarray(np.moveaxis(inputs, 0, -1)))
    assert_equal(np.moveaxis(np.asarray(outputs), -1, 0), theirs(torch.tensor(inputs)), "outputs")


@DTYPES
def test_two_values_per_channel_equal_torch(dtype):
    ours, theirs = batch_norms(2, (), dtype)
    copy_weights(ours, theirs)
    inputs = draw((2, 2), dtype)
    assert_equal(ours(jnp.asarray(inputs)), theirs(torch.tensor(inputs)), "outputs")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nnx.LayerNorm(8, epsilon=1e-5, rngs=nnx.Rngs(0)), torch.nn.LayerNorm(8)),
        (nnx.GroupNorm(8, 2, epsilon=1e-5, rngs=nnx.Rngs(0)), torch.nn.GroupNorm(2, 8)),
    ],
)
def test_flax_layers_take_torch_weights(ours, theirs):
    check_layer(ours, randomized(theirs, np.float32), draw((3, 8), np.float32))


def test_flax_batch_norm_takes_torch_weights():
    theirs = randomized(torch.nn.BatchNorm1d(4), np.float32).eval()
    del theirs.num_batches_tracked  # Flax does not count batches
    ours = nnx.BatchNorm(4, use_running_average=True, rngs=nnx.Rngs(0))
    check_layer(ours, theirs, draw((3, 4), np.float32))
