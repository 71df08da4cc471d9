"""Randomized leaky ReLU, whose slopes are random in training."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.arrays import ArrayLike, check_bool, check_floats, check_number
from jaxnets.layers.parameters import Draws, check_draws, check_rngs, drawn_key


def rrelu(
    input: ArrayLike,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
    *,
    rngs: Draws = None,
) -> jax.Array:
    """``torch.nn.functional.rrelu``: x where x > 0, else slope · x.

    Args:
        input: a floating-point array of any shape.
        lower: the smallest slope.
        upper: the largest slope.
        training: whether each slope is drawn from U(lower, upper); otherwise all slopes are
            (lower + upper) / 2.
        inplace: accepted for compatibility with PyTorch; has no effect.
        rngs: a random key, a random stream or ``nnx.Rngs`` for the slopes; required in training.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if the input is not floating, another argument is invalid, or ``rngs`` is
            missing in training.
    """
    check_floats("input", input, ("...",))
    check_bool("inplace", inplace)
    slopes = _slopes(lower, upper)
    if rngs is not None:
        check_draws(rngs)
    if not check_bool("training", training):
        return _by_mean(jnp.asarray(input), *slopes)
    return _by_key(jnp.asarray(input), drawn_key(rngs), *slopes)


class RReLU(nnx.Module):
    """``torch.nn.RReLU``: x where x > 0, else slope · x with a random slope for each element.

    In training mode, which ``model.train()`` sets, each slope is drawn from U(lower, upper). In
    evaluation mode, which ``model.eval()`` sets, all slopes are (lower + upper) / 2. The slopes are
    drawn from the layer's own random stream, which is reseeded like that of ``Dropout``. With
    lower = upper the layer has no random stream.

    Args:
        lower: the smallest slope.
        upper: the largest slope.
        inplace: accepted for compatibility with PyTorch; has no effect.
        rngs: the random streams from which the layer's own stream is seeded.

    Examples:
        >>> layer = RReLU(0.1, 0.3, rngs=nnx.Rngs(0))
        >>> layer.eval()
        >>> print(layer(jnp.array([-1.0, 2.0])))
        [-0.2  2. ]
    """

    def __init__(
        self,
        lower: float = 1 / 8,
        upper: float = 1 / 3,
        inplace: bool = False,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        check_bool("inplace", inplace)
        self.lower, self.upper = _slopes(lower, upper)
        rngs = check_rngs(rngs)
        drawn = self.lower < self.upper
        self.rngs = nnx.RngStream(rngs.dropout(), tag="dropout") if drawn else None
        self.deterministic = False

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        if self.deterministic or self.rngs is None:
            return _by_mean(jnp.asarray(x), self.lower, self.upper)
        return _by_key(jnp.asarray(x), self.rngs(), self.lower, self.upper)

    def set_view(self, deterministic: bool | None = None) -> None:
        """Sets the mode of a view; ``nnx.view`` calls this.

        Args:
            deterministic: True for evaluation mode, False for training mode, None to keep the mode.
        """
        if deterministic is not None:
            self.deterministic = deterministic


def _slopes(lower: float, upper: float) -> tuple[float, float]:
    lower = check_number("lower", lower)
    return lower, check_number("upper", upper, least=lower)


def _by_mean(x: jax.Array, lower: float, upper: float) -> jax.Array:
    return jnp.where(x > 0, x, (lower + upper) / 2 * x)


def _by_key(x: jax.Array, key: jax.Array, lower: float, upper: float) -> jax.Array:
    slopes = jax.random.uniform(key, x.shape, x.dtype, lower, upper)
    return jnp.where(x <= 0, slopes * x, x)
