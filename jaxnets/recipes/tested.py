"""Supervised objectives with metrics of test examples alone."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxnets.training import supervised
from jaxnets.training.objective import Supervised


@dataclasses.dataclass(frozen=True)
class Tested(Supervised):
    """A supervised objective whose further metrics are not measured in training.

    Attributes:
        tested: the metrics of test examples, pairs of a name and a function of (outputs, labels).
    """

    tested: tuple[tuple[str, Callable[[Any, Any], Any]], ...] = ()

    @property
    def evaluation(self) -> Supervised:
        """The same without augmentation, with the metrics of test examples."""
        return dataclasses.replace(self, augment=None, metrics=self.tested)


def tested(options: Mapping[str, Any]) -> Tested:
    """Makes an objective that measures its metrics on test examples alone.

    Args:
        options: the arguments of ``supervised``.
    """
    given = dict(options)
    metrics = tuple(given.pop("metrics", {}).items())
    checked = supervised(**given, correct=None)
    settings = {field.name: getattr(checked, field.name) for field in dataclasses.fields(checked)}
    return Tested(**settings, tested=metrics)
