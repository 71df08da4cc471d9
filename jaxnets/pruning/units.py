"""Removes units, such as channels and hidden units, so that arrays become smaller."""

import fnmatch
import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, check_number, shortened, shown
from jaxnets.pruning.methods import check_amount, count
from jaxnets.pruning.work import Work


def remove_units(
    model: nnx.Module,
    inputs: Any,
    keep: Mapping[str, Any] | None = None,
    *,
    amount: float | None = None,
    layers: str | Sequence[str] = "*",
    n: float = 2,
) -> nnx.Module:
    """Removes units from the layers of a network, which makes its arrays smaller.

    A unit is an output of a linear layer, a channel of a convolution, or a hidden unit of a
    recurrent layer. Everything that depends on a unit is removed with it, according to the traced
    computation: its bias, its batch statistics, the inputs of the layers that read it, and channels
    that it is added to. The outputs equal those of the network with zeros for all of these, which
    is checked on ``inputs``.

    Args:
        model: any ``nnx.Module``; it is not changed.
        inputs: an array [batch, …] that the network accepts, or a tuple of several arguments.
        keep: the units to keep, by the name of the layer: their numbers, or their number, for those
            with the largest weights.
        amount: instead of ``keep``, the amount of units to remove from each layer, those with the
            smallest weights: a fraction in [0, 1), which leaves at least one unit, or a count.
        layers: patterns of names of layers, such as ``"conv*"``, for ``amount``. With ``"*"``,
            layers whose units cannot be removed, such as the last one, are skipped.
        n: the order of the norm of a unit's incoming weights, by which units are compared, as in
            ``ln_structured(…, dim=0)``. Units that are removed together have one common norm.

    Returns:
        A network of the same class with smaller arrays.

    Raises:
        InputError: if an argument is invalid, or the units of a layer cannot be removed; the
            message has the reason.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxnets import LeNet
        >>> model = LeNet(rngs=nnx.Rngs(0))
        >>> smaller = remove_units(model, jnp.ones((1, 28, 28, 1)), amount=0.5)
        >>> smaller.conv2.kernel.shape, smaller.fc1.kernel.shape
        ((5, 5, 3, 8), (200, 60))
    """
    n = check_number("n", n, above=0, finite=False)
    if amount is not None:
        check_amount(amount)
    if (keep is None) == (amount is None):
        raise InputError("keep", "either keep or amount", "both" if amount is not None else "none")
    work = Work.of(model, inputs)
    if keep is not None:
        return work.smaller(_chosen(work, keep, n), list(keep), all_of=True)
    return work.smaller(*_weakest(work, amount, layers, n), all_of=not is_all(layers))


def _chosen(work: Work, keep: Mapping[str, Any], n: float) -> set[int]:
    """Returns the units to remove: those that are not in ``keep``."""
    if not isinstance(keep, Mapping) or not keep:
        raise InputError("keep", "units by the layer's name, such as {'conv1': 3}", shown(keep))
    gone: set[int] = set()
    kept: set[int] = set()
    for layer, which in keep.items():
        units = work.units(layer, "keep")
        if isinstance(which, int | np.integer) and not isinstance(which, bool):
            order = np.argsort(work.norms(units, n), kind="stable")[::-1]
            which = np.sort(order[:which]) if 0 < which <= len(units) else None
        places = _places(which, len(units), layer)
        kept |= {*units[places].tolist()}
        gone |= {*np.delete(units, places).tolist()}
    if kept & gone:
        raise InputError("keep", "the same units for layers that are added", ", ".join(keep))
    return gone


def _places(which: Any, size: int, layer: str) -> np.ndarray:
    """Returns the numbers of the units to keep, in order.

    Raises:
        InputError: if the numbers are invalid.
    """
    try:
        places = np.unique(np.asarray([operator.index(number) for number in which]))
        fits = len(places) == len(which) and places[0] >= 0 and places[-1] < size
    except (TypeError, ValueError, IndexError, OverflowError, RuntimeError):
        fits = False
    if not fits:
        expected = f"units of {layer}, from 0 to {size - 1}, or their number"
        raise InputError("keep", expected, shown(which))
    return places


def _weakest(work: Work, amount: Any, layers: Any, n: float) -> tuple[set[int], list[str]]:
    """Returns the units with the smallest weights in each layer, and the names of the layers."""
    known = work.found.layers()
    chosen = matching(known, layers)
    gone: set[int] = set()
    decided: set[int] = set()
    found: list[str] = []
    for layer in chosen:
        units = known[layer] if is_all(layers) else work.units(layer, "layers")
        left = units[~np.isin(units, list(decided))]
        if not len(left) or (is_all(layers) and not work.is_possible(units)):
            continue
        removed = count(amount, len(left))
        if isinstance(amount, float) and amount < 1:
            removed = min(removed, len(left) - 1)
        if removed == len(left):
            raise InputError("amount", f"an amount that leaves units of {layer}", amount)
        order = np.argsort(work.norms(left, n), kind="stable")
        gone |= {*left[order[:removed]].tolist()}
        decided |= {*left.tolist()}
        found.append(layer)
    if not found:
        raise InputError("layers", "layers whose units can be removed", "none in this network")
    return gone, found


def is_all(layers: Any) -> bool:
    """Whether ``layers`` stands for all layers that can be pruned."""
    return isinstance(layers, str) and layers == "*"


def matching(names: Collection[str], patterns: Any) -> list[str]:
    """Returns the names that patterns such as ``"conv*"`` match.

    Raises:
        InputError: if a pattern matches no name.
    """
    given = [patterns] if isinstance(patterns, str) else patterns
    if not names:
        raise InputError("model", "a network with weights of two axes or more", "none")
    if not isinstance(given, Sequence) or not all(isinstance(each, str) for each in given):
        raise InputError("layers", "a pattern of names, such as 'conv*', or several", patterns)
    for pattern in given:
        if not fnmatch.filter(names, pattern):
            expected = f"names of layers with weights ({shortened([*names])}), or patterns"
            raise InputError("layers", expected, shown(pattern))
    return [name for name in names if any(fnmatch.fnmatchcase(name, each) for each in given)]
