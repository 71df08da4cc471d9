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
    """In which batches the training examples are taken; ``fit`` says what each of these is.

    Raises:
        InputError: if one of them is bad.
    """

    data: Dataset
    batch_size: int
    shuffle: bool
    drop_last: bool
    buckets: int | None

    def __post_init__(self) -> None:
        """Checks them."""
        check_positive("batch_size", self.batch_size)
        check_bool("shuffle", self.shuffle)
        check_bool("drop_last", self.drop_last)

    def plan(self, seed: int, epoch: int) -> Plan:
        """The batches of an epoch.

        Raises:
            InputError: if there is none.
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
        """The batches of one epoch, which are of the same sizes in every other."""
        return self.plan(0, 0)

    @property
    def steps(self) -> int:
        """The steps of an epoch.

        Raises:
            InputError: if there is none.
        """
        return self._any.steps

    @property
    def examples(self) -> int:
        """The examples that an epoch trains on."""
        return self._any.full.size + self._any.rest.size

    def described(self) -> dict[str, Any]:
        """What decides about the batches by name; ready for JSON."""
        names = ("batch_size", "shuffle", "drop_last", "buckets")
        return {name: getattr(self, name) for name in names}

    @functools.cached_property
    def _widths(self) -> np.ndarray | None:
        """The width that each training example runs at; None for one for all."""
        if self.buckets is None or check_positive("buckets", self.buckets) == 1:
            return None
        if not isinstance(self.data, TextDataset):
            raise InputError("buckets", "None or 1, except for a TextDataset", self.buckets)
        return self.data.widths(self.buckets)
