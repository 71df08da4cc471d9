"""Networks for speech compared with PyTorch's, CTC decoding, and published networks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

from jaxnets import layers, metrics
from jaxnets.arrays import InputError
from jaxnets.compare import twin
from jaxnets.interop import load_torch
from jaxnets.models import SpeechCNN, SpeechGRU, SpeechRecognizer
from jaxnets.models.speech_recognizer import recognition_loss
from jaxnets.sampling import ctc_beam_search, ctc_greedy
from tests.parity.oracle import copy_weights

DRAW = np.random.default_rng(0)
LENGTHS = np.array([21, 9, 14], np.int32)
LABELS = np.array([[2, 2, 0], [1, -1, -1], [0, 3, -1]], np.int32)


def gradients(model, loss, *inputs):
    """The value, and the gradients by PyTorch's names and layouts."""
    from jaxnets.interop import to_numpy

    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)

    def of(parameters):
        merged = nnx.merge(graphdef, parameters, rest, copy=True)
        return loss(merged(*inputs))

    value, found = jax.jit(jax.value_and_grad(of))(parameters)
    return value, to_numpy(nnx.merge(graphdef, found, rest))


def compared(network, value, found, theirs):
    theirs.backward()
    np.testing.assert_allclose(float(value), theirs.item(), rtol=1e-10)
    for name, parameter in network.named_parameters():
        scale = parameter.grad.abs().max().item()
        np.testing.assert_allclose(found[name], parameter.grad, rtol=1e-9, atol=1e-10 * scale)


@pytest.mark.slow
def test_a_recognizer_equals_its_twin_in_outputs_loss_and_gradients():
    sound = DRAW.normal(size=(3, 21, 12))
    with jax.enable_x64(True):
        model = SpeechRecognizer(4, 12, 3, 5, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
        network = twin(model).double()
        copy_weights(model, network)
        value, found = gradients(model, lambda made: recognition_loss(made, LABELS), sound, LENGTHS)
        logits, lengths = model(jnp.asarray(sound), jnp.asarray(LENGTHS))
    theirs, their_lengths = network(torch.tensor(sound), torch.tensor(LENGTHS))
    np.testing.assert_array_equal(lengths, their_lengths)
    np.testing.assert_allclose(logits, theirs.detach(), rtol=1e-10, atol=1e-12)
    loss = nn.functional.ctc_loss(
        theirs.log_softmax(-1).transpose(0, 1), torch.tensor(LABELS).clamp(min=0),
        their_lengths, torch.tensor((LABELS >= 0).sum(1)), blank=4,
    )  # fmt: skip
    compared(network, value, found, loss)
    assert model.options == SpeechRecognizer(**model.options, rngs=nnx.Rngs(0)).options


@pytest.mark.slow
def test_the_padding_of_a_batch_changes_nothing_in_a_gru():
    sound = DRAW.normal(size=(3, 21, 6))
    with jax.enable_x64(True):
        model = SpeechGRU(4, 6, 5, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
        network = twin(model).double()
        copy_weights(model, network)
        value, found = gradients(model, lambda made: jnp.sum(made**2), sound, LENGTHS)
        padded = model(jnp.asarray(sound), jnp.asarray(LENGTHS))
        alone = model(jnp.asarray(sound[1:2, :9]))
    theirs = network(torch.tensor(sound), torch.tensor(LENGTHS))
    compared(network, value, found, (theirs**2).sum())
    np.testing.assert_allclose(padded[1:2], alone, rtol=1e-12)


@pytest.mark.slow
def test_silence_behind_a_recording_does_not_change_a_cnn_much():
    model = SpeechCNN(3, 8, 2, rngs=nnx.Rngs(0))
    model.eval()
    sound = DRAW.normal(size=(1, 12, 8)).astype(np.float32)
    assert model(jnp.asarray(sound)).shape == model(jnp.pad(sound, ((0, 0), (0, 8), (0, 0)))).shape
    with pytest.raises(InputError, match="bands: expected a multiple of 4, got 10"):
        SpeechCNN(bands=10)


class TorchEncoder(nn.Module):
    """A speaker encoder like published ones: three LSTM layers, a projection, unit length."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(10, 16, num_layers=3, batch_first=True)
        self.linear = nn.Linear(16, 12)
        self.relu = nn.ReLU()

    def forward(self, utterances):
        _, (hidden, _) = self.lstm(utterances)
        embeds = self.relu(self.linear(hidden[-1]))
        return embeds / torch.norm(embeds, dim=1, keepdim=True)


class Encoder(nnx.Module):
    def __init__(self):
        self.lstm = layers.LSTM(10, 16, num_layers=3, rngs=nnx.Rngs(0))
        self.linear = layers.Linear(16, 12, rngs=nnx.Rngs(0))
        self.relu = layers.ReLU()

    def __call__(self, utterances):
        _, (hidden, _) = self.lstm(utterances)
        embeds = self.relu(self.linear(hidden[-1]))
        return embeds / jnp.linalg.norm(embeds, axis=1, keepdims=True)


class TorchWords(nn.Module):
    """A CNN for words whose batch normalization has no weights of its own."""

    def __init__(self):
        super().__init__()
        self.conv0 = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.bn0 = nn.BatchNorm2d(6, affine=False)
        self.conv1 = nn.Conv2d(6, 6, 3, padding=2, dilation=2, bias=False)
        self.bn1 = nn.BatchNorm2d(6, affine=False)
        self.pool = nn.AvgPool2d((4, 3))
        self.output = nn.Linear(6, 5)

    def forward(self, x):
        x = self.bn0(torch.relu(self.conv0(x.unsqueeze(1))))
        x = self.bn1(torch.relu(self.conv1(x)) + x)
        return self.output(self.pool(x).mean((2, 3)))


class Words(nnx.Module):
    def __init__(self):
        kw = {"bias": False, "rngs": nnx.Rngs(0)}
        self.conv0 = layers.Conv2d(1, 6, 3, padding=1, **kw)
        self.bn0 = layers.BatchNorm2d(6, affine=False)
        self.conv1 = layers.Conv2d(6, 6, 3, padding=2, dilation=2, **kw)
        self.bn1 = layers.BatchNorm2d(6, affine=False)
        self.pool = layers.AvgPool2d((4, 3))
        self.output = layers.Linear(6, 5, rngs=nnx.Rngs(0))

    def __call__(self, x):
        x = self.bn0(jax.nn.relu(self.conv0(x[..., None])))
        x = self.bn1(jax.nn.relu(self.conv1(x)) + x)
        return self.output(self.pool(x).mean((1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize(("theirs", "ours"), [(TorchEncoder, Encoder), (TorchWords, Words)])
def test_published_networks_for_speech_load_from_their_state_dicts(theirs, ours, tmp_path):
    torch.manual_seed(0)
    network = theirs()
    x = DRAW.normal(size=(3, 16, 10)).astype(np.float32)
    network.train()(torch.tensor(x))  # updates the running statistics
    torch.save({"model_state": network.state_dict()}, tmp_path / "speech.pt")
    model = ours()
    load_torch(model, tmp_path / "speech.pt")
    model.eval()
    expected = network.eval()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(model(jnp.asarray(x)), expected, rtol=1e-4, atol=1e-6)


def all_sequences(log_probs, blank):
    """The probability of each sequence, summed over all paths."""
    found = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        merged = [label for label, _ in itertools.groupby(path)]
        sequence = tuple(label for label in merged if label != blank)
        share = np.exp(sum(row[label] for row, label in zip(log_probs, path, strict=True)))
        found[sequence] = found.get(sequence, 0.0) + share
    return found


@pytest.mark.parametrize("blank", [0, 2])
def test_a_beam_that_is_wide_enough_finds_the_likeliest_sequence(blank):
    logits = DRAW.normal(size=(6, 5, 3))
    log_probs = logits - np.logaddexp.reduce(logits, 2, keepdims=True)
    found = ctc_beam_search(logits, beam_width=1000, blank=blank)
    best = [max((s := all_sequences(row, blank)), key=s.get) for row in log_probs]
    assert [tuple(labels.tolist()) for labels in found] == best
    short = ctc_beam_search(logits, np.array([3] * 6), beam_width=1000, blank=blank)
    best = [max((s := all_sequences(row[:3], blank)), key=s.get) for row in log_probs]
    assert [tuple(labels.tolist()) for labels in short] == best


def test_one_beam_and_the_greedy_path():
    path = np.array([[0, 0, 2, 0, 1, 1], [2, 2, 2, 2, 2, 2]])
    logits = 9.0 * np.eye(3)[path]
    for decode in (ctc_greedy, ctc_beam_search):
        assert [row.tolist() for row in decode(logits)] == [[0, 0, 1], []]
        assert decode(logits, np.array([1, 0]))[0].tolist() == [0]
    with pytest.raises(InputError, match=r"logits: expected floats \[batch, time, classes\]"):
        ctc_greedy(logits[0])
    with pytest.raises(InputError, match="lengths: expected 2 integers from 0 to 6"):
        ctc_greedy(logits, np.array([7, 0]))
    with pytest.raises(InputError, match="blank: expected an integer from 0 to 2, got 3"):
        ctc_greedy(logits, blank=3)
    with pytest.raises(InputError, match="beam_width: expected a positive integer"):
        ctc_beam_search(logits, beam_width=0)


def edit_distance(a, b):
    rows = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, rows[0] = rows[0], i
        for j, y in enumerate(b, 1):
            best = min(rows[j] + 1, rows[j - 1] + 1, before + (x != y))
            before, rows[j] = rows[j], best
    return rows[-1]


def test_the_error_rate_is_the_edit_distance_of_the_greedy_path():
    logits = DRAW.normal(size=(40, 9, 4)).astype(np.float32)
    lengths = DRAW.integers(1, 10, size=40)
    counts = DRAW.integers(1, 6, size=(40, 1))
    labels = np.where(np.arange(5) < counts, DRAW.integers(3, size=(40, 5)), -1)
    measured = jax.jit(metrics.sequence_error_rate())((logits, lengths), labels)
    decoded = ctc_greedy(logits, lengths)
    distances = [
        edit_distance(row.tolist(), of[of >= 0].tolist())
        for row, of in zip(decoded, labels, strict=True)
    ]
    assert int(measured.total) == sum(distances)
    assert int(measured.count) == counts.sum()
