"""Where a program runs: on one device, or on several that share each batch."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnets.arrays import InputError, check_choice, check_positive, shown

#: The name of the axis over which devices share a batch, as ``jax.lax.psum`` takes it.
AXIS = "data"
Parallel = Literal["shard_map", "pmap"]

# With several virtual CPU devices, Eigen's parallel matmul of one and the all-reduce of another
# wait in one pool of threads, each for what the other holds: for good. Kernels of a single thread
# wait for nobody.
_SEVERAL_CPUS = {"xla_cpu_multi_thread_eigen": False}


@dataclass(frozen=True)
class Placement:
    """The devices of a program.

    Each batch is cut into parts of consecutive examples, one for each device. Where that does not
    come out even, the parts are filled up with examples that do not count.

    Args:
        devices: in the order of the parts; those of one process follow one another.
        parallel: how a function is mapped over several devices.
    """

    devices: tuple[jax.Device, ...]
    parallel: Parallel = "shard_map"

    @property
    def shards(self) -> int:
        """The number of devices."""
        return len(self.devices)

    @property
    def on_cpu(self) -> bool:
        """Whether they are CPUs."""
        return self.devices[0].platform == "cpu"

    @property
    def name(self) -> str:
        """What they are, and how many."""
        kind = self.devices[0].device_kind
        return kind if self.shards == 1 else f"{self.shards} × {kind}"

    @property
    def compiler_options(self) -> dict[str, Any]:
        """What programs are compiled with."""
        return several_cpus(self.devices)

    def place(self, state: Any) -> Any:
        """A training state, whole on every device."""
        return self.replicate(state)

    def replicate(self, tree: Any) -> Any:
        """A pytree of arrays, whole on every device."""
        return jax.tree.map(lambda array: put(array, self._sharding(PartitionSpec())), tree)

    def spread(self, array: np.ndarray) -> jax.Array:
        """Batches [steps, batch, …], cut for the devices: [devices, steps, part, …]."""
        return put(self._parts(array), self._sharding(PartitionSpec(AXIS)))

    def own_rows(self, row: np.ndarray) -> np.ndarray:
        """Of a batch's examples [batch], those that the devices of this process take."""
        return self._parts(row[None])[self._own, 0].reshape(-1)

    def spread_own(self, array: np.ndarray) -> jax.Array:
        """``spread`` for batches of which this process read ``own_rows``: [steps, rows, …]."""
        parts = array.reshape(len(array), self._own.stop - self._own.start, -1, *array.shape[2:])
        parts = np.moveaxis(parts, 1, 0)
        whole = self.shards, *parts.shape[1:]
        sharding = self._sharding(PartitionSpec(AXIS))
        return jax.make_array_from_process_local_data(sharding, parts, whole)

    def mapped(self, function: Callable[..., Any], spread: Any, *, donate: bool = False) -> Any:
        """Compiles a function of (state, batches, count) for the devices together.

        Args:
            function: what a device runs on its part of the batches; what it returns is the same
                on all.
            spread: like ``batches``, with True for an array that has a leading axis of devices.
            donate: whether the memory of the state may be reused.
        """

        def on_one(state: Any, batches: Any, count: Any) -> Any:
            own = jax.tree.map(lambda array, cut: array[0] if cut else array, batches, spread)
            return function(state, own, count)

        donated = 0 if donate else ()
        if self.shards == 1:
            return jax.jit(on_one, donate_argnums=donated)
        if self.parallel == "pmap":
            axes = jax.tree.map(lambda cut: 0 if cut else None, spread)
            return jax.pmap(
                function,
                AXIS,
                in_axes=(None, axes, None),
                out_axes=None,
                devices=self.devices,
            )
        whole, parts = PartitionSpec(), PartitionSpec(AXIS)
        sharded = jax.shard_map(
            on_one,
            mesh=self._mesh,
            in_specs=(whole, jax.tree.map(lambda cut: parts if cut else whole, spread), whole),
            out_specs=whole,
            check_vma=False,
        )
        return jax.jit(sharded, donate_argnums=donated)

    def _sharding(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self._mesh, spec)

    @property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), (AXIS,))

    @property
    def _own(self) -> slice:
        """The places of this process's devices."""
        here = jax.process_index()
        own = [i for i, device in enumerate(self.devices) if device.process_index == here]
        return slice(own[0], own[-1] + 1)

    def _parts(self, array: np.ndarray) -> np.ndarray:
        """[steps, batch, …] → [devices, steps, part, …]."""
        steps, batch, *rest = array.shape
        part = -(-batch // self.shards)
        fill = np.repeat(array[:, -1:], part * self.shards - batch, axis=1)
        parts = np.concatenate([array, fill], axis=1).reshape(steps, self.shards, part, *rest)
        return np.moveaxis(parts, 1, 0)


def local(tree: Any) -> Any:
    """A pytree of arrays of which several processes have copies, as this process has them."""

    def own(array: jax.Array) -> jax.Array:
        if array.is_fully_addressable:
            return array
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            numbers = jax.random.key_data(array).addressable_data(0)
            return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(array))
        return array.addressable_data(0)

    return jax.tree.map(own, tree)


def put(array: Any, sharding: Any) -> jax.Array:
    """An array where a sharding says, of which every process has all."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        words = put(jax.random.key_data(array), sharding)
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(array))
    # device_put would compare the array with those of all other processes
    numbers = np.asarray(array)
    return jax.make_array_from_callback(numbers.shape, sharding, numbers.__getitem__)


def several_cpus(devices: tuple[jax.Device, ...]) -> dict[str, Any]:
    """What programs are compiled with for these devices."""
    return _SEVERAL_CPUS if devices[0].platform == "cpu" and len(devices) > 1 else {}


def one_device() -> Placement:
    """The device on which JAX computes by default."""
    return Placement((jax.local_devices()[0],))


def place(devices: int | Sequence[jax.Device] | None, parallel: Parallel) -> Placement:
    """The devices that a user asks for.

    Args:
        devices: how many, of all processes; or which; None for all accelerators, or one CPU.
        parallel: see ``Placement``.

    Raises:
        InputError: if there are not so many, or a process would have none.
    """
    placement = _placement(devices, parallel)
    if jax.process_count() == 1:
        return placement
    if parallel == "pmap":
        raise InputError("parallel", "shard_map with several processes", parallel)
    having = {device.process_index for device in placement.devices}
    if without := {*range(jax.process_count())} - having:
        expected = f"some of each of the {jax.process_count()} processes"
        raise InputError("devices", expected, f"none of process {min(without)}")
    return placement


def _placement(devices: int | Sequence[jax.Device] | None, parallel: Parallel) -> Placement:
    check_choice("parallel", parallel, get_args(Parallel))
    there = sorted(jax.devices(), key=lambda device: device.process_index)
    if devices is None:
        alone = there[0].platform == "cpu" and jax.process_count() == 1
        return Placement(tuple(there[:1] if alone else there), parallel)
    if isinstance(devices, Sequence):
        if not devices or not all(isinstance(device, jax.Device) for device in devices):
            raise InputError("devices", "a number, or a sequence of jax.Device", shown(devices))
        if len(set(devices)) < len(devices):
            raise InputError("devices", "each device once", shown(devices))
        ordered = sorted(devices, key=lambda device: device.process_index)
        return Placement(tuple(ordered), parallel)
    check_positive("devices", devices)
    if devices > len(there):
        kind = there[0].platform.upper()
        hint = "; jax_num_cpu_devices makes more of a CPU" if kind == "CPU" else ""
        expected = f"at most {len(there)}, the {kind} devices that there are{hint}"
        raise InputError("devices", expected, devices)
    each, left = divmod(devices, jax.process_count())
    if left:
        expected = f"a multiple of the {jax.process_count()} processes"
        raise InputError("devices", expected, devices)
    by_process = [
        [device for device in there if device.process_index == index]
        for index in range(jax.process_count())
    ]
    return Placement(tuple(itertools.chain(*(own[:each] for own in by_process))), parallel)
