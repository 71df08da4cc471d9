"""From the hyperparameters in a torch optimizer's state_dict to the same optimizer here."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxnets.arrays import InputError, check_choice
from jaxnets.interop.naming import Rename
from jaxnets.interop.optimizer_names import Faults, Group, Names, groups_of
from jaxnets.interop.optimizer_parts import Parameters
from jaxnets.interop.optimizer_source import OptimizerSource, Source, read
from jaxnets.interop.report import listed
from jaxnets.optimizers import OPTIMIZERS, Schedule, param_groups

#: What a param_group says besides hyperparameters: the parameters, how to compute, what PyTorch's
#: schedulers keep there.
_ASIDE = {
    *("params", "param_names"),
    *("foreach", "fused", "capturable", "differentiable"),
    *("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr"),
}
_OPTIONS = {name: set(inspect.signature(make).parameters) for name, make in OPTIMIZERS.items()}
_ALL_OPTIONS = set[str]().union(*_OPTIONS.values())


def optimizer_from_torch(
    source: OptimizerSource,
    name: str | None = None,
    *,
    lr: float | Schedule | None = None,
    model: nnx.Module | None = None,
    names: Names | None = None,
    rename: Rename | None = None,
) -> optax.GradientTransformation:
    """The counterpart of a torch optimizer, made from its state_dict, with its hyperparameters.

    Several param_groups become ``jaxnets.optimizers.param_groups``; as in PyTorch, parameters in
    none of them stay as they are. Hyperparameters that a group lacks take PyTorch's defaults.

    Args:
        source: a torch optimizer, its state_dict, a checkpoint that holds it, or a file's path.
        name: which optimizer it is, such as ``"adamw"``: a state_dict does not say. It may be left
            out where the hyperparameters tell, as they do in the files of PyTorch 2.6 and later
            for all but Adamax before its first step.
        lr: takes the place of the learning rate of every group: a schedule, say.
        model: the model, needed with several groups alone.
        names: as of ``load_torch_optimizer``; with several groups alone.
        rename: as of ``load_torch_optimizer``; with several groups alone.

    Returns:
        A gradient transformation, whose state ``load_torch_optimizer`` can then fill.

    Raises:
        InputError: if the source has no such state_dict, the optimizer is unknown or has other
            hyperparameters, or the parameters of several groups cannot be told.
        ImportError: if the package that reads the file is not installed.

    Examples:
        >>> group = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0}
        >>> group |= {"nesterov": True, "params": [0, 1]}
        >>> optimizer = optimizer_from_torch({"state": {}, "param_groups": [group]})
    """
    if name is not None:
        check_choice("name", name, tuple(OPTIMIZERS))
    found = read(source)
    kind = name or kind_of(found)
    if kind not in OPTIMIZERS:
        expected = f"one of {', '.join(OPTIMIZERS)}"
        raise InputError("name", expected, "None, and the hyperparameters do not tell")

    def make(options: Mapping[str, Any]) -> optax.GradientTransformation:
        given = options_of(kind, options)
        return OPTIMIZERS[kind](**(given if lr is None else given | {"lr": lr}))

    if len(found.groups) == 1:
        return make(found.groups[0])
    if model is None:
        expected = f"the model, for {len(found.groups)} param_groups whose parameters have names"
        raise InputError("model", expected, None)
    parameters, faults = Parameters(model), Faults(list)
    groups = groups_of(found, parameters, names, rename, faults)
    if any(faults.values()):
        expected = f"the names of parameters of {parameters.model}"
        got = "; ".join(f"{kind}: {listed(names)}" for kind, names in faults.items())
        raise InputError("names", expected, got)
    chosen = [(_selector(group, parameters), make(group.options)) for group in groups]
    return param_groups(optax.set_to_zero(), chosen)


def _selector(group: Group, parameters: Parameters) -> Callable[[str], bool]:
    paths = {path for name in group.names.values() for path in parameters.paths(name)}

    def selector(path: str) -> bool:
        return path in paths

    selector.__name__ = f"the group of {listed(sorted(paths))}"  # for messages
    return selector


def kind_of(source: Source) -> str | None:
    """Which of our optimizers a torch optimizer is; None where that is not sure.

    An optimizer is known by its class, or by having just the options of one of ours. Two sets of
    options are shared: Adam's and AdamW's before PyTorch 2.6, and Adamax' with others'.
    """
    if source.optimizer.lower() in OPTIMIZERS:
        return source.optimizer.lower()
    options = {*(option for group in source.groups for option in group)} - _ASIDE
    for name, own in _OPTIONS.items():
        sure = name != "adamw" and (name != "adamax" or "exp_inf" in source.slots)
        # PyTorch's first versions lack maximize, as LBFGS and Muon do here too.
        if sure and options | {"maximize"} == own | {"maximize"}:
            return name
    return None


def options_of(kind: str, group: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for one of our optimizers, from a param_group.

    Raises:
        InputError: if the group has options of another optimizer.
    """
    given = {key: plain(value) for key, value in group.items() if key in _ALL_OPTIONS}
    if kind == "adamw" and given.get("decoupled_weight_decay"):
        del given["decoupled_weight_decay"]
    if foreign := given.keys() - _OPTIONS[kind]:
        expected = f"the optimizer that has {listed(sorted(foreign))}"
        raise InputError("name", expected, kind)
    return given


def slots_of(source: Source, group: Mapping[str, Any]) -> set[str] | None:
    """The slots that a torch optimizer keeps by its hyperparameters; None where it is unknown."""
    kind = kind_of(source)
    if kind is None:
        return None
    optimizer = OPTIMIZERS[kind](**options_of(kind, group))
    state = jax.eval_shape(optimizer.init, jax.ShapeDtypeStruct((1, 1), jnp.float32))
    return set(state.slots)


def plain(value: Any) -> Any:
    """Numbers of PyTorch or NumPy as Python's."""
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    try:
        return value.item() if hasattr(value, "item") else value
    except (RuntimeError, ValueError):  # of several numbers
        return value
