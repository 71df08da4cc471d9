"""The autoencoder and FixMatch compared with PyTorch, from the same weights on the same batches."""

import jax
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.compare import twin
from jaxnets.data import Compose, Dataset, RandomCrop, RandomErasing, Split, epoch_plan
from jaxnets.interop import to_numpy
from jaxnets.models import MLP, Autoencoder
from jaxnets.training import fit, fixmatch, minimize, reconstruction
from jaxnets.training.state import DRAWS
from tests.parity.oracle import assert_equal, copy_weights

DRAW = np.random.default_rng(0)
IMAGES = DRAW.uniform(size=(11, 6, 6, 2))
LABELS = np.array([0, 1, 2, -1, -1, -1, -1, -1, 1, -1, -1], np.int32)
SPLIT = Split(IMAGES, LABELS)
TESTED = Split(IMAGES[:3], LABELS[:3])


def channels_first(images):
    return torch.tensor(np.array(images)).movedim(-1, 1)


def trained_in_torch(network, steps):
    """The losses of SGD with momentum; each step is a function from the network to its loss."""
    optimizer, found = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9), []
    for step in steps:
        optimizer.zero_grad()
        loss = step(network)
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return torch.stack(found)


def compare(model, network, objective, steps, epochs):
    """Trains in jaxnets, and compares the losses and the weights."""
    step = minimize(objective, optimizers.sgd(0.1, momentum=0.9))
    run = fit(
        model, Dataset("drawn", SPLIT, TESTED), step,
        epochs=epochs, batch_size=4, seed=1, progress="none",
    )  # fmt: skip
    assert_equal(run.step_losses.astype(np.float64), trained_in_torch(network, steps), "losses")
    for name, weight in to_numpy(run.model).items():
        assert_equal(weight, network.state_dict()[name], name)


@pytest.mark.parametrize(("output", "hidden"), [("linear", ()), ("sigmoid", (9, 7))])
def test_the_autoencoder(output, hidden):
    made = {"rngs": nnx.Rngs(0), "param_dtype": np.float64}
    model = Autoencoder(72, hidden, 3, output=output, **made)
    network = twin(model).double()
    copy_weights(model, network)

    def step(rows):
        target = channels_first(IMAGES[rows]).flatten(1)
        return lambda network: torch.nn.functional.mse_loss(network(target), target)

    plans = [epoch_plan(11, 4, seed=1, epoch=epoch) for epoch in range(2)]
    steps = [step(rows) for plan in plans for rows in [*plan.full, plan.rest]]
    compare(model, network, reconstruction(losses.mse_loss), steps, 2)


@pytest.mark.slow
def test_fixmatch():
    made = {"rngs": nnx.Rngs(0), "param_dtype": np.float64}
    model = MLP((72, 16, 3), **made)
    network = twin(model).double()
    copy_weights(model, network)
    weak = RandomCrop(6, padding=1)
    strong = Compose(weak, RandomErasing(1))
    objective = fixmatch(SPLIT, weak=weak, strong=strong, labelled=5, threshold=0.45, weight=0.7)
    cross_entropy = torch.nn.functional.cross_entropy
    confident = []

    def step(rows, number):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), DRAWS), number)
        seen = objective.views({"inputs": IMAGES[rows], "labels": LABELS[rows]}, key)

        def loss(network):
            with torch.no_grad():
                guess = network(channels_first(seen.weak)).softmax(1)
            mask = (guess.amax(1) >= 0.45).double()
            confident.append(float(mask.mean()))
            each = cross_entropy(
                network(channels_first(seen.strong)), guess.argmax(1), reduction="none"
            )
            labelled = network(channels_first(seen.labelled))
            labels = torch.tensor(np.array(seen.labels)).long()
            return cross_entropy(labelled, labels) + 0.7 * (mask * each).mean()

        return loss

    plans = [epoch_plan(11, 4, seed=1, epoch=epoch) for epoch in range(4)]
    batches = [rows for plan in plans for rows in [*plan.full, plan.rest]]
    compare(model, network, objective, list(map(step, batches, range(12))), 4)
    assert min(confident) < 1
    assert max(confident) > 0
