"""Creates an optimizer from the hyperparameters in a torch optimizer's state_dict."""

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

#: Keys of a param_group other than hyperparameters: the parameters, implementation flags, and
#: values of PyTorch's schedulers.
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
    """Creates the counterpart of a torch optimizer with the hyperparameters of its state_dict.

    Several param_groups become ``jaxnets.optimizers.param_groups``. As in PyTorch, parameters in
    no group are not updated. Hyperparameters that a group lacks take PyTorch's defaults.

    Args:
        source: a torch optimizer, its state_dict, a checkpoint that contains its state_dict, or
            the path of a file.
        name: the name of the optimizer, such as ``"adamw"``, which a state_dict does not contain.
            None infers the name from the hyperparameters, which works for files of PyTorch 2.6
            and later, except for Adamax before its first step.
        lr: a learning rate or schedule that replaces the learning rate of every group.
        model: the model; required only with several groups.
        names: see ``load_torch_optimizer``; used only with several groups.
        rename: see ``load_torch_optimizer``; used only with several groups.

    Returns:
        A gradient transformation. ``load_torch_optimizer`` can load its state.

    Raises:
        InputError: if the source has no optimizer's state_dict, the optimizer is unknown or has
            other hyperparameters, or the parameters of several groups cannot be identified.
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
        raise InputError("name", expected, "None, and the hyperparameters are ambiguous")

    def make(options: Mapping[str, Any]) -> optax.GradientTransformation:
        given = options_of(kind, options)
        return OPTIMIZERS[kind](**(given if lr is None else given | {"lr": lr}))

    if len(found.groups) == 1:
        return make(found.groups[0])
    if model is None:
        expected = f"the model, to identify the parameters of {len(found.groups)} param_groups"
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
    """Returns the name of a torch optimizer's counterpart, or None if it is ambiguous.

    An optimizer is identified by its class, or by having exactly the options of one counterpart.
    Adam and AdamW have the same options before PyTorch 2.6; Adamax shares its options with other
    optimizers, but not its slots.
    """
    if source.optimizer.lower() in OPTIMIZERS:
        return source.optimizer.lower()
    options = {*(option for group in source.groups for option in group)} - _ASIDE
    for name, own in _OPTIONS.items():
        sure = name != "adamw" and (name != "adamax" or "exp_inf" in source.slots)
        # Early versions of PyTorch lack maximize, as do LBFGS and Muon.
        if sure and options | {"maximize"} == own | {"maximize"}:
            return name
    return None


def options_of(kind: str, group: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keyword arguments of an optimizer function from a param_group.

    Raises:
        InputError: if the group has options of another optimizer.
    """
    given = {key: plain(value) for key, value in group.items() if key in _ALL_OPTIONS}
    if kind == "adamw" and given.get("decoupled_weight_decay"):
        del given["decoupled_weight_decay"]
    if foreign := given.keys() - _OPTIONS[kind]:
        expected = f"an optimizer with the options {listed(sorted(foreign))}"
        raise InputError("name", expected, kind)
    return given


def slots_of(source: Source, group: Mapping[str, Any]) -> set[str] | None:
    """Returns the slots that a torch optimizer has, or None if the optimizer is unknown."""
    kind = kind_of(source)
    if kind is None:
        return None
    optimizer = OPTIMIZERS[kind](**options_of(kind, group))
    state = jax.eval_shape(optimizer.init, jax.ShapeDtypeStruct((1, 1), jnp.float32))
    return set(state.slots)


def plain(value: Any) -> Any:
    """Converts numbers of PyTorch or NumPy to Python numbers."""
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    try:
        return value.item() if hasattr(value, "item") else value
    except (RuntimeError, ValueError):  # an array of several numbers
        return value
