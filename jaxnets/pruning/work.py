"""A network without some of its units, and the check that its outputs are as expected."""

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

#: How far outputs may be from those expected, in the dtype's precision.
_CLOSE = 2000


@dataclass(frozen=True)
class Work:
    """A network whose units are to be removed.

    Attributes:
        model: in evaluation mode.
        inputs: what it is called with.
        found: its dependencies.
    """

    model: nnx.Module
    inputs: tuple[Any, ...]
    found: Dependencies

    @staticmethod
    def of(model: Any, inputs: Any) -> "Work":
        """A copy of the network, and what its trace says."""
        given, copy = example(inputs), nnx.clone(check_network(model))
        copy.eval()
        return Work(copy, given, Dependencies(copy, given))

    def units(self, layer: str, argument: str) -> np.ndarray:
        """The units of a layer that may all be removed.

        Raises:
            InputError: if there is no such layer, or they are fixed.
        """
        known = self.found.layers()
        if layer not in known:
            raise InputError(argument, f"layers with weights ({shortened([*known])})", shown(layer))
        units = known[layer]
        if not self.found.atoms.removable(units).all():
            why = self.found.atoms.why(units) or "there is one, which must stay"
            raise refusal(argument, layer, why)
        return units

    def is_possible(self, units: np.ndarray) -> bool:
        """Whether the network runs without one of these units."""
        if len(units) < 2 or not self.found.atoms.removable(units).all():
            return False
        return self._runs(self.without({int(units[-1])}))

    def without(self, gone: set[int], values: Mapping[str, np.ndarray] | None = None) -> nnx.Module:
        """The network without some sets of positions.

        Args:
            gone: these sets.
            values: by the arrays' paths, in place of what they hold.
        """
        arrays, masks = {}, {}
        for array, kept in self.found.removed(gone):
            places = np.ix_(*map(np.flatnonzero, kept))
            arrays[array.path] = (values or {}).get(array.path, array.values)[places]
            mask = mask_of(array.variable)
            masks[array.path] = None if mask is None else mask[places]
            if 0 in arrays[array.path].shape:
                raise InputError("amount", "one that leaves units", f"none left of {array.layer}")
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
        """The network with zeros for some sets of positions."""
        copy = nnx.clone(self.model)
        zeros = {a.path: a.values * _outer(kept) for a, kept in self.found.removed(gone)}
        for path, variable in variables(copy).items():
            if path in zeros:
                variable.set_value(jnp.asarray(zeros[path], variable.dtype))
        return copy

    def smaller(self, gone: set[int], layers: Collection[str], *, all_of: bool) -> nnx.Module:
        """The network without some units, if its outputs are those with zeros for them.

        Args:
            gone: the units.
            layers: whose units they are.
            all_of: whether a layer that cannot do without is refused, not left whole.
        """
        made = self.without(gone)
        if self._runs(made) and self.agree(self.masked(gone), made):
            return made
        left: set[int] = set()
        for layer in layers:
            some = gone & {*self.found.layers()[layer].tolist()}
            part = self.without(some)
            if not self._runs(part):
                why = "the network's code has their number in it"
            elif not self.agree(self.masked(some), part):
                why = "the outputs depend on how many there are"
            else:
                left |= some
                continue
            if all_of:
                raise refusal("layers", layer, why)
        made = self.without(left)
        if not left or not self._runs(made) or not self.agree(self.masked(left), made):
            raise refusal("layers", ", ".join(layers), "the outputs depend on how many there are")
        return made

    def _runs(self, model: nnx.Module) -> bool:
        """Whether a network runs, and has outputs of the same shapes."""
        try:
            made = shapes(model, self.inputs)
        except Exception:  # whatever the network's code raises
            return False
        return made == shapes(self.model, self.inputs)

    def agree(self, one: nnx.Module, other: nnx.Module) -> bool:
        """Whether two networks have the same outputs except for rounding."""
        some, others = (jax.tree.leaves(_computed(model, self.inputs)) for model in (one, other))
        return all(map(_close, some, others))

    def norms(self, units: np.ndarray, n: float) -> np.ndarray:
        """The norm of each unit's incoming weights, of all arrays in which it is an output."""
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
    """The error that says why a layer's units cannot be removed."""
    expected = "layers whose units can be removed"
    return InputError(argument, expected, f"{layer}, whose units cannot: {why}")


def _pure(model: nnx.Module) -> tuple[Any, Any]:
    """A network as a function of its arrays, and these."""
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
    """True where all of an entry's positions are kept."""
    found = np.ones([len(axis) for axis in kept], bool)
    for k, axis in enumerate(kept):
        found &= axis.reshape([-1 if m == k else 1 for m in range(len(kept))])
    return found


def shapes(model: nnx.Module, inputs: tuple[Any, ...]) -> Any:
    """The shapes and dtypes of a network's outputs."""
    return jax.tree.map(_shape, jax.eval_shape(*_pure(model), *inputs))
