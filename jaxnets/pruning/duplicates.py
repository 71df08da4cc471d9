"""Units that are alike, which become one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import nnx

from jaxnets.arrays import check_number
from jaxnets.pruning.units import matching
from jaxnets.pruning.work import Work


def merge_units(
    model: nnx.Module, inputs: Any, *, layers: str | Sequence[str] = "*", atol: float = 0
) -> nnx.Module:
    """A smaller network, in which duplicate units are one.

    Of units whose incoming weights and biases are equal, one remains, with the sum of their
    outgoing weights. Units whose incoming weights and biases are opposite become one with the
    difference, where the activation is odd, as tanh is. The outputs stay as they are, which is
    checked on ``inputs``; a layer that would change them is left as it is.

    Args:
        model: any ``nnx.Module``; it is left as it is.
        inputs: an array [batch, …] that it takes, or a tuple of several arguments.
        layers: patterns of names, such as ``"conv*"``.
        atol: how far weights may be from equal or opposite ones.

    Returns:
        A network of the same class.

    Raises:
        InputError: if an argument is bad.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxnets import MLP
        >>> model = MLP((4, 3, 2), rngs=nnx.Rngs(0))
        >>> model.fc1.kernel[...] = model.fc1.kernel[:, jnp.array([0, 1, 1])]
        >>> model.fc1.bias[...] = jnp.zeros(3)
        >>> merge_units(model, jnp.ones((1, 4))).fc1.kernel.shape
        (4, 2)
    """
    atol = check_number("atol", atol, least=0)
    work = Work.of(model, inputs)
    for layer in matching(work.found.layers(), layers):
        units = work.found.layers()[layer]
        if not work.is_possible(units):
            continue
        pairs = _duplicates(work, units, atol)
        equal = [pair for pair in pairs if pair[2] > 0]
        for some in [pairs] + ([equal] if len(equal) < len(pairs) else []):
            merged = _merged(work, some)
            if some and work.agree(work.model, merged):
                work = Work.of(merged, work.inputs)
                break
    return work.model


#: Arrays that opposite units have alike.
_EVEN = "scale", "var"


def _duplicates(work: Work, units: np.ndarray, atol: float) -> list[tuple[int, int, int]]:
    """Units, the one that each is like or opposite to, and 1 or -1."""
    owned = [
        (array, work.found.atoms.roots(array.axes[-1])) for array in work.found.arrays if array.axes
    ]

    def own(unit: int, sign: int) -> np.ndarray:
        """All that makes a unit what it is."""
        parts = [np.zeros(0)]
        for array, roots in owned:
            if (roots == unit).any():
                even = array.path.rpartition(".")[2] in _EVEN
                parts.append(array.values[..., roots == unit].ravel() * (1 if even else sign))
        return np.concatenate(parts)

    found: list[tuple[int, int, int]] = []
    kept: dict[int, np.ndarray] = {}
    for unit in units.tolist():
        both = {sign: own(unit, sign) for sign in (1, -1)}
        like = (
            (unit, other, sign)
            for other, theirs in kept.items()
            for sign, ours in both.items()
            if ours.shape == theirs.shape and np.abs(ours - theirs).max(initial=0) <= atol
        )
        match = next(like, None)
        if match is None:
            kept[unit] = both[1]
        else:
            found.append(match)
    return found


def _merged(work: Work, pairs: Sequence[tuple[int, int, int]]) -> nnx.Module:
    """The network in which what reads a unit reads the one that it is like."""
    summed = {}
    for array in work.found.arrays:
        values = array.values.copy() if array.is_kernel else array.values
        for axis in range(values.ndim - 1 if array.is_kernel else 0):
            roots, moved = work.found.atoms.roots(array.axes[axis]), np.moveaxis(values, axis, 0)
            for unit, other, sign in pairs:
                moved[roots == other] += sign * moved[roots == unit]
        summed[array.path] = values
    return work.without({unit for unit, _, _ in pairs}, summed)
