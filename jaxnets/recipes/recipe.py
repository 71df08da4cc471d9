"""One experiment as a frozen value."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxnets.arrays import InputError, check_integer, check_number, check_positive
from jaxnets.data import Dataset
from jaxnets.networks import OwnNetwork

OPTIONS = ("data_options", "model_options", "optimizer_options", "scheduler_options")
"""The fields of a recipe that contain arguments by name."""
_STRINGS = (
    *("name", "document", "expect", "data", "model", "loss", "objective", "optimizer", "layout"),
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment: everything that determines its numbers, except for the seed.

    Attributes:
        name: the name on the command line.
        document: the page or paper that the experiment reproduces, and what differs from it.
        expect: the score and the training time to expect. For a documented recipe with a record
            in ``measured.json``, the recorded figures come first.
        score: the test metric that the recipe is judged by; None for the accuracy if there is
            one, and else the loss.
        data: the name or the path of a data set, as ``jaxnets.data.load`` takes it.
        data_options: arguments of ``jaxnets.data.load``, such as ``data_dir`` or ``standardize``.
        model: a name in ``jaxnets.models.MODELS``, or a network of the user's own.
        model_options: arguments of the model. The sizes in a documented recipe are those of its
            own data; ``sized`` replaces them for other data.
        loss: a name in ``jaxnets.losses.LOSSES``, or ``"auto"``: cross-entropy for classes, mean
            squared error for values. Objectives other than ``"supervised"`` do not use it.
        objective: a name in ``OBJECTIVES``: what training minimizes, and by which steps.
        optimizer: a name in ``jaxnets.optimizers.OPTIMIZERS``.
        optimizer_options: arguments of the optimizer.
        scheduler: a name in ``SCHEDULERS``, or None for a constant learning rate. The schedule
            starts at the optimizer's learning rate; ``"onecycle"`` rises to it.
        scheduler_options: arguments of the schedule except for the learning rate. They count
            epochs, except for ``"onecycle"``, which counts steps. ``sized`` fills in the length
            of ``"cosine"`` and ``"onecycle"`` if it is missing.
        epochs: number of passes over the training data.
        batch_size: number of examples in a step.
        normalize: mean and standard deviation of the inputs, after pixels are scaled to [0, 1]:
            one number each, or one per channel. None leaves the inputs as they are.
        layout: ``"images"``; ``"rows"`` of images as time steps; ``"tokens"`` of texts;
            ``"log-mel"`` of sound, a spectrogram of 40 mel bands in decibels;
            ``"columns"``, such as the users and items of ratings, as they are; or ``"auto"``:
            tokens for texts, columns for ratings, images otherwise.
        augment: a name in ``AUGMENTATIONS``, or several, applied in order to the training images;
            None for no augmentation.
        buckets: see ``fit``; for texts.
        freeze: names of submodules, or patterns of parameter names, that are not trained; see
            ``jaxnets.transfer.unfrozen``.
        ema: decay of the exponential moving average of weights and buffers that the run ends with,
            or None for the weights of the last step. See ``jaxnets.averaging.ema``.
        swa: number of epochs after which weights are averaged: the run ends with the mean of the
            weights after each later epoch. None for the weights of the last step. See
            ``jaxnets.averaging.swa``.
    """

    name: str
    document: str
    expect: str = ""
    score: str | None = None
    data: str
    data_options: Mapping[str, Any] = field(default_factory=dict)
    model: str | OwnNetwork
    model_options: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "cross-entropy"
    objective: str = "supervised"
    optimizer: str = "sgd"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    scheduler: str | None = None
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int
    batch_size: int = 64
    normalize: tuple[float | Sequence[float], float | Sequence[float]] | None = None
    layout: Literal["images", "rows", "tokens", "log-mel", "columns", "auto"] = "images"
    augment: str | Sequence[str] | None = None
    buckets: int | None = None
    freeze: str | Sequence[str] = ()
    ema: float | None = None
    swa: int | None = None

    def __post_init__(self) -> None:
        """Checks the types of the values. Names are looked up when they are used."""
        for name in _STRINGS:
            own = name == "model" and isinstance(self.model, OwnNetwork)
            if not own and not isinstance(getattr(self, name), str):
                raise InputError(name, "a string", getattr(self, name))
        if isinstance(self.model, OwnNetwork) and self.model_options:
            expected = "none, as a network of your own has its arguments in args"
            raise InputError("model_options", expected, self.model_options)
        if self.score is not None and not isinstance(self.score, str):
            raise InputError("score", "the name of a metric or None", self.score)
        if self.scheduler is not None and not isinstance(self.scheduler, str):
            raise InputError("scheduler", "a name of SCHEDULERS or None", self.scheduler)
        for name in OPTIONS:
            options = getattr(self, name)
            if not isinstance(options, Mapping) or not all(isinstance(k, str) for k in options):
                raise InputError(name, "arguments by name", options)
        check_positive("epochs", self.epochs)
        check_positive("batch_size", self.batch_size)
        if self.buckets is not None:
            check_positive("buckets", self.buckets)
        pair = isinstance(self.normalize, tuple | list) and len(self.normalize) == 2
        if self.normalize is not None and not pair:
            raise InputError("normalize", "a mean and a standard deviation", self.normalize)
        if self.augment is not None and not _are_names(self.augment):
            raise InputError("augment", "names of AUGMENTATIONS", self.augment)
        if not _are_names(self.freeze):
            raise InputError("freeze", "names or patterns, such as 'conv*'", self.freeze)
        if self.ema is not None:
            check_number("ema", self.ema, least=0, most=1)
        if self.swa is not None:
            check_integer("swa", self.swa, least=0)
            if self.ema is not None or self.swa >= self.epochs:
                expected = f"fewer than the {self.epochs} epochs, and no ema beside it"
                raise InputError("swa", expected, self.swa)


def check_recipe(recipe: Any, data: Any = None) -> None:
    """Checks the types of a recipe and its data.

    Args:
        recipe: must be a ``Recipe``.
        data: must be a ``Dataset`` or None.

    Raises:
        ValueError: if one of them is something else.
    """
    if not isinstance(recipe, Recipe):
        raise InputError("recipe", "a Recipe, such as recipes.recipe('mnist-mlp')", recipe)
    if data is not None and not isinstance(data, Dataset):
        raise InputError("data", "a Dataset or None", data)


def _are_names(given: Any) -> bool:
    names = (given,) if isinstance(given, str) else given
    return isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)


#: A function that builds a training step from the options of its objective and of its update.
Builder = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]


def _no_settings(recipe: Recipe, data: Dataset) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Objective:
    """What training minimizes, and in which steps.

    Attributes:
        build: a function (options of the objective, options of the update) → step. The options are
            arguments of ``supervised`` and of ``minimize``.
        settings: a function (recipe, data) → further arguments of ``fit``, or of ``supervised``.
        data_options: arguments of ``jaxnets.data.load`` that a recipe need not give.
        is_compared: whether ``jaxnets compare`` can train with the same loss in PyTorch.
    """

    build: Builder
    settings: Callable[[Recipe, Dataset], dict[str, Any]] = _no_settings
    data_options: Mapping[str, Any] = field(default_factory=dict)
    is_compared: bool = False
