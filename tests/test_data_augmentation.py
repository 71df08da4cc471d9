"""Random transforms: what they draw, what they do not change, and how they are compiled."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jaxnets.data import (
    Affine,
    ColorJitter,
    Compose,
    CutMix,
    Mixup,
    Normalize,
    Pad,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomRotation,
    RandomTransform,
    ToFloat,
    augment,
)
from jaxnets.data.transforms import adjust_brightness, adjust_contrast, adjust_hue
from jaxnets.losses import cross_entropy
from jaxnets.metrics import correct

draw = np.random.default_rng(0)
PIXELS = draw.integers(0, 256, (6, 8, 10, 3), dtype=np.uint8)
FLOATS = draw.random((6, 8, 10, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)
KEY = jax.random.key(7)
MANY = 1500

# one of every kind, with settings that change the images
VARIED = {
    "crop": RandomCrop((8, 10), padding=2),
    "flip": RandomHorizontalFlip(),
    "rotation": RandomRotation(30),
    "affine": RandomAffine(20, (0.2, 0.2), (0.8, 1.2), (-10, 10, -5, 5), "bilinear"),
    "jitter": ColorJitter(0.4, 0.4, 0.4, 0.1),
    "erasing": RandomErasing(1.0),
}
STILL = {
    "crop": RandomCrop((8, 10)),
    "flip": RandomHorizontalFlip(0),
    "rotation": RandomRotation(0),
    "rotation-bilinear": RandomRotation(0, "bilinear"),
    "affine": RandomAffine(0, (0, 0), (1, 1), 0, "bilinear"),
    "jitter": ColorJitter(),
    "erasing": RandomErasing(0),
    "compose": Compose(RandomCrop((8, 10)), RandomHorizontalFlip(0), ColorJitter()),
}


def compiled(transform, x, key=KEY):
    return np.asarray(jax.jit(transform)(x, key))


def uniform(counts):
    """Whether counts are consistent with equal probabilities, by the χ² test."""
    expected = counts.sum() / counts.size
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = counts.size - 1
    return statistic < freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("transform", VARIED.values(), ids=VARIED)
def test_a_key_decides_every_image_on_its_own(transform):
    same = np.repeat(PIXELS[:1], 16, axis=0)
    apply = jax.jit(transform)
    first = np.asarray(apply(same, KEY))
    np.testing.assert_array_equal(first, apply(same, KEY))
    assert not np.array_equal(first, apply(same, jax.random.key(8)))
    assert len(np.unique(first.reshape(16, -1), axis=0)) > 1
    assert first.shape == same.shape
    assert first.dtype == np.uint8


@pytest.mark.slow
@pytest.mark.parametrize("transform", STILL.values(), ids=STILL)
def test_settings_that_mean_nothing_change_no_bit(transform):
    for x in (PIXELS, FLOATS, jnp.asarray(FLOATS, jnp.bfloat16)):
        ours = jax.jit(transform)(x, KEY)
        assert ours.dtype == x.dtype
        np.testing.assert_array_equal(ours, x)


@pytest.mark.slow
@pytest.mark.parametrize("transform", VARIED.values(), ids=VARIED)
def test_dtypes_are_kept_and_steps_can_be_scanned(transform):
    with jax.enable_x64(True):
        x = jnp.asarray(FLOATS, jnp.float64)
        assert jax.eval_shape(transform, x, KEY).dtype == jnp.float64

    @jax.jit
    def scanned(x, keys):
        return jax.lax.scan(lambda carry, key: (carry, transform(x, key)), None, keys)[1]

    keys = jax.random.split(KEY, 2)
    np.testing.assert_array_equal(scanned(PIXELS, keys)[1], compiled(transform, PIXELS, keys[1]))


@pytest.mark.parametrize("transform", VARIED.values(), ids=VARIED)
def test_the_program_does_not_grow_with_the_batch(transform):
    def equations(count):
        x = jax.ShapeDtypeStruct((count, 8, 10, 3), np.uint8)
        return len(jax.make_jaxpr(transform)(x, KEY).eqns)

    assert equations(2) == equations(64)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_crops_are_windows_of_the_padded_image_and_every_place_is_as_likely(mode):
    # the value of each pixel is its position
    image = np.arange(30, dtype=np.uint8).reshape(1, 5, 6, 1)
    transform = RandomCrop((4, 4), padding=1, fill=99, padding_mode=mode)
    padded = np.asarray(Pad(1, 99, mode)(image))[0]
    windows = {
        padded[top : top + 4, left : left + 4].tobytes(): (top, left)
        for top in range(4)
        for left in range(5)
    }
    assert len(windows) == 20
    counts = np.zeros((4, 5))
    for crop in compiled(transform, np.repeat(image, MANY, axis=0)):
        counts[windows[crop.tobytes()]] += 1
    assert uniform(counts)


def test_flips_are_as_frequent_as_asked_for():
    for p in (0.5, 0.2, 1.0):
        flipped = compiled(RandomHorizontalFlip(p), np.repeat(PIXELS[:1], MANY, axis=0))
        mirrored = (flipped == PIXELS[0][:, ::-1]).all((1, 2, 3))
        kept = (flipped == PIXELS[0]).all((1, 2, 3))
        assert (mirrored ^ kept).all()
        assert abs(mirrored.mean() - p) <= 4 * (p * (1 - p) / MANY) ** 0.5


def test_translations_are_uniform_whole_pixels():
    image = np.zeros((1, 9, 9, 1), np.uint8)
    image[0, 4, 4] = 1
    moved = compiled(RandomAffine(0, translate=(2 / 9, 1 / 9)), np.repeat(image, MANY, axis=0))
    assert (moved.sum((1, 2, 3)) == 1).all()
    counts = moved[..., 0].sum(0)
    assert counts[3:6, 2:7].sum() == MANY
    # torchvision rounds real numbers, so that the outermost values are half as frequent
    assert uniform(counts[4, 3:6])
    outermost = counts[:, 2].sum() / counts[:, 3].sum()
    assert 0.4 < outermost < 0.6


@pytest.mark.slow
def test_angles_are_uniform_and_counter_clockwise():
    # a bright spot right of the center shows the angle of rotation
    image = np.zeros((1, 41, 41, 1), np.float32)
    image[0, 20 - 2 : 20 + 3, 37:40] = 1
    turned = compiled(RandomRotation((0, 80), "bilinear"), np.repeat(image, 500, axis=0))[..., 0]
    ys, xs = np.mgrid[20:-21:-1, -20:21]
    mass = turned.sum((1, 2))
    angles = np.degrees(
        np.arctan2((turned * ys).sum((1, 2)) / mass, (turned * xs).sum((1, 2)) / mass)
    )
    assert angles.min() > -1
    assert angles.max() < 81
    assert uniform(np.histogram(angles, bins=8, range=(0, 80))[0])


def test_one_draw_of_the_affine_map_is_a_fixed_one():
    fixed = RandomAffine((25, 25), (0, 0), (1.2, 1.2), (8, 8, -6, -6), "bilinear", fill=3)
    expected = jax.jit(Affine(25, (0, 0), 1.2, (8, -6), "bilinear", fill=3))(PIXELS)
    assert np.abs(compiled(fixed, PIXELS).astype(int) - np.asarray(expected)).max() <= 1
    rotation = RandomRotation((90, 90))
    square = PIXELS[:, :, :8]
    np.testing.assert_array_equal(compiled(rotation, square), np.rot90(square, axes=(1, 2)))


@pytest.mark.slow
def test_jitter_draws_factors_in_its_range_and_each_order():
    grey = np.full((MANY, 1, 1, 1), 0.5, np.float32)
    brightness = compiled(ColorJitter(brightness=(0.5, 1.5)), grey).ravel() / 0.5
    assert brightness.min() >= 0.5
    assert brightness.max() <= 1.5
    assert uniform(np.histogram(brightness, bins=10, range=(0.5, 1.5))[0])
    # two fixed changes whose order matters
    image = FLOATS[:1]
    both = [
        adjust_contrast(adjust_brightness(image, 2.0), 0.5),
        adjust_brightness(adjust_contrast(image, 0.5), 2.0),
    ]
    jitter = ColorJitter(brightness=(2, 2), contrast=(0.5, 0.5))
    found = compiled(jitter, np.repeat(image, 200, axis=0))
    which = np.array([[np.allclose(x, y[0], atol=1e-6) for y in both] for x in found])
    assert (which.sum(1) == 1).all()
    assert 60 < which[:, 0].sum() < 140


@pytest.mark.slow
@pytest.mark.usefixtures("optimized_once")
def test_jitter_of_the_hue_alone():
    jitter = ColorJitter(hue=(0.2, 0.2))
    expected = jax.jit(lambda x: adjust_hue(x, 0.2))(FLOATS)
    np.testing.assert_allclose(compiled(jitter, FLOATS), expected, atol=1e-6)
    grey = np.repeat(FLOATS[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(compiled(ColorJitter(hue=0.5), grey), grey)


def test_erased_rectangles_have_the_area_and_ratio_asked_for():
    ones = np.ones((MANY, 32, 32, 1), np.uint8)
    erased = compiled(RandomErasing(0.6), ones)[..., 0] == 0
    hit = erased.any((1, 2))
    assert abs(hit.mean() - 0.6) < 4 * (0.24 / MANY) ** 0.5
    height, width = erased[hit].any(2).sum(1), erased[hit].any(1).sum(1)
    area = erased[hit].sum((1, 2))
    np.testing.assert_array_equal(area, height * width)  # one whole rectangle
    assert area.min() >= 0.01 * 1024
    assert area.max() <= 0.36 * 1024
    ratio = np.log(height / width)
    assert abs(ratio.mean()) < 0.1
    assert np.exp(np.abs(ratio)).max() < 4.5  # 3.3, and rounding of thin rectangles


@pytest.mark.slow
def test_erasing_a_square_is_cutout():
    cutout = RandomErasing(1, (0.25, 0.25), (1, 1), (7, 8, 9))
    x = np.zeros((MANY, 8, 8, 3), np.uint8)
    erased = compiled(cutout, x)
    assert ((erased == np.array([7, 8, 9], np.uint8)).all(-1).sum((1, 2)) == 16).all()
    first = (erased[..., 0] == 7).reshape(MANY, -1).argmax(1)
    assert uniform(np.unique(first, return_counts=True)[1])
    assert len(np.unique(first)) == 25
    noise = compiled(RandomErasing(1, (0.25, 0.25), (1, 1), "random"), x[:100].astype(np.float32))
    values = noise[noise != 0]
    assert values.size == 100 * 16 * 3
    assert abs(values.mean()) < 0.1
    assert abs(values.std() - 1) < 0.1
    # all ten attempts are larger than the image, which stays unchanged
    np.testing.assert_array_equal(compiled(RandomErasing(1, (1, 1)), x[:9]), x[:9])


def test_mixup_mixes_images_and_labels_by_the_same_share():
    x, targets = jax.jit(Mixup(0.4, 3))(FLOATS, LABELS, KEY)
    assert targets.dtype == np.float32
    share = np.asarray(targets)[np.arange(6), LABELS]
    assert len(np.unique(share)) == 6
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    other = np.roll(FLOATS, 1, axis=0)
    mixed = share[:, None, None, None] * FLOATS + (1 - share)[:, None, None, None] * other
    np.testing.assert_allclose(x, mixed, rtol=1e-5, atol=1e-6)
    logits = draw.normal(size=(6, 3)).astype(np.float32)
    theirs = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(np.array(targets)))
    np.testing.assert_allclose(cross_entropy(logits, targets), theirs.item(), rtol=1e-6)


@pytest.mark.slow
def test_mixups_share_follows_the_beta_distribution():
    x, labels = np.zeros((MANY, 1), np.float32), np.arange(MANY, dtype=np.int32) % 2
    for alpha in (0.2, 1.0):
        _, targets = jax.jit(Mixup(alpha, 2))(x, labels, KEY)
        share = np.asarray(targets)[np.arange(MANY), labels]
        assert abs(share.mean() - 0.5) < 0.03
        assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


@pytest.mark.slow
def test_cutmix_counts_the_pixels_that_it_takes():
    images = np.repeat(np.arange(1, 7, dtype=np.uint8), 30 * 20).reshape(6, 30, 20, 1)
    cut = jax.jit(CutMix(1.0, 6))
    labels = np.arange(6, dtype=np.int32)
    for seed in range(4):
        x, targets = map(np.asarray, cut(images, labels, jax.random.key(seed)))
        assert x.dtype == np.uint8
        for i in range(6):
            taken = x[i, ..., 0] != images[i, ..., 0]
            assert (x[i][taken] == images[i - 1, 0, 0]).all()
            rows, columns = taken.any(1).sum(), taken.any(0).sum()
            assert taken.sum() == rows * columns
            assert targets[i, i] == pytest.approx(1 - taken.mean(), abs=1e-6)
            assert targets[i, i - 1] == pytest.approx(taken.mean(), abs=1e-6)
        np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)


@pytest.mark.slow
def test_cutmix_takes_what_the_share_says():
    x = np.zeros((MANY, 32, 32, 1), np.uint8)
    x[::2] = 1
    mixed, _ = jax.jit(CutMix(1.0, 2))(x, np.zeros(MANY, np.int32), KEY)
    taken = (np.asarray(mixed) != x).mean((1, 2, 3))
    # A rectangle with sides √r and a random center has sides of √r - r / 4 inside the image. Their
    # square has the mean 1/2 - 1/5 + 1/48 for r uniform from 0 to 1.
    sides = np.sqrt(np.linspace(0, 1, 10_001))
    assert taken.mean() == pytest.approx(np.mean((sides - sides**2 / 4) ** 2), abs=0.02)


@pytest.mark.slow
def test_mixing_twice_and_counting_by_the_heavier_class():
    both = Compose(ToFloat(), Mixup(0.3, 3), CutMix(1.0, 3))
    x, targets = jax.jit(lambda *batch: augment(both, *batch))(PIXELS, LABELS, KEY)
    assert x.shape == PIXELS.shape
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    assert correct(targets, targets) == 6
    assert correct(np.eye(3, dtype=np.float32)[[0, 1]], np.array([[0.4, 0.6, 0], [0, 1, 0]])) == 1


def test_compose_gives_each_part_a_key_of_its_own():
    twice = Compose(RandomHorizontalFlip(), RandomHorizontalFlip())
    flipped = compiled(twice, np.repeat(PIXELS[:1], 64, axis=0))
    # with the same key, the second flip would undo the first
    assert 0 < (flipped == PIXELS[0]).all((1, 2, 3)).sum() < 64
    mixed = Compose(RandomCrop((8, 10), padding=2), ToFloat(), Normalize(0.5, 0.25))
    assert compiled(mixed, PIXELS).dtype == np.float32
    nested = Compose(Compose(RandomHorizontalFlip(1)), ToFloat())
    np.testing.assert_array_equal(compiled(nested, PIXELS), ToFloat()(PIXELS[:, :, ::-1]))


def test_augment_applies_every_kind():
    for transform, labels in [
        (ToFloat(), LABELS),
        (RandomHorizontalFlip(), LABELS),
        (Compose(ToFloat(), RandomHorizontalFlip()), LABELS),
        (lambda x: x, None),
    ]:
        x, kept = augment(transform, PIXELS, labels, KEY)
        assert x.shape == PIXELS.shape
        assert kept is labels


def test_a_transform_of_ones_own():
    @dataclass(frozen=True)
    class Noise(RandomTransform):
        std: float

        def example(self, image, key):
            return image + self.std * jax.random.normal(key, image.shape, image.dtype)

    noisy = compiled(Compose(ToFloat(), Noise(0.1)), PIXELS)
    assert (noisy - np.asarray(ToFloat()(PIXELS))).std() == pytest.approx(0.1, rel=0.1)


def test_equal_settings_are_equal_and_hash_equal():
    for one, other in [
        (RandomCrop(8, 2), RandomCrop((8, 8), (2, 2, 2, 2))),
        (RandomRotation(5), RandomRotation((-5, 5))),
        (RandomAffine(5, scale=[1, 2]), RandomAffine((-5.0, 5.0), scale=(1, 2))),
        (ColorJitter(0.2, hue=0.1), ColorJitter((0.8, 1.2), hue=(-0.1, 0.1))),
        (RandomErasing(value=0), RandomErasing(0.5, value=(0.0,))),
        (Mixup(1, 10), Mixup(1.0, 10)),
    ]:
        assert one == other
        assert hash(one) == hash(other)
    assert RandomHorizontalFlip(0.1) != RandomHorizontalFlip(0.2)
    assert Mixup(1, 10) != CutMix(1, 10)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandomCrop(0), "size: expected a positive integer, got 0"),
        (lambda: RandomCrop(9)(PIXELS, KEY), r"size: expected at most the 8×10 pixels of uint8\[6"),
        (lambda: RandomCrop(8, padding=-1), "padding: expected an integer >= 0, got -1"),
        (lambda: RandomCrop(8)(PIXELS[0], KEY), r"x: expected a batch of images \[B, H, W, C\]"),
        (lambda: RandomHorizontalFlip(1.1), r"p: expected a number in \[0, 1\], got 1.1"),
        (lambda: RandomHorizontalFlip("x"), r"p: expected a number in \[0, 1\], got x"),
        (lambda: RandomRotation(-1), "degrees: expected a finite number >= 0, got -1"),
        (lambda: RandomRotation((5, -5)), "degrees: expected the smaller number first"),
        (lambda: RandomRotation((1, 2, 3)), "degrees: expected two numbers"),
        (
            lambda: RandomAffine(0, translate=(0, 2)),
            r"translate: expected a number in \[0, 1\], got 2",
        ),
        (
            lambda: RandomAffine(0, translate=0.1),
            "translate: expected two numbers, for x and",
        ),
        (lambda: RandomAffine(0, scale=(0, 1)), "scale: expected a finite number > 0, got 0"),
        (lambda: RandomAffine(0, shear=90), "shear: expected degrees between -90 and 90"),
        (lambda: RandomAffine(0, interpolation="cubic"), "interpolation: expected one of nearest"),
        (lambda: ColorJitter(-0.1), "brightness: expected a finite number >= 0, got -0.1"),
        (lambda: ColorJitter(saturation=(-1, 1)), "saturation: expected a finite number >= 0"),
        (lambda: ColorJitter(hue=0.6), r"hue: expected a number in \[-0.5, 0.5\], got -0.6"),
        (lambda: ColorJitter(0.1)(PIXELS[..., :2], KEY), "x: expected images of one or three chan"),
        (lambda: RandomErasing(2), r"p: expected a number in \[0, 1\], got 2"),
        (lambda: RandomErasing(scale=(0, 2)), r"scale: expected a number in \[0, 1\], got 2"),
        (lambda: RandomErasing(ratio=(0, 1)), "ratio: expected positive numbers"),
        (lambda: RandomErasing(value="red"), "value: expected a finite number, got red"),
        (
            lambda: jax.eval_shape(RandomErasing(value="random"), PIXELS, KEY),
            "value: expected numbers for uint8",
        ),
        (lambda: RandomErasing(value=300)(PIXELS, KEY), "value: expected an integer from 0 to 255"),
        (
            lambda: RandomErasing(value=(1, 2))(PIXELS, KEY),
            "value: expected a number for each",
        ),
        (lambda: Mixup(0, 3), "alpha: expected a finite number > 0, got 0"),
        (lambda: Mixup(1, 0), "num_classes: expected a positive integer, got 0"),
        (lambda: Mixup(1, 3)(PIXELS, LABELS, KEY), r"x: expected floating values \(use ToFloat"),
        (lambda: Mixup(1, 3)(FLOATS, LABELS[:5], KEY), r"labels: expected classes \[6\], or proba"),
        (lambda: Mixup(1, 2)(FLOATS, LABELS, KEY), "labels: expected classes from 0 to 1, got 2"),
        (lambda: CutMix(1, 3)(PIXELS[0], LABELS, KEY), r"x: expected a batch of images"),
        (lambda: CutMix(-1, 3), "alpha: expected a finite number > 0, got -1"),
        (lambda: Compose(RandomCrop(4))(PIXELS), "key: expected a key, .* for a random transform"),
        (lambda: augment("crop", PIXELS), "transform: expected callables, got str"),
        (lambda: augment(ToFloat(), "x"), "x: expected an array, got x"),
        (lambda: augment(RandomCrop(4), PIXELS), "key: expected a key, .* for a random transform"),
        (lambda: Compose(ToFloat(), Mixup(1, 3))(PIXELS, KEY), "labels: expected labels through"),
    ],
)
def test_bad_settings_and_batches_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
