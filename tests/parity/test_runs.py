"""Whole training runs compared with PyTorch's, from the same weights on the same batches.

In float64, losses and weights must agree: every documented network trains on MNIST with weight
decay, momentum or Adam, a schedule that changes after each batch, and a smaller last batch. In
float32, rounding errors grow with the steps, and the predictions for the test images must agree.
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.compare import twin
from jaxnets.data import Compose, Dataset, ImageRows, Normalize, Split, ToFloat, epoch_plan, load
from jaxnets.interop import table
from jaxnets.models import MLP, ImageClassifier, LeNet, LinearRegression, RecurrentClassifier
from jaxnets.training import fit, predict
from tests import resources, tier
from tests.parity.oracle import copy_weights, record, relative_difference

pytestmark = pytest.mark.slow

BATCH = 64
SMALLER = 32  # size of the last batch
MEAN, STD = 0.1307, 0.3081


def images(x):
    return x


def flat(x):
    return x.reshape(len(x), -1)


def rows(x):
    return x[:, 0]


def coloured(x):
    """Three shades of a padded image, [B, 3, 32, 32]."""
    x = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    return np.concatenate([x, 0.5 * x, -x], axis=1)


@dataclass(frozen=True)
class Run:
    build: Callable
    inputs: Callable = images  # of normalized images [B, 1, 28, 28], in torch's layout
    steps: int = 30
    optimizer: str = "sgd"
    lr: float = 0.01
    loss: tuple[Callable, Callable] = (losses.cross_entropy, torch.nn.functional.cross_entropy)
    labels: Callable = np.asarray


def _recurrent(**options) -> Callable:
    return lambda **kw: RecurrentClassifier(28, **options, **kw)


def _parity(labels):
    return (labels % 2)[:, None]


MSE = (losses.mse_loss, torch.nn.functional.mse_loss)
BCE = (losses.binary_cross_entropy, torch.nn.functional.binary_cross_entropy)
RUNS = {
    "linear-regression": Run(
        lambda **kw: LinearRegression(784, 1, **kw),
        flat,
        lr=1e-4,
        loss=MSE,
        labels=lambda y: y.astype(np.float64)[:, None] / 10,
    ),
    "mlp": Run(lambda **kw: MLP(**kw), steps=tier.by_tier(300, 938)),
    "softmax-mlp": Run(lambda **kw: MLP((784, 128, 10), output="softmax", **kw), steps=200),
    "image-classifier": Run(lambda **kw: ImageClassifier(3072, 64, 10, **kw), coloured),
    "lenet": Run(lambda **kw: LeNet(**kw), steps=60),
    "lenet-32": Run(lambda **kw: LeNet(3, 10, 32, **kw), coloured),
    "lstm": Run(_recurrent(hidden_dim=128, n_layers=2, output_dim=10), rows, optimizer="adam"),
    "gru": Run(
        _recurrent(hidden_dim=64, n_layers=2, output_dim=10, cell="gru"), rows, optimizer="adam"
    ),
    "lstm-bidirectional": Run(
        _recurrent(hidden_dim=32, n_layers=2, output_dim=10, bidirectional=True),
        rows,
        optimizer="adam",
    ),
    "lstm-sigmoid": Run(
        _recurrent(hidden_dim=32), rows, optimizer="adam", loss=BCE, labels=_parity
    ),
}


def ours_and_theirs(run: Run, torch_parameters, steps: int):
    """Our and torch's optimizer of a run, with its schedule."""
    if run.optimizer == "adam":
        schedule = optimizers.cosine_annealing_lr(1e-3, T_max=steps)
        theirs = torch.optim.Adam(torch_parameters, lr=1e-3, weight_decay=1e-4)
        return (
            optimizers.adam(schedule, weight_decay=1e-4),
            theirs,
            torch.optim.lr_scheduler.CosineAnnealingLR(theirs, steps),
        )
    schedule = optimizers.step_lr(run.lr, step_size=steps // 3, gamma=0.5)
    theirs = torch.optim.SGD(torch_parameters, lr=run.lr, momentum=0.9, weight_decay=1e-4)
    return (
        optimizers.sgd(schedule, momentum=0.9, weight_decay=1e-4),
        theirs,
        torch.optim.lr_scheduler.StepLR(theirs, steps // 3, 0.5),
    )


def normalized(images):
    """Normalized pixels [N, 1, H, W] in float64 of uint8 images [N, H, W, 1]."""
    return (np.moveaxis(images, -1, 1) / 255 - MEAN) / STD


mnist = functools.cache(lambda: load("mnist"))


@functools.lru_cache(maxsize=1)  # for both libraries
def examples(run: Run, dtype, steps: int):
    """Inputs in torch's layout and labels for a number of steps; the last batch is smaller."""
    train = mnist().train
    count = BATCH * (steps - 1) + SMALLER
    parts = np.array_split(train.inputs[:count], 20)  # all at once need hundreds of megabytes
    inputs = np.concatenate([run.inputs(normalized(part)).astype(dtype) for part in parts])
    labels = run.labels(train.labels[:count])
    return inputs, labels.astype(dtype) if labels.dtype == np.float64 else labels


def twins(run: Run, dtype):
    """Our network and torch's, with torch's initial weights from a fixed seed."""
    # Only shapes, as torch's weights are copied; drawing ours would compile a program per shape.
    model = nnx.eval_shape(lambda: run.build(rngs=nnx.Rngs(0), param_dtype=dtype))
    torch.manual_seed(0)
    network = twin(model).to(torch.float64 if dtype == np.float64 else torch.float32)
    copy_weights(model, network)
    return model, network


def both(run: Run, dtype, steps: int):
    """Trains both sides; returns our run, torch's losses and torch's network."""
    inputs, labels = examples(run, dtype, steps)
    inputs = np.moveaxis(inputs, 1, -1) if inputs.ndim == 4 else inputs
    split = Split(np.ascontiguousarray(inputs), labels)
    model, network = twins(run, dtype)
    result = fit(
        model,
        Dataset("mnist", split, split.take(BATCH)),
        loss=run.loss[0],
        optimizer=ours_and_theirs(run, network.parameters(), steps)[0],
        epochs=1,
        batch_size=BATCH,
        seed=1,
        progress="none",
    )
    return result, *in_torch(run, dtype, steps)


def in_torch(run: Run, dtype, steps: int):
    """Trains torch's side; returns its losses and its network."""
    inputs, labels = examples(run, dtype, steps)
    network = twins(run, dtype)[1]
    _, optimizer, scheduler = ours_and_theirs(run, network.parameters(), steps)
    plan = epoch_plan(len(inputs), BATCH, seed=1, epoch=0)
    torch_losses = []
    for indices in [*plan.full, plan.rest]:
        y = torch.tensor(labels[indices])
        if run.loss[1] is torch.nn.functional.cross_entropy:
            y = y.long()
        elif not y.is_floating_point():
            y = y.to(torch.float64 if dtype == np.float64 else torch.float32)
        optimizer.zero_grad()
        loss = run.loss[1](network(torch.tensor(inputs[indices])), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        torch_losses.append(loss.item())
    return np.array(torch_losses), network


#: Bytes of memory above which a worker frees caches before one of these runs.
ROOM = 1000 * 2**20


@pytest.fixture(autouse=True)
def room():
    """Frees the caches of earlier tests, as these runs need hundreds of megabytes."""
    if resources.resident() > ROOM:
        resources.give_back()


@pytest.mark.parametrize("name", RUNS)
def test_losses_and_parameters_equal_torch_in_float64(name):
    run = RUNS[name]
    result, torch_losses, network = both(run, np.float64, run.steps)
    assert result.step_losses.dtype == np.float64
    assert len(torch_losses) == run.steps
    worst = np.abs(result.step_losses / torch_losses - 1).max()
    assert record(np.float64, worst) < 1e-8
    assert torch_losses[-10:].mean() < torch_losses[:10].mean()

    expected = dict(network.named_parameters())
    for path, module in nnx.iter_modules(result.model):
        for attribute, leaf in table.leaves(module).items():
            theirs = expected.pop(".".join([*map(str, path), leaf.name])).detach().numpy()
            value = leaf.to_torch(np.asarray(getattr(module, attribute).get_value()))
            assert relative_difference(value, theirs) < 1e-6, (path, attribute)
    assert not expected


@pytest.mark.parametrize("name", ["mlp", "lenet", "lstm"])
def test_predictions_after_training_in_float32_agree_with_torch(name):
    run, steps = RUNS[name], 300
    if name == "mlp":
        steps = tier.by_tier(300, 938)
    if name == "lstm":
        build = _recurrent(hidden_dim=128, n_layers=tier.by_tier(1, 2), output_dim=10)
        run = dataclasses.replace(run, build=build)
    result, _, network = both(run, np.float32, steps)
    test = mnist().test.take(tier.by_tier(2_500, 10_000))
    transform = Compose(ToFloat(), Normalize(MEAN, STD))
    if run.inputs is rows:
        transform = Compose(transform, ImageRows())
    ours = predict(result.model, test.inputs, transform=transform).argmax(-1)
    theirs = predictions_of(network, run, test)
    agreed, bar = (ours == theirs).mean(), 0.998
    if agreed < bar:  # rounding errors have grown: compare both with a run in float64
        exact = predictions_of(in_torch(run, np.float64, steps)[1], run, test, np.float64)
        agreed, bar = (ours == exact).mean(), (theirs == exact).mean() - 0.002
        assert bar > 0.985
    assert agreed >= bar
    assert (ours == test.labels).mean() > 0.85


def predictions_of(network, run, test, dtype=np.float32):
    x = run.inputs(normalized(test.inputs)).astype(dtype)
    with torch.no_grad():
        parts = torch.tensor(x).split(500)  # for an LSTM, all at once need 300 MB
        return torch.cat([network(part) for part in parts]).argmax(-1).numpy()
