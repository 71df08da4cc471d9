"""The frameworks that ours can be compared with."""

from jaxnets.compare.experiment import Experiment
from jaxnets.compare.peers.flax_side import Flax
from jaxnets.compare.peers.keras_side import Keras
from jaxnets.compare.sides import Other
from jaxnets.compare.torch_side import Torch

#: By name.
PEERS = ("torch", "flax", "keras")


def peer(this: Experiment, name: str, *, paired: bool, device: str | None) -> Other:
    """The other framework of a comparison, ready to train an experiment.

    Args:
        this: what is trained.
        name: one of ``PEERS``.
        paired: whether batches, and weights as far as it takes them, are ours.
        device: where PyTorch computes; JAX's frameworks compute where JAX does.

    Raises:
        ImportError: if it is not installed.
        InputError: if it cannot train this.
    """
    if name == "torch":
        return Torch(this, paired=paired, device=device)
    return Flax(this, paired=paired) if name == "flax" else Keras(this, paired=paired)
