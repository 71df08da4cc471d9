"""What is trained on what, and how: everything but the weights, the seed and the devices."""

import functools
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import optax
from jax.typing import DTypeLike

from jaxnets.arrays import InputError, check_bool, check_choice, check_float_dtype, check_positive
from jaxnets.data.batching import Plan, epoch_plan
from jaxnets.data.dataset import Dataset
from jaxnets.data.text import TextDataset
from jaxnets.data.transforms import Augmentation
from jaxnets.training.classes import check_loss
from jaxnets.training.counts import counter
from jaxnets.training.state import Count, Loss, Program, Transform, check_optimizer

NonFinite = Literal["stop", "skip"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What ``fit`` is asked for; its arguments say what each of these is.

    Raises:
        InputError: if one of them is bad.
    """

    data: Dataset
    loss: Loss
    optimizer: optax.GradientTransformation
    epochs: int
    batch_size: int
    transform: Transform | None
    augment: Augmentation | None
    correct: Count | Literal["auto"] | None
    shuffle: bool
    drop_last: bool
    buckets: int | None
    accumulate: int
    compute_dtype: DTypeLike | None
    non_finite: NonFinite

    def __post_init__(self) -> None:
        """Checks what nothing else does before it is too late."""
        for name in ("epochs", "batch_size", "accumulate"):
            check_positive(name, getattr(self, name))
        check_bool("shuffle", self.shuffle)
        check_bool("drop_last", self.drop_last)
        check_choice("non_finite", self.non_finite, get_args(NonFinite))
        _check(self.data, self.loss, self.optimizer)
        if self.compute_dtype is not None:
            check_float_dtype("compute_dtype", self.compute_dtype)

    def plan(self, seed: int, epoch: int) -> Plan:
        """The batches of an epoch.

        Raises:
            InputError: if there is none.
        """
        plan = epoch_plan(
            len(self.data.train),
            self.batch_size,
            seed=seed,
            epoch=epoch,
            shuffle=self.shuffle,
            drop_last=self.drop_last,
            widths=self._widths,
        )
        if plan.steps == 0:
            most = f"at most the {len(self.data.train)} training examples"
            raise InputError("batch_size", most, self.batch_size)
        return plan

    def program(self, graphdef: Any, shards: int) -> Program:
        """What a step of this model is made of, on so many devices."""
        dtype = self.compute_dtype
        return Program(
            graphdef,
            self.loss,
            self.optimizer,
            self.transform,
            counter(self.correct, self.loss, self.data.train),
            self.augment,
            shards,
            self.accumulate,
            None if dtype is None else check_float_dtype("compute_dtype", dtype),
            self.non_finite == "skip",
        )

    def of_the_order(self) -> dict[str, Any]:
        """By name what decides about the batches; ready for JSON."""
        names = ("batch_size", "shuffle", "drop_last", "accumulate", "buckets")
        return {name: getattr(self, name) for name in names}

    @functools.cached_property
    def _widths(self) -> np.ndarray | None:
        """The width that each training example runs at; None for one for all."""
        if self.buckets is None or check_positive("buckets", self.buckets) == 1:
            return None
        if not isinstance(self.data, TextDataset):
            raise InputError("buckets", "None or 1, but for a TextDataset", self.buckets)
        return self.data.widths(self.buckets)


def _check(data: Any, loss: Any, optimizer: Any) -> None:
    if not isinstance(data, Dataset):
        raise InputError("data", "a Dataset", f"a {type(data).__name__}")
    check_loss(loss)
    check_optimizer(optimizer)
