"""Initial values, by the names of ``torch.nn.init`` without their underscore.

Each makes a function of a key, a shape and a dtype, which draws an array:
``kaiming_normal(nonlinearity="relu")(key, (3, 3, 8, 16))``. A shape is that of a kernel,
[..., I, O]. Its fans are those that PyTorch computes of the weight [O, I, ...]: fan_in is I times
the positions of the kernel, fan_out is O times them. Of a transposed convolution, whose weight is
[I, O, ...], PyTorch computes the other one.
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

#: The gain of each function that keeps the variance of what comes before it.
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
    """``torch.nn.init.calculate_gain``: the gain recommended before a nonlinearity.

    Args:
        nonlinearity: "linear", "conv1d" to "conv_transpose3d", "sigmoid", "tanh", "relu",
            "leaky_relu" or "selu".
        param: the slope of a leaky ReLU where x < 0; None is 0.01.

    Returns:
        1 for linear functions and the sigmoid, 5/3, √2, √(2 / (1 + slope²)) or 3/4.

    Raises:
        InputError: if there is no such nonlinearity, or the slope is no number.

    Examples:
        >>> round(calculate_gain("leaky_relu", 0.2), 4)
        1.3868
    """
    gain = _GAINS[check_choice("nonlinearity", nonlinearity, tuple(_GAINS))]
    slope = 0.01 if param is None else check_number("param", param)
    return math.sqrt(2 / (1 + slope**2)) if gain is None else gain


def uniform(a: float = 0.0, b: float = 1.0) -> Initializer:
    """``torch.nn.init.uniform_``: draws from U(a, b).

    Args:
        a: the lower end.
        b: the upper end; equal ends draw a constant.

    Raises:
        InputError: if a or b is no finite number, or b is below a.
    """
    a = check_number("a", a)
    b = check_number("b", b, least=a)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return _from(key, shape, dtype, a, b)

    return draw


def normal(mean: float = 0.0, std: float = 1.0) -> Initializer:
    """``torch.nn.init.normal_``: draws from the normal distribution.

    Args:
        mean: its mean.
        std: its standard deviation.

    Raises:
        InputError: if the mean is no finite number, or std none >= 0.
    """
    mean, std = check_number("mean", mean), check_number("std", std, least=0)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return mean + std * jax.random.normal(key, tuple(shape), dtype)

    return draw


def trunc_normal(
    mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> Initializer:
    """``torch.nn.init.trunc_normal_``: draws from the part of a normal distribution within [a, b].

    Args:
        mean: the mean of the whole distribution.
        std: the standard deviation of the whole distribution.
        a: the smallest value, not counted from the mean.
        b: the largest value.

    Raises:
        InputError: if std is not positive, b is not above a, or another argument is no number.
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
    """``torch.nn.init.constant_``: one number everywhere.

    Args:
        val: the number.

    Raises:
        InputError: if it is not a number.
    """
    val = check_number("val", val, finite=False)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jnp.full(tuple(shape), val, dtype)

    return draw


def ones() -> Initializer:
    """``torch.nn.init.ones_``: ones."""
    return constant(1)


def zeros() -> Initializer:
    """``torch.nn.init.zeros_``: zeros."""
    return constant(0)


def eye() -> Initializer:
    """``torch.nn.init.eye_``: the identity, as far as a kernel [I, O] has room for it."""

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        inputs, outputs = _matrix(shape)
        return jnp.eye(inputs, outputs, dtype=dtype)

    return draw


def dirac(groups: int = 1) -> Initializer:
    """``torch.nn.init.dirac_``: kernels [..., I, O] of convolutions that keep their input.

    In each group, output channel d is input channel d, as long as there is one.

    Args:
        groups: that of the convolution.

    Raises:
        InputError: if it is not a positive integer; on a call, if the shape is that of no
            convolution, or O no multiple of the groups.
    """
    check_positive("groups", groups)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        *space, inputs, outputs = _kernel(shape)
        if not 1 <= len(space) <= 3:
            raise InputError("shape", "a convolution's [..., I, O] of 3 to 5 axes", tuple(shape))
        if outputs % groups:
            raise InputError("shape", f"a multiple of {groups} groups in the end", tuple(shape))
        kernel = np.zeros((*space, inputs, groups, outputs // groups))
        same = np.arange(min(inputs, outputs // groups))
        middle = tuple(size // 2 for size in space)
        kernel[middle][same, :, same] = 1
        return jnp.asarray(kernel.reshape(tuple(shape)), dtype)

    return draw


def xavier_uniform(gain: float = 1.0) -> Initializer:
    """``torch.nn.init.xavier_uniform_``: draws from U(±gain · √(6 / (fan_in + fan_out))).

    Args:
        gain: a factor, such as ``calculate_gain`` has.

    Raises:
        InputError: if it is no finite number >= 0; on a call, if the shape has fewer than two axes.
    """
    gain = check_number("gain", gain, least=0)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        bound = gain * math.sqrt(6 / max(sum(_fans(shape)), 1))
        return _from(key, shape, dtype, -bound, bound)

    return draw


def xavier_normal(gain: float = 1.0) -> Initializer:
    """``torch.nn.init.xavier_normal_``: draws from N(0, gain² · 2 / (fan_in + fan_out)).

    Args:
        gain: a factor, such as ``calculate_gain`` has.

    Raises:
        InputError: if it is no finite number >= 0; on a call, if the shape has fewer than two axes.
    """
    gain = check_number("gain", gain, least=0)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        std = gain * math.sqrt(2 / max(sum(_fans(shape)), 1))
        return std * jax.random.normal(key, tuple(shape), dtype)

    return draw


def kaiming_uniform(
    a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Initializer:
    """``torch.nn.init.kaiming_uniform_``: draws from U(±gain · √(3 / fan)).

    Args:
        a: the slope of a leaky ReLU where x < 0.
        mode: the fan: "fan_in" keeps the variance of outputs, "fan_out" that of gradients.
        nonlinearity: what follows, by which ``calculate_gain`` gives the gain.

    Raises:
        InputError: if an argument is of another kind; on a call, if the shape has fewer than two
            axes.
    """
    variance = _kaiming(a, mode, nonlinearity)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        bound = math.sqrt(3 * variance(shape))
        return _from(key, shape, dtype, -bound, bound)

    return draw


def kaiming_normal(
    a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Initializer:
    """``torch.nn.init.kaiming_normal_``: draws from N(0, gain² / fan).

    Args:
        a: as of ``kaiming_uniform``.
        mode: as of ``kaiming_uniform``.
        nonlinearity: as of ``kaiming_uniform``.

    Raises:
        InputError: as of ``kaiming_uniform``.

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
    """``torch.nn.init.orthogonal_``: a random matrix with orthonormal columns or rows.

    A kernel [..., I, O] counts as a matrix of O columns.

    Args:
        gain: what the matrix is multiplied by.

    Raises:
        InputError: if it is no finite number; on a call, if the shape has fewer than two axes.
    """
    gain = check_number("gain", gain)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        *inputs, outputs = _kernel(shape)
        rows = math.prod(inputs)
        wide = jnp.float32 if jnp.dtype(dtype).itemsize < 4 else dtype  # no halves are decomposed
        drawn = jax.random.normal(key, (max(rows, outputs), min(rows, outputs)), wide)
        q, r = jnp.linalg.qr(drawn)
        q = q * jnp.sign(jnp.diagonal(r))[None]  # otherwise not all matrices were as likely
        return (gain * (q if rows >= outputs else q.T)).reshape(tuple(shape)).astype(dtype)

    return draw


def sparse(sparsity: float, std: float = 0.01) -> Initializer:
    """``torch.nn.init.sparse_``: a kernel [I, O], drawn from N(0, std²) with zeros for each input.

    Args:
        sparsity: the part of each input's O weights that is zero, rounded up to whole weights.
        std: the standard deviation of the others.

    Raises:
        InputError: if an argument is out of range; on a call, if the shape has not two axes.
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
        fan_in: how many input values one output value is a sum of. Zero draws zeros.

    Raises:
        InputError: if fan_in is no integer >= 0.
    """
    fan_in = check_integer("fan_in", fan_in, least=0)
    bound = 1.0 / math.sqrt(fan_in) if fan_in > 0 else 0.0
    return uniform(-bound, bound)


def _kaiming(a: float, mode: str, nonlinearity: str) -> Callable[[Sequence[int]], float]:
    """The variance of a kernel's values, by its shape."""
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


def _from(
    key: jax.Array, shape: Sequence[int], dtype: DTypeLike, low: float, high: float
) -> jax.Array:
    shape = tuple(shape)
    if _by_numpy(key, shape, dtype):
        return jnp.asarray(_uniform(key, shape, low, high))
    return jax.random.uniform(key, shape, dtype, minval=low, maxval=high)


# Outside of programs ``jax.random.uniform`` compiles one for each shape, seconds for a network.
# NumPy draws the same bits at once: Threefry-2x32 with 20 rounds, by Salmon and others, "Parallel
# random numbers: as easy as 1, 2, 3", 2011, of the numbers' places in the array.

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_MANY = 2**22  # numbers for which a program is worth its compilation


def _by_numpy(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> bool:
    if isinstance(key, jax.core.Tracer) or key.shape or jnp.dtype(dtype) != jnp.float32:
        return False  # an old key of plain numbers has a shape
    known = str(jax.random.key_impl(key)) == "threefry2x32" and jax.threefry_partitionable.value
    return known and math.prod(shape) <= _MANY


def _uniform(key: jax.Array, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    places = np.arange(math.prod(shape), dtype=np.uint32)
    bits = _threefry(np.asarray(jax.random.key_data(key)), places)
    unit = (bits >> np.uint32(9) | np.float32(1).view(np.uint32)).view(np.float32) - np.float32(1)
    least, width = np.float32(low), np.float32(high) - np.float32(low)
    exact = unit.astype(np.float64) * width + least  # XLA rounds once, too
    return np.maximum(least, exact.astype(np.float32)).reshape(shape)


def _threefry(key: np.ndarray, places: np.ndarray) -> np.ndarray:
    """32 random bits for each place."""
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
