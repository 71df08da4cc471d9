"""Positions as vectors."""

import numpy as np

from jaxnets.arrays import check_positive


def sinusoidal_positions(length: int, size: int) -> np.ndarray:
    """The position encoding of "Attention Is All You Need" (Vaswani et al., 2017).

    Value 2i of position p is sin(p / 10000^(2i / size)), value 2i + 1 the cosine of the same.

    Args:
        length: number of positions.
        size: size of the vector of a position.

    Returns:
        float32 [length, size].

    Raises:
        InputError: if a number is not a positive integer.

    Examples:
        >>> sinusoidal_positions(2, 2).round(2)
        array([[0.  , 1.  ],
               [0.84, 0.54]], dtype=float32)
    """
    check_positive("length", length)
    check_positive("size", size)
    place = np.arange(size)
    angles = np.arange(length)[:, None] / 10000 ** (place // 2 * 2 / size)
    return np.where(place % 2, np.cos(angles), np.sin(angles)).astype(np.float32)
