"""Padding with constant, mirrored, repeated or circular values: ``pad``, and its layers."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    check_bool,
    check_choice,
    check_integer,
    check_number,
    describe,
    entries,
)
from jaxnets.layers.windows import PerAxis, check_input, per_axis

_MODES = ("constant", "reflect", "replicate", "circular")


def pad(
    input: ArrayLike,
    pad: tuple[int, ...],
    mode: str = "constant",
    value: float | None = None,
    *,
    channels_last: bool = True,
) -> jax.Array:
    """Pads axes of an array: ``torch.nn.functional.pad``.

    ``pad`` has the same meaning as in PyTorch, from the last axis of PyTorch's layout, in which
    channels are the second axis. For an image [N, H, W, C] it is (left, right, top, bottom), and a
    third pair would pad the channels. Calls can be copied from PyTorch without changes.

    Args:
        input: images [N, H, W, C], signals [N, L, C] or volumes [N, D, H, W, C]. For an array of
            one or two axes, the axes are those of PyTorch.
        pad: for each axis a pair, the number of positions to add before and after; a negative
            number crops.
        mode: the values that are added: "constant" for ``value``; "reflect" for values mirrored at
            the edge, without the edge itself; "replicate" for the value at the edge; "circular" for
            values from the opposite edge.
        value: the value for mode "constant"; None for 0.
        channels_last: whether the last axis is that of channels, which is the second one in
            PyTorch. With False the axes are those of PyTorch, as for a sequence [N, T, F], and the
            first pair is for the last axis.

    Returns:
        The padded array.

    Raises:
        InputError: if there are more pairs than axes, or an axis has too few positions.

    Examples:
        >>> image = jnp.zeros((8, 28, 32, 3))  # PyTorch's [8, 3, 28, 32]
        >>> pad(image, (1, 1, 2, 2)).shape  # F.pad(image, (1, 1, 2, 2))
        (8, 32, 34, 3)
        >>> pad(image, (1, 1, 2, 2), channels_last=False).shape
        (8, 28, 36, 5)
    """
    x = as_array("input", input)
    check_choice("mode", mode, _MODES)
    pairs = _pairs("pad", pad)
    if len(pairs) > x.ndim:
        raise InputError("pad", f"at most a pair for each axis of {describe(x)}", pad)
    if value is not None and mode != "constant":
        raise InputError("value", f"None for mode {mode}", value)
    number = 0.0 if value is None else check_number("value", value, finite=False)
    axes = [*range(x.ndim)]
    if check_bool("channels_last", channels_last) and x.ndim > 2:
        axes = [0, x.ndim - 1, *range(1, x.ndim - 1)]
    for axis, pair in zip(reversed(axes), pairs, strict=False):
        x = _padded(x, axis, pair, mode, number)
    return x


def _pairs(argument: str, given: Any) -> list[tuple[int, int]]:
    several = entries(given)
    if several is None or len(several) % 2:
        raise InputError(argument, "a tuple with two integers for each axis", given)
    numbers = [check_integer(argument, number) for number in several]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _padded(x: jax.Array, axis: int, pair: tuple[int, int], mode: str, value: float) -> jax.Array:
    """Pads one axis, before and after."""
    if pair == (0, 0):
        return x
    size = x.shape[axis]
    before, after = (max(count, 0) for count in pair)
    start, stop = max(-pair[0], 0), size - max(-pair[1], 0)
    # A reflection does not repeat the edge, so one position less is available.
    most = {"reflect": size - 1, "circular": stop - start}.get(mode, before + after)
    if stop - start < (mode != "constant") or max(before, after) > most:
        expected = f"enough positions for {mode} padding of {pair} along axis {axis}"
        raise InputError("input", expected, describe(x))
    if mode == "constant":
        every = [(*pair, 0) if other == axis else (0, 0, 0) for other in range(x.ndim)]
        return lax.pad(x, jnp.asarray(value).astype(x.dtype), every)

    def cut(start: int, stop: int) -> jax.Array:
        return lax.slice_in_dim(x, start, stop, axis=axis)

    if mode == "reflect":
        left, right = cut(1, before + 1), cut(size - 1 - after, size - 1)
        left, right = lax.rev(left, [axis]), lax.rev(right, [axis])
    elif mode == "replicate":
        left = jnp.repeat(cut(0, 1), before, axis)
        right = jnp.repeat(cut(size - 1, size), after, axis)
    else:
        left, right = cut(stop - before, stop), cut(start, start + after)
    return jnp.concatenate([left, cut(start, stop), right], axis)


class _Pad(nnx.Module):
    axes: ClassVar[int]
    mode: ClassVar[str]

    def __init__(self, padding: PerAxis) -> None:
        self.padding = per_axis("padding", padding, 2 * self.axes, least=None)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Pads the spatial axes of x, [N, ..., C]."""
        check_input(x, self.axes)
        return pad(x, self.padding, self.mode)


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: PerAxis, value: float) -> None:
        super().__init__(padding)
        self.value = check_number("value", value, finite=False)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Pads the spatial axes of x, [N, ..., C]."""
        check_input(x, self.axes)
        return pad(x, self.padding, self.mode, self.value)


class ConstantPad1d(_ConstantPad):
    """``torch.nn.ConstantPad1d``: adds one number around a signal [N, L, C].

    For the arguments see ``ConstantPad2d``; the padding is (left, right).
    """

    axes = 1


class ConstantPad2d(_ConstantPad):
    """``torch.nn.ConstantPad2d``: adds one number around an image [N, H, W, C].

    Args:
        padding: (left, right, top, bottom), or one number for all; negative numbers crop.
        value: the number.

    Examples:
        >>> ConstantPad2d((1, 2, 3, 4), 0.5)(jnp.ones((1, 8, 8, 3))).shape
        (1, 15, 11, 3)
    """

    axes = 2


class ConstantPad3d(_ConstantPad):
    """``torch.nn.ConstantPad3d``: adds one number around a volume [N, D, H, W, C].

    For the arguments see ``ConstantPad2d``;
    the padding is (left, right, top, bottom, front, back).
    """

    axes = 3


class _ZeroPad(_Pad):
    mode = "constant"


class ZeroPad1d(_ZeroPad):
    """``torch.nn.ZeroPad1d``: adds zeros around a signal [N, L, C].

    For the argument see ``ZeroPad2d``; the padding is (left, right).
    """

    axes = 1


class ZeroPad2d(_ZeroPad):
    """``torch.nn.ZeroPad2d``: adds zeros around an image [N, H, W, C].

    Args:
        padding: (left, right, top, bottom), or one number for all; negative numbers crop.

    Examples:
        >>> ZeroPad2d((1, 2, 3, 4))(jnp.ones((1, 8, 8, 3))).shape
        (1, 15, 11, 3)
    """

    axes = 2


class ZeroPad3d(_ZeroPad):
    """``torch.nn.ZeroPad3d``: adds zeros around a volume [N, D, H, W, C].

    For the argument see ``ZeroPad2d``;
    the padding is (left, right, top, bottom, front, back).
    """

    axes = 3


class _ReflectionPad(_Pad):
    mode = "reflect"


class ReflectionPad1d(_ReflectionPad):
    """``torch.nn.ReflectionPad1d``: mirrors a signal [N, L, C] at its ends.

    For the argument see ``ReflectionPad2d``; the padding is (left, right).
    """

    axes = 1


class ReflectionPad2d(_ReflectionPad):
    """``torch.nn.ReflectionPad2d``: mirrors an image [N, H, W, C] at its edges.

    The edges themselves are not repeated.

    Args:
        padding: (left, right, top, bottom), or one number for all; negative numbers crop.

    Raises:
        InputError: if the padding is invalid; on a call, if the image is too small.

    Examples:
        >>> ReflectionPad2d((1, 2, 3, 4))(jnp.ones((1, 8, 8, 3))).shape
        (1, 15, 11, 3)
    """

    axes = 2


class ReflectionPad3d(_ReflectionPad):
    """``torch.nn.ReflectionPad3d``: mirrors a volume [N, D, H, W, C] at its sides.

    For the argument see ``ReflectionPad2d``;
    the padding is (left, right, top, bottom, front, back).
    """

    axes = 3


class _ReplicationPad(_Pad):
    mode = "replicate"


class ReplicationPad1d(_ReplicationPad):
    """``torch.nn.ReplicationPad1d``: repeats the edges of a signal [N, L, C].

    For the argument see ``ReplicationPad2d``; the padding is (left, right).
    """

    axes = 1


class ReplicationPad2d(_ReplicationPad):
    """``torch.nn.ReplicationPad2d``: repeats the edges of an image [N, H, W, C].

    Args:
        padding: (left, right, top, bottom), or one number for all; negative numbers crop.

    Examples:
        >>> ReplicationPad2d((1, 2, 3, 4))(jnp.ones((1, 8, 8, 3))).shape
        (1, 15, 11, 3)
    """

    axes = 2


class ReplicationPad3d(_ReplicationPad):
    """``torch.nn.ReplicationPad3d``: repeats the edges of a volume [N, D, H, W, C].

    For the argument see ``ReplicationPad2d``;
    the padding is (left, right, top, bottom, front, back).
    """

    axes = 3


class _CircularPad(_Pad):
    mode = "circular"


class CircularPad1d(_CircularPad):
    """``torch.nn.CircularPad1d``: continues a signal [N, L, C] from the opposite edge.

    For the argument see ``CircularPad2d``; the padding is (left, right).
    """

    axes = 1


class CircularPad2d(_CircularPad):
    """``torch.nn.CircularPad2d``: continues an image [N, H, W, C] from the opposite edge.

    Args:
        padding: (left, right, top, bottom), or one number for all; negative numbers crop.

    Raises:
        InputError: if the padding is invalid; on a call, if the image is too small.

    Examples:
        >>> CircularPad2d((1, 2, 3, 4))(jnp.ones((1, 8, 8, 3))).shape
        (1, 15, 11, 3)
    """

    axes = 2


class CircularPad3d(_CircularPad):
    """``torch.nn.CircularPad3d``: continues a volume [N, D, H, W, C] from the opposite edge.

    For the argument see ``CircularPad2d``;
    the padding is (left, right, top, bottom, front, back).
    """

    axes = 3
