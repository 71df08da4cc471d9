"""Initializers of ``torch.nn.init``, named without the trailing underscore.

Each function returns an initializer, a function of a key, a shape and a dtype that draws an array:
``kaiming_normal(nonlinearity="relu")(key, (3, 3, 8, 16))``. The shape is that of a kernel,
[..., I, O]: input features or channels I, output features or channels O, and kernel positions
before them. fan_in is I times the number of kernel positions and fan_out is O times that number,
as PyTorch computes them for a weight [O, I, ...]. For a transposed convolution, whose weight in
PyTorch is [I, O, ...], PyTorch's fan_in is fan_out here, and the other way round.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxnets.arrays import (
    InputError,
    check_choice,
    check_integer,
    check_number,
    check_positive,
)

#: Draws an array: ``initializer(key, shape, dtype)``.
Initializer = Callable[[jax.Array, Sequence[int], DTypeLike], jax.Array]

#: The gains that keep the variance of activations from layer to layer, by nonlinearity.
_GAINS = {
    **dict.fromkeys(["linear", "sigmoid", "conv1d", "conv2d", "conv3d"], 1.0),
    **dict.fromkeys([f"conv_transpose{axes}d" for axes in (1, 2, 3)], 1.0),
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "leaky_relu": None,  # depends on its slope
    "selu": 3 / 4,
}
_FANS = ("fan_in", "fan_out")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Returns the recommended gain for a nonlinearity: ``torch.nn.init.calculate_gain``.

    Args:
        nonlinearity: "linear", "conv1d" to "conv_transpose3d", "sigmoid", "tanh", "relu",
            "leaky_relu" or "selu".
        param: the slope of a leaky ReLU where x < 0; None for 0.01.

    Returns:
        1 for linear functions and the sigmoid, 5/3 for tanh, √2 for ReLU, √(2 / (1 + slope²)) for
        leaky ReLU and 3/4 for SELU.

    Raises:
        InputError: if the nonlinearity is unknown, or the slope is not a number.

    Examples:
        >>> round(calculate_gain("leaky_relu", 0.2), 4)
        1.3868
    """
    gain = _GAINS[check_choice("nonlinearity", nonlinearity, tuple(_GAINS))]
    slope = 0.01 if param is None else check_number("param", param)
    return math.sqrt(2 / (1 + slope**2)) if gain is None else gain


def uniform(a: float = 0.0, b: float = 1.0) -> Initializer:
    """Draws from the uniform distribution U(a, b): ``torch.nn.init.uniform_``.

    Args:
        a: the lower end.
        b: the upper end. If it equals ``a``, all values are ``a``.

    Raises:
        InputError: if a or b is not a finite number, or b is below a.
    """
    a = check_number("a", a)
    b = check_number("b", b, least=a)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return _draw_uniform(key, shape, dtype, a, b)

    return draw


def normal(mean: float = 0.0, std: float = 1.0) -> Initializer:
    """Draws from the normal distribution N(mean, std²): ``torch.nn.init.normal_``.

    Args:
        mean: the mean.
        std: the standard deviation.

    Raises:
        InputError: if the mean is not a finite number, or std is not a finite number >= 0.
    """
    mean, std = check_number("mean", mean), check_number("std", std, least=0)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return mean + std * jax.random.normal(key, tuple(shape), dtype)

    return draw


def trunc_normal(
    mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> Initializer:
    """Draws from a normal distribution truncated to [a, b]: ``torch.nn.init.trunc_normal_``.

    Args:
        mean: the mean before truncation.
        std: the standard deviation before truncation.
        a: the smallest value (absolute, not relative to the mean).
        b: the largest value.

    Raises:
        InputError: if std is not positive, b is not above a, or an argument is not a number.
    """
    mean, std = check_number("mean", mean), check_number("std", std, above=0)
    a = check_number("a", a)
    b = check_number("b", b, above=a)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        low, high = (a - mean) / std, (b - mean) / std
        unit = jax.random.truncated_normal(key, low, high, tuple(shape), dtype)
        return jnp.clip(mean + std * unit, a, b)

    return draw


def constant(val: float) -> Initializer:
    """Fills the array with a number: ``torch.nn.init.constant_``.

    Args:
        val: the number.

    Raises:
        InputError: if ``val`` is not a number.
    """
    val = check_number("val", val, finite=False)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jnp.full(tuple(shape), val, dtype)

    return draw


def ones() -> Initializer:
    """Fills the array with ones: ``torch.nn.init.ones_``."""
    return constant(1)


def zeros() -> Initializer:
    """Fills the array with zeros: ``torch.nn.init.zeros_``."""
    return constant(0)


def eye() -> Initializer:
    """Makes a kernel [I, O] with ones on the diagonal and zeros elsewhere: ``torch.nn.init.eye_``.

    Raises:
        InputError: on a call, if the shape does not have two axes.
    """

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        inputs, outputs = _matrix(shape)
        return jnp.eye(inputs, outputs, dtype=dtype)

    return draw


def dirac(groups: int = 1) -> Initializer:
    """Makes a convolution kernel [..., I, O] that copies its input: ``torch.nn.init.dirac_``.

    In each group, output channel d is input channel d; output channels beyond I are zero.

    Args:
        groups: the number of groups of the convolution.

    Raises:
        InputError: if ``groups`` is not a positive integer; on a call, if the shape is not that of
            a convolution kernel with 3 to 5 axes, or O is not a multiple of ``groups``.
    """
    check_positive("groups", groups)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        *space, inputs, outputs = _kernel(shape)
        if not 1 <= len(space) <= 3:
            raise InputError("shape", "a convolution's [..., I, O] of 3 to 5 axes", tuple(shape))
        if outputs % groups:
            expected = f"a last axis that is a multiple of {groups} groups"
            raise InputError("shape", expected, tuple(shape))
        kernel = np.zeros((*space, inputs, groups, outputs // groups))
        same = np.arange(min(inputs, outputs // groups))
        middle = tuple(size // 2 for size in space)
        kernel[middle][same, :, same] = 1
        return jnp.asarray(kernel.reshape(tuple(shape)), dtype)

    return draw


def xavier_uniform(gain: float = 1.0) -> Initializer:
    """Draws from U(±gain · √(6 / (fan_in + fan_out))): ``torch.nn.init.xavier_uniform_``.

    Args:
        gain: a factor; ``calculate_gain`` returns recommended ones.

    Raises:
        InputError: if ``gain`` is not a finite number >= 0; on a call, if the shape has fewer than
            two axes.
    """
    gain = check_number("gain", gain, least=0)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        bound = gain * math.sqrt(6 / max(sum(_fans(shape)), 1))
        return _draw_uniform(key, shape, dtype, -bound, bound)

    return draw


def xavier_normal(gain: float = 1.0) -> Initializer:
    """Draws from N(0, gain² · 2 / (fan_in + fan_out)): ``torch.nn.init.xavier_normal_``.

    Args:
        gain: a factor; ``calculate_gain`` returns recommended ones.

    Raises:
        InputError: if ``gain`` is not a finite number >= 0; on a call, if the shape has fewer than
            two axes.
    """
    gain = check_number("gain", gain, least=0)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        std = gain * math.sqrt(2 / max(sum(_fans(shape)), 1))
        return std * jax.random.normal(key, tuple(shape), dtype)

    return draw


def kaiming_uniform(
    a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Initializer:
    """Draws from U(±gain · √(3 / fan)): ``torch.nn.init.kaiming_uniform_``.

    Args:
        a: the slope of a leaky ReLU where x < 0.
        mode: "fan_in", which keeps the variance of outputs, or "fan_out", which keeps that of
            gradients.
        nonlinearity: the nonlinearity after the layer, which determines the gain; see
            ``calculate_gain``.

    Raises:
        InputError: if an argument is invalid; on a call, if the shape has fewer than two axes.
    """
    variance = _kaiming(a, mode, nonlinearity)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        bound = math.sqrt(3 * variance(shape))
        return _draw_uniform(key, shape, dtype, -bound, bound)

    return draw


def kaiming_normal(
    a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Initializer:
    """Draws from N(0, gain² / fan): ``torch.nn.init.kaiming_normal_``.

    Args:
        a: see ``kaiming_uniform``.
        mode: see ``kaiming_uniform``.
        nonlinearity: see ``kaiming_uniform``.

    Raises:
        InputError: see ``kaiming_uniform``.

    Examples:
        >>> draw = kaiming_normal(mode="fan_out", nonlinearity="relu")
        >>> kernel = draw(jax.random.key(0), (3, 3, 64, 128))
        >>> bool(abs(kernel.std() - (2 / (3 * 3 * 128)) ** 0.5) < 1e-3)
        True
    """
    variance = _kaiming(a, mode, nonlinearity)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return math.sqrt(variance(shape)) * jax.random.normal(key, tuple(shape), dtype)

    return draw


def orthogonal(gain: float = 1.0) -> Initializer:
    """Draws a matrix with orthonormal columns or rows: ``torch.nn.init.orthogonal_``.

    A kernel [..., I, O] is reshaped to a matrix with O columns.

    Args:
        gain: the factor that the matrix is multiplied by.

    Raises:
        InputError: if ``gain`` is not a finite number; on a call, if the shape has fewer than two
            axes.
    """
    gain = check_number("gain", gain)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        *inputs, outputs = _kernel(shape)
        rows = math.prod(inputs)
        wide = jnp.float32 if jnp.dtype(dtype).itemsize < 4 else dtype  # QR needs 32 bits
        drawn = jax.random.normal(key, (max(rows, outputs), min(rows, outputs)), wide)
        q, r = jnp.linalg.qr(drawn)
        q = q * jnp.sign(jnp.diagonal(r))[None]  # makes the distribution uniform
        return (gain * (q if rows >= outputs else q.T)).reshape(tuple(shape)).astype(dtype)

    return draw


def sparse(sparsity: float, std: float = 0.01) -> Initializer:
    """Draws a sparse kernel [I, O] from N(0, std²): ``torch.nn.init.sparse_``.

    Args:
        sparsity: the fraction of the O weights of each input that are zero, rounded up to whole
            weights.
        std: the standard deviation of the other weights.

    Raises:
        InputError: if an argument is out of range; on a call, if the shape does not have two axes.
    """
    sparsity, std = (
        check_number("sparsity", sparsity, least=0, most=1),
        check_number("std", std, least=0),
    )

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        _, outputs = _matrix(shape)
        values, ranks = jax.random.split(key)
        kernel = std * jax.random.normal(values, tuple(shape), dtype)
        order = jax.random.uniform(ranks, tuple(shape)).argsort(1).argsort(1)
        return jnp.where(order < math.ceil(sparsity * outputs), 0, kernel)

    return draw


def fan_in_uniform(fan_in: int) -> Initializer:
    """Draws from U(-1/√fan_in, 1/√fan_in): PyTorch's default for linear layers and convolutions.

    ``torch.nn.Linear`` and ``torch.nn.Conv2d`` draw the weight by ``kaiming_uniform_`` with
    a = √5, whose bound √(6 / ((1 + a²) fan_in)) is 1/√fan_in, and the bias within the same bound.

    Args:
        fan_in: the number of input values that one output value is a sum of. For 0 all values are
            zero.

    Raises:
        InputError: if fan_in is not an integer >= 0.
    """
    fan_in = check_integer("fan_in", fan_in, least=0)
    bound = 1.0 / math.sqrt(fan_in) if fan_in > 0 else 0.0
    return uniform(-bound, bound)


def _kaiming(a: float, mode: str, nonlinearity: str) -> Callable[[Sequence[int]], float]:
    """Returns a function from the shape of a kernel to the variance of its values."""
    gain = calculate_gain(nonlinearity, check_number("a", a))
    place = _FANS.index(check_choice("mode", mode, _FANS))
    return lambda shape: gain**2 / max(_fans(shape)[place], 1)


def _kernel(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) < 2:
        raise InputError("shape", "a kernel's [..., I, O]", tuple(shape))
    return tuple(shape)


def _matrix(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) != 2:
        raise InputError("shape", "a kernel's [I, O]", tuple(shape))
    return tuple(shape)


def _fans(shape: Sequence[int]) -> tuple[int, int]:
    *space, inputs, outputs = _kernel(shape)
    return math.prod(space) * inputs, math.prod(space) * outputs


def _draw_uniform(
    key: jax.Array, shape: Sequence[int], dtype: DTypeLike, low: float, high: float
) -> jax.Array:
    shape = tuple(shape)
    if _can_use_numpy(key, shape, dtype):
        return jnp.asarray(_uniform_in_numpy(key, shape, low, high))
    return jax.random.uniform(key, shape, dtype, minval=low, maxval=high)


# Outside of jit, ``jax.random.uniform`` compiles a program for each shape, which takes seconds for
# a network. The functions below draw the same bits in NumPy without compilation: Threefry-2x32 with
# 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), applied to the
# index of each number in the array.

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_MANY = 2**22  # for more numbers than this, compiling a program is faster


def _can_use_numpy(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> bool:
    if isinstance(key, jax.core.Tracer) or key.shape or jnp.dtype(dtype) != jnp.float32:
        return False  # a legacy key, an array of integers, has a shape
    known = str(jax.random.key_impl(key)) == "threefry2x32" and jax.threefry_partitionable.value
    return known and math.prod(shape) <= _MANY


def _uniform_in_numpy(
    key: jax.Array, shape: tuple[int, ...], low: float, high: float
) -> np.ndarray:
    places = np.arange(math.prod(shape), dtype=np.uint32)
    bits = _threefry(np.asarray(jax.random.key_data(key)), places)
    # 23 random mantissa bits with the exponent of 1 make a float in [1, 2).
    unit = (bits >> np.uint32(9) | np.float32(1).view(np.uint32)).view(np.float32) - np.float32(1)
    least, width = np.float32(low), np.float32(high) - np.float32(low)
    exact = unit.astype(np.float64) * width + least  # XLA fuses these and rounds once, too
    return np.maximum(least, exact.astype(np.float32)).reshape(shape)


def _threefry(key: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns 32 random bits for each index, by the rounds of Threefry-2x32.

    Each index is split into a high word, which is 0, and a low word. The two output words are
    combined by exclusive or, as in JAX with ``jax_threefry_partitionable``.
    """
    keys = (*key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    first, second = np.full_like(places, keys[0]), places + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            first += second
            second = second << np.uint32(rotation) | second >> np.uint32(32 - rotation)
            second ^= first
        first += keys[(group + 1) % 3]
        second += keys[(group + 2) % 3]
        second += np.uint32(group + 1)
    return first ^ second
