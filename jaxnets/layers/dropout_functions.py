"""Dropout functions of ``torch.nn.functional``, with an argument ``rngs`` for random keys."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnets.arrays import ArrayLike, check_bool, check_floats, check_number
from jaxnets.layers.dropout import SEQUENCES, VOLUMES, alpha_drop, by_places, drop
from jaxnets.layers.parameters import Draws, check_draws, drawn_key


def dropout(
    input: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rngs: Draws = None,
) -> jax.Array:
    """``torch.nn.functional.dropout``: each value is zero with probability p, else x / (1 - p).

    Args:
        input: a floating-point array of any shape.
        p: the probability that a value is dropped.
        training: whether to drop values; otherwise the input is returned.
        inplace: accepted for compatibility with PyTorch; has no effect.
        rngs: a random key, a random stream or ``nnx.Rngs``; required in training with 0 < p < 1.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if an argument is invalid, or ``rngs`` is missing.

    Examples:
        >>> print(dropout(jnp.ones(4), 0.5, rngs=jax.random.key(0)))
        [0. 0. 2. 2.]
    """
    check_floats("input", input, ("...",))
    return _dropped(drop, input, p, training, inplace, rngs)


def dropout1d(
    input: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rngs: Draws = None,
) -> jax.Array:
    """``torch.nn.functional.dropout1d``: drops whole channels of sequences [N, L, C] or [L, C].

    The arguments are those of ``dropout``.
    """
    places = by_places("input", input, SEQUENCES)
    return _dropped(drop, places, p, training, inplace, rngs, (1,)).reshape(input.shape)


def dropout2d(
    input: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rngs: Draws = None,
) -> jax.Array:
    """``torch.nn.functional.dropout2d``: drops whole channels of images [N, H, W, C].

    Any other array [N, ..., C] is accepted too. The arguments are those of ``dropout``.
    """
    places = by_places("input", input, {})
    return _dropped(drop, places, p, training, inplace, rngs, (1,)).reshape(input.shape)


def dropout3d(
    input: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rngs: Draws = None,
) -> jax.Array:
    """``torch.nn.functional.dropout3d``: drops whole channels of volumes.

    The input is [N, D, H, W, C] or [D, H, W, C]. The arguments are those of ``dropout``.
    """
    places = by_places("input", input, VOLUMES)
    return _dropped(drop, places, p, training, inplace, rngs, (1,)).reshape(input.shape)


def alpha_dropout(
    input: ArrayLike,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    rngs: Draws = None,
) -> jax.Array:
    """``torch.nn.functional.alpha_dropout``: dropout for SELU; see ``AlphaDropout``.

    The arguments are those of ``dropout``; ``training`` is False by default, as in PyTorch.
    """
    check_floats("input", input, ("...",))
    return _dropped(alpha_drop, input, p, training, inplace, rngs)


def feature_alpha_dropout(
    input: ArrayLike,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    rngs: Draws = None,
) -> jax.Array:
    """``torch.nn.functional.feature_alpha_dropout``: alpha dropout of whole channels.

    The arguments are those of ``dropout``; ``training`` is False by default, as in PyTorch.
    """
    places = by_places("input", input, {})
    return _dropped(alpha_drop, places, p, training, inplace, rngs, (1,)).reshape(input.shape)


def _dropped(
    function: Callable[..., jax.Array],
    x: ArrayLike,
    p: float,
    training: bool,
    inplace: bool,
    rngs: Draws,
    alike: tuple[int, ...] = (),
) -> jax.Array:
    p = check_number("p", p, least=0, most=1)
    check_bool("inplace", inplace)
    x = jnp.asarray(x)
    if rngs is not None:
        check_draws(rngs)
    if not check_bool("training", training) or p == 0:
        return x
    if p == 1:
        return jnp.where(jnp.isfinite(x), 0, jnp.nan).astype(x.dtype)
    return function(x, drawn_key(rngs), rate=p, alike=alike)
