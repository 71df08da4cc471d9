"""Merges duplicate units."""

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
    """Merges duplicate units, without changing the outputs of the network.

    Units with equal incoming weights and biases become one unit with the sum of their outgoing
    weights. Units with opposite incoming weights and biases become one unit with the difference, if
    the activation is odd, such as tanh. The outputs are compared on ``inputs``; a layer whose
    merging would change them is not changed.

    Args:
        model: any ``nnx.Module``; it is not changed.
        inputs: an array [batch, …] that the network accepts, or a tuple of several arguments.
        layers: patterns of names of layers, such as ``"conv*"``.
        atol: the largest difference of weights that count as equal or opposite.

    Returns:
        A network of the same class with smaller arrays.

    Raises:
        InputError: if an argument is invalid.

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


#: Arrays whose entries are equal, not opposite, in units with opposite outputs.
_EVEN = "scale", "var"


def _duplicates(work: Work, units: np.ndarray, atol: float) -> list[tuple[int, int, int]]:
    """Finds duplicates: (unit, earlier unit, sign), where the sign is -1 for opposite units."""
    owned = [
        (array, work.found.atoms.roots(array.axes[-1])) for array in work.found.arrays if array.axes
    ]

    def own(unit: int, sign: int) -> np.ndarray:
        """Returns all numbers that determine a unit's output, with the sign of the output."""
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
    """Removes duplicates, and adds their outgoing weights to those of the units they equal."""
    summed = {}
    for array in work.found.arrays:
        values = array.values.copy() if array.is_kernel else array.values
        for axis in range(values.ndim - 1 if array.is_kernel else 0):
            roots, moved = work.found.atoms.roots(array.axes[axis]), np.moveaxis(values, axis, 0)
            for unit, other, sign in pairs:
                moved[roots == other] += sign * moved[roots == unit]
        summed[array.path] = values
    return work.without({unit for unit, _, _ in pairs}, summed)
