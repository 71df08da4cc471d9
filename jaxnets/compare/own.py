"""A comparison of networks of one's own, from Python."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optax
from flax import nnx

from jaxnets.arrays import InputError, called, check_path, check_positive, entries
from jaxnets.compare.engine import Terms, compared
from jaxnets.compare.experiment import Experiment
from jaxnets.compare.records import Comparison
from jaxnets.compare.torch_side import loss_of
from jaxnets.data import Dataset
from jaxnets.data.transforms import Augmentation, Transform, check_transforms
from jaxnets.interop import optimizer_from_torch
from jaxnets.optional import require
from jaxnets.training.labels import Loss, check_loss
from jaxnets.training.progress import Progress
from jaxnets.training.seeds import built


def run(
    jax_model: nnx.Module | Callable[[nnx.Rngs], nnx.Module],
    torch_model: Any,
    data: Dataset,
    *,
    loss: Loss,
    torch_optimizer: Callable[[Any], Any],
    optimizer: optax.GradientTransformation | None = None,
    torch_loss: Callable[[Any, Any], Any] | None = None,
    epochs: int,
    batch_size: int = 64,
    seeds: int | Sequence[int] = 5,
    transform: Transform | None = None,
    augment: Augmentation | None = None,
    torch_inputs: Callable[[np.ndarray], np.ndarray] | None = None,
    paired: bool = True,
    weights_from: str = "jaxnets",
    margin: float | None = None,
    control: bool = True,
    timing: bool = True,
    device: str | None = None,
    directory: Path | str | None = None,
    name: str | None = None,
    progress: Progress = "auto",
) -> Comparison:
    """Trains a network here and in PyTorch, side by side, and compares the two.

    Both sides of a seed begin with the same weights and take the same batches in the same order.
    In pairs dropout is off on both sides, as no two frameworks draw the same masks.

    Args:
        jax_model: a network whose attributes bear PyTorch's names, as ``jaxnets.interop`` maps it,
            which then is the same for every seed; or a function of ``nnx.Rngs`` that makes one.
        torch_model: PyTorch's, which is copied, or a function without arguments that makes one.
        data: what both train and test on, in memory.
        loss: see ``fit``.
        torch_optimizer: from parameters to a ``torch.optim.Optimizer``, such as
            ``lambda parameters: torch.optim.SGD(parameters, 0.1)``.
        optimizer: ours; None for that which ``interop.optimizer_from_torch`` makes of PyTorch's.
        torch_loss: (outputs, labels) → scalar tensor; None for that of ``loss``, if it is one of
            ``jaxnets.losses``.
        epochs: times through the training data.
        batch_size: examples in a step.
        seeds: one a pair; a number stands for so many from 0.
        transform: see ``fit``.
        augment: see ``fit``; PyTorch's batches go through it too.
        torch_inputs: from the data set's inputs to PyTorch's; None for what ``transform`` makes of
            them, images as NCHW.
        paired: whether weights and batches are the same; otherwise each framework draws its own.
        weights_from: ``"jaxnets"`` or ``"torch"``: whose initial weights both begin with.
        margin: what difference counts as none: of accuracy, from 0 to 1, or of the test loss. None
            for 0.003, or 1 % of PyTorch's mean test loss.
        control: whether to train PyTorch beside itself with another number of threads.
        timing: whether to take the time of one run alone in each framework.
        device: where PyTorch computes, such as ``"cpu"``; None for a GPU if JAX computes on one.
        directory: keeps each finished training there, and goes on with those that are. It knows
            data and settings again, not the code of networks, losses and transforms: after a
            change of theirs, give another.
        name: of the comparison; None for that of our network's class.
        progress: see ``fit``.

    Returns:
        The comparison, which ``jaxnets.compare.report.write`` makes a page of.

    Raises:
        ValueError: if an argument is bad, the networks do not have the same weights, or the folder
            holds another comparison.
        NonFiniteLossError: if ours diverges in the run that is timed, or from every seed of those
            that are trained at once. A seed that diverges beside others is a finding.
        ImportError: if torch is not installed.
        Interrupted: a ``KeyboardInterrupt``, if Ctrl-C was pressed; what is finished is kept.
    """
    torch = require("torch", extra="torch", feature="a comparison with PyTorch")
    _check_arguments(data, loss, torch_loss, torch_optimizer, transform, augment, name)
    check_positive("epochs", epochs)
    check_positive("batch_size", batch_size)
    torch_loss = loss_of(loss) if torch_loss is None else torch_loss
    if torch_loss is None:
        raise InputError("torch_loss", "PyTorch's loss, as ours is none of jaxnets.losses", None)
    build, build_torch = _builder(jax_model), _torch_builder(torch, torch_model)
    expected = "a function of parameters that makes a torch.optim.Optimizer"
    theirs = called("torch_optimizer", expected, torch_optimizer, build_torch().parameters())
    if not isinstance(theirs, torch.optim.Optimizer):
        raise InputError("torch_optimizer", expected, f"one that makes a {type(theirs).__name__}")
    chosen = name or type(build(0)).__name__
    experiment = Experiment(
        name=chosen,
        description=f"{chosen} on {data.name}",
        build=build,
        build_torch=build_torch,
        data=data,
        loss=loss,
        optimizer=optimizer_from_torch(theirs) if optimizer is None else optimizer,
        torch_loss=torch_loss,
        torch_optimizer=torch_optimizer,
        epochs=epochs,
        batch_size=batch_size,
        transform=transform,
        augment=augment,
        torch_inputs=torch_inputs,
        settings=_settings(data, loss, theirs, epochs, batch_size, transform, augment),
    )
    terms = Terms(
        seeds=_seeds(seeds),
        paired=paired,
        weights_from=weights_from,
        margin=margin,
        device=device,
        control=control,
        timing=timing,
    )
    place = None if directory is None else check_path("directory", directory, "a folder")
    return compared(experiment, terms, place, progress)


def _check_arguments(
    data: Any,
    loss: Any,
    torch_loss: Any,
    torch_optimizer: Any,
    transform: Any,
    augment: Any,
    name: Any,
) -> None:
    """Checks what nothing else does before it is too late."""
    if not isinstance(data, Dataset):
        raise InputError("data", "a Dataset", data)
    check_loss(loss)
    for argument, function in (("torch_loss", torch_loss), ("torch_optimizer", torch_optimizer)):
        if function is not None and (not callable(function) or isinstance(function, type)):
            raise InputError(argument, "a function or None", function)
    for argument, function in (("transform", transform), ("augment", augment)):
        if function is not None:
            check_transforms(argument, (function,))
    if name is not None and not isinstance(name, str):
        raise InputError("name", "a string or None", name)


def _seeds(seeds: Any) -> Sequence[int]:
    given = entries(seeds)
    return range(check_positive("seeds", seeds)) if given is None else given


def _builder(model: Any) -> Callable[[int], nnx.Module]:
    if isinstance(model, nnx.Module):
        return lambda seed: nnx.clone(model)
    if not callable(model):
        expected = "an nnx.Module, or a function of nnx.Rngs that makes one"
        raise InputError("jax_model", expected, f"a {type(model).__name__}")
    return lambda seed: built(model, seed)


def _torch_builder(torch: Any, model: Any) -> Callable[[], Any]:
    if isinstance(model, torch.nn.Module) and list(model.parameters()):
        return lambda: copy.deepcopy(model)
    expected = "a torch.nn.Module with parameters, or a function that makes one"
    made = called("torch_model", expected, model) if callable(model) else model
    if not isinstance(made, torch.nn.Module):
        raise InputError("torch_model", expected, f"a {type(made).__name__}")
    built_by: Callable[[], Any] = model
    return built_by


def _settings(
    data: Dataset, loss: Any, theirs: Any, epochs: int, batch_size: int, *more: Any
) -> dict[str, Any]:
    """What decides the numbers, as far as it has words."""
    group = {name: value for name, value in theirs.param_groups[0].items() if name != "params"}
    plain = {name: value for name, value in group.items() if isinstance(value, int | float | tuple)}
    transform, augment = more
    return {
        "data": data.name,
        "loss": getattr(loss, "__name__", repr(loss)),
        "optimizer": type(theirs).__name__,
        "optimizer_options": plain,
        "epochs": epochs,
        "batch_size": batch_size,
        "transform": None if transform is None else repr(transform),
        "augment": None if augment is None else repr(augment),
    }
