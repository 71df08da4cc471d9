"""The documented experiments: model, data, optimizer and epochs in one table."""

import dataclasses
import difflib
import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

import jax
import optax
from flax import nnx

from jaxnets.arrays import (
    InputError,
    called,
    check_integer,
    check_number,
    check_positive,
    check_seed,
    describe,
    entries,
    shown,
)
from jaxnets.averaging import Averaging, averaged, ema, swa, update_batch_norm
from jaxnets.data import (
    Augmentation,
    ColorJitter,
    Compose,
    CutMix,
    Dataset,
    ImageRows,
    Mixup,
    Normalize,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomRotation,
    StandardizedDataset,
    ToFloat,
    Transform,
    load,
)
from jaxnets.data.spec import single
from jaxnets.data.text import TextDataset
from jaxnets.interop import load_torch
from jaxnets.losses import LOSSES
from jaxnets.models import MODELS
from jaxnets.networks import OwnNetwork
from jaxnets.optimizers import (
    OPTIMIZERS,
    Schedule,
    constant_lr,
    cosine_annealing_lr,
    cosine_annealing_warm_restarts,
    exponential_lr,
    linear_lr,
    multi_step_lr,
    one_cycle_lr,
    per_epoch,
    polynomial_lr,
    step_lr,
    swalr,
)
from jaxnets.training import TrainingRun, TrainingRuns, evaluate, fit, minimize, supervised
from jaxnets.training.batching import Batching
from jaxnets.transfer import unfrozen

#: Which fields of a recipe hold arguments by name.
OPTIONS = ("data_options", "model_options", "optimizer_options", "scheduler_options")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment, with everything that determines its numbers except the seed.

    Attributes:
        name: as on the command line.
        document: the page that it reproduces, and what differs.
        expect: the accuracy to expect, PyTorch's beside it, and the time.
        data: the name or the path of a data set, as ``jaxnets.data.load`` takes it.
        data_options: the arguments of ``jaxnets.data.load``, such as ``data_dir`` or
            ``standardize``.
        model: a name of ``jaxnets.models.MODELS``, or a network of the user's own.
        model_options: the model's arguments. Sizes that a documented recipe gives are those of its
            own data: for others see ``sized``.
        loss: a name of ``jaxnets.losses.LOSSES``; ``"auto"`` is cross-entropy for classes and mean
            squared error for values, see ``sized``.
        optimizer: a name of ``jaxnets.optimizers.OPTIMIZERS``.
        optimizer_options: the optimizer's arguments.
        scheduler: a name of ``SCHEDULERS``, whose learning rate begins at, or for ``"onecycle"``
            rises to, that of the optimizer; None for a constant one.
        scheduler_options: the schedule's arguments except for the learning rate. They count epochs,
            in ``"onecycle"`` steps. The length of ``"cosine"`` and ``"onecycle"`` may be left to
            ``epochs``, see ``sized``.
        epochs: times through the training data.
        batch_size: examples in a step.
        normalize: mean and standard deviation of the inputs, after scaling pixels to [0, 1]; one
            number each, or one for each channel. None leaves them.
        layout: ``"images"`` as they are, their ``"rows"`` as time steps, or ``"tokens"`` of texts;
            ``"auto"`` is tokens for texts and images for all else, see ``sized``.
        augment: what training does to the images first: a name of ``AUGMENTATIONS``, or several,
            one after the other; None for nothing.
        buckets: see ``fit``; for texts.
        freeze: names of submodules, or patterns of parameters, that are not trained; see
            ``jaxnets.transfer.unfrozen``.
        ema: the decay of the weights' exponential moving average, with which the run ends, buffers
            included; None for the weights themselves. See ``jaxnets.averaging.ema``.
        swa: the run ends with the mean of the weights after each epoch that follows so many; None
            for the weights themselves. See ``jaxnets.averaging.swa``.
    """

    name: str
    document: str
    expect: str
    data: str
    data_options: Mapping[str, Any] = field(default_factory=dict)
    model: str | OwnNetwork
    model_options: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "cross-entropy"
    optimizer: str = "sgd"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    scheduler: str | None = None
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int
    batch_size: int = 64
    normalize: tuple[float | Sequence[float], float | Sequence[float]] | None = None
    layout: Literal["images", "rows", "tokens", "auto"] = "images"
    augment: str | Sequence[str] | None = None
    buckets: int | None = None
    freeze: str | Sequence[str] = ()
    ema: float | None = None
    swa: int | None = None

    def __post_init__(self) -> None:
        """Checks the kinds of values; the names are looked up when they are used."""
        for name in ("name", "document", "expect", "data", "model", "loss", "optimizer", "layout"):
            own = name == "model" and isinstance(self.model, OwnNetwork)
            if not own and not isinstance(getattr(self, name), str):
                raise InputError(name, "a string", getattr(self, name))
        if isinstance(self.model, OwnNetwork) and self.model_options:
            expected = "none, as a network of your own has its arguments in args"
            raise InputError("model_options", expected, self.model_options)
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


def _are_names(given: Any) -> bool:
    names = (given,) if isinstance(given, str) else given
    return isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)


#: What a recipe can do to its images in training. The mixing ones are for ten classes;
#: ``build_augmentation`` makes them for others.
AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Compose(),
    "shift": RandomCrop(28, padding=2),
    "crop-flip": Compose(RandomCrop(32, padding=4), RandomHorizontalFlip()),
    "flip": RandomHorizontalFlip(),
    "rotate": RandomRotation(10, "bilinear"),
    "affine": RandomAffine(10, (0.1, 0.1), (0.9, 1.1), interpolation="bilinear"),
    "jitter": ColorJitter(0.2, 0.2, 0.2, 0.05),
    "erase": RandomErasing(),
    "mixup": Compose(ToFloat(), Mixup(0.2, 10)),
    "cutmix": CutMix(1.0, 10),
}

#: Those that depend on the number of classes.
_OF_CLASSES: dict[str, Callable[[int], Augmentation]] = {
    "mixup": lambda classes: Compose(ToFloat(), Mixup(0.2, classes)),
    "cutmix": lambda classes: CutMix(1.0, classes),
}

#: The schedules of the learning rate that a recipe can name.
SCHEDULERS: dict[str, Callable[..., Schedule]] = {
    "step": step_lr,
    "multistep": multi_step_lr,
    "exponential": exponential_lr,
    "cosine": cosine_annealing_lr,
    "cosine-restarts": cosine_annealing_warm_restarts,
    "onecycle": one_cycle_lr,
    "linear": linear_lr,
    "constant": constant_lr,
    "polynomial": polynomial_lr,
    "swa": swalr,
}

_Run = TypeVar("_Run", bound=TrainingRun)

#: From a seed to a network's initial weights, with PyTorch's names and layouts, or their file.
InitialWeights = Callable[[int], Any]

_MNIST = (0.1307, 0.3081)
_FASHION = (0.2860, 0.3530)
_CIFAR = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_ROWS = {"input_dim": 28, "hidden_dim": 128, "n_layers": 2, "output_dim": 10}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="mnist-mlp",
            document="004, section 4: 784-128-64-10, normalised, SGD 0.01 with momentum 0.9",
            expect="97.9 % (PyTorch 97.7 to 98.1 %) in about 10 s on 2 CPU cores",
            data="mnist",
            model="mlp",
            model_options={"features": (784, 128, 64, 10)},
            optimizer_options={"lr": 0.01, "momentum": 0.9},
            epochs=10,
            normalize=_MNIST,
        ),
        Recipe(
            name="mnist-softmax-mlp",
            document=(
                "001, section 4: 784-128-10 ending in a softmax, pixels in [0, 1]; its cross "
                "entropy takes the probabilities for logits, as the document's code does"
            ),
            expect="93.8 % (PyTorch 93.8 %) in about 10 s on 2 CPU cores",
            data="mnist",
            model="mlp",
            model_options={"features": (784, 128, 10), "output": "softmax"},
            optimizer_options={"lr": 0.01, "momentum": 0.9},
            epochs=10,
        ),
        Recipe(
            name="mnist-lenet",
            document="003, section 3.2.3: LeNet, here normalised, SGD 0.01 with momentum 0.9",
            expect="99.1 % (seeds 0 to 2: 99.0 to 99.2 %) in about 65 s on 2 CPU cores",
            data="mnist",
            model="lenet",
            model_options={"in_channels": 1, "num_classes": 10, "image_size": 28},
            optimizer_options={"lr": 0.01, "momentum": 0.9},
            epochs=10,
            normalize=_MNIST,
        ),
        Recipe(
            name="mnist-lstm",
            document="002, section 3: the LSTM, here with ten logits over the rows of an image",
            expect="98.3 % (seeds 0 to 2: 98.2 to 98.4 %) in about 65 s on 2 CPU cores",
            data="mnist",
            model="recurrent-classifier",
            model_options={**_ROWS, "cell": "lstm"},
            optimizer="adam",
            optimizer_options={"lr": 0.001},
            epochs=3,
            normalize=_MNIST,
            layout="rows",
        ),
        Recipe(
            name="mnist-gru",
            document="002, section 3: the GRU in the LSTM's place",
            expect="98.6 % (seeds 0 to 2: 98.5 to 98.7 %) in about 50 s on 2 CPU cores",
            data="mnist",
            model="recurrent-classifier",
            model_options={**_ROWS, "cell": "gru"},
            optimizer="adam",
            optimizer_options={"lr": 0.001},
            epochs=3,
            normalize=_MNIST,
            layout="rows",
        ),
        Recipe(
            name="fashion-mnist-lenet",
            document="003, section 3.2.3: LeNet, here on Fashion-MNIST, normalised, Adam 0.001",
            expect="90.3 % (seed 1: 90.4 %) in about 100 s on 2 CPU cores",
            data="fashion_mnist",
            model="lenet",
            model_options={"in_channels": 1, "num_classes": 10, "image_size": 28},
            optimizer="adam",
            optimizer_options={"lr": 0.001},
            epochs=10,
            normalize=_FASHION,
        ),
        Recipe(
            name="cifar10-lenet",
            document=(
                "002, section 3: the CNN, three channels of 32×32; the document names no data and "
                "no optimizer, here they are CIFAR-10, normalised, and SGD 0.01 with momentum 0.9; "
                "images are mirrored at random"
            ),
            expect="66 % (seeds 0 and 1: 65.7, 66.4 %) in about 200 s on 2 CPU cores",
            data="cifar10",
            model="lenet",
            model_options={"in_channels": 3, "num_classes": 10, "image_size": 32},
            optimizer_options={"lr": 0.01, "momentum": 0.9},
            epochs=15,
            normalize=_CIFAR,
            augment="flip",
        ),
        Recipe(
            name="cifar10-image-classifier",
            document=(
                "000, section 3.2: pixels in [0, 1], SGD 0.001, batch 64, 10 epochs, as there; the "
                "document's network takes 100 inputs where an image has 3,072 values, is never "
                "given the second layer that its text names, and its gradients are never reset "
                "to zero; here they are as they must have been meant: 3072-64-10; images are "
                "mirrored at random"
            ),
            expect="34.8 % (not mirrored, as PyTorch: 34.8 %) in about 15 s on 2 CPU cores",
            data="cifar10",
            model="image-classifier",
            model_options={"input_size": 3072, "hidden_size": 64, "num_classes": 10},
            optimizer_options={"lr": 0.001},
            epochs=10,
            augment="flip",
        ),
        Recipe(
            name="sentiment-lstm",
            document=(
                "002, section 3: the LSTM with a sigmoid, on words; the document names no data, "
                "here they are sentences of film reviews (rt-polarity), a tenth held out by chance"
            ),
            expect="76.0 % of the tenth held out (75.5 to 76.5 %), in less than 50 s on 2 cores",
            data="rt-polarity",
            model="text-classifier",
            model_options={
                "embedding_dim": 128,
                "hidden_dim": 64,
                "dropout": 0.6,
                "bidirectional": True,
            },
            loss="binary-cross-entropy",
            optimizer="adamw",
            optimizer_options={"lr": 0.002, "weight_decay": 0.5},
            epochs=12,
            layout="tokens",
            buckets=2,
        ),
        Recipe(
            name="names-gru",
            document=(
                "002, section 3: the GRU in the LSTM's place, on the letters of family names in 18 "
                "languages, those of PyTorch's tutorial; each name counts once, a tenth is held out"
            ),
            expect="82.6 % of the tenth held out, in less than 20 s on 2 CPU cores",
            data="names",
            model="text-classifier",
            model_options={
                "embedding_dim": 64,
                "hidden_dim": 128,
                "dropout": 0.3,
                "output_dim": 18,
                "cell": "gru",
            },
            optimizer="adam",
            optimizer_options={"lr": 0.002},
            epochs=10,
            layout="tokens",
            buckets=2,
        ),
        Recipe(
            name="char-lstm",
            document=(
                "002, section 3: the LSTM, as PyTorch's word_language_model with characters for "
                "words, windows of 64 from a zero state; the last tenth of the text held out"
            ),
            expect=(
                "on tinyshakespeare 1.58 to 1.59 nats a character, 53 % of characters right, in "
                "about 2 minutes on 2 CPU cores"
            ),
            data="text",
            model="language-model",
            model_options={"embedding_dim": 64, "hidden_dim": 256},
            optimizer="adam",
            optimizer_options={"lr": 0.003},
            epochs=5,
            batch_size=32,
            layout="tokens",
        ),
        Recipe(
            name="linear-regression",
            document=(
                "002, section 3: one Linear from normal(0, 0.01), mean squared error, SGD 0.01; "
                "the document's inputs are not given, here they are a noisy line"
            ),
            expect="a test loss of 0.010, the variance of the noise, in about 2 s",
            data="linear",
            model="linear-regression",
            model_options={"init_std": 0.01},
            loss="mse",
            optimizer_options={"lr": 0.01},
            epochs=50,
        ),
        Recipe(
            name="engel-linear",
            document=(
                "002, section 3: one Linear from normal(0, 0.01), here from the income of 235 "
                "households to what they spend on food, standardised, by gradient descent on all "
                "of the training part at once"
            ),
            expect=(
                "a test loss of 0.1158 (RMSE 98.5 francs; that of the mean is 216.1): the line of "
                "least squares itself, to 1e-6, in about 2 s"
            ),
            data="engel",
            data_options={"standardize": True},
            model="linear-regression",
            model_options={"init_std": 0.01},
            loss="mse",
            optimizer_options={"lr": 0.25},
            epochs=30,
            batch_size=256,
        ),
        Recipe(
            name="elnino-lstm",
            document=(
                "002, section 3: the LSTM, here with one layer of 32 and an output that is a "
                "number: from two years of a sea's temperatures the next month's; the last fifth "
                "of the months held out"
            ),
            expect=(
                "a test loss of 0.044 to 0.054, which is 0.47 to 0.53 °C (seeds 0 to 4), where the "
                "month before has 1.18 °C, in about 3 s on 2 CPU cores"
            ),
            data="elnino",
            data_options={"standardize": True, "window": 24},
            model="recurrent-classifier",
            model_options={"hidden_dim": 32, "output": "logits"},
            loss="mse",
            optimizer="adam",
            optimizer_options={"lr": 0.01},
            epochs=30,
        ),
    )
}


def recipe(name: str) -> Recipe:
    """The recipe of this name.

    Args:
        name: one of those that ``jaxnets recipes`` lists.

    Raises:
        ValueError: if there is none; the message lists them, the nearest first.
    """
    if not isinstance(name, str) or name not in RECIPES:
        near = difflib.get_close_matches(shown(name), RECIPES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError("recipe", f"one of {', '.join(RECIPES)}", f"{shown(name)}{hint}")
    return RECIPES[name]


def of_own(network: OwnNetwork, data: str) -> Recipe:
    """A recipe for a network of the user's own: cross-entropy or mean squared error, and Adam.

    Args:
        network: the network.
        data: see ``Recipe``.
    """
    return Recipe(
        name=network.name,
        document=f"{network.target} on {data}",
        expect="no documented figure",
        data=data,
        model=network,
        loss="auto",
        optimizer="adam",
        optimizer_options={"lr": 0.001},
        epochs=10,
        layout="auto",
    )


def check_recipe(recipe: Any, data: Any = None) -> None:
    """Raises unless a recipe is one, and its data a data set, if there are any."""
    if not isinstance(recipe, Recipe):
        raise InputError("recipe", "a Recipe, such as recipes.recipe('mnist-mlp')", recipe)
    if data is not None and not isinstance(data, Dataset):
        raise InputError("data", "a Dataset or None", data)


def build_model(recipe: Recipe, seed: int = 0) -> nnx.Module:
    """The recipe's network with initial weights drawn from this seed.

    Args:
        recipe: which network, and its sizes.
        seed: draws the initial weights.

    Raises:
        ValueError: if the model is unknown or does not take one of its options.
    """
    check_recipe(recipe)
    if isinstance(recipe.model, OwnNetwork):
        return recipe.model.build(nnx.Rngs(check_seed("seed", seed)))
    return build_network(recipe.model, recipe.model_options, seed)


def build_network(name: str, options: Mapping[str, Any], seed: int = 0) -> nnx.Module:
    """A documented network with initial weights drawn from this seed.

    Args:
        name: a name of ``jaxnets.models.MODELS``.
        options: its arguments by name, except for ``rngs``.
        seed: draws the initial weights.

    Raises:
        ValueError: if the name is unknown, or the network does not take one of the options or
            lacks one.
    """
    check_seed("seed", seed)
    return _call(MODELS, name, "model", options, rngs=nnx.Rngs(seed))


def build_optimizer(recipe: Recipe, data: Dataset | None = None) -> optax.GradientTransformation:
    """The recipe's optimizer.

    Args:
        recipe: which, and its arguments.
        data: what is trained on, which tells how many steps of a schedule are an epoch; without
            it the optimizer has no schedule.

    Raises:
        ValueError: if it is unknown, or does not take one of its options.
    """
    check_recipe(recipe, data)
    options = dict(recipe.optimizer_options)
    if recipe.scheduler is not None and data is not None:
        options["lr"] = learning_rate(recipe, len(data.train))
    return _call(OPTIMIZERS, recipe.optimizer, "optimizer", options)


def learning_rate(recipe: Recipe, examples: int) -> Schedule | float | None:
    """The recipe's learning rate: a schedule, or a number if it is constant.

    Args:
        recipe: its optimizer and schedule; see ``sized`` for the length of a schedule.
        examples: how many it is trained on, which tells how many steps are an epoch.

    Returns:
        From the count of steps to the learning rate, or the rate itself; None of an optimizer that
        says none.

    Raises:
        ValueError: if the schedule is unknown, or does not take one of its options.
    """
    check_recipe(recipe)
    check_positive("examples", examples)
    kind = OPTIMIZERS.get(recipe.optimizer)
    usual = None if kind is None else inspect.signature(kind).parameters["lr"].default
    rate = recipe.optimizer_options.get("lr", usual)
    if recipe.scheduler is not None:
        return _schedule(recipe, rate, examples)
    return rate if isinstance(rate, int | float) else None


def load_data(recipe: Recipe) -> Dataset:
    """Loads the recipe's data.

    Args:
        recipe: names the data, and what ``jaxnets.data.load`` is told beside the name.

    Raises:
        ValueError: if they are nowhere to be found, or damaged, or an option is not one of
            ``load``.
    """
    check_recipe(recipe)
    return load_named(recipe.data, recipe.data_options)


def load_named(name: str, options: Mapping[str, Any]) -> Dataset:
    """A data set, with options as a command is given them.

    Args:
        name: its name or path.
        options: arguments of ``jaxnets.data.load`` by name.

    Raises:
        ValueError: if it is nowhere to be found, or damaged, or an option is not one of ``load``.
    """
    return _call({name: partial(load, name)}, name, "data", options)


def sized(recipe: Recipe, data: Dataset) -> Recipe:
    """The recipe with the sizes that depend on its data filled in.

    These are what goes into the network (values, channels, pixels, tokens) and what comes out
    (classes, or values to predict). A size that the recipe says itself stays; but the sizes of a
    documented recipe are those of its documented data, and others replace them. Of the schedules
    ``"cosine"`` and ``"onecycle"`` it is the length: all epochs of the recipe. A network of the
    user's own has its sizes; a loss or a layout that is ``"auto"`` becomes that of the data.

    Args:
        recipe: what leaves sizes open.
        data: what decides them.

    Raises:
        ValueError: if no network of the recipe's kind fits the data.
    """
    check_recipe(recipe, data)
    if data is None:
        raise InputError("data", "a Dataset", data)
    recipe = _settled(recipe, data)
    options = dict(recipe.model_options)
    documented = RECIPES.get(recipe.name)
    usual = documented.model_options if documented and documented.model == recipe.model else {}
    for name, size in _sizes(recipe, data).items():
        said = options.get(name)
        if name == "features":
            options[name] = _features(said, usual.get(name), size)
        elif size is not None and (said is None or said == usual.get(name)):
            options[name] = size
    schedule = _lengths(recipe) | dict(recipe.scheduler_options)
    return dataclasses.replace(recipe, model_options=options, scheduler_options=schedule)


def _settled(recipe: Recipe, data: Dataset) -> Recipe:
    """The recipe with the loss and the layout of its data, where it leaves them to those."""
    loss, layout = recipe.loss, recipe.layout
    if loss == "auto":
        labels = single(f"labels of {data.name}", data.spec.labels)
        loss = "mse" if labels.dtype.kind == "f" else "cross-entropy"
    if layout == "auto":
        layout = "tokens" if isinstance(data, TextDataset) else "images"
    return dataclasses.replace(recipe, loss=loss, layout=layout)


def _lengths(recipe: Recipe) -> dict[str, int]:
    """How long a schedule takes that says nothing of it."""
    if recipe.scheduler == "onecycle" and "total_steps" not in recipe.scheduler_options:
        return {"epochs": recipe.epochs}
    return {"T_max": recipe.epochs} if recipe.scheduler == "cosine" else {}


def _sizes(recipe: Recipe, data: Dataset) -> dict[str, Any]:
    """By the names of the network's arguments, the sizes that the data decide; None if unknown."""
    leaving = _leaving(recipe, data)
    if isinstance(recipe.model, OwnNetwork):
        return {}
    if recipe.model in ("text-classifier", "language-model"):
        sizes = {"vocab_size": len(data.vocabulary) if isinstance(data, TextDataset) else None}
        return sizes | ({"output_dim": leaving} if recipe.model == "text-classifier" else {})
    if recipe.model not in _ENTERING or isinstance(data, TextDataset):
        return {}
    shape = _entering(recipe, data)
    entering = math.prod(shape)
    if recipe.model == "lenet":
        if len(shape) != 3:
            return {}
        if shape[0] != shape[1]:
            expected = "square images [size, size, channels], as LeNet takes"
            raise InputError("data", expected, f"examples {list(shape)} of {data.name}")
        return {"image_size": shape[0], "in_channels": shape[2], "num_classes": leaving}
    if recipe.model == "mlp":
        return {"features": (entering, leaving)}
    if recipe.model == "recurrent-classifier":
        if len(shape) == 1:
            expected = "examples [time, features], as window=24 makes of a table"
            raise InputError("data", expected, f"examples {list(shape)}")
        entering = shape[-1]
    return dict(zip(_ENTERING[recipe.model], (entering, leaving), strict=True))


#: What the networks call the number of values that go in, and that of those which come out.
_ENTERING: dict[str, tuple[str, ...]] = {
    "image-classifier": ("input_size", "num_classes"),
    "lenet": (),
    "linear-regression": ("in_features", "out_features"),
    "mlp": (),
    "recurrent-classifier": ("input_dim", "output_dim"),
}
_HIDDEN = (128, 64)  # of an MLP that is told no features, as its document has them


def _features(said: Any, usual: Any, ends: tuple[int, int | None]) -> Any:
    """The features of an MLP, with the ends that the data decide where it leaves them open."""
    if said is None:
        said = (None, *_HIDDEN, None)
    if not isinstance(said, tuple | list) or len(said) < 2:
        return said
    open_ends = (None, None) if usual is not None and tuple(said) == tuple(usual) else said
    first = said[0] if open_ends[0] is not None else ends[0]
    last = said[-1] if open_ends[-1] is not None or ends[1] is None else ends[1]
    return (first, *said[1:-1], last)


def _entering(recipe: Recipe, data: Dataset) -> tuple[int, ...]:
    """The shape of an example as it goes into the network."""
    spec = single(f"inputs of {data.name}", data.spec.inputs)
    means = recipe.normalize and recipe.normalize[0]
    if isinstance(means, tuple | list) and len(means) not in (1, *spec.shape[-1:]):
        expected = f"one mean and standard deviation, or one for each channel of {describe(spec)}"
        raise InputError("normalize", expected, recipe.normalize)
    batch = jax.ShapeDtypeStruct((1, *spec.shape), spec.dtype)
    shape: tuple[int, ...] = jax.eval_shape(build_transform(recipe), batch).shape[1:]
    return shape


def _leaving(recipe: Recipe, data: Dataset) -> int | None:
    """How many values the network is to give for an example; None if that cannot be known."""
    labels = single(f"labels of {data.name}", data.spec.labels)
    shape, classes = labels.shape, _num_classes(data)
    if recipe.loss in _OF_TWO_CLASSES and classes is not None:
        if math.prod(shape) == 1 and classes > 2:
            expected = f"two classes, for the loss {recipe.loss} (cross-entropy takes more)"
            raise InputError(f"labels of {data.name}", expected, f"{classes} classes")
        return math.prod(shape)
    return math.prod(shape) if labels.dtype.kind == "f" else classes


def _num_classes(data: Dataset) -> int | None:
    """The number of classes; None of values, and where it is not known before all is read."""
    try:
        return data.num_classes
    except InputError:  # of streamed examples, whose labels are read with them
        return None


#: Losses that measure a distance.
_OF_VALUES = ("huber", "l1", "mse", "smooth-l1")
_OF_TWO_CLASSES = ("binary-cross-entropy", "binary-cross-entropy-with-logits")


def build_transform(recipe: Recipe) -> Transform:
    """The transform of the recipe's inputs.

    Args:
        recipe: its layout and normalization decide.

    Raises:
        ValueError: if the layout is unknown, or tokens are to be normalized.
    """
    check_recipe(recipe)
    if recipe.layout == "tokens":
        if recipe.normalize is not None:
            raise InputError("normalize", "None, as tokens are no quantities", recipe.normalize)
        return Compose()
    steps: list[Transform] = [ToFloat()]
    if recipe.normalize is not None:
        steps.append(Normalize(*recipe.normalize))
    if recipe.layout not in ("images", "rows"):
        raise InputError("layout", "'images', 'rows' or 'tokens'", recipe.layout)
    if recipe.layout == "rows":
        steps.append(ImageRows())
    return Compose(*steps)


def build_augmentation(recipe: Recipe, data: Dataset | None = None) -> Augmentation | None:
    """The augmentation of the recipe's images.

    Args:
        recipe: its ``augment`` decides.
        data: decides the number of classes that are mixed; None for ten.

    Raises:
        ValueError: if a name is unknown.
    """
    check_recipe(recipe, data)
    if recipe.augment is None:
        return None
    names = [recipe.augment] if isinstance(recipe.augment, str) else recipe.augment
    for name in names:
        if name not in AUGMENTATIONS:
            raise InputError("augment", f"one of {', '.join(AUGMENTATIONS)}", shown(name))
    return Compose(*(_augmentation(name, data) for name in names))


def _augmentation(name: str, data: Dataset | None) -> Augmentation:
    classes = None if data is None else _num_classes(data)
    if classes is None or name not in _OF_CLASSES:
        return AUGMENTATIONS[name]
    return _OF_CLASSES[name](classes)


def train(
    recipe: Recipe,
    *,
    seed: int = 0,
    data: Dataset | None = None,
    weights: InitialWeights | None = None,
    **options: Any,
) -> TrainingRun:
    """Trains a recipe's network.

    Args:
        recipe: what to train, and how.
        seed: draws the initial weights, the order of the examples, augmentation and dropout.
        data: the data in place of the recipe's; they decide its sizes, see ``sized``.
        weights: from the seed to the initial weights, with PyTorch's names and layouts, in place of
            those that it draws.
        **options: what ``jaxnets.training.fit`` takes and no recipe decides: ``devices``,
            ``sharding``, ``accumulate``, ``compute_dtype``, ``save``, ``resume``,
            ``callbacks``, ``non_finite``, ``progress``.

    Raises:
        ValueError: if the recipe does not fit together.
    """
    check_seed("seed", seed)
    data, settings = fit_settings(recipe, data)
    model = initial_model(sized(recipe, data), seed, weights)
    told = _with_step(recipe, model, data, {**settings, **options})
    run: TrainingRun = fit(model, data, seed=seed, **told)
    return _with_average(recipe, run, data, told)


def train_many(
    recipe: Recipe,
    *,
    seeds: int | Sequence[int],
    learning_rates: Sequence[float] | None = None,
    data: Dataset | None = None,
    weights: InitialWeights | None = None,
    **options: Any,
) -> TrainingRuns:
    """Trains a recipe's network from many seeds together; each run is the one that ``train`` makes.

    Args:
        recipe: what to train, and how.
        seeds: see ``fit``.
        learning_rates: see ``fit``.
        data: see ``train``.
        weights: see ``train``.
        **options: those of ``train`` that go with seeds.

    Raises:
        ValueError: if the recipe does not fit together, or something does not go with seeds.
    """
    data, settings = fit_settings(recipe, data)
    network = sized(recipe, data)
    following = iter(range(seeds) if isinstance(seeds, int) else entries(seeds) or ())

    def build(rngs: nnx.Rngs) -> nnx.Module:  # once for each seed, in their order
        return initial_model(network, next(following), weights)

    told = _with_step(recipe, build_model(network), data, {**settings, **options})
    runs: TrainingRuns = fit(build, data, seeds=seeds, learning_rates=learning_rates, **told)
    members = [
        _with_average(recipe, member, data, told) if member.diverged is None else member
        for member in runs.members
    ]
    return dataclasses.replace(runs, members=tuple(members))


def _with_step(
    recipe: Recipe, model: nnx.Module, data: Dataset, told: dict[str, Any]
) -> dict[str, Any]:
    """What ``fit`` is told, with a step where some of the network is frozen, or it is averaged."""
    if not recipe.freeze and recipe.ema is None and recipe.swa is None:
        return told
    told = dict(told)
    of_loss = ("loss", "transform", "augment", "compute_dtype")
    objective = supervised(**{name: told.pop(name) for name in of_loss if name in told})
    of_update = ("optimizer", "accumulate", "non_finite")
    update = {name: told.pop(name) for name in of_update if name in told}
    if recipe.freeze:
        patterns = (recipe.freeze,) if isinstance(recipe.freeze, str) else recipe.freeze
        update["wrt"] = unfrozen(model, *patterns)
    step: Any = minimize(objective, **update)
    if recipe.ema is not None:
        step = ema(step, recipe.ema, use_buffers=True)
    if recipe.swa is not None:
        batching = Batching(
            data=data,
            batch_size=recipe.batch_size,
            shuffle=True,
            drop_last=False,
            buckets=recipe.buckets,
        )
        steps = batching.steps
        step = swa(step, start=recipe.swa * steps, every=steps)
    return {**told, "step": step}


def _with_average(recipe: Recipe, run: _Run, data: Dataset, told: Mapping[str, Any]) -> _Run:
    """The run with its averaged weights, and the test of them, where it has some."""
    step = told.get("step")
    if not isinstance(step, Averaging):
        return run
    if not run.state.optimizer_state.n_averaged:
        text = f"the run ended before epoch {recipe.swa} did: its weights are not averaged"
        warnings.warn(text, UserWarning, stacklevel=3)
        return run
    model = averaged(run)
    if recipe.swa is not None:
        transform, size = build_transform(recipe), recipe.batch_size
        model = update_batch_norm(model, data.train, transform=transform, batch_size=size)
    test = evaluate(model, data.test, step.evaluation)
    return dataclasses.replace(run, model=model, test=test)


def initial_model(network: Recipe, seed: int, weights: InitialWeights | None) -> nnx.Module:
    """The network as training begins.

    Args:
        network: a recipe with its sizes.
        seed: draws what ``weights`` do not give.
        weights: see ``train``.
    """
    model = build_model(network, seed)
    if weights is not None:
        expected = "a function from a seed to weights by PyTorch's names"
        load_torch(model, called("weights", expected, weights, seed))
    return model


def fit_settings(recipe: Recipe, data: Dataset | None) -> tuple[Dataset, dict[str, Any]]:
    """The data of a recipe, and its arguments of ``fit`` except the model.

    Raises:
        ValueError: if they do not fit together.
    """
    check_recipe(recipe, data)
    if recipe.loss not in LOSSES and recipe.loss != "auto":
        raise InputError("loss", f"one of {', '.join(LOSSES)}", shown(recipe.loss))
    build_optimizer(recipe)  # refused before data are read
    data = load_data(recipe) if data is None else data
    recipe = _settled(recipe, data)
    if recipe.loss in _OF_VALUES and _num_classes(data) is not None and not _mixes(recipe):
        expected = "values to predict, as regression=True makes of a table's whole numbers"
        raise InputError(f"labels of {data.name}", expected, f"classes, for the loss {recipe.loss}")
    return data, {
        "loss": LOSSES[recipe.loss],
        "optimizer": build_optimizer(sized(recipe, data), data),
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "transform": build_transform(recipe),
        "augment": build_augmentation(recipe, data),
        "buckets": recipe.buckets,
    }


def _schedule(recipe: Recipe, rate: Any, examples: int) -> Schedule:
    """The recipe's schedule, from the count of steps to the learning rate."""
    name, steps = str(recipe.scheduler), -(-examples // recipe.batch_size)
    if name == "onecycle":  # which counts steps in PyTorch, too
        given = {"max_lr": rate}
        if "epochs" in recipe.scheduler_options:
            given["steps_per_epoch"] = steps
        return _call(SCHEDULERS, name, "scheduler", recipe.scheduler_options, **given)
    schedule = _call(SCHEDULERS, name, "scheduler", recipe.scheduler_options, lr=rate)
    return per_epoch(schedule, steps)


def _mixes(recipe: Recipe) -> bool:
    """Whether augmentation makes probabilities of class numbers."""
    names = [recipe.augment] if isinstance(recipe.augment, str) else recipe.augment or ()
    return not {"mixup", "cutmix"}.isdisjoint(names)


def error_in_units(recipe: Recipe, run: TrainingRun, data: Dataset) -> float | None:
    """The root of the mean squared test error, in the units that the labels had.

    None where the loss is another, or where the labels have several units.

    Args:
        recipe: whose loss it is.
        run: whose test error.
        data: what it was trained and tested on.
    """
    if recipe.loss != "mse":
        return None
    scaler = data.labels_scaler if isinstance(data, StandardizedDataset) else None
    scales = (1.0,) if scaler is None else scaler.std
    return scales[0] * math.sqrt(run.test.loss) if len(scales) == 1 else None


def _call(
    table: Mapping[str, Any], name: str, kind: str, options: Mapping[str, Any], **given: Any
) -> Any:
    """Calls an entry of a table with a user's options, and names one that does not fit.

    What is given beside them is no option.
    """
    if not isinstance(name, str) or name not in table:
        raise InputError(kind, f"one of {', '.join(table)}", shown(name))
    if not isinstance(options, Mapping):
        raise InputError("options", "arguments by name", options)
    # of a module class itself, signature sees Flax's metaclass
    entry = table[name]
    signature = inspect.signature(entry.__init__ if inspect.isclass(entry) else entry)
    taken = {
        option: parameter
        for option, parameter in signature.parameters.items()
        if option not in ("self", "param_dtype", *given)
    }
    for option, value in options.items():
        if option not in taken:
            raise InputError(f"{kind} option", f"one of {', '.join(taken)} for {name}", option)
        if taken[option].annotation is bool and not isinstance(value, bool):
            raise InputError(option, "True or False", shown(value))
    needed = [option for option, parameter in taken.items() if parameter.default is parameter.empty]
    missing = [option for option in needed if option not in options]
    if missing:
        raise InputError(f"{kind} option", f"{', '.join(needed)} for {name}", f"no {missing[0]}")
    return entry(**options, **given)
