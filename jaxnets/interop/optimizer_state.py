"""The state of PyTorch's optimizers into ours, and back."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.interop.conversion import to_tensor
from jaxnets.interop.naming import Rename
from jaxnets.interop.optimizer_lbfgs import VectorPair
from jaxnets.interop.optimizer_names import Faults, Group, Names, groups_of
from jaxnets.interop.optimizer_pairs import LARGEST_STEP, Pair, is_count
from jaxnets.interop.optimizer_parts import Parameters, Part, parts, replaced
from jaxnets.interop.optimizer_source import OptimizerSource, Source, read
from jaxnets.interop.report import listed
from jaxnets.optional import require


def load_torch_optimizer(
    optimizer_state: Any,
    source: OptimizerSource,
    model: nnx.Module,
    *,
    names: Names | None = None,
    rename: Rename | None = None,
    step: int | None = None,
) -> Any:
    """Fills the state of an optimizer with that of its PyTorch twin, so that training continues.

    Each slot of each parameter, the count of steps and the learning rate are taken over; slots
    through the same layouts as weights. Hyperparameters are no part of a state:
    ``optimizer_from_torch`` takes those.

    PyTorch numbers the parameters of an optimizer in the order of ``model.parameters()``, which is
    that of its own network's registration. A checkpoint that holds the weights as well
    (``{"model_state_dict": …, "optimizer_state_dict": …}``) tells it by their order; so do the
    names that an optimizer made from ``model.named_parameters()`` keeps. Or else give ``names``.
    Several param_groups are numbered one after the other, and go to those of
    ``jaxnets.optimizers.param_groups`` that have the same parameters, or, where there are no slots
    to tell, in their order::

        name_of = {p: name for name, p in torch_model.named_parameters()}
        names = [[name_of[p] for p in group["params"]] for group in optimizer.param_groups]

    PyTorch counts steps for each parameter; they must agree. Parameters that have never had a
    gradient, such as frozen ones, have no state there, and start at zeros here. SGD, Muon and LBFGS
    count no steps: then the schedules of the learning rate begin anew, at step 1 if there is
    momentum and at 0 if not, unless ``step`` is given.

    Args:
        optimizer_state: what ``optimizer.init(parameters)`` returned, whatever optimizers are
            chained or grouped in it; it stays as it is. ``parameters`` are the model's, such as
            ``nnx.state(model, nnx.Param)``.
        source: a torch optimizer, its state_dict of tensors or NumPy arrays, a checkpoint that
            holds it under any name, or the path of a file.
        model: the network; its weights are not looked at.
        names: PyTorch's parameter names in its order: a list, or the state_dict of the network
            (not one from a .safetensors file, whose order is another); with several param_groups
            a list for each.
        rename: from PyTorch's names to the model's, as of ``load_torch``; None for parameters that
            the model lacks.
        step: how many steps SGD, Muon or LBFGS has taken.

    Returns:
        The new state.

    Raises:
        InputError: a ``ValueError`` that names all that is missing, unexpected or does not fit; or
            the source holds no optimizer's state_dict, or no names are to be found.
        ImportError: if the package that reads the file is not installed.

    Examples:
        >>> from jaxnets.layers import Linear
        >>> from jaxnets.optimizers import sgd
        >>> layer = Linear(2, 3, rngs=nnx.Rngs(0))
        >>> state = sgd(0.1, momentum=0.9).init(nnx.state(layer, nnx.Param))
        >>> buffers = {
        ...     0: {"momentum_buffer": np.ones((3, 2))},
        ...     1: {"momentum_buffer": np.ones(3)},
        ... }
        >>> source = {"state": buffers, "param_groups": [{"lr": 0.05, "params": [0, 1]}]}
        >>> state = load_torch_optimizer(state, source, layer, names=["weight", "bias"])
        >>> state.slots["momentum_buffer"]["kernel"].shape, float(state.lr)
        ((2, 3), 0.05000000074505806)
    """
    if step is not None and not is_count(step):
        raise InputError("step", f"an integer from 0 to {LARGEST_STEP}", step)
    found, parameters = read(source), Parameters(model)
    own, faults = parts(optimizer_state, parameters), Faults(list)
    groups = groups_of(found, parameters, names, rename, faults)
    pairs = _paired(own, groups, found, parameters, faults)
    values = [pair.from_torch(step) for pair in pairs]
    _raise(faults, found, parameters)
    return replaced(optimizer_state, parameters, values)


def to_torch_optimizer(
    optimizer_state: Any,
    model: nnx.Module,
    like: OptimizerSource,
    *,
    names: Names | None = None,
    rename: Rename | None = None,
) -> dict[str, Any]:
    """The state_dict of the PyTorch twin of an optimizer, which its ``load_state_dict`` takes.

    Hyperparameters are taken from ``like``, except for the learning rate, which is written as it
    stands here. Where it follows a schedule, that is the rate of the last step, from which
    PyTorch's schedulers continue if they are given ``last_epoch=step - 1``.

    Args:
        optimizer_state: the state of an optimizer of jaxnets, chained or in groups as may be.
        model: the network; its weights are not looked at.
        like: the torch optimizer that is to continue, its state_dict, a checkpoint that holds it,
            or the path of a file. Of its state it counts only which parameters have none: if ours
            are at their start, they have none in the result either.
        names: as of ``load_torch_optimizer``.
        rename: as of ``load_torch_optimizer``.

    Returns:
        Tensors on the CPU, which share no memory with ours.

    Raises:
        InputError: if ``like`` is another optimizer, or its parameters are not the model's.
        ImportError: if torch is not installed.
    """
    require("torch", extra="torch", feature="to_torch_optimizer")
    found, parameters = read(like, "like"), Parameters(model)
    own, faults = parts(optimizer_state, parameters), Faults(list)
    groups = groups_of(found, parameters, names, rename, faults)
    pairs = _paired(own, groups, found, parameters, faults)
    state: dict[Any, dict[str, Any]] = {}
    for pair in pairs:
        state |= pair.to_torch()
    _raise(faults, found, parameters)
    rates = {id(pair.group.options): pair.lr_to_torch() for pair in pairs}
    return {
        "state": {number: _tensors(kept) for number, kept in state.items() if kept},
        "param_groups": [
            copy.deepcopy({**group, "lr": rates.get(id(group), group["lr"])})
            for group in found.groups
        ],
    }


def _paired(
    own: Sequence[Part],
    groups: Sequence[Group],
    source: Source,
    parameters: Parameters,
    faults: Faults,
) -> list[Pair]:
    """Our states, each with the param_group of its parameters."""
    if len(own) != len(groups):
        faults["param_groups"].append(f"{len(groups)} there, {len(own)} here")
        return []
    left, found = list(groups), dict[int, Group]()
    for index, part in enumerate(own if len(own) > 1 else ()):
        members = part.members
        fitting = [group for group in left if members <= parameters.ids(*group.names.values())]
        if members and not fitting:
            together = sorted(parameters.names[variable] for variable in members)
            faults["param_groups"].append(f"none there has {' and '.join(together)}")
            return []
        if members:
            found[index] = fitting[0]
            left.remove(fitting[0])
    following = iter(left)  # those of our states that have no slots to tell their parameters
    return [
        (VectorPair if "old_dirs" in part.slots else Pair)(
            part, found.get(index) or next(following), source, parameters, faults
        )
        for index, part in enumerate(own)
    ]


def _raise(faults: Faults, source: Source, parameters: Parameters) -> None:
    lines = [f"{kind}: {listed(items)}" for kind, items in faults.items() if items]
    if lines:
        expected = f"the state of this optimizer of {parameters.model}"
        raise InputError(source.origin, expected, "\n  ".join(["", *lines]), whole=True)


def _tensors(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors of arrays, with the count of steps in the dtype that PyTorch keeps it in."""
    import torch

    wide = torch.get_default_dtype() is torch.float64
    counter = np.float64 if wide else np.float32

    def tensor(value: Any) -> Any:
        if isinstance(value, list):
            return [tensor(each) for each in value]
        return to_tensor(value) if isinstance(value, np.ndarray) else value

    return {
        slot: tensor(value.astype(counter) if slot == "step" else value)
        for slot, value in kept.items()
    }
