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

#: How a run computes that is told nothing; ``devices`` None is for those that ``fit`` would take.
_DEFAULTS = {
    "devices": None,
    "model_devices": 1,
    "fsdp": False,
    "accumulate": 1,
    "compute_dtype": None,
}
_DTYPES = ("bfloat16", "float16", "float32")
_MOST_DEVICES = 2**16  # a record that says more was not written by us
_FLAGS = (
    click.option(
        "--devices", type=int, help="How many devices share each batch, those of all processes."
    ),
    click.option(
        "--model-devices",
        type=int,
        metavar="M",
        help="Have every M of the devices cut the parameters between them, each layer by its "
        "outputs, and take the same part of the batch.  [default: 1]",
    ),
    click.option(
        "--fsdp/--no-fsdp",
        default=None,
        help="Cut parameters and optimizer state between the devices that share the batch, too.",
    ),
    click.option(
        "--accumulate",
        type=int,
        metavar="N",
        help="Take each batch in N parts, one after the other, to need less memory: the step is "
        "that of the whole batch.  [default: 1]",
    ),
    click.option(
        "--compute-dtype",
        type=click.Choice(_DTYPES),
        help="Compute the network in this dtype; weights, loss and optimizer stay as they are.",
    ),
)


def computing_flags(command: Any) -> Any:
    """Adds the flags."""
    return added(_FLAGS, command)


def take(flags: dict[str, Any]) -> dict[str, Any]:
    """Takes from a command's flags those of this module that were given.

    Raises:
        ValueError: if a number is not positive.
    """
    taken = {name: flags.pop(name) for name in _DEFAULTS}
    given = {name: value for name, value in taken.items() if value is not None}
    for name in given.keys() & {"devices", "model_devices", "accumulate"}:
        check_positive(name, given[name])
    return given


def check(computing: Mapping[str, Any]) -> None:
    """Checks what a record says of how its run computes.

    Raises:
        ValueError: naming what ``settled`` could not have returned.
    """
    values = {**_DEFAULTS, **computing}
    for name in ("devices", "model_devices", "accumulate"):
        if values[name] is not None or name != "devices":
            check_integer(name, values[name], least=1, most=_MOST_DEVICES)
    check_bool("fsdp", values["fsdp"])
    if values["compute_dtype"] is not None:
        check_choice("compute_dtype", values["compute_dtype"], _DTYPES)


def make_cpu_devices(count: int | None, processes: int | None) -> None:
    """Has a CPU stand for this process's part of so many devices; before JAX computes anything."""
    if count is None:
        return
    if processes is not None and processes > 1:
        # XLA's kernels order some sums by the number of its threads, one for each core or each of
        # the process's devices. This is the number in one process that has all the devices.
        os.environ.setdefault("NPROC", str(max(count, visible_cores())))
    with contextlib.suppress(RuntimeError):  # of a process in which JAX runs already
        jax.config.update("jax_num_cpu_devices", max(1, count // max(1, processes or 1)))


def settled(given: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """How a run computes: as the flags say, or else as it began, as far as the devices are there.

    Args:
        given: what ``take`` took.
        before: what this returned when the run began; empty for a new one.

    Returns:
        A value for each flag, ``devices`` their number. Says in a line if one is another than
        before, and no flag asked for it.

    Raises:
        ValueError: if the devices are not there, or ``model_devices`` is no divisor of them.
        UsageError: if flags do not go together.
    """
    known = {name: before[name] for name in before.keys() & _DEFAULTS.keys()}
    chosen = {**_DEFAULTS, **known, **given}
    if "devices" not in given and before:
        chosen["devices"] = _still_there(before["devices"])
    devices = place(chosen["devices"]).devices
    chosen["devices"] = len(devices)
    if "model_devices" not in given:
        chosen["model_devices"] = math.gcd(len(devices), chosen["model_devices"])
    sharding = _sharding(chosen)
    if sharding is not None:
        if jax.process_count() > 1:
            raise click.UsageError("--model-devices and --fsdp need one process.")
        place(devices, sharding)
    _tell({name for name in before if name not in given}, before, chosen)
    return chosen


def fit_options(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``fit``."""
    plain = ("devices", "accumulate", "compute_dtype")
    return {name: chosen[name] for name in plain} | {"sharding": _sharding(chosen)}


def _sharding(chosen: Mapping[str, Any]) -> Sharding | None:
    if chosen["model_devices"] == 1 and not chosen["fsdp"]:
        return None
    return Sharding(model=chosen["model_devices"], fully=chosen["fsdp"])


def _still_there(count: int) -> int | None:
    """So many devices, or as many of them as the processes have; None for all."""
    processes = jax.process_count()
    return min(count, jax.device_count()) // processes * processes or None


def _tell(names: set[str], before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changes = [
        f"{flag} {now[name]} (was {before[name]})"
        for name, flag in (("devices", "--devices"), ("model_devices", "--model-devices"))
        if name in names and now[name] != before[name]
    ]
    if changes and jax.process_index() == 0:
        click.echo(f"jaxnets: the run continues {' and '.join(changes)}", err=True)
