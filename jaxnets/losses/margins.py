"""Margin losses: ranking, hinge, cosine embedding and multi-class margin losses."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import ArrayLike, InputError, as_array, check_integer, check_number, describe
from jaxnets.losses import arguments
from jaxnets.losses.binary import binary_cross_entropy_with_logits
from jaxnets.losses.labels import chosen, note_labels, one_hot, read_labels
from jaxnets.losses.reduction import Reduction, reduce

#: Added to squared lengths; as in PyTorch, 1e-12 in single precision, also for float64.
_LEAST_SQUARE = float(np.float32(1e-12))


def margin_ranking_loss(
    input1: ArrayLike,
    input2: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float = 0.0,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Computes the margin ranking loss max(0, margin - y (x₁ - x₂)).

    Args:
        input1: scores x₁, of any shape.
        input2: scores x₂, in the shape of ``input1``.
        labels: y, 1 if x₁ should be larger than x₂ and -1 if x₂ should; in the shape of ``input1``,
            or [B] for inputs [B, 1].
        margin: the difference of the scores from which on the loss is 0.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        The loss in the dtype of ``input1``.

    Raises:
        InputError: if the shapes differ, or a label is not 1 or -1.

    PyTorch: ``torch.nn.functional.margin_ranking_loss``.

    Examples:
        >>> better, worse = jnp.array([2.0, 1.0]), jnp.array([1.0, 1.5])
        >>> print(margin_ranking_loss(better, worse, jnp.ones(2), reduction="none"))
        [0.  0.5]
    """
    first = arguments.floating("input1", input1)
    second = arguments.same_shape("input2", input2, "input1", first)
    signs = arguments.signs("labels", labels, first)
    margin = check_number("margin", margin)
    return reduce(at_least_zero(margin - signs * (first - second)), reduction)


def hinge_embedding_loss(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float = 1.0,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Computes the hinge embedding loss of distances: x if y = 1, max(0, margin - x) if y = -1.

    Args:
        outputs: distances x, of any shape.
        labels: y, 1 for similar and -1 for dissimilar pairs, in the outputs' shape; or [B] for
            outputs [B, 1].
        margin: the distance from which on the loss of dissimilar pairs is 0.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: if the shapes differ, or a label is not 1 or -1.

    PyTorch: ``torch.nn.functional.hinge_embedding_loss``.

    Examples:
        >>> distances, labels = jnp.array([0.25, 0.25]), jnp.array([1, -1])
        >>> print(hinge_embedding_loss(distances, labels, reduction="none"))
        [0.25 0.75]
    """
    outputs = arguments.floating("outputs", outputs)
    signs = arguments.signs("labels", labels, outputs)
    apart = at_least_zero(check_number("margin", margin) - outputs)
    return reduce(_by_sign(signs, outputs, apart), reduction)


def cosine_embedding_loss(
    input1: ArrayLike,
    input2: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float = 0.0,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Computes the cosine embedding loss of pairs of vectors.

    The loss is 1 - cos(x₁, x₂) for similar pairs (y = 1) and max(0, cos(x₁, x₂) - margin) for
    dissimilar ones (y = -1).

    Args:
        input1: vectors x₁, [N, D] or [D].
        input2: vectors x₂, in the shape of ``input1``.
        labels: y, 1 for similar and -1 for dissimilar pairs, [N] or [].
        margin: the cosine up to which the loss of dissimilar pairs is 0.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, [N].

    Returns:
        The loss in the dtype of ``input1``.

    Raises:
        InputError: if the shapes do not match, or a label is not 1 or -1.

    PyTorch: ``torch.nn.functional.cosine_embedding_loss``.

    Examples:
        >>> vectors, others = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([[2.0, 0], [0, 3.0]])
        >>> print(cosine_embedding_loss(vectors, others, jnp.array([1, 1]), reduction="none"))
        [0. 1.]
    """
    first = arguments.vectors("input1", input1)
    second = arguments.same_shape("input2", input2, "input1", first)
    margin = check_number("margin", margin)
    squares = [jnp.sum(x * x, axis=-1) + _LEAST_SQUARE for x in (first, second)]
    cosines = jnp.sum(first * second, axis=-1) / jnp.sqrt(squares[0] * squares[1])
    signs = arguments.signs("labels", labels, cosines)
    return reduce(_by_sign(signs, 1 - cosines, at_least_zero(cosines - margin)), reduction)


def soft_margin_loss(
    outputs: ArrayLike, labels: ArrayLike, *, reduction: Reduction = "mean"
) -> jax.Array:
    """Computes the soft margin loss log(1 + e^(-y x)), binary cross entropy of labels 1 and -1.

    Unlike in PyTorch, the loss does not overflow for large negative y x.

    Args:
        outputs: scores x, of any shape.
        labels: y, 1 or -1, in the outputs' shape; or [B] for outputs [B, 1].
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: if the shapes differ, or a label is not 1 or -1.

    PyTorch: ``torch.nn.functional.soft_margin_loss``.
    """
    outputs = arguments.floating("outputs", outputs)
    signs = arguments.signs("labels", labels, outputs)
    return reduce(jax.nn.softplus(-signs * outputs), reduction)


def multi_margin_loss(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    p: int = 1,
    margin: float = 1.0,
    weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Computes the multi-class hinge loss w[y] Σ_{c ≠ y} max(0, margin - x[y] + x[c])ᵖ / C.

    Args:
        outputs: scores x, [N, C] or [C].
        labels: classes y, integers [N] or [] from 0 to C - 1.
        p: the exponent, 1 or 2.
        margin: the difference of the score of the true class to others from which on the loss is 0.
        weight: w [C], one weight per class.
        reduction: ``"mean"`` (divided by N, also with weights), ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype. Labels are not checked under ``jax.jit``, and an invalid
        label then makes the loss NaN.

    Raises:
        InputError: if a shape or dtype is invalid, or a label is not a class.

    PyTorch: ``torch.nn.functional.multi_margin_loss``.

    Examples:
        >>> print(multi_margin_loss(jnp.array([[0.5, 2.0, 1.5, 0.0]]), jnp.array([1])))
        0.125
    """
    outputs = _rows(outputs)
    check_integer("p", p, least=1, most=2)
    margin = check_number("margin", margin)
    classes, _, weights = read_labels(labels, outputs, weight)
    lacking = margin - chosen(classes, outputs)[..., None] + outputs
    others = ~one_hot(classes, outputs.shape[-1])
    # As in PyTorch, terms that are NaN are ignored: NaN > 0 is False.
    lacking = jnp.where(others & (lacking > 0), lacking, 0)
    losses = jnp.sum(lacking if p == 1 else lacking * lacking, axis=-1) / outputs.shape[-1]
    return reduce(weights * losses, reduction)


def multilabel_margin_loss(
    outputs: ArrayLike, labels: ArrayLike, *, reduction: Reduction = "mean"
) -> jax.Array:
    """Computes the multi-label hinge loss Σ_y Σ_c max(0, 1 - x[y] + x[c]) / C.

    The sums are over the labels y of an example, and over the classes c that are not labels of it.

    Args:
        outputs: scores x, [N, C] or [C].
        labels: the classes of each example, integers from 0 to C - 1 in the outputs' shape. The
            first -1 and all labels after it are ignored.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, [N].

    Returns:
        The loss in the outputs' dtype. Labels are not checked under ``jax.jit``, and a label that
        is neither a class nor -1 then makes the loss NaN.

    Raises:
        InputError: if a shape or dtype is invalid, or a label is neither a class nor -1.

    PyTorch: ``torch.nn.functional.multilabel_margin_loss``.

    Examples:
        >>> scores, labels = jnp.array([0.5, 2.0, 1.5, 0.0]), jnp.array([1, -1, -1, -1])
        >>> print(multilabel_margin_loss(scores, labels))
        0.125
    """
    outputs = _rows(outputs)
    classes = outputs.shape[-1]
    given = as_array("labels", labels)
    if not jnp.issubdtype(given.dtype, jnp.integer) or given.shape != outputs.shape:
        raise InputError("labels", f"integers of shape {outputs.shape}", describe(given))
    note_labels(labels, classes, -1)
    arguments.check_values(
        "labels",
        labels,
        f"classes from 0 to {classes - 1}, or -1",
        lambda values: (values < -1) | (values >= classes),
    )
    given = arguments.integers("labels", labels)
    counted = jnp.cumsum(given < 0, axis=-1) == 0
    selected = one_hot(given, classes) & counted[..., None]  # [N, C, C]: of each label, its class
    others = ~jnp.any(selected, axis=-2, keepdims=True)
    scores = jnp.sum(jnp.where(selected, outputs[..., None, :], 0), axis=-1)
    lacking = 1 - scores[..., None] + outputs[..., None, :]
    lacking = jnp.where(counted[..., None] & others & (lacking > 0), lacking, 0)
    invalid = jnp.any((given < -1) | (given >= classes), axis=-1)
    losses = jnp.sum(lacking, axis=(-2, -1)) / classes
    return reduce(losses * jnp.where(invalid, jnp.nan, 1).astype(losses.dtype), reduction)


def multilabel_soft_margin_loss(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Computes the mean over the last axis of ``binary_cross_entropy_with_logits``.

    Args:
        outputs: logits [..., C].
        labels: from 0 to 1, in the outputs' shape. Integers and booleans are converted.
        weight: an array that broadcasts to the outputs' shape, such as [C].
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, [...].

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: if the shapes do not match.

    PyTorch: ``torch.nn.functional.multilabel_soft_margin_loss``.
    """
    outputs = arguments.scores(outputs)
    losses = binary_cross_entropy_with_logits(outputs, labels, weight=weight, reduction="none")
    return reduce(jnp.mean(losses, axis=-1), reduction)


def at_least_zero(values: jax.Array) -> jax.Array:
    """Computes max(0, x) with slope 1 at 0, as PyTorch's ``clamp_min``, and slope 0 at NaN."""
    return jnp.where(values >= 0, values, jax.lax.stop_gradient(jnp.maximum(values, 0)))


def _by_sign(signs: jax.Array, similar: jax.Array, apart: jax.Array) -> jax.Array:
    # As in PyTorch, a label other than 1 and -1 adds both terms. Only traced labels can be invalid.
    return jnp.where(signs != -1, similar, 0) + jnp.where(signs != 1, apart, 0)


def _rows(outputs: ArrayLike) -> jax.Array:
    outputs = arguments.scores(outputs)
    if outputs.ndim > 2:
        raise InputError("outputs", "scores [N, C] or [C]", describe(outputs))
    return outputs
