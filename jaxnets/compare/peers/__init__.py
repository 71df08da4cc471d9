"""The frameworks that ours can be compared with."""

from typing import Any

from jaxnets.compare.experiment import Experiment
from jaxnets.compare.sides import Other
from jaxnets.compare.torch_side import Torch

#: By name.
PEERS = ("torch",)


def peer(this: Experiment, name: str, **options: Any) -> Other:
    """The other framework of a comparison, ready to train an experiment.

    Args:
        this: what is trained.
        name: one of ``PEERS``.
        **options: ``paired`` and ``device``, see ``Torch``.

    Raises:
        ImportError: if it is not installed.
        InputError: if it cannot train this.
    """
    return Torch(this, **options)
