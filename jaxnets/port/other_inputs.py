"""Example inputs with other batch sizes, image sizes and sequence lengths."""

import itertools
from collections.abc import Iterator
from typing import Any

from jaxnets.port.sides import is_tensor


def longer(inputs: tuple[Any, ...], axis: int) -> Iterator[tuple[Any, ...]]:
    """Yields variants of the inputs in which an axis of the first tensor is longer by one.

    The other tensors are extended along the same axis if it has the same size, then along their
    first axis of that size, then along all axes of that size, then not at all.
    """
    tensors = [x for x in inputs if is_tensor(x)]
    if not tensors or tensors[0].ndim <= axis:
        return
    size = tensors[0].shape[axis]

    def at_the_same(x: Any) -> int | None:
        return axis if x.ndim > axis and x.shape[axis] == size else None

    def at_the_first(x: Any) -> int | None:
        if x is tensors[0]:
            return axis
        return list(x.shape).index(size) if size in x.shape else None

    def at_all(x: Any) -> list[int]:
        return [place for place, other in enumerate(x.shape) if other == size]

    def alone(x: Any) -> int | None:
        return axis if x is tensors[0] else None

    for choose in (at_the_same, at_the_first, at_all, alone):
        yield tuple(_extended(x, choose(x)) if is_tensor(x) else x for x in inputs)


def _extended(x: Any, axes: Any) -> Any:
    """Prepends one element along some axes: the first one, or -0.7 times it for floats."""
    import torch

    for axis in axes if isinstance(axes, list) else [axes]:
        if axis is not None:
            first = x.narrow(axis, 0, 1)
            first = -0.7 * first if x.is_floating_point() else first
            x = torch.cat([first, x], axis)
    return x


def other_lengths(inputs: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yields the inputs with another size along one axis other than the batch.

    Axes of images are extended by half, axes of other arrays by one.
    """
    first = next((x for x in inputs if is_tensor(x)), None)
    if first is None:
        return
    for axis in range(1, first.ndim):
        more = max(1, first.shape[axis] // 2) if first.ndim >= 4 else 1
        for changed in itertools.islice(longer(inputs, axis), 1):
            for _ in range(more - 1):
                changed = next(longer(changed, axis))
            yield changed


def label(inputs: tuple[Any, ...]) -> str:
    """Returns the batch size, such as ``"batch 3"``."""
    first = next(x for x in inputs if is_tensor(x))
    return f"batch {first.shape[0]}"


def shape(x: Any) -> str:
    """Returns a shape as in the option ``--input``."""
    return "x".join(map(str, x.shape))
