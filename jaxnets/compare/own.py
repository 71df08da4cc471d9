"""``compare.run``: compares the user's own networks, from Python."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optax
from flax import nnx

from jaxnets.arrays import (
    InputError,
    called,
    check_function,
    check_path,
    check_positive,
    entries,
    shown,
)
from jaxnets.compare.engine import Terms, compared
from jaxnets.compare.experiment import Experiment
from jaxnets.compare.stepwise import (
    TORCH_OPTIMIZERS,
    TORCH_STEP,
    StepExperiment,
    TorchStep,
    compared_steps,
)
from jaxnets.compare.torch_side import loss_of
from jaxnets.data import Dataset
from jaxnets.data.spec import single
from jaxnets.data.transforms import Augmentation, Transform, check_transforms
from jaxnets.interop import optimizer_from_torch
from jaxnets.optional import require
from jaxnets.training.labels import Loss, check_loss
from jaxnets.training.progress import Progress
from jaxnets.training.seeds import built
from jaxnets.training.steps import Step, check_step


def run(
    jax_model: nnx.Module | Callable[[nnx.Rngs], nnx.Module] | None,
    torch_model: Any,
    data: Dataset,
    *,
    loss: Loss | None = None,
    torch_optimizer: Callable[[Any], Any] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    torch_loss: Callable[[Any, Any], Any] | None = None,
    step: Step | None = None,
    torch_step: TorchStep | None = None,
    torch_optimizers: Callable[[Any], Any] | None = None,
    epochs: int,
    batch_size: int = 64,
    seeds: int | Sequence[int] = 5,
    transform: Transform | None = None,
    augment: Augmentation | None = None,
    torch_inputs: Callable[[np.ndarray], np.ndarray] | None = None,
    paired: bool = True,
    weights_from: str | None = None,
    margin: float | None = None,
    control: bool = True,
    timing: bool = True,
    device: str | None = None,
    directory: Path | str | None = None,
    name: str | None = None,
    progress: Progress = "auto",
) -> Any:
    """Trains a network in jaxnets and in PyTorch, and compares the two.

    For each seed, both networks start from the same weights and train on the same batches in the
    same order. Dropout is off in both, as the two frameworks draw different masks.

    With ``step``, any training that ``fit`` supports is compared metric by metric, such as that of
    GANs and autoencoders. Random numbers of a step must then be a column of the data set, so that
    both frameworks use the same numbers.

    Args:
        jax_model: the jaxnets network, whose attributes have PyTorch's names (see
            ``jaxnets.interop``). Either a module, whose weights are then the same for every seed;
            a function of ``nnx.Rngs`` that makes one; or None for the port of ``torch_model`` (see
            ``jaxnets.port``). Required with ``step`` or ``torch_inputs``.
        torch_model: the PyTorch network, which is copied, or a function without arguments that
            makes one.
        data: the data set for training and test, in memory. With ``step`` there is no test.
        loss: see ``fit``.
        torch_optimizer: a function from parameters to a ``torch.optim.Optimizer``, such as
            ``lambda parameters: torch.optim.SGD(parameters, 0.1)``.
        optimizer: the optimizer of jaxnets; None for the equivalent of PyTorch's, by
            ``interop.optimizer_from_torch``.
        torch_loss: a function (outputs, labels) → scalar tensor; None for the equivalent of
            ``loss``, if that is one of ``jaxnets.losses``.
        step: the training step of jaxnets, instead of a loss, such as one from ``in_turn``; see
            ``fit``.
        torch_step: PyTorch's training step: a function of (model, optimizers, batch) that trains
            and returns a dict of numbers, with at least ``"loss"``. They are compared with the
            metrics of ``step`` of the same names. The batch has the columns of the data set,
            ``"inputs"`` and ``"labels"``, as tensors or as tuples or dicts of tensors. Integers
            are converted to int64, except for uint8 inputs.
        torch_optimizers: with ``torch_step``, a function from the PyTorch network to the
            optimizers for ``torch_step``: one, or a tuple or dict of several.
        epochs: number of epochs.
        batch_size: number of examples in a batch.
        seeds: the seed of each pair; a number n stands for the seeds 0 to n - 1.
        transform: see ``fit``.
        augment: see ``fit``; also applied to PyTorch's batches.
        torch_inputs: a function from the data set's inputs to those of the PyTorch network; None
            for the result of ``transform``, with images as NCHW. With ``step`` the function gets
            the inputs of a batch, and None does not change them.
        paired: whether both networks have the same weights and batches; otherwise each framework
            draws its own. Always True with ``step``.
        weights_from: the framework that draws the initial weights of both, ``"jaxnets"`` or
            ``"torch"``. None for ``"torch"`` if ``jax_model`` is None, else ``"jaxnets"``.
        margin: the largest difference that counts as equivalent, of accuracy (0 to 1) or of the
            test loss. None for 0.003, or 1 % of PyTorch's mean test loss. Not allowed with
            ``step``, where it is 1 % of PyTorch's mean of each metric.
        control: whether to train PyTorch a second time, with another number of threads and the
            examples of each batch in reverse order; with ``step``, from weights that differ in
            their last bit.
        timing: whether to measure the time of one separate run in each framework; ignored with
            ``step``.
        device: PyTorch's device, such as ``"cpu"``; None for a GPU if JAX computes on one.
        directory: a folder that stores each finished training; trainings in it are not repeated.
            Changes of the data and settings are detected, but not changes in the code of
            networks, losses and transforms: after such a change, use another folder. Not allowed
            with ``step``.
        name: the name of the comparison; None for the class name of the jaxnets network.
        progress: see ``fit``.

    Returns:
        A ``Comparison``, or with ``step`` a ``StepComparison``. ``jaxnets.compare.report.write``
        writes either as a page.

    Raises:
        ValueError: if an argument is invalid, the networks do not have the same weights, the
            PyTorch network cannot be ported, or the folder contains another comparison.
        NonFiniteLossError: if jaxnets diverges in the timed run, or from all of the seeds that are
            trained at once. If only some seeds diverge, that is a finding.
        ImportError: if torch is not installed.
        Interrupted: a ``KeyboardInterrupt`` at Ctrl-C; finished trainings are kept.
    """
    torch = require("torch", extra="torch", feature="a comparison with PyTorch")
    with_loss: dict[str, Any] = {
        "loss": loss,
        "torch_loss": torch_loss,
        "optimizer": optimizer,
        "torch_optimizer": torch_optimizer,
        "transform": transform,
        "augment": augment,
    }
    with_step: dict[str, Any] = {
        "step": step,
        "torch_step": torch_step,
        "torch_optimizers": torch_optimizers,
    }
    of_steps = any(value is not None for value in with_step.values())
    if of_steps:
        only = {**with_loss, "margin": margin, "directory": directory, "paired": paired}
        _check_steps(with_step, only)
    else:
        _check_functions(with_loss)
    _check_data(data, name)
    check_positive("epochs", epochs)
    check_positive("batch_size", batch_size)
    if weights_from is None:
        weights_from = "torch" if jax_model is None else "jaxnets"
    terms = Terms(
        seeds=_seeds(seeds),
        paired=paired,
        weights_from=weights_from,
        margin=margin,
        device=device,
        control=control,
        timing=timing,
    )
    build_torch = _torch_builder(torch, torch_model)
    ported = jax_model is None
    if jax_model is None:
        if of_steps or torch_inputs is not None:
            expected = "a network, as step or torch_inputs is given"
            raise InputError("jax_model", expected, None)
        jax_model = _ported(torch_model, data, transform)
    build = _builder(jax_model)
    chosen = name or type(build(0)).__name__
    common: dict[str, Any] = {
        "name": chosen,
        "description": f"{chosen} on {data.name}",
        "build": build,
        "build_torch": build_torch,
        "data": data,
        "epochs": epochs,
        "batch_size": batch_size,
        "torch_inputs": torch_inputs,
    }
    if of_steps:
        return compared_steps(StepExperiment(**common, **with_step), terms, progress)
    place = None if directory is None else check_path("directory", directory, "a folder")
    return compared(_experiment(common, with_loss, ported=ported), terms, place, progress)


def _ported(
    torch_model: Any, data: Dataset, transform: Transform | None
) -> Callable[[nnx.Rngs], nnx.Module]:
    """Returns a function that makes the port of the PyTorch network."""
    from jaxnets.port.for_data import ported_for

    argument = f"inputs of {data.name}"
    inputs = single(argument, data.train.gather(np.arange(min(2, len(data.train))))[0])
    example = np.asarray(inputs if transform is None else transform(inputs))
    return ported_for(torch_model, example, argument="torch_model").build


def _experiment(common: dict[str, Any], with_loss: dict[str, Any], *, ported: bool) -> Experiment:
    """Makes an experiment with a loss, and fills in the arguments that are None."""
    import torch

    loss, optimizer = with_loss["loss"], with_loss["optimizer"]
    torch_loss = with_loss["torch_loss"] or loss_of(loss)
    if torch_loss is None:
        raise InputError("torch_loss", "PyTorch's loss, as loss is not one of jaxnets.losses", None)
    expected = "a function of parameters that makes a torch.optim.Optimizer"
    parameters = common["build_torch"]().parameters()
    theirs = called("torch_optimizer", expected, with_loss["torch_optimizer"], parameters)
    if not isinstance(theirs, torch.optim.Optimizer):
        raise InputError(
            "torch_optimizer", expected, f"a function that returns a {type(theirs).__name__}"
        )
    given = {**common, **with_loss, "torch_loss": torch_loss}
    given["optimizer"] = optimizer_from_torch(theirs) if optimizer is None else optimizer
    return Experiment(**given, ported=ported, settings=_settings(theirs, given))


def _check_steps(given: dict[str, Any], others: dict[str, Any]) -> None:
    """Checks the arguments of a step, and that no argument of a loss is given."""
    if given["step"] is None:
        raise InputError("step", "a step, as torch_step or torch_optimizers is given", None)
    check_step(given["step"])
    check_function("torch_step", given["torch_step"], TORCH_STEP)
    check_function("torch_optimizers", given["torch_optimizers"], TORCH_OPTIMIZERS)
    for argument, value in others.items():
        if value is not (True if argument == "paired" else None):
            raise InputError(argument, "the default with step", shown(value))


def _check_functions(given: dict[str, Any]) -> None:
    """Checks the functions of a loss, before any training starts."""
    check_loss(given["loss"])
    for argument in ("torch_loss", "torch_optimizer"):
        function = given[argument]
        if function is not None and (not callable(function) or isinstance(function, type)):
            raise InputError(argument, "a function or None", function)
    for argument in ("transform", "augment"):
        if given[argument] is not None:
            check_transforms(argument, (given[argument],))


def _check_data(data: Any, name: Any) -> None:
    if not isinstance(data, Dataset):
        raise InputError("data", "a Dataset", data)
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


def _settings(theirs: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that determine the results, as far as they can be written as text."""
    group = {name: value for name, value in theirs.param_groups[0].items() if name != "params"}
    plain = {name: value for name, value in group.items() if isinstance(value, int | float | tuple)}
    loss, transform, augment = (given[name] for name in ("loss", "transform", "augment"))
    return {
        "data": given["data"].name,
        "loss": getattr(loss, "__name__", repr(loss)),
        "optimizer": type(theirs).__name__,
        "optimizer_options": plain,
        "epochs": given["epochs"],
        "batch_size": given["batch_size"],
        "transform": None if transform is None else repr(transform),
        "augment": None if augment is None else repr(augment),
    }
