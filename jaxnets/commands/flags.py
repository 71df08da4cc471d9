"""Flags shared by several commands, and their effect on a recipe."""

import ast
import dataclasses
import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from jaxnets import recipes
from jaxnets.arrays import InputError
from jaxnets.losses import LOSSES
from jaxnets.models import MODELS
from jaxnets.networks import OwnNetwork, arguments_of
from jaxnets.optimizers import OPTIMIZERS
from jaxnets.recipes import AUGMENTATIONS, RECIPES, SCHEDULERS, Recipe

_WORDS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    "none": None,
}
_LITERAL = re.compile(r"[\[({'\"]|[-+]?\d+$")  # the start of a literal, as opposed to a word


def complete_recipe(context: Any, parameter: Any, incomplete: str) -> list[str]:
    """Returns the names of recipes that begin with ``incomplete``, for shell completion."""
    return [name for name in RECIPES if name.startswith(incomplete)]


class KeyValue(click.ParamType):
    """KEY=VALUE, where the value is a Python literal or a word; yes, no, on, off are booleans."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        """Returns the key and the value."""
        key, _, text = value.partition("=")
        if not key or not text:
            self.fail(f"expected KEY=VALUE, got {_short(value)}", param, ctx)
        if text.lower() in _WORDS:
            return key, _WORDS[text.lower()]
        found = _literal(text)
        if not _is_plain(found):
            expected = "a number, a word, True, False, None or a tuple of these"
            self.fail(f"expected {expected} after {key}=, got {_short(text)}", param, ctx)
        return key, found


def _literal(text: str) -> Any:
    """Returns the value of a Python literal, ``...`` for an invalid literal, else the text."""
    try:
        with warnings.catch_warnings(action="ignore"):  # Python's SyntaxWarning for words like 1if
            return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ... if _LITERAL.match(text) else text
    except (RecursionError, MemoryError):
        return ...


def _is_plain(value: Any) -> bool:
    """Whether the value is of a type that a run's record can store."""
    if isinstance(value, int):
        return abs(value) < 2**63
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


class Scheduler(click.ParamType):
    """NAME or NAME:KEY=VALUE,KEY=VALUE: a schedule of the learning rate, and its arguments."""

    name = "NAME[:KEY=VALUE,…]"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str | None, dict[str, Any]]:
        """Returns the schedule's name, None for a constant learning rate, and its arguments."""
        name, _, text = value.partition(":")
        found = _called(name)
        if found is None or (found == "none" and text):
            known = ", ".join(["none", *SCHEDULERS])
            self.fail(f"expected one of {known}, got {_short(value)}", param, ctx)
        pairs = _BETWEEN.split(text) if text else []
        options = dict(KeyValue().convert(pair, param, ctx) for pair in pairs)
        return (None if found == "none" else found), options


#: A comma that is not within brackets.
_BETWEEN = re.compile(r",(?![^(\[]*[)\]])")
#: PyTorch's names, where they differ from ours by more than hyphens and the suffix LR.
_ALIASES = {
    "cosineannealing": "cosine",
    "cosineannealingwarmrestarts": "cosine-restarts",
    "poly": "polynomial",
}


def _called(name: str) -> str | None:
    """Returns the schedule with this name or this PyTorch name, or None."""
    plain = name.lower().replace("-", "").replace("_", "").removesuffix("lr")
    names = {known.replace("-", ""): known for known in ("none", *SCHEDULERS)}
    return (names | _ALIASES).get(plain)


class CallArguments(click.ParamType):
    """Arguments as in a call: ``depth=20, widths=(8, 16), kind=lstm``."""

    name = "NAME=VALUE, …"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Returns the text unchanged, after checking that it can be parsed."""
        try:
            arguments_of(value)
        except InputError as error:
            self.fail(f"expected {error.expected}, got {_short(value)}", param, ctx)
        return str(value)


class NetworkName(click.ParamType):
    """The name of a built-in network, or FILE.py:Class for a network of the user's own.

    Args:
        ours: whether built-in networks are allowed.
    """

    def __init__(self, *, ours: bool = True) -> None:
        self._ours = tuple(MODELS) if ours else ()
        self.name = "NAME|FILE.py:Class" if ours else "FILE.py:Class"

    def convert(self, value: Any, param: Any, ctx: Any) -> str | OwnNetwork:
        """Returns the name, or the user's network; the file is imported later."""
        if isinstance(value, OwnNetwork) or value in self._ours:
            return value
        if ":" in value:
            return OwnNetwork.at(value, argument=param.name)
        expected = f"FILE.py:Class{' or one of ' * bool(self._ours)}{', '.join(self._ours)}"
        return self.fail(f"expected {expected}, got {_short(value)}", param, ctx)

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        """Returns the names of built-in networks that begin with ``incomplete``."""
        return [CompletionItem(name) for name in self._ours if name.startswith(incomplete)]


class PathArgument(click.ParamType):
    """A path that is valid on this system; the file need not exist."""

    name = "path"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """Returns the path."""
        path = Path(value)
        try:
            path.exists()
        except OSError as error:
            self.fail(f"expected a path, got {_short(value)}: {error.strerror}", param, ctx)
        if not str(value) or "\0" in str(value):
            self.fail(f"expected a path, got {_short(str(value))}", param, ctx)
        return path


class ImageSize(click.ParamType):
    """PIXELS, or HEIGHTxWIDTH."""

    name = "PIXELS"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | tuple[int, int]:
        """Returns the side of a square, or the height and the width."""
        match = re.fullmatch(r"(\d{1,9})(?:[x×,](\d{1,9}))?", str(value))
        if match is None:
            self.fail(f"expected PIXELS or HEIGHTxWIDTH, got {_short(str(value))}", param, ctx)
        height, width = match.groups()
        return int(height) if width is None else (int(height), int(width))


_Command = Callable[..., Any]

model_option = click.option(
    "--model-option",
    type=KeyValue(),
    multiple=True,
    help="Any argument of the network, such as hidden_dim=64 or features=(784,32,10).",
)
call_arguments = click.option(
    "--args",
    "arguments",
    type=CallArguments(),
    default="",
    help='Arguments of the class in FILE.py, such as "depth=20, widths=(8, 16)".',
)
data_dir = click.option(
    "--data-dir", type=PathArgument(), help="The data set's folder, or its parent folder."
)
image_size = click.option(
    "--size",
    type=ImageSize(),
    help="Resize a folder's images to this size, such as 64 or 48x64 (height and width).",
)
data_option = click.option(
    "--data-option",
    type=KeyValue(),
    multiple=True,
    help="Any argument of jaxnets.data.load, such as train=train[:90%] or label=kind.",
)

_MODEL = click.option(
    "--model",
    type=NetworkName(),
    metavar="NAME|FILE.py:Class",
    help=f"Another network, with its default options: {', '.join(MODELS)}; or FILE.py:Class, your "
    "own network in Flax NNX or PyTorch. The file is imported, so its code runs.",
)
_OURS_OR_TORCH = (
    click.option(
        "--model",
        type=click.Choice(list(MODELS)),
        help="Another network, with its default options.",
    ),
    click.option(
        "--torch",
        type=NetworkName(ours=False),
        metavar="FILE.py:Class",
        help="Your own PyTorch network, which is ported. The file is imported, so its code runs.",
    ),
)
_BATCH_SIZE = (click.option("--batch-size", type=int, help="Number of examples in a batch."),)
_DATA = (
    click.option("--data", help="Another data set: a path, or a name from jaxnets data list."),
    data_dir,
    image_size,
    data_option,
    click.option(
        "--layout",
        type=click.Choice(["images", "rows", "tokens", "log-mel", "columns"]),
        help="The form of the inputs: images, the rows of images as steps, the tokens of texts, or "
        "log-mel spectrograms of recordings, or columns of indices.",
    ),
)
_NETWORK = (model_option, *_BATCH_SIZE, *_DATA)
_EPOCHS = (click.option("--epochs", type=int, help="Number of passes over the training data."),)
_OPTIMIZER = (
    click.option("--lr", type=float, help="Learning rate."),
    click.option("--momentum", type=float, help="Momentum of sgd or rmsprop."),
    click.option("--weight-decay", type=float, help="Weight decay."),
    click.option(
        "--optimizer",
        type=click.Choice(list(OPTIMIZERS)),
        help="Another optimizer, with its default options.",
    ),
    click.option(
        "--optimizer-option", type=KeyValue(), multiple=True, help="Any argument of the optimizer."
    ),
)
_LOSS = (
    click.option("--loss", type=click.Choice(list(LOSSES)), help="Another loss."),
    click.option(
        "--normalize",
        type=(float, float),
        metavar="MEAN STD",
        help="Subtract the mean and divide by the standard deviation; 0 1 leaves pixels in [0, 1].",
    ),
    click.option(
        "--augment",
        type=click.Choice(list(AUGMENTATIONS)),
        multiple=True,
        help="Augment the training images; repeatable, applied in order.",
    ),
    click.option(
        "--buckets",
        type=int,
        help="Group texts of similar length into batches, padded to at most this many lengths.",
    ),
)
_TRAINING = (*_EPOCHS, *_OPTIMIZER, *_LOSS)
_SCHEDULE = (
    click.option(
        "--scheduler",
        type=Scheduler(),
        help=f"Schedule of the learning rate, starting from --lr: {', '.join(SCHEDULERS)} or none; "
        "with PyTorch's arguments in epochs, such as step:step_size=5,gamma=0.5. cosine and "
        "onecycle end with the last epoch by default.",
    ),
)
_TUNING = (
    click.option(
        "--freeze",
        multiple=True,
        metavar="PATTERN",
        help="Freeze these parameters: a layer such as conv1, or a pattern such as 'conv*' or "
        "'*.bias'; repeatable.",
    ),
    click.option(
        "--ema",
        type=float,
        metavar="DECAY",
        help="Use the exponential moving average of the weights, with a decay such as 0.999.",
    ),
    click.option(
        "--swa",
        type=int,
        metavar="EPOCHS",
        help="Use the mean of the weights at the ends of all epochs after the first EPOCHS.",
    ),
)
_SAVING = (
    click.option(
        "--out", type=PathArgument(), help="The new run directory, for record, curves and weights."
    ),
    click.option(
        "--save-every",
        type=int,
        metavar="STEPS",
        help="Save a checkpoint into --out every STEPS training steps.",
    ),
    click.option(
        "--save-minutes",
        type=float,
        metavar="MINUTES",
        help="Save a checkpoint into --out every MINUTES minutes.",
    ),
    click.option(
        "--keep", type=int, help="Number of the newest checkpoints to keep.  [default: 3]"
    ),
    click.option(
        "--resume",
        type=PathArgument(),
        metavar="DIR",
        help="Resume the run in the run directory DIR.",
    ),
)
_JOINING = (
    click.option(
        "--coordinator",
        metavar="HOST:PORT",
        help="The address of process 0; 'auto' detects the launcher, as jax.distributed does.",
    ),
    click.option("--processes", type=int, metavar="N", help="Number of processes of the run."),
    click.option("--process-id", type=int, metavar="I", help="Number of this process, from 0."),
)


def network_flags(command: _Command) -> _Command:
    """Adds the flags that determine the shapes in a network."""
    return added((_MODEL, call_arguments, *_NETWORK), command)


def recipe_flags(command: _Command) -> _Command:
    """Adds a flag for every setting of a recipe."""
    return added((*_TRAINING, _MODEL, call_arguments, *_NETWORK), command)


def fixed_flags(command: _Command) -> _Command:
    """Adds the flags of ``recipe_flags`` that are constant in a search."""
    return added((*_EPOCHS, *_LOSS, _MODEL, call_arguments, model_option, *_DATA), command)


def compared_flags(command: _Command) -> _Command:
    """Adds a flag for every setting of a recipe that can be compared with PyTorch."""
    return added((*_TRAINING, *_OURS_OR_TORCH, call_arguments, *_NETWORK), command)


def scheduler_flag(command: _Command) -> _Command:
    """Adds the flag that changes the learning rate."""
    return added(_SCHEDULE, command)


def tuning_flags(command: _Command) -> _Command:
    """Adds the flags that freeze parameters and average weights."""
    return added(_TUNING, command)


def saving_flags(command: _Command) -> _Command:
    """Adds the flags for the run directory and its checkpoints."""
    return added(_SAVING, command)


def take_saving(flags: dict[str, Any]) -> tuple[Path | None, Path | None, dict[str, Any]]:
    """Removes the flags of ``saving_flags`` from ``flags``.

    Returns:
        The value of --out, that of --resume, and the arguments of ``Saving`` that were given.
    """
    names = {"save_every": "steps", "save_minutes": "minutes", "keep": "keep"}
    taken = {name: flags.pop(flag) for flag, name in names.items()}
    saving = {name: value for name, value in taken.items() if value is not None}
    return flags.pop("out"), flags.pop("resume"), saving


def joining_flags(command: _Command) -> _Command:
    """Adds the flags by which several processes connect."""
    return added(_JOINING, command)


def added(flags: tuple[_Command, ...], command: _Command) -> _Command:
    """Adds flags to a command, which its help shows in this order."""
    for flag in reversed(flags):
        command = flag(command)
    return command


def named(name: str | None, flags: dict[str, Any]) -> Recipe | None:
    """Returns the recipe with this name, or one for the user's network in ``--model``.

    Args:
        name: the name of a recipe, or None.
        flags: the flags of the command.

    Returns:
        The recipe; None without a name and without a network of the user's own.

    Raises:
        UsageError: if a network of the user's own has no --data.
    """
    model = flags["model"]
    if name is not None or not isinstance(model, OwnNetwork):
        return None if name is None else recipes.recipe(name)
    if flags["data"] is None:
        raise click.UsageError(f"Missing option '--data' for {model.name}.")
    return recipes.of_own(model, flags["data"])


def changed(recipe: Recipe, flags: dict[str, Any]) -> Recipe:
    """Returns the recipe with the changes of the flags.

    Another network, data set or optimizer starts from its default options, not the recipe's.
    """
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    text, model = given.pop("arguments"), given.get("model")
    if isinstance(model, OwnNetwork):
        given["model"] = dataclasses.replace(model, arguments=text)
        if "model_option" in given:
            raise click.UsageError("--model-option cannot be used with FILE.py:Class: use --args.")
    elif text:
        raise click.UsageError("--args requires your own network, FILE.py:Class.")
    if "scheduler" in given:
        given["scheduler"], given["scheduler_options"] = given["scheduler"]
    for part, short in _SHORT.items():
        name = f"{part}_options"
        options = dict(getattr(recipe, name))
        if part in given:  # how recordings are read also decides how their spectrograms are made
            kept = _OF_SOUND if part == "data" and recipe.layout == "log-mel" else ()
            options = {key: value for key, value in options.items() if key in kept}
        options |= {key: given.pop(key) for key in short if key in given}
        given[name] = options | dict(given.pop(f"{part}_option", ()))
    return dataclasses.replace(recipe, **given)


_OF_SOUND = ("sample_rate", "seconds", "lengths", "join")
#: The options of each part of a recipe that have a separate flag.
_SHORT = {
    "model": (),
    "data": ("data_dir", "size"),
    "optimizer": ("lr", "momentum", "weight_decay"),
}
