"""Deterministic transforms of images compared with torch's arithmetic."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jaxnets.data import Affine, CenterCrop, OneHot, Pad, Resize, Rotate
from jaxnets.data.transforms import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
)
from tests import tier

draw = np.random.default_rng(0)
PIXELS = draw.integers(0, 256, (4, 9, 12, 3), dtype=np.uint8)
PIXELS[0, :3] = np.array([0, 0, 0], np.uint8)
PIXELS[0, 3:5] = np.array([255, 255, 255], np.uint8)
PIXELS[0, 5:7] = np.array([90, 90, 90], np.uint8)
PIXELS[0, 7:] = np.array([200, 200, 17], np.uint8)
FLOATS = draw.random((4, 9, 12, 3)).astype(np.float32)
GREY = PIXELS[..., :1]


def compiled(function, *arguments):
    return np.asarray(jax.jit(function)(*arguments))


def channels_first(x, dtype=torch.float64):
    return torch.from_numpy(x).permute(0, 3, 1, 2).to(dtype)


def channels_last(x):
    return x.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    ("padding", "sides"),
    [(2, (2, 2, 2, 2)), ((1, 3), (1, 1, 3, 3)), ((1, 2, 3, 4), (1, 3, 2, 4)), (0, (0, 0, 0, 0))],
)
@pytest.mark.parametrize(
    ("mode", "theirs"), [("constant", "constant"), ("edge", "replicate"), ("reflect", "reflect")]
)
def test_pad_equals_torch(padding, sides, mode, theirs):
    value = {"value": 7} if mode == "constant" else {}
    expected = channels_last(F.pad(channels_first(PIXELS), sides, mode=theirs, **value))
    ours = compiled(Pad(padding, fill=7, padding_mode=mode), PIXELS)
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, expected)


def test_symmetric_padding_repeats_the_edge():
    ours = compiled(Pad((0, 2, 0, 1), padding_mode="symmetric"), FLOATS)
    rows = [1, 0, *range(9), 8]
    np.testing.assert_array_equal(ours, FLOATS[:, rows])


@pytest.mark.parametrize("size", [5, (4, 7), (8, 11), (9, 12), (1, 1)])
def test_center_crop_takes_the_middle(size):
    height, width = size if isinstance(size, tuple) else (size, size)
    top, left = round((9 - height) / 2), round((12 - width) / 2)
    ours = compiled(CenterCrop(size), PIXELS)
    np.testing.assert_array_equal(ours, PIXELS[:, top : top + height, left : left + width])


def test_center_crop_pads_what_is_too_small():
    ours = compiled(CenterCrop((12, 4)), PIXELS)
    expected = F.pad(torch.from_numpy(PIXELS[:, :, 4:8]), (0, 0, 0, 0, 1, 2)).numpy()
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(5, 7), (18, 24), (13, 6), (9, 12), (1, 1), 4, 20])
def test_resize_equals_torch(size, antialias):
    shape = size if isinstance(size, tuple) else (size, int(size * 12 / 9))
    expected = F.interpolate(
        channels_first(FLOATS, torch.float32), shape, mode="bilinear", antialias=antialias
    )
    ours = compiled(Resize(size, antialias), FLOATS)
    np.testing.assert_allclose(ours, channels_last(expected), rtol=1e-6, atol=1e-6)
    exact = F.interpolate(channels_first(PIXELS), shape, mode="bilinear", antialias=antialias)
    ours = compiled(Resize(size, antialias), PIXELS)
    assert ours.dtype == np.uint8
    # half a unit from the exact value, plus rounding errors
    assert np.abs(ours - channels_last(exact)).max() <= 0.5 + 1e-4


def test_resize_keeps_the_ratio_of_an_upright_image():
    assert Resize(6)(FLOATS.transpose(0, 2, 1, 3)).shape == (4, 8, 6, 3)


def torch_matrix(angle, translate, scale, shear):
    """The inverse of torchvision's documented map: translation · rotation · shears · scale."""
    angle, (sx, sy) = math.radians(angle), map(math.radians, shear)
    turn, along_y, along_x = torch.tensor(
        [
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]],
            [[1, 0], [-math.tan(sy), 1]],
            [[1, -math.tan(sx)], [0, 1]],
        ],
        dtype=torch.float64,
    )
    forward = torch.eye(3, dtype=torch.float64)
    forward[:2, :2] = scale * turn @ along_y @ along_x
    forward[:2, 2] = torch.tensor(translate, dtype=torch.float64)
    return torch.linalg.inv(forward)[:2]


def torch_affine(x, matrix, mode, fill):
    """The result of affine_grid and grid_sample, and which pixels are not close to a tie."""
    x = channels_first(x)
    count, channels, height, width = x.shape
    # affine_grid has coordinates from -1 to 1 along either axis
    half = torch.tensor([width / 2, height / 2, 1], dtype=torch.float64)
    theta = matrix * half[None, :] / half[:2, None]
    grid = F.affine_grid(
        theta.expand(count, 2, 3), (count, channels, height, width), align_corners=False
    )
    inside = torch.cat([x - fill, torch.ones_like(x[:, :1])], dim=1)
    sampled = F.grid_sample(inside, grid, mode=mode, align_corners=False)[:, :-1] + fill
    places = ((grid + 1) * torch.tensor([width, height]) - 1) / 2
    clear = ((places - places.floor() - 0.5).abs() > 1e-4).all(-1)
    return channels_last(sampled), clear.numpy()


SETTINGS = [
    (0, (0, 0), 1, (0, 0), 0),
    (33, (0, 0), 1, (0, 0), 0),
    (-17, (2, -3), 1, (0, 0), 9),
    (0, (1.5, 0.25), 1.3, (0, 0), 0),
    (10, (1, 1), 0.7, (20, -30), 9),
    (180, (0, 0), 1, (0, 15), 0),
]


@pytest.mark.parametrize("mode", tier.usually(["nearest", "bilinear"], ["bilinear"]))
@pytest.mark.parametrize(("angle", "translate", "scale", "shear", "fill"), SETTINGS)
def test_affine_equals_torch(angle, translate, scale, shear, fill, mode):
    transform = Affine(angle, translate, scale, shear, interpolation=mode, fill=fill)
    matrix = torch_matrix(angle, translate, scale, shear)
    for x in (FLOATS, PIXELS):
        expected, clear = torch_affine(x, matrix, mode, fill)
        ours = compiled(transform, x)
        assert ours.dtype == x.dtype
        if mode == "nearest":
            assert clear.mean() > 0.5
            np.testing.assert_array_equal(ours[clear], expected[clear].astype(x.dtype))
        elif x is FLOATS:
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5 * max(fill, 1))
        else:
            assert np.abs(ours - expected).max() <= 0.5 + 2e-3


def test_rotation_is_counter_clockwise():
    square = PIXELS[:, :9, :9]
    np.testing.assert_array_equal(compiled(Rotate(90), square), np.rot90(square, axes=(1, 2)))
    np.testing.assert_array_equal(compiled(Affine(-90), square), np.rot90(square, axes=(1, 2)))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("x", [PIXELS, FLOATS, FLOATS.astype(jnp.bfloat16), GREY])
def test_no_rotation_changes_no_bit(x, mode):
    np.testing.assert_array_equal(compiled(Rotate(0, interpolation=mode), x), x)


# torchvision's documented formulas in float64, before a uint8 result is rounded down


def grey_of(x):
    red, green, blue = x.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue)[:, None]


def brightness(x, factor, bound, whole):
    return (factor * x).clamp(0, bound)


def contrast(x, factor, bound, whole):
    grey = grey_of(x) if x.shape[1] == 3 else x
    grey = grey.floor() if whole else grey
    return (factor * x + (1 - factor) * grey.mean((1, 2, 3), keepdim=True)).clamp(0, bound)


def saturation(x, factor, bound, whole):
    grey = grey_of(x) if x.shape[1] == 3 else x
    return (factor * x + (1 - factor) * (grey.floor() if whole else grey)).clamp(0, bound)


def hue(x, factor, bound, whole):
    import colorsys

    if x.shape[1] == 1:
        return x
    rows = []
    for pixel in (x / bound).permute(0, 2, 3, 1).reshape(-1, 3).tolist():
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        rows.append(colorsys.hsv_to_rgb((h + factor) % 1.0, s, v))
    count, _, height, width = x.shape
    turned = torch.tensor(rows, dtype=torch.float64).reshape(count, height, width, 3)
    return turned.permute(0, 3, 1, 2) * (255.999 if whole else 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "factors"),
    [
        (adjust_brightness, brightness, (0.0, 0.3, 1.0, 1.7)),
        (adjust_contrast, contrast, (0.0, 0.3, 1.0, 1.7)),
        (adjust_saturation, saturation, (0.0, 0.3, 1.0, 1.7)),
        (adjust_hue, hue, (-0.5, -0.2, 0.0, 0.1, 0.4)),
    ],
)
@pytest.mark.parametrize("x", [PIXELS, FLOATS, GREY])
def test_colours_equal_the_documented_formulas(ours, theirs, factors, x):
    whole = x.dtype == np.uint8
    jitted = jax.jit(ours)
    for factor in factors:
        expected = channels_last(theirs(channels_first(x), factor, 255 if whole else 1, whole))
        result = np.asarray(jitted(x, factor))
        assert result.dtype == x.dtype
        if whole:  # the exact value rounded down, except for rounding errors
            off = expected - result
            assert (off > -1e-3).all()
            assert (off < 1 + 1e-3).all()
        else:
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("adjust", [adjust_brightness, adjust_contrast, adjust_saturation])
def test_a_factor_of_one_changes_no_bit(adjust):
    for x in (PIXELS, FLOATS, GREY):
        np.testing.assert_array_equal(compiled(adjust, x, 1.0), x)


def test_no_turn_of_the_hue_changes_no_pixel():
    colours = np.stack(np.meshgrid(*[np.arange(0, 256, 15, dtype=np.uint8)] * 3), -1)
    colours = colours.reshape(1, 18, -1, 3)
    np.testing.assert_array_equal(compiled(adjust_hue, colours, 0.0), colours)


def test_one_hot_equals_torch():
    labels = np.array([[2, 0], [1, 2]], np.int32)
    ours = compiled(OneHot(4), labels)
    assert ours.dtype == np.float32
    expected = F.one_hot(torch.from_numpy(labels).long(), 4).numpy()
    np.testing.assert_array_equal(ours, expected)
    assert compiled(OneHot(4, "bfloat16"), labels).dtype == jnp.bfloat16
    assert np.isnan(compiled(OneHot(2), labels)).any(-1).tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float64])
def test_dtypes_are_kept(dtype):
    with jax.enable_x64(True):
        x = jnp.asarray(FLOATS, dtype)
        for transform in (Pad(1, 0.5), CenterCrop(4), Resize(5), Rotate(30, "bilinear", 0.5)):
            assert jax.jit(transform)(x).dtype == dtype
        for adjust in (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue):
            assert jax.jit(adjust)(x, 0.4).dtype == dtype


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Pad(-1), "padding: expected an integer >= 0, got -1"),
        (lambda: Pad((1, 2, 3)), r"padding: expected one, two or four integers >= 0, got \(1, 2"),
        (lambda: Pad(1.5), "padding: expected an integer >= 0, got 1.5"),
        (lambda: Pad(1, "x"), "fill: expected a finite number, got x"),
        (lambda: Pad(1, padding_mode="wrap"), "padding_mode: expected one of constant, edge, ref"),
        (lambda: Pad(1)(PIXELS[0]), r"x: expected a batch of images \[B, H, W, C\], got uint8\[9,"),
        (lambda: Pad(1, 256)(PIXELS), "fill: expected an integer from 0 to 255, as the pixels are"),
        (lambda: Pad(1, 0.5)(PIXELS), "fill: expected an integer from 0 to 255, as the pixels are"),
        (lambda: Pad(9, 0, "reflect")(PIXELS), "padding: expected at most 8 for uint8"),
        (lambda: Pad(10, 0, "symmetric")(PIXELS), "padding: expected at most 9 for uint8"),
        (lambda: CenterCrop(0), "size: expected a positive integer, got 0"),
        (lambda: CenterCrop((1, 2, 3)), "size: expected a positive integer, or two"),
        (lambda: Resize(2.5), "size: expected a positive integer, got 2.5"),
        (lambda: Resize(2)(PIXELS.astype(np.int32)), "x: expected images .* uint8 or floating"),
        (lambda: Rotate(math.inf), "angle: expected a finite number, got inf"),
        (lambda: Rotate(0, "cubic"), "interpolation: expected one of nearest, bilinear, got cubic"),
        (lambda: Rotate(0, fill=-1)(PIXELS), "fill: expected an integer from 0 to 255"),
        (lambda: Affine(0, translate=1), "translate: expected two numbers, for x and for y, got 1"),
        (lambda: Affine(0, scale=0), "scale: expected a finite number > 0, got 0"),
        (lambda: Affine(0, shear=90), "shear: expected degrees between -90 and 90, got"),
        (lambda: adjust_hue(PIXELS[..., :2], 0.1), "x: expected images of one or three channels"),
        (lambda: adjust_contrast(np.zeros((3, 3), np.float32), 1), "x: expected images"),
        (lambda: adjust_brightness(PIXELS, -1), "factor: expected a finite number >= 0, got -1"),
        (lambda: adjust_contrast(PIXELS, "x"), "factor: expected a finite number >= 0, got x"),
        (lambda: adjust_hue(PIXELS, 0.6), r"factor: expected a number in \[-0.5, 0.5\], got 0.6"),
        (lambda: Resize(3, antialias="no"), "antialias: expected True or False, got no"),
        (lambda: OneHot(3)([0, 1]), "labels: expected class numbers, integers, got list"),
        (lambda: OneHot(0), "num_classes: expected a positive integer, got 0"),
        (lambda: OneHot(3, "int32"), "dtype: expected a floating-point dtype, got int32"),
        (lambda: OneHot(3)(np.array([0, 3])), "labels: expected classes from 0 to 2, got 3"),
        (lambda: OneHot(3)(np.array([0.5])), "labels: expected class numbers, integers, got float"),
    ],
)
def test_bad_settings_and_batches_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
