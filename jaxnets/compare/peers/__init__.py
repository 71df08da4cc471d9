"""The frameworks that jaxnets can be compared with."""

from jaxnets.compare.experiment import Experiment
from jaxnets.compare.peers.flax_side import Flax
from jaxnets.compare.peers.keras_side import Keras
from jaxnets.compare.sides import Other
from jaxnets.compare.torch_side import Torch

#: The names of the frameworks.
PEERS = ("torch", "flax", "keras")


def peer(this: Experiment, name: str, *, paired: bool, device: str | None) -> Other:
    """Returns the other framework of a comparison, ready to train an experiment.

    Args:
        this: the experiment.
        name: one of ``PEERS``.
        paired: whether to use the same batches and, if possible, the same weights as jaxnets.
        device: PyTorch's device; Flax and Keras use that of JAX.

    Raises:
        ImportError: if the framework is not installed.
        InputError: if the framework cannot train this experiment.
    """
    if name == "torch":
        return Torch(this, paired=paired, device=device)
    return Flax(this, paired=paired) if name == "flax" else Keras(this, paired=paired)
