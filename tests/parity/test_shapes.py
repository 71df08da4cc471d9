"""Functions of padding, resizing, grids and folds compared with PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from jaxnets import functional as F
from jaxnets import layers
from tests import tier
from tests.parity.oracle import DTYPES, assert_equal, channels_first, check_function

SHAPES = {1: (2, 3, 5), 2: (2, 2, 4, 5), 3: (1, 2, 4, 3, 5)}


def draw(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def check_image(ours, theirs, x, *others):
    check_function(channels_first(ours), theirs, x, *others)


# -- padding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad_equals_torch(mode, axes):
    pads = (2, -1, 0, 2, -1, 3)[: 2 * axes]
    value = 0.5 if mode == "constant" else None
    check_image(
        lambda x: F.pad(x, pads, mode, value),
        lambda x: functional.pad(x, pads, mode, value),
        draw(SHAPES[axes]),
    )


def test_pad_counts_axes_as_torch():
    x = draw((2, 3, 4, 5))
    pads = (1, 1, 2, 0, 0, 3, -1, 2)  # width, height, channels and batch
    check_image(lambda x: F.pad(x, pads), lambda x: functional.pad(x, pads), x)
    last = functional.pad(torch.tensor(x), (1, 2))
    assert_equal(F.pad(x, (1, 2), channels_last=False), last, "the last axis")
    rows = functional.pad(torch.tensor(x[0, 0]), (1, 2), "reflect")
    assert_equal(F.pad(x[0, 0], (1, 2), "reflect"), rows, "two axes are PyTorch's")


def test_pad_takes_integers_and_truths():
    assert F.pad(np.array([1, 2]), (1, 0), value=7).tolist() == [7, 1, 2]
    assert F.pad(np.array([True]), (0, 1)).tolist() == [True, False]


# -- other sizes -----------------------------------------------------------------------------------


RESIZED = [
    ("nearest", 1, {"size": 7}),
    ("nearest", 2, {"scale_factor": [1.7, 0.6]}),
    ("nearest", 3, {"scale_factor": 2}),
    ("nearest-exact", 1, {"scale_factor": 1.7}),
    ("nearest-exact", 2, {"size": [3, 7]}),
    ("nearest-exact", 3, {"size": [5, 2, 3]}),
    ("area", 1, {"size": 3}),
    ("area", 2, {"scale_factor": [1.5, 0.6]}),
    ("area", 3, {"size": [2, 4, 3]}),
    ("linear", 1, {"scale_factor": 1.7}),
    ("linear", 1, {"size": 1, "align_corners": True}),
    ("bilinear", 2, {"scale_factor": [1.3, 0.7]}),
    ("bilinear", 2, {"scale_factor": [1.3, 0.7], "recompute_scale_factor": True}),
    ("bilinear", 2, {"size": [4, 7], "align_corners": True}),
    ("bilinear", 2, {"scale_factor": [0.6, 1.7], "antialias": True}),
    ("bicubic", 2, {"scale_factor": [1.7, 0.6]}),
    ("bicubic", 2, {"size": [7, 4], "align_corners": True}),
    ("bicubic", 2, {"scale_factor": [0.6, 1.7], "antialias": True}),
    ("bicubic", 2, {"size": [3, 7], "align_corners": True, "antialias": True}),
    ("trilinear", 3, {"scale_factor": [1.7, 2.5, 0.6]}),
    ("trilinear", 3, {"size": [3, 5, 4], "align_corners": True}),
]


@pytest.mark.parametrize(
    ("mode", "axes", "options"), tier.one_in(2, [pytest.param(*each) for each in RESIZED]), ids=str
)
def test_interpolate_equals_torch_in_float64(mode, axes, options):
    check_image(
        lambda x: F.interpolate(x, mode=mode, **options),
        lambda x: functional.interpolate(x, mode=mode, **options),
        draw(SHAPES[axes]),
    )


FAR = [
    ((1, 2, 1, 1), {"size": (20, 3)}),  # each input affects many outputs
    ((1, 1, 30, 3), {"size": (2, 3), "antialias": True}),  # each output depends on many inputs
]


@DTYPES
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("shape", "options"), FAR, ids=str)
def test_interpolate_equals_torch_at_far_sizes(shape, options, mode, dtype):
    check_image(
        lambda x: F.interpolate(x, mode=mode, **options),
        lambda x: functional.interpolate(x, mode=mode, **options),
        draw(shape, dtype),
    )


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_takes_the_neighbours_of_torch(mode):
    x, sizes = np.arange(26, dtype=np.float32), (11, 22, 26, 37, 44, 52, 71, 81, 88)
    ours = jax.jit(lambda x: [F.interpolate(x, (1, size), mode=mode) for size in sizes])
    for size, outputs in zip(sizes, ours(x[None, None, :, None]), strict=True):
        theirs = functional.interpolate(torch.tensor(x)[None, None, None], (1, size), mode=mode)
        np.testing.assert_array_equal(outputs.ravel(), theirs.ravel())


@pytest.mark.parametrize("mode", ["nearest", "area", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(3, 5), (2, 8), (1, 2)])
@pytest.mark.parametrize("antialias", [False, True])
def test_interpolate_passes_on_what_is_not_finite(mode, size, antialias):
    if antialias and mode in ("nearest", "area"):
        return
    x = draw((1, 1, 3, 5))
    x[0, 0, 1, 1:3] = np.inf, np.nan
    options = {"size": size, "mode": mode, "antialias": antialias}
    theirs = functional.interpolate(torch.tensor(x), **options)
    assert_equal(channels_first(lambda x: F.interpolate(x, **options))(x), theirs, "outputs")


def test_halves_are_interpolated_in_single_precision():
    x = jnp.asarray(draw((1, 3, 3, 2)), jnp.bfloat16)
    expected = F.interpolate(x.astype(jnp.float32), 5, mode="bicubic")
    outputs = F.interpolate(x, 5, mode="bicubic")
    assert outputs.dtype == jnp.bfloat16
    np.testing.assert_array_equal(outputs, expected.astype(jnp.bfloat16))


def test_the_gradient_of_interpolate_scatters_nothing():
    def loss(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear").sum()

    program = str(jax.make_jaxpr(jax.grad(loss))(jnp.ones((1, 4, 4, 1), jnp.float32)))
    assert "gather" in program
    assert "scatter" not in program


# -- grids -----------------------------------------------------------------------------------------


def draw_grid(axes, dtype):
    """Positions inside and far outside the image, including pixels, midpoints and edges."""
    random = np.random.default_rng(1)
    grid = random.uniform(-2.6, 2.6, (2, *(3, 4, 2)[:axes], axes))
    grid.flat[:20] = random.choice([-3, -2, -1, -0.75, -0.5, 0, 0.25, 0.6, 1, 3], 20)
    return grid.astype(dtype)


SAMPLED = [
    *((2, mode) for mode in ("bilinear", "nearest", "bicubic")),
    *((3, mode) for mode in ("bilinear", "nearest")),
]


@pytest.mark.parametrize("dtype", tier.usually([np.float32, np.float64], [np.float32]))
@pytest.mark.parametrize(
    "padding_mode", tier.usually(["zeros", "border", "reflection"], ["reflection"])
)
@pytest.mark.parametrize(("axes", "mode"), SAMPLED)
def test_grid_sample_equals_torch(axes, mode, padding_mode, dtype):
    aligned = dtype == np.float64  # each value in half of the cases
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": aligned}
    check_image(
        lambda x, grid: F.grid_sample(x, grid, **options),
        lambda x, grid: functional.grid_sample(x, grid, **options),
        draw((2, 3, 4, 5, 2)[: axes + 2], dtype),
        draw_grid(axes, dtype),
    )


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize(
    "padding_mode", tier.usually(["zeros", "border", "reflection"], ["border"])
)
def test_grid_sample_in_float64_at_the_edges_of_pixels(mode, padding_mode):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": False}
    grid = np.stack(np.meshgrid(np.arange(-9, 10) / 5, np.arange(-6, 7) / 4), -1)[None]
    check_image(
        lambda x, grid: F.grid_sample(x, grid, **options),
        lambda x, grid: functional.grid_sample(x, grid, **options),
        draw((1, 1, 4, 5)),
        grid,
    )


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize(
    "padding_mode", tier.usually(["zeros", "border", "reflection"], ["border"])
)
def test_positions_that_are_not_finite_are_where_torch_has_them(mode, padding_mode):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": False}
    grid = np.array([[np.nan, 0], [0, np.inf], [1e30, 0], [0.1, -np.inf], [0.2, 0.3]])[None, None]
    image = draw((1, 1, 4, 5))  # no gradient: torch's writes out of bounds for this grid
    theirs = functional.grid_sample(torch.tensor(image), torch.tensor(grid), **options)
    ours = channels_first(lambda x: F.grid_sample(x, grid, **options))
    assert_equal(ours(image), theirs, "outputs")


@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid")  # by torch, for a size of 1
@DTYPES
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("sizes", [(4, 5), (1, 3), (2, 3, 4)])
def test_affine_grid_equals_torch(sizes, align_corners, dtype):
    axes = len(sizes)
    check_function(
        lambda theta: F.affine_grid(theta, (2, *sizes, 3), align_corners),
        lambda theta: functional.affine_grid(theta, (2, 3, *sizes), align_corners),
        draw((2, axes, axes + 1), dtype),
    )


@DTYPES
@pytest.mark.parametrize("size", [7, 28])
def test_the_gradient_of_an_identity_map_equals_torch_at_pixels(size, dtype):
    """Positions are pixels, where the last bit decides which neighbors are interpolated."""
    identity, image = np.eye(2, 3, dtype=dtype)[None], draw((1, 2, size, size), dtype)
    last = np.moveaxis(image, 1, -1)

    def ours(theta):
        grid = F.affine_grid(theta, (1, size, size, 2))
        return jnp.moveaxis(F.grid_sample(jnp.asarray(last), grid), -1, 1)

    def theirs(theta):
        grid = functional.affine_grid(theta, image.shape, align_corners=False)
        return functional.grid_sample(torch.tensor(image), grid, align_corners=False)

    check_function(ours, theirs, identity)


# -- folds, shuffles and vectors -------------------------------------------------------------------

WINDOWS = {"kernel_size": (2, 3), "dilation": (2, 1), "padding": (1, 0), "stride": (1, 2)}


def test_unfold_and_fold_equal_torch():
    x = draw((2, 3, 5, 7))
    check_image(
        lambda x: F.unfold(x, **WINDOWS),
        lambda x: functional.unfold(x, **WINDOWS),
        x,
    )
    check_image(
        lambda x: F.fold(F.unfold(x, **WINDOWS), (5, 7), **WINDOWS),
        lambda x: functional.fold(functional.unfold(x, **WINDOWS), (5, 7), **WINDOWS),
        x,
    )


def test_a_linear_after_unfold_takes_the_weight_of_torch():
    x, weight = draw((2, 3, 4, 4)), draw((5, 12))
    theirs = functional.linear(functional.unfold(torch.tensor(x), 2).mT, torch.tensor(weight))
    assert_equal(F.unfold(np.moveaxis(x, 1, -1), 2) @ weight.T, theirs, "outputs")


@pytest.mark.parametrize("name", ["pixel_shuffle", "pixel_unshuffle", "channel_shuffle"])
def test_shuffles_equal_torch(name):
    ours, theirs = getattr(F, name), getattr(functional, name)
    check_image(lambda x: ours(x, 2), lambda x: theirs(x, 2), draw((2, 8, 4, 6)))


@pytest.mark.parametrize(
    ("dim", "sizes", "shape"), [(-1, (2, -1), (3, 5, 6)), (1, (5, 1), (3, 5, 6)), (0, [3], (3,))]
)
def test_unflatten_of_any_axis_equals_torch(dim, sizes, shape):
    x = draw(shape)
    theirs = torch.nn.Unflatten(dim, tuple(sizes))(torch.tensor(x))
    assert_equal(layers.Unflatten(dim, sizes, channels_last=False)(x), theirs, "outputs")


def test_unflatten_orders_features_as_torch():
    x = draw((2, 24))
    theirs = torch.nn.Unflatten(1, (-1, 2, 3))(torch.tensor(x))
    ours = layers.Unflatten(1, (-1, 2, 3))(x)
    assert_equal(np.moveaxis(ours, -1, 1), theirs, "outputs")
    assert_equal(layers.Flatten()(ours), x, "flattened again")
