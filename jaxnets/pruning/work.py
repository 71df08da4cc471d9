"""Removes units from a network, and checks the outputs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, shortened, shown
from jaxnets.optimizers.masks import mask_of, set_mask
from jaxnets.pruning.dependencies import Dependencies, example
from jaxnets.pruning.sizes import resize, variables
from jaxnets.pruning.weights import check_network

#: The largest relative difference of outputs, in units of the dtype's epsilon.
_CLOSE = 2000


@dataclass(frozen=True)
class Work:
    """A network whose units are to be removed.

    Attributes:
        model: the network in evaluation mode.
        inputs: the arguments of a call.
        found: the dependencies of the network.
    """

    model: nnx.Module
    inputs: tuple[Any, ...]
    found: Dependencies

    @staticmethod
    def of(model: Any, inputs: Any) -> "Work":
        """Copies and traces a network."""
        given, copy = example(inputs), nnx.clone(check_network(model))
        copy.eval()
        return Work(copy, given, Dependencies(copy, given))

    def units(self, layer: str, argument: str) -> np.ndarray:
        """Returns the units of a layer, and checks that they can be removed.

        Raises:
            InputError: if there is no such layer, or its units are fixed.
        """
        known = self.found.layers()
        if layer not in known:
            raise InputError(argument, f"layers with weights ({shortened([*known])})", shown(layer))
        units = known[layer]
        if not self.found.atoms.removable(units).all():
            why = self.found.atoms.why(units) or "there is only one"
            raise refusal(argument, layer, why)
        return units

    def is_possible(self, units: np.ndarray) -> bool:
        """Whether the units can be removed, and the network runs without one of them."""
        if len(units) < 2 or not self.found.atoms.removable(units).all():
            return False
        return self._runs(self.without({int(units[-1])}))

    def without(self, gone: set[int], values: Mapping[str, np.ndarray] | None = None) -> nnx.Module:
        """Returns the network without some sets of positions.

        Args:
            gone: the sets to remove.
            values: new values of some arrays, by path; None for no changes.
        """
        arrays, masks = {}, {}
        for array, kept in self.found.removed(gone):
            places = np.ix_(*map(np.flatnonzero, kept))
            arrays[array.path] = (values or {}).get(array.path, array.values)[places]
            mask = mask_of(array.variable)
            masks[array.path] = None if mask is None else mask[places]
            if 0 in arrays[array.path].shape:
                got = f"none left in {array.layer}"
                raise InputError("amount", "an amount that leaves units", got)
        smaller = nnx.clone(self.model)
        for path, variable in variables(smaller).items():
            if path in masks:
                set_mask(variable, None)
        resize(smaller, arrays)
        for path, variable in variables(smaller).items():
            if masks.get(path) is not None:
                set_mask(variable, masks[path])
        return smaller

    def masked(self, gone: set[int]) -> nnx.Module:
        """Returns the network with zeros at some sets of positions."""
        copy = nnx.clone(self.model)
        zeros = {a.path: a.values * _outer(kept) for a, kept in self.found.removed(gone)}
        for path, variable in variables(copy).items():
            if path in zeros:
                variable.set_value(jnp.asarray(zeros[path], variable.dtype))
        return copy

    def smaller(self, gone: set[int], layers: Collection[str], *, all_of: bool) -> nnx.Module:
        """Returns the network without some units, after comparing its outputs.

        The outputs must equal those of the network with zeros for the units. If they do not, each
        layer is tried separately.

        Args:
            gone: the units to remove.
            layers: the layers of the units.
            all_of: whether to raise an error for a layer whose units cannot be removed; otherwise
                the layer is skipped.
        """
        made = self.without(gone)
        if self._runs(made) and self.agree(self.masked(gone), made):
            return made
        left: set[int] = set()
        for layer in layers:
            some = gone & {*self.found.layers()[layer].tolist()}
            part = self.without(some)
            if not self._runs(part):
                why = "the network's code contains their number"
            elif not self.agree(self.masked(some), part):
                why = "the outputs depend on their number"
            else:
                left |= some
                continue
            if all_of:
                raise refusal("layers", layer, why)
        made = self.without(left)
        if not left or not self._runs(made) or not self.agree(self.masked(left), made):
            raise refusal("layers", ", ".join(layers), "the outputs depend on their number")
        return made

    def _runs(self, model: nnx.Module) -> bool:
        """Whether a network runs, and has outputs of the same shapes."""
        try:
            made = shapes(model, self.inputs)
        except Exception:  # whatever the network's code raises
            return False
        return made == shapes(self.model, self.inputs)

    def agree(self, one: nnx.Module, other: nnx.Module) -> bool:
        """Whether two networks have the same outputs, except for rounding."""
        some, others = (jax.tree.leaves(_computed(model, self.inputs)) for model in (one, other))
        return all(map(_close, some, others))

    def norms(self, units: np.ndarray, n: float) -> np.ndarray:
        """Returns the norm of each unit's incoming weights, over all arrays with the unit."""
        parts: dict[int, list[np.ndarray]] = {unit: [] for unit in units.tolist()}
        for array in self.found.arrays:
            if not array.is_kernel:
                continue
            roots = self.found.atoms.roots(array.axes[-1])
            for place in np.flatnonzero(np.isin(roots, units)).tolist():
                parts[int(roots[place])].append(array.values[..., place].ravel())
        each = (np.concatenate(parts[unit]) for unit in units.tolist())
        return np.array([np.linalg.norm(one, ord=n) for one in each])


def refusal(argument: str, layer: str, why: str) -> InputError:
    """Returns the error for a layer whose units cannot be removed, with the reason."""
    expected = "layers whose units can be removed"
    return InputError(argument, expected, f"{layer}, whose units cannot: {why}")


def _pure(model: nnx.Module) -> tuple[Any, Any]:
    """Returns a network as a function of its arrays and inputs, and the arrays."""
    graphdef, state = nnx.split(model)
    return lambda state, *inputs: nnx.merge(graphdef, state)(*inputs), state


def _computed(model: nnx.Module, inputs: tuple[Any, ...]) -> Any:
    run, state = _pure(model)
    return jax.jit(run)(state, *inputs)


def _shape(array: Any) -> tuple[Any, Any]:
    return array.shape, array.dtype


def _close(one: Any, other: Any) -> bool:
    if not jnp.issubdtype(one.dtype, jnp.floating):
        return True
    some, others = np.asarray(one, np.float64), np.asarray(other, np.float64)
    largest = np.abs(some[np.isfinite(some)]).max(initial=0)
    room = _CLOSE * float(jnp.finfo(one.dtype).eps) * largest
    return np.allclose(some, others, rtol=0, atol=room, equal_nan=True)


def _outer(kept: Sequence[np.ndarray]) -> np.ndarray:
    """Returns a mask that is True for entries whose positions along all axes are kept."""
    found = np.ones([len(axis) for axis in kept], bool)
    for k, axis in enumerate(kept):
        found &= axis.reshape([-1 if m == k else 1 for m in range(len(kept))])
    return found


def shapes(model: nnx.Module, inputs: tuple[Any, ...]) -> Any:
    """Returns the shapes and dtypes of a network's outputs."""
    return jax.tree.map(_shape, jax.eval_shape(*_pure(model), *inputs))
