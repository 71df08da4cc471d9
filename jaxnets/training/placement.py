"""The devices of a program, and how batches and parameters are divided between them."""

import itertools
import re
from collections.abc import ItemsView, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnets.arrays import InputError, check_bool, check_positive, shown

#: The axes of the mesh of devices. Batches are divided along the first.
DATA_AXIS, MODEL_AXIS = "data", "model"

# Several virtual CPU devices share one thread pool. Eigen's parallel matmul on one device and an
# all-reduce on another can each wait for threads that the other occupies: a deadlock. Matmuls that
# run in a single thread do not wait.
_SEVERAL_CPUS = {"xla_cpu_multi_thread_eigen": False}


@dataclass(frozen=True)
class Sharding:
    """How parameters, and the optimizer's arrays of the same shapes, are divided between devices.

    The devices form a mesh of two axes, ``data`` and ``model``. Each batch is divided along
    ``data``. An array is divided by the first rule whose pattern matches its path, such as
    ``fc1/kernel``; arrays without a rule are divided along their last axis over ``model``. XLA
    inserts the communication. The results are those of one device, except for rounding.

    Args:
        model: number of devices along the axis ``model``; the other devices are along ``data``.
        fully: whether arrays are also divided over ``data``, along their largest remaining axis, so
            that each device stores only its share of parameters and optimizer state (FSDP).
        rules: regular expressions, searched for in paths, and the mesh axis of each array axis,
            such as ``{"fc1/kernel": (None, "model"), "fc2/kernel": ("model", None)}``. An axis
            whose size is not divisible by the number of devices is not divided.

    Raises:
        InputError: if an argument is invalid.
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
            raise InputError(
                "rules", "a mapping from path patterns to mesh axes", shown(self.rules)
            )
        object.__setattr__(self, "rules", rules)
        for pattern, axes in rules:
            _check_pattern(pattern)
            named = [axis for axis in axes if axis is not None] if isinstance(axes, tuple) else []
            if not isinstance(axes, tuple) or not set(named) <= {DATA_AXIS, MODEL_AXIS}:
                expected = f"a tuple of {DATA_AXIS!r}, {MODEL_AXIS!r} and None for {pattern!r}"
                raise InputError("rules", expected, shown(axes))
            if len(named) > len(set(named)):
                raise InputError("rules", f"each axis once for {pattern!r}", shown(axes))

    def spec(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        """Returns the ``PartitionSpec`` of an array with this path and shape."""
        rules: Any = self.rules
        rule = next((axes for pattern, axes in rules if re.search(pattern, path)), None)
        if rule is None:
            rule = (*(None for _ in shape[1:]), MODEL_AXIS) if shape else ()
        if len(rule) > len(shape):  # an array with fewer axes, such as a bias, uses the last ones
            rule = rule[len(rule) - len(shape) :]
        axes = [
            axis if axis is not None and size % mesh.shape[axis] == 0 else None
            for axis, size in zip((*rule, *[None] * len(shape))[: len(shape)], shape, strict=True)
        ]
        if self.fully and DATA_AXIS not in axes:
            whole = [i for i, axis in enumerate(axes) if axis is None]
            fitting = [i for i in whole if shape[i] % mesh.shape[DATA_AXIS] == 0]
            if fitting:
                axes[max(fitting, key=lambda i: shape[i])] = DATA_AXIS
        return PartitionSpec(*axes)


def _is_pair(rule: Any) -> bool:
    return isinstance(rule, tuple) and len(rule) == 2


def _check_pattern(pattern: Any) -> None:
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise InputError("rules", "regular expressions", f"{pattern!r}: {error}") from error


@dataclass(frozen=True)
class Placement:
    """The devices of a program.

    The program is written for the whole batch, and XLA's partitioner divides it, so the results are
    those of one device, except for the order of sums.

    Args:
        devices: the devices, in the order of the parts of a batch. The devices of one process are
            adjacent, and so are those that share parameters.
        sharding: how parameters are divided.

    Raises:
        InputError: if ``sharding.model`` does not divide the number of devices.
    """

    devices: tuple[jax.Device, ...]
    sharding: Sharding = field(default_factory=Sharding)

    def __post_init__(self) -> None:
        """Checks that the devices make a mesh."""
        if len(self.devices) % self.sharding.model:
            expected = f"a divisor of the number of devices, {len(self.devices)}"
            raise InputError("model", expected, self.sharding.model)

    @property
    def shards(self) -> int:
        """Number of parts into which a batch is divided."""
        return len(self.devices) // self.sharding.model

    @property
    def on_cpu(self) -> bool:
        """Whether the devices are CPUs."""
        return self.devices[0].platform == "cpu"

    @property
    def name(self) -> str:
        """The kind and number of the devices."""
        kind, model = self.devices[0].device_kind, self.sharding.model
        if len(self.devices) == 1:
            return kind
        return f"{self.shards} × {model} × {kind}" if model > 1 else f"{self.shards} × {kind}"

    @property
    def compiler_options(self) -> dict[str, Any]:
        """XLA options with which programs are compiled."""
        return _SEVERAL_CPUS if self.on_cpu and len(self.devices) > 1 else {}

    def replicate(self, tree: Any) -> Any:
        """Copies a pytree of arrays to every device."""
        return jax.tree.map(lambda array: put(array, self._over()), tree)

    def place(self, state: Any) -> Any:
        """Places a training state on the devices, its parameters divided by the sharding.

        Raises:
            InputError: if a rule matches no parameter.
        """
        paths = [_path(keys) for keys, _ in jax.tree.leaves_with_path(state.parameters)]
        rules: Any = self.sharding.rules
        for pattern, _ in rules:
            if not any(re.search(pattern, path) for path in paths):
                raise InputError("rules", f"patterns of {', '.join(paths)}", repr(pattern))
        return jax.tree.map(put, state, self._shardings(state))

    def own_rows(self, row: np.ndarray) -> np.ndarray:
        """Returns the examples of a batch [batch] that this process reads for ``spread``."""
        if len(row) % self.shards or jax.process_count() == 1:
            return row
        part = len(row) // self.shards
        return row[self._own.start * part : self._own.stop * part]

    def spread(self, tree: Any, size: int) -> Any:
        """Divides batches, of which this process read ``own_rows``, between the devices.

        Args:
            tree: arrays on the host, [steps, rows, …].
            size: number of examples in a batch, over all processes.
        """
        # A batch that cannot be divided, such as a smaller last one, is copied to every device.
        even = size % self.shards == 0
        sharding = self._over(None, DATA_AXIS) if even else self._over()

        def global_array(array: np.ndarray) -> jax.Array:
            if not even or jax.process_count() == 1:
                return put(array, sharding)
            whole = len(array), size, *array.shape[2:]
            return jax.make_array_from_process_local_data(sharding, array, whole)

        return jax.tree.map(global_array, tree)

    def cut(self, batch: Any) -> Any:
        """Divides a batch [batch, …] between the devices, within a program."""
        if self.shards == 1:
            return batch
        return jax.lax.with_sharding_constraint(batch, self._over(DATA_AXIS))

    def cut_state(self, state: Any) -> Any:
        """Divides a training state as ``place`` does, within a program."""
        if len(self.devices) == 1:
            return state
        return jax.lax.with_sharding_constraint(state, self._shardings(state))

    def _over(self, *axes: str | None) -> NamedSharding:
        return NamedSharding(self._mesh, PartitionSpec(*axes))

    @property
    def several(self) -> Mesh | None:
        """The mesh of the devices, or None for a single device."""
        return self._mesh if len(self.devices) > 1 else None

    @property
    def _mesh(self) -> Mesh:
        grid = np.array(self.devices).reshape(-1, self.sharding.model)
        return Mesh(grid, (DATA_AXIS, MODEL_AXIS))

    @property
    def _own(self) -> slice:
        """The parts of a batch that are on this process's devices."""
        here = jax.process_index()
        rows = np.array([device.process_index for device in self.devices])
        own = np.flatnonzero(rows.reshape(-1, self.sharding.model)[:, 0] == here)
        return slice(int(own[0]), int(own[-1]) + 1)

    def _shardings(self, state: Any) -> Any:
        def cut(path: Any, array: jax.Array) -> NamedSharding:
            part, _, name = _path(path).partition("/")
            axes: Any = PartitionSpec()
            if part in ("parameters", "optimizer_state"):
                axes = self.sharding.spec(name, array.shape, self._mesh)
            return NamedSharding(self._mesh, axes)

        return jax.tree.map_with_path(cut, state)


def _path(keys: Any) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "name", ""))) for key in keys)


def local(tree: Any) -> Any:
    """Returns this process's copy of arrays that are replicated over several processes."""

    def own(array: jax.Array) -> jax.Array:
        if array.is_fully_addressable:
            return array
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            numbers = jax.random.key_data(array).addressable_data(0)
            return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(array))
        return array.addressable_data(0)

    return jax.tree.map(own, tree)


def put(array: Any, sharding: Any) -> jax.Array:
    """Places an array, of which every process has a full copy, by a sharding."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        words = put(jax.random.key_data(array), sharding)
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(array))
    # device_put would compare the array with those of all other processes.
    numbers = np.asarray(array)
    return jax.make_array_from_callback(numbers.shape, sharding, numbers.__getitem__)


def one_device() -> Placement:
    """Returns the placement on JAX's default device."""
    return Placement((jax.local_devices()[0],))


def place(
    devices: int | Sequence[jax.Device] | None, sharding: Sharding | None = None
) -> Placement:
    """Returns the placement on the requested devices.

    Args:
        devices: number of devices over all processes, or the devices; None for all accelerators, or
            one CPU.
        sharding: how parameters are divided between the devices; None for a full copy on each.

    Raises:
        InputError: if there are fewer devices, or a process would have none.
    """
    if sharding is not None and not isinstance(sharding, Sharding):
        raise InputError("sharding", "a Sharding or None", shown(sharding))
    if sharding is not None and jax.process_count() > 1:
        raise InputError("sharding", "None with several processes", sharding)
    placement = Placement(_chosen(devices), sharding or Sharding())
    if jax.process_count() == 1:
        return placement
    having = {device.process_index for device in placement.devices}
    if without := {*range(jax.process_count())} - having:
        expected = f"devices of each of the {jax.process_count()} processes"
        raise InputError("devices", expected, f"none of process {min(without)}")
    return placement


def _chosen(devices: int | Sequence[jax.Device] | None) -> tuple[jax.Device, ...]:
    there = sorted(jax.devices(), key=lambda device: device.process_index)
    if devices is None:
        alone = there[0].platform == "cpu" and jax.process_count() == 1
        return tuple(there[:1] if alone else there)
    if isinstance(devices, Sequence):
        if not devices or not all(isinstance(device, jax.Device) for device in devices):
            raise InputError("devices", "a number, or a sequence of jax.Device", shown(devices))
        if len(set(devices)) < len(devices):
            raise InputError("devices", "each device once", shown(devices))
        ordered = sorted(devices, key=lambda device: device.process_index)
        return tuple(ordered)
    check_positive("devices", devices)
    if devices > len(there):
        kind = there[0].platform.upper()
        hint = "; set jax_num_cpu_devices for more" if kind == "CPU" else ""
        expected = f"at most {len(there)}, the number of {kind} devices{hint}"
        raise InputError("devices", expected, devices)
    each, left = divmod(devices, jax.process_count())
    if left:
        expected = f"a multiple of the {jax.process_count()} processes"
        raise InputError("devices", expected, devices)
    by_process = [
        [device for device in there if device.process_index == index]
        for index in range(jax.process_count())
    ]
    return tuple(itertools.chain(*(own[:each] for own in by_process)))
