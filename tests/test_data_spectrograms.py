"""Spectrograms compared with torchaudio, masks, and their place in a training step."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import fit, layers, losses, optimizers
from jaxnets.arrays import InputError
from jaxnets.data import (
    MFCC,
    AfterTransform,
    AmplitudeToDB,
    Compose,
    FrameCounts,
    MelScale,
    MelSpectrogram,
    Normalize,
    SpecAugment,
    Spectrogram,
    Split,
)
from jaxnets.data.transforms.compose import stages
from jaxnets.data.transforms.record import describe_transform, make_transform
from jaxnets.training import minimize, supervised

STEPS = np.arange(600)
SOUND = np.stack([np.sin(STEPS**2 / 900), 0.3 * np.cos(STEPS / 5) + 0.1 * np.sin(STEPS * 1.7)])
HTK = {"n_fft": 256, "hop_length": 80, "n_mels": 40}
SLANEY = {
    "n_fft": 400,
    "hop_length": 100,
    "n_mels": 30,
    "f_min": 20.0,
    "f_max": 7000.0,
    "norm": "slaney",
    "mel_scale": "slaney",
}


def in_float64(transform, x=SOUND):
    with jax.enable_x64(True):
        return np.asarray(jax.jit(transform)(x))


#: Shape, six values at equal distances and the sum of magnitudes, of torchaudio 2.11.1 in float64.
TORCHAUDIO = {
    "htk": (
        MelSpectrogram(8000, **HTK), (2, 8, 40),
        [784.6132180329469, 8.842578203097624e-07, 0.003964837000606861, 2.409645836563173,
         1.687256647148386e-07, 0.00018458747022716696], 51426.74892758084,
    ),
    "slaney": (
        MelSpectrogram(16000, **SLANEY), (2, 7, 30),
        [10.2264050001181, 17.62381550012993, 8.044059026820973, 0.0001969254778917063,
         2.728356497080482e-07, 1.003410920592655e-10], 776.5142244376243,
    ),
    "decibels": (
        Compose(MelSpectrogram(8000, **HTK), AmplitudeToDB(top_db=30.0)), (2, 8, 40),
        [28.94655620222801, 4.3102011599708305, 4.3102011599708305, 4.3102011599708305,
         -5.106430037165595, -5.106430037165595], 5139.163530943707,
    ),
    "magnitude": (
        Compose(MelSpectrogram(8000, power=1.0, **HTK), AmplitudeToDB("magnitude")), (2, 8, 40),
        [29.053451465141254, -54.958235970399926, -21.755644532336383, 11.855148995569941,
         -62.60877156855237, -35.14966945902842], 22057.321934151452,
    ),
    "mfcc-htk": (
        MFCC(8000, 13, melkwargs=HTK), (2, 8, 13),
        [-171.57289902409806, -9.196888495488862, -12.83447204667105, -4.142217114536501,
         -45.74950270597424, 61.094074917732854], 7786.233050527007,
    ),
    "mfcc-slaney": (
        MFCC(16000, 13, melkwargs=SLANEY), (2, 7, 13),
        [-191.33772546459494, 25.709299479820697, 10.935980101825555, -1.8659303875523652,
         -1.9406747376936322, 2.80773928233193], 5870.130801772612,
    ),
    "mfcc-log": (
        MFCC(8000, 13, norm=None, log_mels=True, melkwargs=HTK), (2, 8, 13),
        [-632.1624097778722, -15.950333392399575, -23.296068470768795, -8.530874267544974,
         -88.57378997310427, 141.09286661713813], 19270.048930460165,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCHAUDIO)
def test_mel_spectrograms_equal_torchaudios(name):
    transform, shape, values, total = TORCHAUDIO[name]
    made = in_float64(transform)
    assert made.shape == shape
    assert made.dtype == np.float64
    scale = np.abs(made).max()
    np.testing.assert_allclose(made.ravel()[:: made.size // 6][:6], values, 1e-9, 1e-12 * scale)
    np.testing.assert_allclose(np.abs(made).sum(), total, rtol=1e-10)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"n_fft": 400, "hop_length": 200}),
        (
            {"n_fft": 64, "win_length": 41, "hop_length": 77, "window_fn": "hamming_window"},
            {"n_fft": 64, "win_length": 41, "hop_length": 77},
        ),
        (
            {"n_fft": 63, "hop_length": 100, "center": False, "window_fn": "blackman_window"},
            {"n_fft": 63, "hop_length": 100, "center": False},
        ),
        (
            {"n_fft": 50, "normalized": "frame_length", "pad_mode": "edge"},
            {"n_fft": 50, "hop_length": 25, "normalized": True, "pad_mode": "replicate"},
        ),
        (
            {"n_fft": 50, "normalized": "window", "pad_mode": "constant", "pad": 7},
            {"n_fft": 50, "hop_length": 25, "pad_mode": "constant"},
        ),
    ],
)
def test_spectrograms_equal_torch(ours, theirs):
    transform = Spectrogram(**ours)
    kind = getattr(torch, transform.window_fn)
    window = kind(transform.win_length, dtype=torch.float64)
    x = torch.nn.functional.pad(torch.tensor(SOUND), (transform.pad, transform.pad))
    spectra = torch.stft(x, window=window, return_complex=True, **theirs)
    if transform.normalized == "window":
        spectra /= window.pow(2).sum().sqrt()
    expected = spectra.abs().pow(2).numpy().swapaxes(1, 2)
    made = in_float64(transform)
    np.testing.assert_allclose(made, expected, rtol=1e-10, atol=1e-12 * expected.max())
    cube = in_float64(Spectrogram(**ours, power=3.0))
    np.testing.assert_allclose(cube, expected**1.5, rtol=1e-9, atol=1e-12 * cube.max())
    count = FrameCounts(transform.n_fft, transform.hop_length, transform.pad, transform.center)
    assert int(count(jnp.array(600))) == made.shape[1]


def test_an_example_does_not_depend_on_its_batch():
    mfcc = MFCC(8000, 13, melkwargs=HTK)
    np.testing.assert_allclose(in_float64(mfcc)[1:], in_float64(mfcc, SOUND[1:]), rtol=1e-10)


def test_more_axes_and_an_example_without_a_batch():
    transform = Spectrogram(64)
    assert transform(jnp.ones((2, 3, 200))).shape == (2, 3, 7, 33)
    assert transform(jnp.ones(200)).shape == (7, 33)
    assert FrameCounts(64, 32, center=False)(jnp.array([10, 64, 96])).tolist() == [0, 1, 2]


@pytest.mark.slow
def test_masks_are_bands_of_each_example():
    x = jnp.arange(4 * 60 * 20, dtype=jnp.float32).reshape(4, 60, 20)
    made = np.asarray(SpecAugment(1, 20, 1, 8, zero_masking=True)(x + 1, jax.random.key(0)))
    masked = made == 0
    in_time, in_frequency = masked.all(2), masked.all(1)
    np.testing.assert_array_equal(masked, in_time[:, :, None] | in_frequency[:, None, :])
    for bands, most in ((in_time, 20), (in_frequency, 8)):
        assert (np.abs(np.diff(bands.astype(int), axis=1)).sum(1) <= 2).all()
        assert len({tuple(band) for band in bands}) > 1
        assert bands.sum(1).max() <= most
    np.testing.assert_array_equal(made[~masked], np.asarray(x + 1)[~masked])
    mean = np.asarray(SpecAugment(2, 20, 0, 0)(x, jax.random.key(0)))
    changed = mean != np.asarray(x)
    np.testing.assert_allclose(mean[changed], np.asarray(x).mean())
    np.testing.assert_array_equal(SpecAugment(2, 20, 2, 8, p=0.0)(x, jax.random.key(0)), x)
    widest = SpecAugment(1, 1000, 0, 0, p=0.1)
    many = np.stack([widest(x, key) for key in jax.random.split(jax.random.key(1), 20)])
    assert 3 < (many != np.asarray(x)).all(-1).sum(-1).max() <= 6


class Network(nnx.Module):
    def __init__(self):
        self.fc = layers.Linear(33, 3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.fc(x.mean(1))


@pytest.mark.slow
def test_masks_come_after_the_transform_and_in_training_alone():
    data = Split(SOUND[np.arange(12) % 2].astype(np.float32), np.arange(12, dtype=np.int32) % 3)
    transform = Compose(Spectrogram(64), AmplitudeToDB())
    mask = AfterTransform(SpecAugment(1, 10, 1, 10))
    how = {"loss": losses.cross_entropy, "optimizer": optimizers.sgd(0.01), "epochs": 1}
    how |= {"batch_size": 12, "progress": "none", "shuffle": False, "transform": transform}
    masked, plain, parts = (
        fit(Network(), data, augment=augment, accumulate=accumulate, **how)
        for augment, accumulate in ((mask, 1), (None, 1), (mask, 3))
    )
    assert masked.step_losses[0] != plain.step_losses[0]
    np.testing.assert_allclose(parts.step_losses, masked.step_losses, rtol=1e-6)
    objective = supervised(losses.cross_entropy, transform=transform, augment=mask)
    batch = {"inputs": jnp.asarray(data.inputs), "labels": jnp.asarray(data.labels)}
    seen = objective.augmented(batch, jax.random.key(0))["inputs"]
    assert seen.shape == transform(batch["inputs"]).shape
    tested = objective.evaluation(Network(), batch, jax.random.key(0))[0]
    np.testing.assert_allclose(tested, plain.step_losses[0], rtol=1e-6)
    assert minimize(objective, optimizers.sgd(0.1)).evaluation.augment is None


def test_an_augmentation_is_divided_at_the_transform():
    mask, first, last = SpecAugment(1, 2, 1, 2), Normalize(0, 1), Normalize(0, 2)
    assert stages(None) == (None, None)
    assert stages(first) == (first, None)
    both = Compose(first, AfterTransform(mask), Compose(AfterTransform(last)))
    assert stages(both) == (Compose(first, Compose()), Compose(mask, Compose(last)))
    with pytest.raises(InputError, match="augment: expected AfterTransform to be applied by fit"):
        AfterTransform(mask)(jnp.zeros((1, 2, 3)))
    with pytest.raises(InputError, match="transform: expected one that is not random"):
        supervised(losses.cross_entropy, transform=AfterTransform(mask))


@pytest.mark.parametrize("name", TORCHAUDIO)
def test_a_record_makes_the_same_transform_again(name):
    transform = TORCHAUDIO[name][0]
    described = json.loads(json.dumps(describe_transform(transform)))
    again = make_transform(described)
    assert again == (transform if isinstance(transform, Compose) else Compose(transform))


BAD = [
    (lambda: Spectrogram(0), "n_fft: expected a positive integer"),
    (lambda: Spectrogram(10, 11), "win_length: expected at most the 10 of n_fft, got 11"),
    (lambda: Spectrogram(hop_length=0), "hop_length: expected a positive integer"),
    (lambda: Spectrogram(pad=-1), "pad: expected an integer >= 0"),
    (lambda: Spectrogram(window_fn="hann"), "window_fn: expected one of hann_window"),
    (lambda: Spectrogram(power=0), "power: expected a finite number > 0"),
    (lambda: Spectrogram(normalized="l2"), "normalized: expected one of window, frame_length"),
    (lambda: Spectrogram(pad_mode="wrap"), "pad_mode: expected one of"),
    (lambda: Spectrogram()(jnp.zeros((2, 100))), "x: expected at least 201 samples, for frames"),
    (lambda: Spectrogram()(jnp.zeros((2, 500), int)), r"x: expected waveforms \[..., samples\]"),
    (lambda: MelScale(f_min=9000.0), "f_max: expected a finite number > 9000"),
    (lambda: MelScale(norm="l1"), "norm: expected one of slaney"),
    (lambda: MelScale(mel_scale="bark"), "mel_scale: expected one of htk, slaney"),
    (lambda: MelScale()(jnp.zeros((2, 3, 7))), r"x: expected spectrograms \[..., frames, 201\]"),
    (lambda: AmplitudeToDB("loud"), "stype: expected one of power, magnitude"),
    (lambda: AmplitudeToDB(top_db=-1), "top_db: expected a finite number >= 0"),
    (lambda: AmplitudeToDB(top_db=1)(jnp.ones(3)), "x: expected spectrograms"),
    (lambda: MFCC(8000, 41, melkwargs=HTK), "n_mfcc: expected at most the 40 of n_mels, got 41"),
    (lambda: MFCC(melkwargs={"bands": 3}), "melkwargs: expected arguments of MelSpectrogram"),
    (lambda: MFCC(norm="l2"), "norm: expected one of ortho"),
    (lambda: FrameCounts(64, 32)(jnp.ones(3)), "x: expected numbers of samples, integers"),
    (lambda: SpecAugment(1, -1, 1, 1), "time_mask_param: expected an integer >= 0"),
    (lambda: SpecAugment(1, 1, 1, 1, p=2), "p: expected a number in"),
    (
        lambda: SpecAugment(1, 1, 1, 1)(jnp.zeros((2, 3)), jax.random.key(0)),
        "x: expected spectrograms",
    ),
    (lambda: SpecAugment(1, 1, 1, 1)(jnp.zeros((2, 3, 4)), 0), "key: expected a key"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_settings_and_batches_are_one_sentence(make, message):
    with pytest.raises(InputError, match=message):
        make()
