"""The same training in PyTorch and here: honest pairs agree, and planted faults are found."""

import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import compare, losses
from jaxnets.data import Compose, Dataset, Normalize, Split, ToFloat
from jaxnets.models import MLP

SHAPE = (4, 4, 1)
CLASSES = 3


def examples(count, seed):
    """Images of which the bright corner tells the class."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(CLASSES, size=count)
    inputs = draw.integers(0, 120, size=(count, *SHAPE), dtype=np.uint8)
    inputs[np.arange(count), labels, labels] += 120
    return Split(inputs, labels)


DATA = Dataset("corners", examples(70, 0), examples(40, 1), class_names=("a", "b", "c"))
NORMALIZE = Compose(ToFloat(), Normalize(0.3, 0.2))


def build(rngs):
    return MLP((16, 8, CLASSES), rngs=rngs)


def twin():
    return compare.twin(build(nnx.Rngs(0)))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def run(jax_model=build, torch_model=twin, **options):
    given = {"torch_optimizer": sgd, "epochs": 2, "batch_size": 16, "seeds": [3, 5]}
    given |= {"loss": losses.cross_entropy, "transform": NORMALIZE, "progress": "none"}
    return compare.run(jax_model, torch_model, DATA, **given | options)


@pytest.fixture(scope="module")
def honest():
    return run()


def test_pairs_begin_alike_and_end_alike(honest):
    assert honest.findings == ()
    assert [pair.seed for pair in honest.pairs] == [3, 5]
    for pair in honest.pairs:
        assert pair.ours.step_losses.shape == pair.theirs.step_losses.shape == (10,)
        np.testing.assert_allclose(pair.ours.step_losses, pair.theirs.step_losses, rtol=1e-4)
        np.testing.assert_allclose(pair.ours.train_loss, pair.theirs.train_loss, rtol=1e-4)
        np.testing.assert_allclose(pair.ours.test_loss, pair.theirs.test_loss, rtol=1e-4)
        assert pair.ours.test_accuracy[-1] == np.mean(pair.ours.predictions == DATA.test.labels)
    assert honest.agreement == (1.0, 1.0)
    assert honest.pairs[0].ours.step_losses[0] != honest.pairs[1].ours.step_losses[0]
    assert honest.margin == 0.003
    assert honest.equivalence.difference == 0
