"""Generative models: objectives, samplers, sheets of samples, distances, and the commands."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import torch
from flax import nnx
from PIL import Image

from jaxnets import DCGAN, MLP, VAE, Diffusion, optimizers, recipes
from jaxnets.cli import main
from jaxnets.data import Dataset, Split, make_grid, save_image
from jaxnets.models import Discriminator, Generator
from jaxnets.models.diffusion import signal
from jaxnets.models.unet import UNet
from jaxnets.models.vae import vae_loss
from jaxnets.sampling import sample_images
from jaxnets.scores import frechet_distance
from tests import tier
from tests.data_files import write_images

RNGS = nnx.Rngs(0)


def small(kind, **options):
    """A small model of images of 8×8 pixels with three classes; a VAE has no classes."""
    build = {
        VAE: lambda: VAE(8, hidden_dim=6, latent_dim=2, rngs=RNGS),
        DCGAN: lambda: DCGAN(3, 2, 2, 1, 8, **{"num_classes": 3, **options}, rngs=RNGS),
        Diffusion: lambda: Diffusion(8, 1, 8, **{"num_classes": 3, **options}, rngs=RNGS),
    }
    return build[kind]()


# -- objectives and samplers ---------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_loss_of_a_vae_is_the_negative_evidence_lower_bound(likelihood):
    model = VAE(4, 2, 6, 3, likelihood, rngs=nnx.Rngs(0))
    images, key = np.random.default_rng(0).uniform(size=(5, 4, 4, 2)), jax.random.key(1)
    images = images.astype(np.float32)
    loss, parts = vae_loss(model, {"inputs": images}, key)
    mean, log_variance = map(np.asarray, model.encode(images))
    drawn = mean + np.exp(log_variance / 2) * np.asarray(jax.random.normal(key, mean.shape))
    found = torch.tensor(np.asarray(model.decode(jnp.asarray(drawn))))
    of = torch.distributions
    normal = of.Normal(*map(torch.tensor, (mean, np.exp(log_variance / 2))))
    divergence = of.kl_divergence(normal, of.Normal(0.0, 1.0)).sum() / 5
    if likelihood == "bernoulli":
        likely = -torch.nn.functional.binary_cross_entropy_with_logits(
            found, torch.tensor(images), reduction="sum"
        )
    else:
        likely = of.Normal(found, 0.1).log_prob(torch.tensor(images)).sum()
    np.testing.assert_allclose(parts["divergence"], divergence, rtol=1e-5)
    np.testing.assert_allclose(parts["reconstruction"], -likely / 5, rtol=1e-5)
    np.testing.assert_allclose(loss, divergence - likely / 5, rtol=1e-5)


def test_the_schedules_are_those_of_the_papers():
    betas = np.linspace(1e-4, 0.02, 1000)
    np.testing.assert_allclose(signal(1000, "linear"), np.cumprod(1 - betas), rtol=1e-12)
    assert signal(1000, "linear")[-1] == pytest.approx(4.036e-5, rel=1e-3)

    def f(t):
        return np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2

    cosine = signal(1000, "cosine")
    times = np.array([0, 10, 500, 900])
    np.testing.assert_allclose(cosine[times], f(times + 1) / f(0), rtol=1e-9)
    assert 1 - cosine[-1] / cosine[-2] == pytest.approx(0.999)  # the largest step


class Known(Diffusion):
    """A model that predicts the noise exactly, of images whose pixels are N(0.3, 0.1²)."""

    def __call__(self, images, time, labels=None):
        share = self.signal(images.dtype)[time][:, None, None, None]
        total = share * 0.1**2 + 1 - share
        return jnp.sqrt(1 - share) * (images - jnp.sqrt(share) * 0.3) / total


def expected_std(steps, eta):
    """The standard deviation of samples of ``Known`` by the papers' formulas, without clipping."""
    times = np.linspace(199, 0, steps).round().astype(int)
    shares = np.append(signal(200, "cosine")[times], 1.0)
    variance = 1.0
    for share, after in itertools.pairwise(shares):
        slope = np.sqrt(1 - share) / (share * 0.1**2 + 1 - share)  # of the noise in x
        if eta:  # DDPM, algorithm 2 of Ho et al. with the variance of their equation 7
            alpha = share / after
            factor = (1 - (1 - alpha) / np.sqrt(1 - share) * slope) / np.sqrt(alpha)
            fresh = (1 - after) / (1 - share) * (1 - alpha)
        else:  # DDIM, equation 12 of Song et al.
            image = (1 - np.sqrt(1 - share) * slope) / np.sqrt(share)
            factor, fresh = np.sqrt(after) * image + np.sqrt(1 - after) * slope, 0
        variance = factor**2 * variance + fresh
    return np.sqrt(variance)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "eta"), [(200, 1.0), (200, 0.0), (20, 0.0)])
def test_samples_have_the_distribution_of_the_images(steps, eta):
    model = Known(4, 1, 8, timesteps=200, rngs=nnx.Rngs(0))
    drawn = 2 * sample_images(model, 500, steps=steps, eta=eta) - 1
    assert drawn.mean() == pytest.approx(0.3, abs=0.01)
    assert drawn.std() == pytest.approx(expected_std(steps, eta), rel=0.03)
    assert expected_std(steps, eta) == pytest.approx(0.1, rel=0.1 if steps == 200 else 0.3)
    assert not np.array_equal(drawn, sample_images(model, 500, steps=steps, eta=eta, seed=1))


@pytest.mark.slow
def test_guidance_moves_from_the_prediction_without_a_class():
    model = small(Diffusion)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32))
    time, labels = jnp.full(3, 5), jnp.array([0, 1, 2])
    given, none = model(images, time, labels), model(images, time)
    assert not np.allclose(given, none)
    np.testing.assert_array_equal(none, model(images, time, jnp.full(3, 3)))
    np.testing.assert_array_equal(model.guided(images, 5, labels, 1), given)
    expected = none + 3 * (given - none)
    np.testing.assert_allclose(model.guided(images, 5, labels, 3), expected, atol=1e-6)


def test_samples_are_images_from_0_to_1_and_follow_the_seed_and_the_class():
    for kind in (VAE, DCGAN, Diffusion):
        model = small(kind)
        labels = None if kind is VAE else np.array([0, 1, 2, 0], np.int32)
        options = {"steps": 2} if kind is Diffusion else {}
        drawn = sample_images(model, 4, labels, **options)
        assert (drawn.shape, drawn.dtype) == ((4, 8, 8, 1), np.float32)
        assert 0 <= drawn.min() <= drawn.max() <= 1
        np.testing.assert_array_equal(drawn, sample_images(model, 4, labels, **options))
        if labels is not None:
            one = sample_images(model, 4, 0, **options)
            np.testing.assert_allclose(one[[0, 3]], drawn[[0, 3]], atol=1e-6)
            assert not np.allclose(one[1], drawn[1])


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


LABELS = np.zeros(2, np.int32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_images(MLP(rngs=RNGS), 2), "model: expected a VAE, a DCGAN or a Diffusion"),
        (lambda: sample_images(small(VAE), 2, LABELS), "labels: expected None, as the model has"),
        (lambda: sample_images(small(DCGAN), 2), "labels: expected classes from 0 to 2, got none"),
        (lambda: sample_images(small(DCGAN), 2, 3), "labels: expected classes from 0 to 2, got 3"),
        (
            lambda: sample_images(small(DCGAN), 3, LABELS),
            r"labels: expected integers \[3\], or one",
        ),
        (lambda: sample_images(small(VAE), 2, steps=3), "options: expected none, for VAE, got ste"),
        (
            lambda: sample_images(small(Diffusion), 2, stride=3),
            "options: expected one of steps, eta, guidance, for Diffusion, got stride",
        ),
        (
            lambda: sample_images(small(Diffusion), 2, steps=1001),
            r"steps: expected an integer .*1000.*, got 1001",
        ),
        (
            lambda: small(DCGAN)(jnp.zeros((2, 3))),
            r"labels: expected integers \[2\], .* got NoneType",
        ),
        (
            lambda: small(Diffusion)(jnp.zeros((2, 8, 8, 1)), jnp.zeros(2)),
            r"time: expected integers \[2\]",
        ),
        (lambda: Generator(image_size=30, rngs=RNGS), "image_size: expected a multiple of 4"),
        (lambda: Discriminator(image_size=30, rngs=RNGS), "image_size: expected a multiple of 4"),
        (lambda: UNet(channels=12, rngs=RNGS), "channels: expected a multiple of 8, got 12"),
        (lambda: VAE(likelihood="poisson", rngs=RNGS), "likelihood: expected one of bernoulli, g"),
        (lambda: signal(10, "square"), "schedule: expected one of cosine, linear, got square"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -- distances and sheets ------------------------------------------------------------------------


def test_the_frechet_distance_is_that_of_scipys_square_root():
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(50, 6)), draw.normal(size=(40, 6)) @ draw.normal(size=(6, 6))
    (m1, c1), (m2, c2) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (first, second))
    root = scipy.linalg.sqrtm(c1 @ c2).real
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    assert frechet_distance(m1, c1, m2, c2) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(m1, c1, m1, c1) == pytest.approx(0, abs=1e-10)
    assert np.isfinite(frechet_distance(m1, np.cov(first[:3], rowvar=False), m2, c2))  # rank 2
    widths, others = np.array([1.0, 4.0]), np.array([9.0, 1.0])  # Σ (√a - √b)²
    assert frechet_distance([0, 0], np.diag(widths), [1, 2], np.diag(others)) == pytest.approx(10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([], [], [], []), r"mean1: expected numbers \[D\], got float64\[0\]"),
        (([0.0], [1.0], [0.0], [[1.0]]), r"cov1: expected finite numbers \[1, 1\], got float64\[1"),
        (([0.0], [[1.0]], [0.0, 1.0], [[1.0]]), r"mean2: expected finite numbers \[1\], got float"),
        (([0.0], [[1.0]], [np.nan], [[1.0]]), r"mean2: expected finite numbers \[1\], got float64"),
    ],
)
def test_what_has_no_frechet_distance_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(*given)


def test_a_sheet_has_the_images_in_rows(tmp_path):
    images = np.arange(5, dtype=np.float32)[:, None, None, None] / 8 + np.zeros((5, 2, 3, 1))
    grid = make_grid(images, nrow=3, padding=1)
    assert (grid.shape, grid.dtype) == ((7, 13, 1), np.uint8)
    for number in range(5):
        top, left = 1 + number // 3 * 3, 1 + number % 3 * 4
        assert np.ptp(grid[top : top + 2, left : left + 3]) == 0
        assert grid[top, left, 0] == np.floor(number / 8 * 255 + 0.5)
    assert not grid[:, [0, 4, 8, 12]].any()
    assert make_grid(images + 2)[2, 2, 0] == 255
    save_image(images, tmp_path / "a.png", nrow=3, padding=1)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), grid[..., 0])
    colors = np.zeros((2, 4, 4, 3), np.uint8)
    save_image(colors, tmp_path / "b.png", padding=0)
    assert pixels(tmp_path / "b.png").shape == (4, 8, 3)
    with pytest.raises(ValueError, match=r"images: expected floats from 0 to 1 or uint8, \[N, H"):
        make_grid(images[..., 0])
    with pytest.raises(ValueError, match="path: expected a file in a folder that exists, got /"):
        save_image(images, tmp_path / "none" / "a.png")


# -- recipes and commands ------------------------------------------------------------------------


def test_sizes_follow_the_images_and_the_classes():
    split = Split(np.zeros((6, 32, 32, 3), np.uint8), np.arange(6, dtype=np.int32) % 2)
    data = Dataset("pictures", split, split)
    of = {name: recipes.sized(recipes.recipe(name), data).model_options for name in KINDS}
    assert (of["mnist-vae"]["image_size"], of["mnist-vae"]["in_channels"]) == (32, 3)
    sizes = [of["mnist-cgan"][name] for name in ("image_size", "nc", "num_classes")]
    assert sizes == [32, 3, 2]
    assert of["mnist-diffusion"]["num_classes"] == 2
    rows = Split(np.zeros((6, 4), np.float32), split.labels)
    with pytest.raises(ValueError, match=r"data: expected images, got examples \[4\] of rows"):
        recipes.sized(recipes.recipe("mnist-vae"), Dataset("rows", rows, rows))
    build = recipes.OBJECTIVES["denoising"].build
    for option in ("augment", "compute_dtype"):
        with pytest.raises(ValueError, match=f"{option}: expected None for generative models"):
            build({option: "flip"}, {"optimizer": optimizers.adam()})


KINDS = {
    "mnist-vae": ["hidden_dim=6"],
    "mnist-cgan": ["nz=2", "ngf=2", "ndf=2"],
    "mnist-diffusion": ["channels=8", "timesteps=60"],
}


def command(*arguments):
    return main(list(map(str, arguments)))


@pytest.mark.slow
@pytest.mark.parametrize("name", tier.usually(KINDS, ["mnist-vae", "mnist-cgan"]))
def test_the_commands_train_and_draw(name, tmp_path, capsys):
    write_images(tmp_path / "pets", {"cat": 6, "dog": 6}, size=(8, 8))
    run, sheet = tmp_path / "run", tmp_path / "sheet.png"
    flags = ["--data", "pets", "--data-dir", tmp_path, "--epochs", 1, "--out", run]
    options = [word for each in KINDS[name] for word in ("--model-option", each)]
    assert command("train", name, *flags, *options) == 0
    out = capsys.readouterr().out
    assert re.search(r"^test loss: \d", out, re.M)
    assert f"predict {run} --samples 100 --out samples.png" in out
    assert command("predict", run, "--samples", 6, "--out", sheet) == 0
    assert capsys.readouterr().out == f"wrote 6 samples to {sheet}\n"
    columns = 6 if name == "mnist-vae" else 2
    assert pixels(sheet).shape[:2] == (6 // columns * 10 + 2, columns * 10 + 2)
    wrong = "dog" if name == "mnist-vae" else "cow"
    assert command("predict", run, "--samples", 6, "--class", wrong, "--out", sheet) == 2
    expected = "none, as the network has no" if name == "mnist-vae" else "one of cat, dog, got cow"
    assert f"class: expected {expected}" in capsys.readouterr().err
    assert command("predict", run, "--samples", 6) == 2
    assert "out: expected a PNG file to write, as in --out" in capsys.readouterr().err
    assert command("predict", run, "--index", 0) == 2
    kind = {"mnist-vae": "VAE", "mnist-cgan": "DCGAN", "mnist-diffusion": "Diffusion"}[name]
    assert f"index: expected none, as {kind} draws --samples N" in capsys.readouterr().err
    if name == "mnist-cgan":
        draws = ["--samples", 9, "--class", "dog", "--seed", 1, "--out", sheet]
        assert command("predict", run, *draws) == 0
        assert pixels(sheet).shape[:2] == (2 * 10 + 2, 8 * 10 + 2)
