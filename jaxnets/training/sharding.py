"""Parameters cut between devices: model parallelism, and sharing them with the data's devices."""

import re
from collections.abc import Callable, ItemsView, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnets.arrays import InputError, check_bool, check_positive, shown
from jaxnets.training.placement import AXIS, Placement, several_cpus
from jaxnets.training.state import TrainState

MODEL_AXIS = "model"


@dataclass(frozen=True)
class Sharding:
    """How parameters, and the optimizer's arrays of the same shapes, are cut between devices.

    The devices stand in a mesh of two axes, ``data`` and ``model``. Each batch is cut along the
    first. Every array is cut by the first rule whose pattern is found in its path, such as
    ``fc1/kernel``; those without a rule along their last axis over ``model``. XLA puts in what
    communication this needs; what is computed is what one device computes.

    Args:
        model: devices along the axis ``model``; the others stand along ``data``.
        fully: whether arrays are cut over ``data`` too, along the largest axis that is left: each
            device then keeps its share of parameters and optimizer state alone ("FSDP").
        rules: patterns of paths, as of ``re.search``, and the mesh axis of each array axis, such
            as ``{"fc1/kernel": (None, "model"), "fc2/kernel": ("model", None)}``. Axes are left
            whole that do not divide.

    Raises:
        InputError: if an argument is bad.
    """

    model: int = 1
    fully: bool = False
    rules: Mapping[str, tuple[str | None, ...]] | tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_positive("model", self.model)
        check_bool("fully", self.fully)
        given = self.rules.items() if isinstance(self.rules, Mapping) else self.rules
        if isinstance(given, tuple | list | ItemsView) and all(map(_is_pair, given)):
            rules = tuple(given)
        else:
            raise InputError("rules", "mesh axes by patterns of paths", shown(self.rules))
        object.__setattr__(self, "rules", rules)
        for pattern, axes in rules:
            _check_pattern(pattern)
            named = [axis for axis in axes if axis is not None] if isinstance(axes, tuple) else []
            if not isinstance(axes, tuple) or not set(named) <= {AXIS, MODEL_AXIS}:
                expected = f"a tuple of {AXIS!r}, {MODEL_AXIS!r} and None for {pattern!r}"
                raise InputError("rules", expected, shown(axes))
            if len(named) > len(set(named)):
                raise InputError("rules", f"each axis once for {pattern!r}", shown(axes))

    def spec(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        """How an array of this path and shape is cut."""
        rules: Any = self.rules
        rule = next((axes for pattern, axes in rules if re.search(pattern, path)), None)
        if rule is None:
            rule = (*(None for _ in shape[1:]), MODEL_AXIS) if shape else ()
        if len(rule) > len(shape):
            rule = rule[len(rule) - len(shape) :]
        axes = [
            axis if axis is not None and size % mesh.shape[axis] == 0 else None
            for axis, size in zip((*rule, *[None] * len(shape))[: len(shape)], shape, strict=True)
        ]
        if self.fully and AXIS not in axes:
            whole = [i for i, axis in enumerate(axes) if axis is None]
            fitting = [i for i in whole if shape[i] % mesh.shape[AXIS] == 0]
            if fitting:
                axes[max(fitting, key=lambda i: shape[i])] = AXIS
        return PartitionSpec(*axes)

    def placement(self, devices: tuple[jax.Device, ...]) -> "MeshPlacement":
        """The mesh of these devices.

        Raises:
            InputError: if ``model`` does not divide their number.
        """
        if len(devices) % self.model:
            expected = f"a divisor of the number of devices, {len(devices)}"
            raise InputError("model", expected, self.model)
        return MeshPlacement(devices, self)


def _is_pair(rule: Any) -> bool:
    return isinstance(rule, tuple) and len(rule) == 2


def _check_pattern(pattern: Any) -> None:
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise InputError("rules", "patterns as of re.search", f"{pattern!r}: {error}") from error


@dataclass(frozen=True)
class MeshPlacement:
    """Devices that share parameters as well as batches; see ``Placement`` for what it offers.

    The program is written for the whole batch, and XLA's partitioner cuts it.

    Args:
        devices: those of a row of the mesh, which share the parameters, follow one another.
        sharding: how arrays are cut.
    """

    devices: tuple[jax.Device, ...]
    sharding: Sharding

    shards = 1  # the program knows nothing of them

    @property
    def on_cpu(self) -> bool:
        """Whether they are CPUs."""
        return self.devices[0].platform == "cpu"

    @property
    def name(self) -> str:
        """What they are, and how they stand."""
        rows, columns = self._mesh.devices.shape
        return f"{rows} × {columns} × {self.devices[0].device_kind}"

    @property
    def compiler_options(self) -> dict[str, Any]:
        """What programs are compiled with."""
        return several_cpus(self.devices)

    def replicate(self, tree: Any) -> Any:
        """A pytree of arrays, whole on every device."""
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec()))

    def place(self, state: TrainState) -> TrainState:
        """A state, cut.

        Raises:
            InputError: if a rule is for no array.
        """
        paths = [_path(keys) for keys, _ in jax.tree.leaves_with_path(state.parameters)]
        rules: Any = self.sharding.rules
        for pattern, _ in rules:
            if not any(re.search(pattern, path) for path in paths):
                raise InputError("rules", f"patterns of {', '.join(paths)}", repr(pattern))
        return jax.tree.map(jax.device_put, state, self._shardings(state))

    def spread(self, array: np.ndarray) -> jax.Array:
        """Batches [steps, batch, …], with an axis before them: [1, steps, batch, …]."""
        divides = array.shape[1] % self._mesh.shape[AXIS] == 0
        spec = PartitionSpec(None, None, AXIS if divides else None)
        return jax.device_put(array[None], NamedSharding(self._mesh, spec))

    spread_own = spread

    def own_rows(self, row: np.ndarray) -> np.ndarray:
        """Of a batch's examples [batch], those that this process reads: all."""
        return row

    def mapped(self, function: Callable[..., Any], spread: Any, *, donate: bool = False) -> Any:
        """Compiles a function of (state, batches, count) for the devices together."""

        def on_all(state: Any, batches: Any, count: Any) -> Any:
            own = jax.tree.map(lambda array, cut: array[0] if cut else array, batches, spread)
            result = function(state, own, count)
            if not donate:
                return result
            after, *rest = result
            return jax.lax.with_sharding_constraint(after, self._shardings(after)), *rest

        return jax.jit(on_all, donate_argnums=0 if donate else ())

    @property
    def _mesh(self) -> Mesh:
        grid = np.array(self.devices).reshape(-1, self.sharding.model)
        return Mesh(grid, (AXIS, MODEL_AXIS))

    def _shardings(self, state: TrainState) -> TrainState:
        def cut(path: Any, array: jax.Array) -> NamedSharding:
            part, _, name = _path(path).partition("/")
            spec = PartitionSpec()
            if part in ("parameters", "optimizer_state"):
                spec = self.sharding.spec(name, array.shape, self._mesh)
            return NamedSharding(self._mesh, spec)

        return jax.tree.map_with_path(cut, state)


def _path(keys: Any) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "name", ""))) for key in keys)


AnyPlacement = Placement | MeshPlacement
