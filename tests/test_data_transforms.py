import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxnets.data import (
    Affine,
    CenterCrop,
    Compose,
    ImageRows,
    Normalize,
    Pad,
    Resize,
    Rotate,
    ToFloat,
)
from jaxnets.data.transforms.record import describe_transform, make_transform

PIXELS = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
COLOURS = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
MEANS, STDS = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def compiled(transform, x):
    return np.asarray(jax.jit(transform)(x))


def torch_normalized(x, mean, std):
    """torchvision's definition, for channels in the last axis."""
    x = torch.from_numpy(x).to(torch.float32).div(255)
    return x.sub(torch.tensor(mean)).div(torch.tensor(std)).numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_to_float_equals_torch_bit_for_bit(dtype):
    with jax.enable_x64(True):
        ours = compiled(ToFloat(dtype), PIXELS)
    theirs = torch.from_numpy(PIXELS).to(getattr(torch, dtype)).div(255)
    assert ours.dtype == jnp.dtype(dtype)
    np.testing.assert_array_equal(ours.astype(np.float64), theirs.to(torch.float64).numpy())


def test_to_float_is_exact_inside_a_scan_and_outside_jit():
    expected = PIXELS.astype(np.float32) / np.float32(255)

    @jax.jit
    def scanned(pixels):
        return jax.lax.scan(lambda carry, x: (carry, ToFloat()(x)), None, pixels)[1]

    np.testing.assert_array_equal(scanned(PIXELS), expected)
    np.testing.assert_array_equal(ToFloat()(PIXELS), expected)


def test_to_float_leaves_floats_unchanged_but_for_the_dtype():
    x = np.array([-3.5, 0.1, 300.0], np.float32)
    np.testing.assert_array_equal(compiled(ToFloat(), x), x)
    assert compiled(ToFloat("bfloat16"), x).dtype == jnp.bfloat16


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.bool_])
def test_to_float_refuses_other_integers(dtype):
    with pytest.raises(ValueError, match="x: expected uint8 pixels or floating values, got"):
        ToFloat()(np.zeros((2, 3), dtype))


@pytest.mark.parametrize("dtype", ["int32", np.uint8, bool, "complex64"])
def test_to_float_refuses_a_dtype(dtype):
    with pytest.raises(ValueError, match="dtype: expected a floating-point dtype, got"):
        ToFloat(dtype)


@pytest.mark.parametrize(
    ("pixels", "mean", "std"),
    [
        (PIXELS, 0.1307, 0.3081),
        (PIXELS, (0.1307,), (0.3081,)),
        (COLOURS, MEANS, STDS),
        (COLOURS, 0.5, 0.5),
    ],
)
def test_normalize_equals_torch(pixels, mean, std):
    ours = compiled(Compose(ToFloat(), Normalize(mean, std)), pixels)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, torch_normalized(pixels, mean, std), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_normalize_keeps_the_dtype(dtype):
    with jax.enable_x64(True):
        x = jnp.ones((2, 3), dtype)
        assert jax.jit(Normalize(MEANS, STDS))(x).dtype == dtype


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (0.5, 0.0, "std: expected positive numbers, got 0.0"),
        ((0.5, 0.5), (1.0, -1.0), "std: expected positive numbers"),
        ((0.5, 0.5), (1.0,), "std: expected 2 numbers, as many as in mean"),
        ((), (), "mean: expected a number or a sequence"),
        (float("nan"), 1.0, "mean: expected a finite number, got nan"),
        (0.5, (float("inf"),), "std: expected a finite number, got inf"),
        ("half", 1.0, "mean: expected a finite number, got half"),
        (0.5, None, "std: expected a finite number, got None"),
    ],
)
def test_normalize_refuses(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normalize(mean, std)


def test_normalize_takes_arrays():
    same = Normalize(MEANS, STDS)
    assert Normalize(np.array(MEANS), np.array(STDS)) == same
    assert Normalize(np.float64(0.5), jnp.array(0.25)) == Normalize(0.5, 0.25)


def test_normalize_refuses_a_batch():
    with pytest.raises(ValueError, match=r"x: expected floating values \(use ToFloat before"):
        Normalize(0.5, 0.5)(PIXELS)
    with pytest.raises(ValueError, match=r"x: expected 3 channels in the last axis, got float32"):
        Normalize(MEANS, STDS)(np.zeros((2, 4, 4, 1), np.float32))
    with pytest.raises(ValueError, match=r"x: expected 1 channels in the last axis, got float32"):
        Normalize(0.5, 0.5)(jnp.zeros(()))


def test_image_rows_are_the_rows_from_top_to_bottom():
    ours = compiled(ImageRows(), COLOURS)
    assert ours.shape == (4, 5, 18)
    np.testing.assert_array_equal(ours[2, 3], COLOURS[2, 3].ravel())
    np.testing.assert_array_equal(
        compiled(ImageRows(), PIXELS), torch.from_numpy(PIXELS).reshape(-1, 8, 8).numpy()
    )


@pytest.mark.parametrize("shape", [(28, 28), (4, 28, 28), (1, 2, 3, 4, 5)])
def test_image_rows_refuse_what_is_no_batch_of_images(shape):
    with pytest.raises(ValueError, match=r"x: expected a batch of images \[B, H, W, C\], got"):
        ImageRows()(np.zeros(shape, np.uint8))


def test_compose_applies_from_first_to_last():
    prepare = Compose(ToFloat(), Normalize(0.5, 0.25), ImageRows())
    step_by_step = ImageRows()(Normalize(0.5, 0.25)(ToFloat()(COLOURS)))
    np.testing.assert_allclose(compiled(prepare, COLOURS), step_by_step, rtol=1e-6)
    np.testing.assert_array_equal(compiled(Compose(), COLOURS), COLOURS)


def test_compose_refuses():
    with pytest.raises(ValueError, match="transforms: expected callables, got list"):
        Compose([ToFloat()])

    class Unhashable:
        __hash__ = None

        def __call__(self, x):
            return x

    with pytest.raises(ValueError, match="transforms: expected hashable callables, got <"):
        Compose(Unhashable())


SAME = [
    (lambda: ToFloat(), lambda: ToFloat("float32")),
    (lambda: Normalize(0.5, 1), lambda: Normalize([0.5], (1.0,))),
    (lambda: ImageRows(), lambda: ImageRows()),
    (
        lambda: Compose(ToFloat(jnp.float32), Normalize(MEANS, STDS)),
        lambda: Compose(ToFloat(np.dtype(np.float32)), Normalize(list(MEANS), list(STDS))),
    ),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equal_transforms_are_equal_hash_equal_and_compile_once(one, other):
    assert one() == other()
    assert hash(one()) == hash(other())
    assert repr(one()) == repr(other())
    traces = []

    def apply(transform, x):
        traces.append(transform)
        return transform(x)

    jitted = jax.jit(apply, static_argnums=0)
    x = np.ones((2, 4, 4, 3), np.float32)
    jitted(one(), x)
    jitted(other(), x)
    assert len(traces) == 1


def test_different_transforms_differ_and_cannot_be_changed():
    different = [ToFloat(), ToFloat("bfloat16"), Normalize(0, 1), Normalize(0, 2), ImageRows()]
    different += [Compose(), Compose(ToFloat()), Compose(ToFloat(), ImageRows())]
    assert len(set(different)) == len(different)
    with pytest.raises(AttributeError, match="dtype"):
        ToFloat().dtype = jnp.float64
    with pytest.raises(AttributeError, match="mean"):
        Normalize(0, 1).mean = 2


@pytest.mark.parametrize(
    "transform",
    [
        None,
        Compose(),
        Compose(ToFloat("bfloat16"), Normalize(MEANS, STDS), ImageRows()),
        Compose(Pad((1, 2, 3, 4), 0.5, "edge"), Compose(CenterCrop((5, 4)), Resize(7)), ToFloat()),
        Compose(Affine(3, (1, 2), 1.5, 4, "bilinear"), Rotate(90, "bilinear", 2)),
    ],
)
def test_a_transform_is_recorded_and_made_again(transform):
    record = json.loads(json.dumps(describe_transform(transform)))
    assert make_transform(record) == transform


def test_a_transform_alone_is_recorded_as_a_list_of_one():
    assert make_transform(describe_transform(Resize((2, 3)))) == Compose(Resize((2, 3)))


def test_what_a_record_cannot_hold_is_named_and_refused_when_it_is_used():
    def halved(x):
        return x / 2

    class Named(ToFloat):  # may compute something else
        pass

    for transform, name in ((halved, "halved"), (Named(), "Named")):
        made = make_transform(describe_transform(Compose(ToFloat(), transform)))
        assert describe_transform(made) == describe_transform(Compose(ToFloat(), transform))
        message = f"transform: expected load.* with the function {name} of the saved run, got none"
        with pytest.raises(ValueError, match=message):
            made(PIXELS)


@pytest.mark.parametrize("record", [3, {}, [3], [{}], [{"name": "Blur"}], [{"name": "Pad"}]])
def test_a_damaged_record_of_a_transform_is_refused(record):
    with pytest.raises(ValueError, match="transform: expected"):
        make_transform(record)
