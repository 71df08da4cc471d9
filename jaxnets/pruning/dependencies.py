"""Finds the positions of a network's arrays that depend on each other, from its jaxpr."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, called, check_usable, describe, shown
from jaxnets.pruning.atoms import Atoms
from jaxnets.pruning.rules import Axes, Labels, fixed


@dataclass(frozen=True)
class Array:
    """An array of a network.

    Attributes:
        path: the dotted path of the array in the model.
        variable: the variable that contains the array.
        axes: the labels along each axis.
    """

    path: str
    variable: nnx.Variable
    axes: Axes

    @property
    def layer(self) -> str:
        """The path of the module that contains the array."""
        return self.path.rpartition(".")[0]

    @property
    def is_kernel(self) -> bool:
        """Whether the array is a weight whose last axis is that of the layer's outputs."""
        name = self.path.rpartition(".")[2]
        wide = isinstance(self.variable, nnx.Param) and len(self.axes) > 1
        return wide and ("kernel" in name or name == "embedding")

    @property
    def values(self) -> np.ndarray:
        """The values of the array."""
        return np.asarray(self.variable.get_value())


class Dependencies:
    """The arrays of a network, and the sets of their positions that are removed together.

    Every axis of every parameter gets labels. The jaxpr of the network is traversed, and the rule
    of each operation unites the labels of positions that it combines (see ``rules``).

    Args:
        model: the network, in evaluation mode.
        inputs: a tuple of the arguments of a call.
    """

    def __init__(self, model: nnx.Module, inputs: tuple[Any, ...]) -> None:
        graphdef, state = nnx.split(model)
        flat, structure = jax.tree.flatten(state)

        def run(arrays: list[Any], *given: Any) -> Any:
            return nnx.merge(graphdef, jax.tree.unflatten(structure, arrays))(*given)

        expected = f"inputs that {type(model).__name__} accepts"
        got = described(inputs)
        traced = called("inputs", expected, jax.make_jaxpr(run), flat, *inputs, got=got)
        self.atoms = Atoms()
        self.arrays = [self._array(path, each) for path, each in nnx.to_flat_state(state)]
        variables = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, nnx.Variable))
        by_variable = {id(one.variable): one.axes for one in self.arrays}
        axes = [
            by_variable[id(variable)] for variable in variables for _ in jax.tree.leaves(variable)
        ]
        others = [fixed(variable.aval) for variable in traced.jaxpr.invars[len(flat) :]]
        for made in Labels(self.atoms).run(traced, [*axes, *others]):
            for axis in made:
                self.atoms.fix(axis, "they are the network's outputs")
        self._share_states()

    def _array(self, path: Any, variable: nnx.Variable) -> Array:
        value = variable.get_value()
        numbers = hasattr(value, "dtype") and jax.numpy.issubdtype(value.dtype, jax.numpy.floating)
        axes = [self.atoms.new(n) if numbers else np.zeros(n, np.int64) for n in np.shape(value)]
        return Array(".".join(map(str, path)), variable, axes)

    def _share_states(self) -> None:
        """Unites the hidden units of all directions and layers of a recurrent layer.

        They all have the same hidden size, so the same units must be removed from each.
        """
        found = defaultdict(list)
        for array in self.arrays:
            if array.path.rpartition(".")[2].startswith("kernel_hh_l"):
                found[array.layer, len(array.axes[-1])].append(array.axes[-1])
        for axes in found.values():
            self.atoms.unite_rows(np.vstack(axes))

    def layers(self) -> dict[str, np.ndarray]:
        """Returns the units of each layer: the sets along the last axis of its first weight."""
        found: dict[str, np.ndarray] = {}
        for array in self.arrays:
            if array.is_kernel and array.layer not in found:
                found[array.layer] = self.units(array.axes[-1])
        return found

    def units(self, axis: np.ndarray) -> np.ndarray:
        """Returns the sets along an axis, each once, in order."""
        roots = self.atoms.roots(axis)
        return roots[np.sort(np.unique(roots, return_index=True)[1])]

    def removed(self, gone: set[int]) -> Iterator[tuple[Array, list[np.ndarray]]]:
        """Yields each array that becomes smaller, with a mask of the kept positions of each axis.

        Args:
            gone: the sets to remove.
        """
        for array in self.arrays:
            keep = [~np.isin(self.atoms.roots(axis), list(gone)) for axis in array.axes]
            if not all(axis.all() for axis in keep):
                yield array, keep


def example(inputs: Any) -> tuple[Any, ...]:
    """Returns the arguments of a call of a network as a tuple.

    Args:
        inputs: an array, or a tuple of arrays.

    Raises:
        InputError: if the inputs are not arrays.
    """
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    expected = "an array [batch, …], or a tuple of them"
    if not jax.tree.leaves(given):
        raise InputError("inputs", expected, shown(inputs))
    for one in jax.tree.leaves(given):
        check_usable("inputs", expected, one)
    return given


def described(inputs: tuple[Any, ...]) -> str:
    """Returns the dtypes and shapes of inputs, for a message."""
    return ", ".join(describe(one) for one in jax.tree.leaves(inputs))
