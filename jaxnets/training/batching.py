"""Settings of a run's batches."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_bool, check_positive
from jaxnets.data.batching import Plan, epoch_plan
from jaxnets.data.dataset import Dataset
from jaxnets.data.text import TextDataset
from jaxnets.training.evaluation import batch_of


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How training examples are divided into batches; see ``fit`` for the attributes.

    Raises:
        InputError: if an argument is invalid.
    """

    data: Dataset
    batch_size: int
    shuffle: bool
    drop_last: bool
    buckets: int | None

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_positive("batch_size", self.batch_size)
        check_bool("shuffle", self.shuffle)
        check_bool("drop_last", self.drop_last)

    def plan(self, seed: int, epoch: int) -> Plan:
        """Returns the batches of an epoch.

        Raises:
            InputError: if there is no batch.
        """
        train = self.data.train
        plan = epoch_plan(
            len(train),
            batch_of(train, self.batch_size),
            seed=seed,
            epoch=epoch,
            shuffle=self.shuffle,
            drop_last=self.drop_last,
            widths=self._widths,
        )
        if plan.steps == 0:
            most = f"at most the {len(train)} training examples"
            raise InputError("batch_size", most, self.batch_size)
        return plan

    @functools.cached_property
    def _any(self) -> Plan:
        """The plan of one epoch; the sizes of the batches are the same in all epochs."""
        return self.plan(0, 0)

    @property
    def steps(self) -> int:
        """Number of steps in an epoch.

        Raises:
            InputError: if there is no batch.
        """
        return self._any.steps

    @property
    def examples(self) -> int:
        """Number of examples that an epoch trains on."""
        return self._any.full.size + self._any.rest.size

    def described(self) -> dict[str, Any]:
        """Returns the settings by name, for the run's fingerprint."""
        names = ("batch_size", "shuffle", "drop_last", "buckets")
        return {name: getattr(self, name) for name in names}

    @functools.cached_property
    def _widths(self) -> np.ndarray | None:
        """The length to which each training example is cut, or None if it is the same for all."""
        if self.buckets is None or check_positive("buckets", self.buckets) == 1:
            return None
        if not isinstance(self.data, TextDataset):
            raise InputError("buckets", "None or 1, except for a TextDataset", self.buckets)
        return self.data.widths(self.buckets)
