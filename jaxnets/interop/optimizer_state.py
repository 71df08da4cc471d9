"""Converts optimizer state between PyTorch and JAX."""

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
    """Loads the state of a PyTorch optimizer into an optimizer state, so that training continues.

    The slots of each parameter, the number of steps and the learning rate are loaded. Slots change
    their layout like weights. Hyperparameters are not part of a state; ``optimizer_from_torch``
    reads them.

    PyTorch numbers the parameters of an optimizer in the order of ``model.parameters()``. The
    names are found in a checkpoint that also contains the weights
    (``{"model_state_dict": …, "optimizer_state_dict": …}``), or in the state_dict of an optimizer
    that was created from ``model.named_parameters()``. Otherwise pass ``names``. Several
    param_groups are numbered consecutively. Each is loaded into the group of
    ``jaxnets.optimizers.param_groups`` with the same parameters, or, for optimizers without slots,
    in order::

        name_of = {p: name for name, p in torch_model.named_parameters()}
        names = [[name_of[p] for p in group["params"]] for group in optimizer.param_groups]

    PyTorch counts steps for each parameter; the counts must be equal. Parameters that have never
    had a gradient, such as frozen ones, have no state in PyTorch; their slots are set to the
    initial values. SGD, Muon and LBFGS do not count steps: learning rate schedules then restart,
    at step 1 with momentum and at step 0 without, unless ``step`` is given.

    Args:
        optimizer_state: the result of ``optimizer.init(parameters)`` for any chain or groups of
            optimizers. It is not changed. ``parameters`` are the model's, such as
            ``nnx.state(model, nnx.Param)``.
        source: a torch optimizer, its state_dict of tensors or NumPy arrays, a checkpoint that
            contains the state_dict under any key, or the path of a file.
        model: the network. Its weights are not read.
        names: PyTorch's parameter names in PyTorch's order: a list, or the state_dict of the
            network; with several param_groups, a list for each. A state_dict from a .safetensors
            file does not work, as its order differs.
        rename: maps PyTorch's names to the model's (see ``load_torch``), or to None for parameters
            that the model lacks.
        step: the number of steps that SGD, Muon or LBFGS has taken.

    Returns:
        The new state.

    Raises:
        InputError: a ``ValueError`` that lists everything that is missing, unexpected or does not
            fit; also if the source has no optimizer's state_dict, or no names are found.
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
    """Converts an optimizer state to a state_dict for PyTorch's ``Optimizer.load_state_dict``.

    Hyperparameters are copied from ``like``, except for the learning rate, which is that of
    ``optimizer_state``. With a schedule, it is the learning rate of the last step; PyTorch's
    schedulers continue from it with ``last_epoch=step - 1``.

    Args:
        optimizer_state: the state of a jaxnets optimizer, which may be chained or grouped.
        model: the network. Its weights are not read.
        like: the torch optimizer that continues the training, its state_dict, a checkpoint that
            contains its state_dict, or the path of a file. A parameter without a state in
            ``like`` has no state in the result if its slots have their initial values.
        names: see ``load_torch_optimizer``.
        rename: see ``load_torch_optimizer``.

    Returns:
        The state_dict, with tensors on the CPU that share no memory with ``optimizer_state``.

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
    """Pairs each ``OptimizerState`` with the param_group of its parameters."""
    if len(own) != len(groups):
        faults["param_groups"].append(f"{len(groups)} in PyTorch, {len(own)} in JAX")
        return []
    left, found = list(groups), dict[int, Group]()
    for index, part in enumerate(own if len(own) > 1 else ()):
        members = part.members
        fitting = [group for group in left if members <= parameters.ids(*group.names.values())]
        if members and not fitting:
            together = sorted(parameters.names[variable] for variable in members)
            faults["param_groups"].append(f"none in PyTorch has {' and '.join(together)}")
            return []
        if members:
            found[index] = fitting[0]
            left.remove(fitting[0])
    following = iter(left)  # for states without slots, whose parameters are unknown
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
    """Converts arrays to tensors; the count of steps gets PyTorch's default floating dtype."""
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
