"""Adaptive softmax: classes in clusters by frequency, with fewer features for rare classes."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_floats,
    check_integer,
    check_number,
    check_positive,
    describe,
    entries,
)
from jaxnets.layers.linear import Linear
from jaxnets.layers.parameters import check_others, check_parameters


class ASMoutput(NamedTuple):
    """The result of an adaptive softmax.

    Attributes:
        output: the log-probability of each example's target, [N] or [].
        loss: the negative mean of ``output``, a scalar.
    """

    output: jax.Array
    loss: jax.Array


class AdaptiveLogSoftmaxWithLoss(nnx.Module):
    """``torch.nn.AdaptiveLogSoftmaxWithLoss``: log-probabilities of classes sorted by frequency.

    The head has an output for each of the most frequent classes, up to the first cutoff, and one
    for each cluster of other classes. Cluster i projects its input to in_features / div_value^(i+1)
    features and has an output for each of its classes.

    Parameters: those of ``head``, a ``Linear``, and of ``tail``, two for each cluster.

    Args:
        in_features: size of each input.
        n_classes: the number of classes.
        cutoffs: the first class of each cluster, increasing numbers from 1 to n_classes - 1.
        div_value: the factor by which the number of features decreases from cluster to cluster.
        head_bias: whether the head has a bias.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Examples:
        >>> layer = AdaptiveLogSoftmaxWithLoss(8, 20, [5, 10], div_value=2.0, rngs=nnx.Rngs(0))
        >>> output, loss = layer(jnp.ones((3, 8)), jnp.array([0, 7, 19]))
        >>> output.shape, layer.log_prob(jnp.ones((3, 8))).shape
        ((3,), (3, 20))
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others)
        self.in_features = check_positive("in_features", in_features)
        self.n_classes = check_integer("n_classes", n_classes, least=2)
        self.cutoffs = (*_cutoffs(cutoffs, n_classes), n_classes)
        self.div_value = check_number("div_value", div_value, above=0)
        self.head_bias = check_bool("head_bias", head_bias)
        rngs = check_parameters(rngs, param_dtype)
        self.shortlist_size, self.n_clusters = self.cutoffs[0], len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        options: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.head = Linear(in_features, self.head_size, head_bias, **options)
        clusters = []
        for place, (low, high) in enumerate(pairwise(self.cutoffs), start=1):
            size = int(in_features // self.div_value**place)
            if size < 1:
                expected = f"a number that leaves a feature in each of {self.n_clusters} clusters"
                raise InputError("div_value", expected, div_value)
            projection = Linear(in_features, size, False, **options)
            clusters.append(nnx.Sequential(projection, Linear(size, high - low, False, **options)))
        self.tail = nnx.List(clusters)

    def __call__(self, x: ArrayLike, target: ArrayLike) -> ASMoutput:
        """Computes the log-probability of each target, and the loss.

        Every cluster is computed for every example, because array shapes in JAX cannot depend on
        values.

        Args:
            x: [N, in_features], or [in_features].
            target: classes, integers [N], or one class for a single example.

        Raises:
            InputError: if x is not floating, a shape does not match, or a target is out of range.
                Under ``jax.jit`` targets are not checked, and the log-probability of one that is
                out of range is NaN.
        """
        check_floats("x", x, ("...", self.in_features))
        _check_target(target, x, self.n_classes)
        if x.ndim == 1:
            output, loss = self(x[None], target[None])
            return ASMoutput(output[0], loss)
        x, target = jnp.asarray(x), jnp.asarray(target)
        head = jax.nn.log_softmax(self.head(x))
        within = jnp.where(target < self.shortlist_size, target, 0)
        output = jnp.where(target < self.shortlist_size, _taken(head, within), 0)
        for place, (low, high) in enumerate(pairwise(self.cutoffs)):
            own = (target >= low) & (target < high)
            # Examples of other clusters are set to zero, so that infinities in them do not make
            # gradients NaN.
            scores = jax.nn.log_softmax(self.tail[place](jnp.where(own[:, None], x, 0)))
            inner = _taken(scores, jnp.where(own, target - low, 0))
            output = jnp.where(own, head[:, self.shortlist_size + place] + inner, output)
        output = jnp.where((target >= 0) & (target < self.n_classes), output, jnp.nan)
        return ASMoutput(output, -output.mean())

    def log_prob(self, x: ArrayLike) -> jax.Array:
        """Computes the log-probabilities of all classes, [N, n_classes].

        Args:
            x: [N, in_features].

        Raises:
            InputError: if x has another shape, or is not floating.
        """
        check_floats("x", x, ("N", self.in_features))
        return self._all(x, self.head(x))

    def predict(self, x: ArrayLike) -> jax.Array:
        """Predicts the class of each example, integers [N].

        As in PyTorch, if the largest output of the head is a frequent class, that class is
        predicted, and otherwise the class with the highest probability.

        Args:
            x: [N, in_features].

        Raises:
            InputError: if x has another shape, or is not floating.
        """
        check_floats("x", x, ("N", self.in_features))
        scores = self.head(x)
        frequent = scores.argmax(1)
        anything = self._all(x, scores).argmax(1)
        return jnp.where(frequent < self.shortlist_size, frequent, anything)

    def _all(self, x: ArrayLike, scores: jax.Array) -> jax.Array:
        head = jax.nn.log_softmax(scores)
        parts = [head[:, : self.shortlist_size]]
        for place, cluster in enumerate(self.tail):
            own = head[:, self.shortlist_size + place, None]
            parts.append(jax.nn.log_softmax(cluster(x)) + own)
        return jnp.concatenate(parts, axis=1)


def _taken(scores: jax.Array, classes: jax.Array) -> jax.Array:
    """Returns the score of one class from each row, [N]."""
    return jnp.take_along_axis(scores, classes[:, None], axis=1)[:, 0]


def _cutoffs(cutoffs: Sequence[int], n_classes: int) -> list[int]:
    expected = f"increasing integers from 1 to {n_classes - 1}"
    given = entries(cutoffs)
    if not given:
        raise InputError("cutoffs", expected, cutoffs)
    try:
        checked = [check_integer("cutoffs", one, least=1, most=n_classes - 1) for one in given]
    except InputError:
        raise InputError("cutoffs", expected, cutoffs) from None
    if any(low >= high for low, high in pairwise(checked)):
        raise InputError("cutoffs", expected, cutoffs)
    return checked


def _check_target(target: ArrayLike, x: ArrayLike, classes: int) -> None:
    shape = list(x.shape[:-1])
    expected = f"integers {shape} in [0, {classes})"
    if not isinstance(target, jax.Array | np.ndarray):
        raise InputError("target", expected, type(target).__name__)
    whole = jnp.issubdtype(target.dtype, jnp.integer)
    if x.ndim > 2 or list(target.shape) != shape or not whole:
        raise InputError("target", expected, describe(target))
    if not isinstance(target, jax.core.Tracer) and target.size:
        least, most = int(target.min()), int(target.max())
        if least < 0 or most >= classes:
            raise InputError("target", expected, f"{least} to {most}")
