"""Losses that vanish where a score is right by a margin."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import ArrayLike, InputError, as_array, check_integer, check_number, describe
from jaxnets.losses import arguments
from jaxnets.losses.binary import binary_cross_entropy_with_logits
from jaxnets.losses.labels import chosen, note_labels, one_hot, read_labels
from jaxnets.losses.reduction import Reduction, reduce

#: Added to squared lengths: PyTorch's constant, of single precision in float64 too.
_LEAST_SQUARE = float(np.float32(1e-12))


def margin_ranking_loss(
    input1: ArrayLike,
    input2: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float = 0.0,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Margin ranking loss: max(0, margin - y (x₁ - x₂)), with slope 1 where the two are equal.

    Args:
        input1: scores x₁, of any shape.
        input2: scores x₂, in the shape of ``input1``.
        labels: y, 1 where x₁ should be the larger and -1 where x₂ should; in the shape of
            ``input1``, or [B] for inputs [B, 1].
        margin: by how much it should be larger.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        The loss in the dtype of ``input1``.

    Raises:
        InputError: for shapes that differ, and for labels other than 1 and -1.

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
    """Hinge embedding loss of distances: x where y = 1, max(0, margin - x) where y = -1.

    Args:
        outputs: distances x, of any shape.
        labels: y, 1 for what is similar and -1 for what is not, in the outputs' shape; or [B] for
            outputs [B, 1].
        margin: the distance from which what is not similar adds nothing.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: for shapes that differ, and for labels other than 1 and -1.

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
    """Cosine embedding loss: 1 - cos(x₁, x₂) where y = 1, max(0, cos(x₁, x₂) - margin) where -1.

    Args:
        input1: vectors x₁, [N, D] or [D].
        input2: vectors x₂, in the shape of ``input1``.
        labels: y, 1 for what is similar and -1 for what is not, [N] or [].
        margin: the cosine up to which what is not similar adds nothing.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, [N].

    Returns:
        The loss in the dtype of ``input1``.

    Raises:
        InputError: for shapes that do not fit, and for labels other than 1 and -1.

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
    """Soft margin loss: log(1 + e^(-y x)), the binary cross entropy of labels 1 and -1.

    Unlike PyTorch's it does not overflow where y x is far below zero.

    Args:
        outputs: scores x, of any shape.
        labels: y, 1 or -1, in the outputs' shape; or [B] for outputs [B, 1].
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: for shapes that differ, and for labels other than 1 and -1.

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
    """Hinge loss over classes: w[y] Σ_{c ≠ y} max(0, margin - x[y] + x[c])ᵖ / C.

    Args:
        outputs: scores x, [N, C] or [C].
        labels: integers [N] or [], the classes y from 0 to C - 1.
        p: 1 or 2.
        margin: by how much the score of the true class should be the largest.
        weight: w [C], one weight per class.
        reduction: ``"mean"`` (divided by N, whatever the weights are), ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype. Under ``jax.jit``, where labels cannot be refused, a label
        that is no class makes it NaN.

    Raises:
        InputError: for wrong shapes and dtypes, and for a label that is no class.

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
    # What is not a number counts for nothing, as in PyTorch.
    lacking = jnp.where(others & (lacking > 0), lacking, 0)
    losses = jnp.sum(lacking if p == 1 else lacking * lacking, axis=-1) / outputs.shape[-1]
    return reduce(weights * losses, reduction)


def multilabel_margin_loss(
    outputs: ArrayLike, labels: ArrayLike, *, reduction: Reduction = "mean"
) -> jax.Array:
    """Hinge loss of several classes for each example: Σ_y Σ_c max(0, 1 - x[y] + x[c]) / C.

    y goes through the labels of an example, c through the classes that are not among them.

    Args:
        outputs: scores x, [N, C] or [C].
        labels: integers in the outputs' shape, the classes of each example from 0 to C - 1; those
            from the first -1 on do not count.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, [N].

    Returns:
        The loss in the outputs' dtype. Under ``jax.jit``, where labels cannot be refused, a label
        that is neither a class nor -1 makes it NaN.

    Raises:
        InputError: for wrong shapes and dtypes, and for a label that is neither a class nor -1.

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
    arguments.refuse(
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
    strange = jnp.any((given < -1) | (given >= classes), axis=-1)
    losses = jnp.sum(lacking, axis=(-2, -1)) / classes
    return reduce(losses * jnp.where(strange, jnp.nan, 1).astype(losses.dtype), reduction)


def multilabel_soft_margin_loss(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    """The mean over the last axis of ``binary_cross_entropy_with_logits``.

    Args:
        outputs: logits [..., C].
        labels: from 0 to 1, in the outputs' shape. Integers and truth values are converted.
        weight: of a shape that broadcasts to the outputs', such as [C].
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, [...].

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: for shapes that do not fit.

    PyTorch: ``torch.nn.functional.multilabel_soft_margin_loss``.
    """
    outputs = arguments.scores(outputs)
    losses = binary_cross_entropy_with_logits(outputs, labels, weight=weight, reduction="none")
    return reduce(jnp.mean(losses, axis=-1), reduction)


def at_least_zero(values: jax.Array) -> jax.Array:
    """max(0, x); at 0 the slope is 1, as that of PyTorch's ``clamp_min``, and at NaN 0."""
    return jnp.where(values >= 0, values, jax.lax.stop_gradient(jnp.maximum(values, 0)))


def _by_sign(signs: jax.Array, similar: jax.Array, apart: jax.Array) -> jax.Array:
    # As in PyTorch, another label than 1 and -1, which is refused if it has a value, counts both.
    return jnp.where(signs != -1, similar, 0) + jnp.where(signs != 1, apart, 0)


def _rows(outputs: ArrayLike) -> jax.Array:
    outputs = arguments.scores(outputs)
    if outputs.ndim > 2:
        raise InputError("outputs", "scores [N, C] or [C]", describe(outputs))
    return outputs
