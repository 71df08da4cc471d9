"""The space of a search: parameters of a training, each with a range or with choices."""

import dataclasses
import inspect
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

from flax import nnx

from jaxnets.arrays import InputError, check_bool, check_number, entries, shown
from jaxnets.models import MODELS
from jaxnets.networks import OwnNetwork, arguments_of
from jaxnets.optimizers import OPTIMIZERS
from jaxnets.recipes import Recipe

if TYPE_CHECKING:
    import optuna

#: Arguments of the optimizer that have a short name.
_SHORT = ("lr", "momentum", "weight_decay")
#: Parameters whose ranges are logarithmic by default.
_RATES = ("lr", "weight_decay", "eps")
_DIGITS = 4  # significant digits of drawn floats, so that commands are readable
_RANGE = re.compile(r"\s*(?P<low>[^.,\s]\S*?)\s*\.\.\s*(?P<high>[^:\s]+)\s*(:(?P<scale>\w+))?\s*")
_FORMS = "a range such as 1e-4..1e-1, or choices such as 32,64,128"
NAMES = "lr, momentum, weight_decay, optimizer, batch_size, optimizer.NAME or model.NAME"


@dataclass(frozen=True)
class Between:
    """A range, which includes both ends.

    Args:
        low: the lower end.
        high: the upper end. If both ends are integers, values are integers.
        log: whether the scale is logarithmic rather than linear; both ends must then be positive.

    Raises:
        InputError: if an end is not finite, ``low`` is not below ``high``, or a logarithmic range
            is not positive.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        """Checks the ends."""
        for name in ("low", "high"):
            end, number = getattr(self, name), check_number(name, getattr(self, name))
            object.__setattr__(self, name, int(end) if isinstance(end, Integral) else number)
        object.__setattr__(self, "log", check_bool("log", self.log))
        if self.low >= self.high:
            raise InputError("range", "a lower end below the upper one", str(self))
        if self.log and self.low <= 0:
            expected = "a positive range, as its scale is logarithmic (or a..b:linear)"
            raise InputError("range", expected, str(self))

    def __str__(self) -> str:
        return f"{self.low!r}..{self.high!r}:{'log' if self.log else 'linear'}"

    @property
    def whole(self) -> bool:
        """Whether the values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def has(self, value: Any) -> bool:
        """Whether a value is in the range."""
        number = isinstance(value, int if self.whole else int | float)
        return number and not isinstance(value, bool) and self.low <= value <= self.high

    def drawn(self, trial: "optuna.Trial", name: str) -> Any:
        """Draws a value for an Optuna trial; floats have four significant digits."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        value = float(f"{trial.suggest_float(name, self.low, self.high, log=self.log):.{_DIGITS}g}")
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Choices:
    """A choice of values.

    Args:
        values: the values; a single value is fixed.
    """

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.values))

    def has(self, value: Any) -> bool:
        """Whether a value is one of the choices."""
        return _storable(value) in map(_storable, self.values)

    def drawn(self, trial: "optuna.Trial", name: str) -> Any:
        """Draws a value for an Optuna trial."""
        if len(self.values) == 1:
            return self.values[0]
        known = {_storable(value): value for value in self.values}
        return known[trial.suggest_categorical(name, list(known))]


def _storable(value: Any) -> Any:
    """Converts a value to one that Optuna can store: other types become text."""
    return value if isinstance(value, bool | int | float | str | None) else repr(value)


@dataclass(frozen=True)
class Space:
    """The parameters of a search, each with its range or choices.

    Args:
        parameters: a range or choices for each name. Names are ``lr``, ``momentum``,
            ``weight_decay``, ``optimizer``, ``batch_size``, ``optimizer.NAME`` for another argument
            of the optimizer and ``model.NAME`` for an argument of the network.
    """

    parameters: Mapping[str, Between | Choices]

    def __post_init__(self) -> None:
        """Checks the names and the kinds."""
        expected = f"a dict of ranges or choices, with the keys {NAMES}"
        if not isinstance(self.parameters, Mapping):
            raise InputError("parameters", expected, self.parameters)
        for name, values in self.parameters.items():
            if not isinstance(name, str) or not _is_name(name):
                raise InputError("space", NAMES, shown(name))
            if not isinstance(values, Between | Choices):
                raise InputError(name, "a Between or Choices", shown(values))

    @classmethod
    def of(cls, given: Any) -> "Space":
        """Makes a space from a dict of ranges and choices.

        Args:
            given: for each name a ``Between``, a sequence of choices, or text, such as
                ``{"lr": "1e-4..1e-1", "batch_size": [32, 64]}``. Text is a range ``a..b`` or
                choices ``a,b,c``. A range has integers if both ends are integers. Its scale is
                logarithmic for ``lr``, ``weight_decay`` and ``eps``, or if it ends in ``:log``.

        Raises:
            InputError: if a name, a range or choices are invalid, or nothing varies.
        """
        if isinstance(given, Space):
            return given
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            raise InputError("space", f"a dict with the keys {NAMES}", given)
        space = cls({name: _parameter(name, value) for name, value in given.items()})
        if not space.searched:
            raise InputError("space", "at least one range, or several choices", shown(dict(given)))
        return space

    def __str__(self) -> str:
        return "  ".join(f"{name} {values}" for name, values in self.parameters.items())

    @property
    def searched(self) -> list[str]:
        """The names of the parameters that are not fixed."""
        return [
            name
            for name, values in self.parameters.items()
            if isinstance(values, Between) or len(values.values) > 1
        ]

    def check(self, recipe: Recipe) -> None:
        """Checks that a recipe has these parameters.

        Raises:
            InputError: if an optimizer is unknown, a batch size is not a positive integer, or the
                optimizer or the network does not have an argument.
        """
        optimizers = self._choices("optimizer", recipe.optimizer)
        for optimizer in optimizers:
            if not isinstance(optimizer, str) or optimizer not in OPTIMIZERS:
                raise InputError("optimizer", f"one of {', '.join(OPTIMIZERS)}", shown(optimizer))
        taken = _arguments_of_network(recipe)
        for name in self.parameters:
            argument = name.removeprefix("model.")
            if argument != name and taken is not None and argument not in taken:
                raise InputError("space", f"model.NAME with one of {', '.join(taken)}", name)
            option = _option(name)
            if option is not None and not any(_takes(kind, option) for kind in optimizers):
                expected = f"an argument of {' or '.join(optimizers)}"
                raise InputError("space", expected, name)
        sizes = self.parameters.get("batch_size", Choices((1,)))
        ends = (sizes.low, sizes.high) if isinstance(sizes, Between) else sizes.values
        if not all(isinstance(size, int) and size > 0 for size in ends):
            raise InputError("batch_size", "positive integers", str(sizes))

    def _choices(self, name: str, usual: Any) -> tuple[Any, ...]:
        values = self.parameters.get(name, Choices((usual,)))
        return values.values if isinstance(values, Choices) else (str(values),)

    def drawn(self, trial: "optuna.Trial", recipe: Recipe) -> dict[str, Any]:
        """Draws a value for each parameter, except for those that the drawn optimizer lacks."""
        drawn: dict[str, Any] = {}
        first = sorted(self.parameters, key=lambda name: name != "optimizer")
        for name in first:
            option = _option(name)
            kind = drawn.get("optimizer", recipe.optimizer)
            if option is None or _takes(kind, option):
                drawn[name] = self.parameters[name].drawn(trial, name)
        return {name: drawn[name] for name in self.parameters if name in drawn}

    def start(self, recipe: Recipe) -> dict[str, Any]:
        """Returns the recipe's own values of the searched parameters, as Optuna stores them."""
        parts = {"model": recipe.model_options, "optimizer": recipe.optimizer_options}
        own = {
            f"{part}.{name}": v for part, options in parts.items() for name, v in options.items()
        }
        own |= {name: v for name, v in recipe.optimizer_options.items() if name in _SHORT}
        own |= {"optimizer": recipe.optimizer, "batch_size": recipe.batch_size}
        known = [name for name in self.searched if name in own]
        return {n: _storable(own[n]) for n in known if self.parameters[n].has(own[n])}

    def points(self) -> list[dict[str, Any]]:
        """Returns every combination of choices and integers, for a grid.

        The learning rate changes fastest.

        Raises:
            InputError: if a range is not of integers.
        """
        points: list[dict[str, Any]] = [{}]
        for name in sorted(self.searched, key=lambda name: name == "lr"):
            values = self.parameters[name]
            if isinstance(values, Between):
                if not values.whole:
                    expected = f"choices for {name} in a grid, such as 0.001,0.01,0.1"
                    raise InputError("space", expected, f"the range {values}")
                every: Sequence[Any] = range(int(values.low), int(values.high) + 1)
            else:
                every = [_storable(value) for value in values.values]
            points = [{**point, name: value} for point in points for value in every]
        return points


def _is_name(name: str) -> bool:
    known = name in (*_SHORT, "optimizer", "batch_size")
    return known or re.fullmatch(r"(model|optimizer)\.[^\W\d]\w*", name) is not None


def _parameter(name: str, given: Any) -> Between | Choices:
    """Makes the range or the choices of a parameter."""
    if isinstance(given, Between | Choices):
        return given
    try:
        if isinstance(given, str):
            return _parsed(name, given)
    except InputError as error:
        expected = error.expected if error.argument == "range" else _FORMS
        raise InputError(name, expected, given) from error
    values = entries(given)
    if not values or len({repr(value) for value in values}) < len(values):
        expected = "a Between, or a sequence of different choices"
        raise InputError(name, expected, shown(given))
    return Choices(values)


def _parsed(name: str, text: str) -> Between | Choices:
    """Parses a range or choices."""
    match = _RANGE.fullmatch(text)
    if match is None:
        values, named = arguments_of(text)
        if named or not values or len(set(map(repr, values))) < len(values):
            raise InputError(name, _FORMS, text)
        return Choices(values)
    low, high = _number(name, match["low"]), _number(name, match["high"])
    own = name.rpartition(".")[2]
    whole = isinstance(low, int) and isinstance(high, int) and own not in (*_RATES, "momentum")
    scale = match["scale"] or ("log" if own in _RATES else "linear")
    if scale not in ("log", "linear"):
        raise InputError("range", "a..b, a..b:log or a..b:linear", text)
    return Between(*((low, high) if whole else (float(low), float(high))), log=scale == "log")


def _number(name: str, word: str) -> float:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    raise InputError(name, _FORMS, word)


def _option(name: str) -> str | None:
    """Returns the optimizer's argument that a parameter sets; None if it sets none."""
    if name in _SHORT:
        return name
    option = name.removeprefix("optimizer.")
    return None if option == name else option


def _takes(optimizer: str, option: str) -> bool:
    return option in inspect.signature(OPTIMIZERS[optimizer]).parameters


def _arguments_of_network(recipe: Recipe) -> list[str] | None:
    """Returns the names of the network's arguments; None if it accepts any."""
    make = recipe.model.make if isinstance(recipe.model, OwnNetwork) else MODELS[recipe.model]
    # for a module class, inspect.signature would return that of Flax's metaclass
    called: Any = make
    made_by = called.__init__ if inspect.isclass(make) and issubclass(make, nnx.Module) else called
    parameters = inspect.signature(made_by).parameters.values()
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return None
    return [each.name for each in parameters if each.name not in ("self", "rngs", "param_dtype")]


def applied(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Returns the recipe with new values; another optimizer starts from its default options.

    Args:
        recipe: the recipe that is searched.
        values: the values, by the names of a ``Space``.
    """
    changes: dict[str, Any] = {
        name: values[name] for name in ("optimizer", "batch_size") if name in values
    }
    options = {} if "optimizer" in values else dict(recipe.optimizer_options)
    own = {option: value for name, value in values.items() if (option := _option(name))}
    changes["optimizer_options"] = options | own
    network = _of_network(values)
    if network and isinstance(recipe.model, OwnNetwork):
        changes["model"] = dataclasses.replace(
            recipe.model, arguments=_with_arguments(recipe.model.arguments, network)
        )
    elif network:
        changes["model_options"] = {**recipe.model_options, **network}
    return dataclasses.replace(recipe, **changes)


def _of_network(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix("model."): value
        for name, value in values.items()
        if name.startswith("model.")
    }


def _with_arguments(text: str, more: Mapping[str, Any]) -> str:
    """Adds keyword arguments to the arguments of a call, as text."""
    places, named = arguments_of(text)
    named = {**named, **more}
    return ", ".join([*map(repr, places), *(f"{name}={value!r}" for name, value in named.items())])


def flags(recipe: Recipe, values: Mapping[str, Any]) -> list[str]:
    """Returns the flags of ``jaxnets train`` that set these values."""
    words = []
    for name, value in values.items():
        kind, _, option = name.rpartition(".")
        if kind == "model" and isinstance(recipe.model, OwnNetwork):
            continue
        if kind:
            words += [f"--{kind}-option", f"{option}={value}".replace(" ", "")]
        else:
            words += [f"--{name.replace('_', '-')}", str(value)]
    network = _of_network(values)
    if network and isinstance(recipe.model, OwnNetwork):
        words += ["--args", _with_arguments(recipe.model.arguments, network)]
    return words


def in_words(values: Mapping[str, Any]) -> str:
    """Formats values on one line."""
    return "  ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def joined(words: Sequence[str]) -> str:
    """Joins the words of a command, quoted for a shell."""
    return shlex.join(words)
