"""One-hot vectors, and sampling of categories by the Gumbel-softmax."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_floats,
    check_integer,
    check_number,
    check_usable,
    describe,
)
from jaxnets.layers.activation_functions import check_axis
from jaxnets.layers.embedding import check_indices
from jaxnets.layers.parameters import drawn_key


def one_hot(input: ArrayLike, num_classes: int = -1) -> jax.Array:
    """Encodes classes as one-hot vectors: ``torch.nn.functional.one_hot``.

    Args:
        input: classes, integers from 0, of any shape.
        num_classes: the number of classes; -1 for the largest class plus one, which is not
            supported under ``jax.jit``.

    Returns:
        Integers [*input.shape, num_classes].

    Raises:
        InputError: if the input is not an array of integers or one is out of range, or the number
            of classes is -1 and cannot be computed.

    Examples:
        >>> one_hot(jnp.array([0, 2])).tolist()
        [[1, 0, 0], [0, 0, 1]]
    """
    classes = check_integer("num_classes", num_classes, least=-1)
    if classes == -1:
        check_usable("input", "an array of integers", input)
        if isinstance(input, jax.core.Tracer):
            raise InputError("num_classes", "the number of classes, under jax.jit", num_classes)
        if input.size == 0:
            expected = f"the number of classes, for {describe(input)}"
            raise InputError("num_classes", expected, classes)
        classes = int(input.max()) + 1
    check_indices("input", input, classes)
    integer = jax.dtypes.canonicalize_dtype(np.int64)
    return jax.nn.one_hot(jnp.asarray(input), classes, dtype=integer)


def gumbel_softmax(
    logits: ArrayLike,
    tau: float = 1,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    *,
    rngs: nnx.Rngs | nnx.RngStream | jax.Array,
) -> jax.Array:
    """Samples categories by the Gumbel-softmax: ``torch.nn.functional.gumbel_softmax``.

    y = softmax((logits + g) / tau), with g drawn from the Gumbel distribution.

    Args:
        logits: unnormalized log-probabilities.
        tau: the temperature, > 0; with a small one y is close to a one-hot vector.
        hard: whether to return the one-hot vector of the largest element of y, with the gradient of
            y.
        eps: accepted for compatibility with PyTorch; has no effect.
        dim: the axis of the categories; for ambiguous axes see ``Softmax``.
        rngs: a random key, or random streams.

    Returns:
        An array of the shape and dtype of the logits.

    Raises:
        InputError: if the logits are not floating, ``dim`` is ambiguous, or an option is invalid.

    Examples:
        >>> gumbel_softmax(jnp.array([[0.0, 9.0]]), hard=True, rngs=jax.random.key(0)).tolist()
        [[0.0, 1.0]]
    """
    check_floats("logits", logits, ("...",))
    tau = check_number("tau", tau, above=0)
    check_number("eps", eps)
    check_bool("hard", hard)
    x = jnp.asarray(logits)
    check_axis(check_integer("dim", dim), x)
    noise = jax.random.gumbel(drawn_key(rngs), x.shape, x.dtype)
    soft = jax.nn.softmax((x + noise) / tau, axis=dim)
    if not hard:
        return soft
    likeliest = jax.nn.one_hot(soft.argmax(dim), x.shape[dim], dtype=x.dtype, axis=dim)
    return soft + lax.stop_gradient(likeliest - soft)
