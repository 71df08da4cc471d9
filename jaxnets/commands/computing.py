"""The flags for devices, sharding and numerical settings."""

import contextlib
import math
import os
from collections.abc import Mapping
from typing import Any

import click
import jax

from jaxnets.arrays import check_bool, check_choice, check_integer, check_positive
from jaxnets.commands.flags import added
from jaxnets.compare.torch_side import visible_cores
from jaxnets.training import Sharding
from jaxnets.training.placement import place

#: The settings of a run without flags; ``devices=None`` leaves the choice to ``fit``.
_DEFAULTS = {
    "devices": None,
    "model_devices": 1,
    "fsdp": False,
    "accumulate": 1,
    "compute_dtype": None,
}
_DTYPES = ("bfloat16", "float16", "float32")
_MOST_DEVICES = 2**16  # a record with more devices is damaged
_FLAGS = (
    click.option(
        "--devices", type=int, help="Number of devices that share each batch, in all processes."
    ),
    click.option(
        "--model-devices",
        type=int,
        metavar="M",
        help="Shard the parameters of each layer over M devices, along its outputs; these M "
        "devices compute the same part of the batch.  [default: 1]",
    ),
    click.option(
        "--fsdp/--no-fsdp",
        default=None,
        help="Also shard parameters and optimizer state over the devices that share the batch.",
    ),
    click.option(
        "--accumulate",
        type=int,
        metavar="N",
        help="Accumulate the gradient over N parts of each batch, to use less memory; the training "
        "step is that of the whole batch.  [default: 1]",
    ),
    click.option(
        "--compute-dtype",
        type=click.Choice(_DTYPES),
        help="Compute the network in this dtype; weights, loss and optimizer remain in float32.",
    ),
)


def computing_flags(command: Any) -> Any:
    """Adds the flags."""
    return added(_FLAGS, command)


def take(flags: dict[str, Any]) -> dict[str, Any]:
    """Removes this module's flags from ``flags``, and returns those that were given.

    Raises:
        ValueError: if a number is not positive.
    """
    taken = {name: flags.pop(name) for name in _DEFAULTS}
    given = {name: value for name, value in taken.items() if value is not None}
    for name in given.keys() & {"devices", "model_devices", "accumulate"}:
        check_positive(name, given[name])
    return given


def check(computing: Mapping[str, Any]) -> None:
    """Checks the computing settings in the record of a run.

    Args:
        computing: values that ``settled`` returned when the run began.

    Raises:
        ValueError: if a value is invalid.
    """
    values = {**_DEFAULTS, **computing}
    for name in ("devices", "model_devices", "accumulate"):
        if values[name] is not None or name != "devices":
            check_integer(name, values[name], least=1, most=_MOST_DEVICES)
    check_bool("fsdp", values["fsdp"])
    if values["compute_dtype"] is not None:
        check_choice("compute_dtype", values["compute_dtype"], _DTYPES)


def make_cpu_devices(count: int | None, processes: int | None) -> None:
    """Makes JAX simulate this process's share of ``count`` devices on the CPU.

    It must run before JAX's first computation, and has no effect on GPUs and TPUs.

    Args:
        count: number of devices of all processes; None for JAX's default.
        processes: number of processes; None for one.
    """
    if count is None:
        return
    if processes is not None and processes > 1:
        # The order of some of XLA's sums depends on the number of its threads. NPROC is set to the
        # number in a single process with all the devices, so that the results have the same bits.
        os.environ.setdefault("NPROC", str(max(count, visible_cores())))
    with contextlib.suppress(RuntimeError):  # if JAX is initialized already
        jax.config.update("jax_num_cpu_devices", max(1, count // max(1, processes or 1)))


def settled(given: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the computing settings of a run, and prints a line if a resumed run's change.

    A flag wins over the setting that the run began with. If fewer devices are available than when
    the run began, all of those are used.

    Args:
        given: the flags, as ``take`` returns.
        before: what this function returned when the run began; empty for a new run.

    Returns:
        A value for each flag; ``devices`` is their number.

    Raises:
        ValueError: if the devices are not available, or not divisible by ``model_devices``.
        UsageError: if sharding is requested with several processes.
    """
    known = {name: before[name] for name in before.keys() & _DEFAULTS.keys()}
    chosen = {**_DEFAULTS, **known, **given}
    if "devices" not in given and before:
        chosen["devices"] = _available(before["devices"])
    devices = place(chosen["devices"]).devices
    chosen["devices"] = len(devices)
    if "model_devices" not in given:
        chosen["model_devices"] = math.gcd(len(devices), chosen["model_devices"])
    sharding = _sharding(chosen)
    if sharding is not None:
        if jax.process_count() > 1:
            raise click.UsageError("--model-devices and --fsdp require a single process.")
        place(devices, sharding)
    _report_changes({name for name in before if name not in given}, before, chosen)
    return chosen


def fit_options(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of ``fit``."""
    plain = ("devices", "accumulate", "compute_dtype")
    return {name: chosen[name] for name in plain} | {"sharding": _sharding(chosen)}


def _sharding(chosen: Mapping[str, Any]) -> Sharding | None:
    if chosen["model_devices"] == 1 and not chosen["fsdp"]:
        return None
    return Sharding(model=chosen["model_devices"], fully=chosen["fsdp"])


def _available(count: int) -> int | None:
    """Returns ``count`` or the number of devices, if that is smaller; None for all devices."""
    processes = jax.process_count()
    return min(count, jax.device_count()) // processes * processes or None


def _report_changes(names: set[str], before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changes = [
        f"{flag} {now[name]} (was {before[name]})"
        for name, flag in (("devices", "--devices"), ("model_devices", "--model-devices"))
        if name in names and now[name] != before[name]
    ]
    if changes and jax.process_index() == 0:
        click.echo(f"jaxnets: the run continues with {' and '.join(changes)}", err=True)
