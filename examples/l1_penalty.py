"""Make most of a network's weights vanish with an L1 penalty.

Reproduces: the lasso of Tibshirani (1996) on a network: the loss is the cross-entropy and the
strength times the sum of the weights' magnitudes. Biases are not penalized. The share of weights
near zero is a metric like any other, and so appears on each line.
Data:       the first 10,000 images of MNIST, bundled; the test is on all 10,000 test images.
Run:        python examples/l1_penalty.py
"""

import argparse
import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets import MLP, evaluate, fit, losses, optimizers
from jaxnets.arrays import check_number
from jaxnets.compilation import keep_programs
from jaxnets.data import ToFloat, load
from jaxnets.training import minimize, supervised

NEAR_ZERO = 1e-3
cross_entropy = supervised(losses.cross_entropy, transform=ToFloat())


def weights_of(model):
    """The matrices of the model, without the biases."""
    return [x for x in jax.tree.leaves(nnx.state(model, nnx.Param)) if x.ndim > 1]


@dataclasses.dataclass(frozen=True)
class Penalized:
    """The cross-entropy plus the L1 penalty.

    Attributes:
        strength: what the sum of the magnitudes is multiplied by.
    """

    strength: float

    def __call__(self, model, batch, key):
        """The loss, and metrics by name; a pair is (how many, out of how many)."""
        loss, metrics = cross_entropy(model, batch, key)
        weights = weights_of(model)
        penalty = self.strength * sum(jnp.abs(w).sum() for w in weights)
        near_zero = sum((jnp.abs(w) < NEAR_ZERO).sum() for w in weights)
        total = sum(w.size for w in weights)
        return loss + penalty, {**metrics, "near_zero": (near_zero, total)}


def pruned(model):
    """A copy of the model whose weights near zero are zero."""
    model = nnx.clone(model)
    zeroed = jax.tree.map(
        lambda x: jnp.where(jnp.abs(x) < NEAR_ZERO, 0, x) if x.ndim > 1 else x,
        nnx.state(model, nnx.Param),
    )
    nnx.update(model, zeroed)
    return model
