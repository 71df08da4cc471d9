"""Objectives: functions of a model and a batch that return the loss to minimize, and metrics."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import (
    InputError,
    called,
    check_float_dtype,
    check_function,
    shown,
)
from jaxnets.data.transforms import (
    Augmentation,
    Transform,
    augment,
    check_transforms,
    is_random,
)
from jaxnets.data.transforms.compose import applied, stages
from jaxnets.metrics import Mean, Metric, Ratio
from jaxnets.training.counts import Count, counted, counter
from jaxnets.training.labels import Loss, adds_up, check_loss

#: The columns of a batch by name: ``"inputs"`` and, if there are any, ``"labels"``. Each is an
#: array [batch, …], or a tuple or dictionary of arrays.
Batch = Mapping[str, Any]
#: (model, batch, key) → the loss, a scalar; or the loss and metrics by name: scalars, which are
#: means over the batch, pairs (total, count), or any ``jaxnets.metrics.Metric``.
Objective = Callable[[nnx.Module, Batch, jax.Array], Any]
#: The loss of a batch and its metrics, by name.
Measured = dict[str, Metric]

_AFTER = 2**31  # not the number of a transform, from which ``Compose`` derives a key
_EXPECTED_LOSS = "a function that returns a floating-point scalar, the mean over the batch"
_EXPECTED = "a function of (model, batch, key) that returns the loss, or the loss and metrics"


def size_of(batch: Batch) -> int:
    """Returns the number of examples in a batch; 1 if the batch has no columns."""
    return next((len(column) for column in jax.tree.leaves(batch)), 1)


def measure(
    objective: Objective, model: nnx.Module, batch: Batch, key: jax.Array
) -> tuple[jax.Array, Measured]:
    """Evaluates an objective on a batch.

    Returns:
        The loss, and all metrics by name, ``"loss"`` included.

    Raises:
        InputError: if the objective fails, the loss is not a floating-point scalar, or a metric is
            invalid.
    """
    made = called("objective", _EXPECTED, objective, model, batch, key)
    loss, metrics = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    check_scalar("objective", _EXPECTED, loss)
    if not isinstance(metrics, Mapping):
        raise InputError("objective", _EXPECTED, f"metrics that are a {type(metrics).__name__}")
    return loss, as_metrics({"loss": loss, **metrics}, size_of(batch))


def as_metrics(values: Mapping[str, Any], size: int) -> Measured:
    """Converts the values that a step or an objective returns for a batch to metrics by name.

    Args:
        values: scalars, pairs (total, count) or metrics.
        size: number of examples in the batch.

    Raises:
        InputError: if a value is not a metric, or a name is not an identifier.
    """
    return {name: _as_metric(name, value, size) for name, value in sorted(values.items())}


def _as_metric(name: Any, value: Any, size: int) -> Metric:
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError("metrics", "names such as 'accuracy'", name)
    if hasattr(value, "over"):
        metric: Metric = value
        return metric
    parts = value if isinstance(value, tuple | list) and len(value) == 2 else (value,)
    if not all(isinstance(x, jax.Array | np.ndarray | np.generic | int | float) for x in parts):
        expected = f"a scalar or a pair (total, count) for {name!r}"
        raise InputError("metrics", expected, f"a {type(value).__name__}")
    total, *count = (jnp.asarray(x) for x in parts)
    if count:
        return Ratio(total, count[0])
    return Mean(total, jnp.int32(size))


def check_scalar(argument: str, expected: str, made: Any) -> None:
    """Checks that the result of a user's function is a floating-point scalar."""
    known = isinstance(made, jax.Array | np.ndarray | np.generic | int | float)
    if not known or jnp.shape(made) != () or not jnp.issubdtype(jnp.result_type(made), np.floating):
        got = f"{jnp.result_type(made)}{list(jnp.shape(made))}" if known else type(made).__name__
        raise InputError(argument, expected, got)


@dataclasses.dataclass(frozen=True)
class Supervised:
    """The objective that ``supervised`` makes: a loss of the model's outputs and the labels.

    The network and the loss are separate functions, so that ``minimize`` can run the network on
    parts of a batch and compute the loss of the whole batch.

    Attributes:
        loss: (outputs, labels) → scalar.
        transform: the transform of the inputs; None for none.
        augment: the transform of training batches, applied before ``transform``; None for none.
        correct: a function that counts correct predictions; ``"auto"`` counts them if the labels
            are integers; None does not count.
        metrics: further metrics, pairs of a name and a function of (outputs, labels).
        compute_dtype: the dtype in which the network computes; None for the dtype of its
            parameters.
    """

    loss: Loss
    transform: Transform | None = None
    augment: Augmentation | None = None
    correct: Count | Literal["auto"] | None = "auto"
    metrics: tuple[tuple[str, Callable[[Any, Any], Any]], ...] = ()
    compute_dtype: Any = None

    def __call__(self, model: nnx.Module, batch: Batch, key: jax.Array) -> Any:
        """Returns the loss of a batch and its metrics."""
        seen = self.augmented(batch, key)
        outputs = self.of_augmented.outputs(model, seen["inputs"])
        return self.of_outputs(outputs, seen["labels"], batch["labels"])

    @property
    def evaluation(self) -> "Supervised":
        """The objective without augmentation."""
        return dataclasses.replace(self, augment=None)

    @property
    def of_augmented(self) -> "Supervised":
        """The same for a batch that ``augmented`` returned, which may be transformed already."""
        transformed = stages(self.augment)[1] is not None
        return dataclasses.replace(
            self, augment=None, transform=None if transformed else self.transform
        )

    def augmented(self, batch: Batch, key: jax.Array) -> Batch:
        """Applies ``augment`` to a batch, with random numbers from ``key``.

        An ``AfterTransform`` in it applies the transform first.
        """
        for name in ("inputs", "labels"):
            if name not in batch:
                raise InputError("data", f"{name}, as the loss takes (outputs, labels)", "none")
        if self.augment is None:
            return batch
        before, after = stages(self.augment)
        inputs, labels = batch["inputs"], batch["labels"]
        if before is not None:
            inputs, labels = augment(before, inputs, labels, key)
        if after is not None:
            own = jax.random.fold_in(key, _AFTER)
            inputs, labels = augment(after, applied(self.transform, inputs), labels, own)
        return {**batch, "inputs": inputs, "labels": labels}

    def outputs(self, model: nnx.Module, inputs: Any) -> Any:
        """Returns the model's outputs for inputs before ``transform``."""
        return outputs_of(model, applied(self.transform, inputs), self.compute_dtype)

    def of_outputs(self, outputs: Any, labels: Any, given: Any) -> tuple[jax.Array, dict[str, Any]]:
        """Computes the loss of a batch and its metrics from the model's outputs.

        Args:
            outputs: the model's outputs.
            labels: the labels after augmentation.
            given: the labels before augmentation; ``correct="auto"`` counts if they are integers.

        Raises:
            InputError: if the loss, the number of correct predictions or a metric is invalid.
        """
        expected = "a function of (outputs, labels)"
        loss = called("loss", _EXPECTED_LOSS, self.loss, outputs, labels)
        check_scalar("loss", _EXPECTED_LOSS, loss)
        made: dict[str, Any] = {}
        if adds_up(self.loss, outputs, labels):
            # The gradient is that of the sum, but the reported loss is the mean over examples, so
            # that it does not depend on the batch size.
            made["loss"] = Ratio(loss, jnp.int32(size_of({"labels": labels})))
        count = counter(self.correct, self.loss, outputs, given)
        if count is not None:
            made["accuracy"] = Ratio(*counted(count, outputs, labels))
        for name, metric in self.metrics:
            made[name] = called("metrics", f"{expected} for {name!r}", metric, outputs, labels)
        return loss, made


def supervised(
    loss: Loss,
    *,
    correct: Count | Literal["auto"] | None = "auto",
    transform: Transform | None = None,
    augment: Augmentation | None = None,
    metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    compute_dtype: DTypeLike | None = None,
) -> Supervised:
    """Makes the objective of supervised training: a loss of the model's outputs and the labels.

    The model is called with the batch's inputs: ``model(x)`` with an array, ``model(*inputs)``
    with a tuple, ``model(**inputs)`` with a dictionary.

    Args:
        loss: (outputs, labels) → scalar, such as ``jaxnets.losses.cross_entropy``.
        correct: see ``fit``.
        transform: see ``fit``.
        augment: see ``fit``.
        metrics: further metrics by name: functions of (outputs, labels) that return a scalar,
            which is a mean over the batch, or a pair (total, count).
        compute_dtype: see ``fit``.

    Returns:
        An objective for ``minimize``, ``evaluate`` and ``fit``.

    Raises:
        ValueError: if an argument is invalid.

    Examples:
        >>> from jaxnets import losses, optimizers
        >>> from jaxnets.training import minimize
        >>> step = minimize(supervised(losses.cross_entropy), optimizers.adam(1e-3))
    """
    check_loss(loss)
    if correct is not None and not (isinstance(correct, str) and correct == "auto"):
        check_function("correct", correct, "a function, 'auto' or None")
    if is_random(transform):
        expected = "one that is not random (use augment for random ones)"
        raise InputError("transform", expected, transform)
    for name, function in (("transform", transform), ("augment", augment)):
        if function is not None:
            check_transforms(name, (function,))
    if metrics is not None and not isinstance(metrics, Mapping):
        raise InputError("metrics", "functions of (outputs, labels) by name", shown(metrics))
    named = dict(metrics or {})
    for name, metric in named.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise InputError("metrics", "names such as 'top_5'", name)
        if name in ("loss", "accuracy") or not callable(metric):
            expected = "functions of (outputs, labels) by names other than loss and accuracy"
            raise InputError("metrics", expected, f"{name}={shown(metric)}")
    if compute_dtype is not None:
        compute_dtype = check_float_dtype("compute_dtype", compute_dtype)
    return Supervised(loss, transform, augment, correct, tuple(named.items()), compute_dtype)


def outputs_of(model: nnx.Module, inputs: Any, compute_dtype: Any = None) -> Any:
    """Calls a model on inputs, optionally in another dtype.

    Args:
        model: the model.
        inputs: an array, or a tuple or dictionary of arrays, the arguments of the call.
        compute_dtype: the dtype in which the model computes; None for the dtype of its parameters.

    Returns:
        The outputs; with ``compute_dtype`` as float32, or wider if ``compute_dtype`` is.
    """
    if compute_dtype is None:
        return _called(model, inputs)
    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)
    # A copy, because only the other variables, such as running statistics, are to change: the
    # parameters keep their own dtype, in which the optimizer updates them.
    low = nnx.merge(graphdef, _cast(parameters, compute_dtype), rest, copy=True)
    outputs = _called(low, _cast(inputs, compute_dtype))
    nnx.pop(low, nnx.Intermediate)
    nnx.update(model, nnx.split(low, nnx.Param, ...)[2])  # such as running statistics
    wide = jnp.dtype(compute_dtype).itemsize > 4
    return _cast(outputs, compute_dtype if wide else jnp.float32)


def _called(model: Any, inputs: Any) -> Any:
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )
