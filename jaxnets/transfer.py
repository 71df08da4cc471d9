"""Transfer learning: pretrained weights, frozen layers, layer-wise learning rates, and LoRA."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxnets import initializers, interop
from jaxnets.arrays import (
    ArrayLike,
    InputError,
    called,
    check_integer,
    check_number,
    check_positive,
    shortened,
    shown,
)
from jaxnets.interop.entries import Entry, entries
from jaxnets.interop.loading import Source
from jaxnets.interop.report import Report, listed
from jaxnets.layers import Linear
from jaxnets.optimizers import param_groups
from jaxnets.training.evaluation import check_model
from jaxnets.training.state import check_optimizer

_WEIGHTS = nnx.Not(nnx.RngState)


@dataclasses.dataclass(frozen=True)
class Transfer:
    """A report of ``load_pretrained``: which weights were loaded, and which were not.

    Attributes:
        report: the report of ``jaxnets.interop.load_torch``.
        loaded: the names, in PyTorch, of the weights that were loaded.
        new: for the name of each weight that keeps its initial value, the reason.
        unused: for the name of each array of the source that was not used, its shape.
    """

    report: Report
    loaded: tuple[str, ...]
    new: Mapping[str, str]
    unused: Mapping[str, str]

    def __str__(self) -> str:
        into = f"{self.report.source} loaded into {self.report.model}"
        lines = [f"{len(self.loaded)} arrays of {into}"]
        new = [f"{name} ({why})" for name, why in self.new.items()]
        unused = [f"{name} {what}" for name, what in self.unused.items()]
        lines += [f"new: {listed(new)}"] if new else []
        lines += [f"not used: {listed(unused)}"] if unused else []
        return "\n  ".join(lines)


def load_pretrained(
    model: nnx.Module, source: nnx.Module | Source, *, head: str | Sequence[str] = ()
) -> Transfer:
    """Loads those weights of another network whose names and shapes match.

    Other weights, such as those of a last layer for other classes, keep their initial values and
    are listed in the report. If all weights have to match, use ``jaxnets.interop.load_torch``.

    Args:
        model: the network to load weights into, changed in place.
        source: a network, or a source that ``load_torch`` accepts, such as a state_dict or a file.
        head: names of submodules, or patterns such as ``"fc*"``, that keep their initial values
            even if weights match.

    Returns:
        A report of the loaded, new and unused weights, to print.

    Raises:
        InputError: if no weight matches, or ``head`` matches no submodule.

    Examples:
        >>> from jaxnets import MLP
        >>> digits, letters = (MLP((9, 4, n), rngs=nnx.Rngs(n)) for n in (10, 26))
        >>> print(load_pretrained(letters, digits))  # doctest: +ELLIPSIS
        2 arrays of MLP loaded into MLP
          new: fc2.weight (is float32[10, 4], not float32[26, 4] ...
    """
    check_model(model)
    origin = type(source).__name__ if isinstance(source, nnx.Module) else ""
    arrays = interop.to_numpy(source) if isinstance(source, nnx.Module) else source
    patterns = _patterns("head", head)
    weights = entries(model)
    named = {name: (*entry.theirs, *entry.ours) for entry in weights for name in entry.theirs}
    _check_matches("head", patterns, named)
    of_head = {name for e in weights if _is_match(e, patterns) for name in e.theirs}
    filled = nnx.clone(model)
    report = interop.load_torch(filled, arrays, strict=False)
    report = dataclasses.replace(report, source=origin or report.source)
    loaded = [name for name in report.loaded if name not in of_head]
    if not loaded:
        raise InputError("source", "weights that fit outside of the head", "none that fit")
    after = {entry.ours: entry for entry in entries(filled)}
    for entry in weights:
        if _is_match(entry, patterns):
            for new, old in zip(after[entry.ours].variables, entry.variables, strict=True):
                new.set_value(old.get_value())
    nnx.update(model, nnx.state(filled, _WEIGHTS))
    kept = {name: "part of the head" for name in report.loaded if name not in loaded}
    missing = {name: f"{what}, not in the source" for name, what in report.missing.items()}
    new = {**kept, **missing, **report.mismatched}
    return Transfer(report, tuple(loaded), new, report.unexpected)


@dataclasses.dataclass(frozen=True)
class Unfrozen:
    """A filter for ``nnx.state`` that excludes variables by their dotted paths."""

    frozen: tuple[str, ...]

    def __call__(self, path: Any, value: Any) -> bool:
        """Whether the variable at a path is trained."""
        return ".".join(map(str, path)) not in self.frozen


def unfrozen(model: nnx.Module, *patterns: str) -> Unfrozen:
    """Returns a filter for ``minimize(wrt=...)`` that freezes the parameters of some names.

    Frozen parameters do not change, like those with ``requires_grad_(False)`` in PyTorch. Running
    statistics of frozen layers are still updated, as in PyTorch; ``minimize(frozen=...)`` freezes
    the statistics too.

    Args:
        model: the network, to check the patterns against.
        *patterns: names of submodules, or patterns of parameters such as ``"conv*"`` or
            ``"*.bias"``. They are matched with dotted paths and with the names in PyTorch.

    Returns:
        A filter that is true for the other parameters.

    Raises:
        InputError: if a pattern matches no parameter, or all parameters are frozen.

    Examples:
        >>> from jaxnets import MLP, losses, optimizers
        >>> from jaxnets.training import minimize, supervised
        >>> model = MLP((4, 8, 2), rngs=nnx.Rngs(0))
        >>> objective = supervised(losses.cross_entropy)
        >>> step = minimize(objective, optimizers.adam(), wrt=unfrozen(model, "fc1"))
    """
    check_model(model)
    given, named = _patterns("patterns", patterns), _parameters(model)
    _check_matches("freeze", given, named)
    frozen = [path for path, names in named.items() if any(_matches(n, given) for n in names)]
    if len(frozen) == len(named):
        raise InputError("freeze", "patterns that leave something to train", shown(patterns))
    return Unfrozen(tuple(frozen))


class Delayed(NamedTuple):
    """The state of an optimizer that starts after a number of steps.

    Attributes:
        calls: the number of training steps so far.
        state: the state of the wrapped optimizer.
    """

    calls: jax.Array
    state: Any


def gradual_unfreezing(
    optimizer: optax.GradientTransformation, epochs: Mapping[str, int], steps_per_epoch: int
) -> optax.GradientTransformation:
    """Wraps an optimizer so that some parameters are frozen for the first epochs.

    While parameters are frozen, their optimizer state does not change either, as for parameters
    without a gradient in PyTorch: momentum, the step counts of Adam and schedules start when the
    parameters are unfrozen.

    Args:
        optimizer: the optimizer for all parameters.
        epochs: the number of epochs to freeze parameters, by the name of a submodule or a pattern
            of the parameters' dotted paths: ``{"conv2": 1, "conv1": 2}``. All other parameters are
            trained from the start.
        steps_per_epoch: the number of training steps in an epoch, which is the number of batches.

    Returns:
        An Optax optimizer.

    Raises:
        InputError: if an argument is invalid; by ``init``, if a pattern matches no parameter, or
            two patterns match the same one.
    """
    check_optimizer(optimizer)
    if not isinstance(epochs, Mapping):
        raise InputError("epochs", "numbers of epochs by the names of parameters", shown(epochs))
    steps = check_positive("steps_per_epoch", steps_per_epoch)
    groups = []
    for pattern in _patterns("epochs", tuple(epochs)):
        start = steps * check_integer("epochs", epochs[pattern], least=0, most=2**31 // steps - 1)
        groups.append((_selector(pattern), _delayed(optimizer, start)))
    return param_groups(optimizer, groups)


def _delayed(optimizer: optax.GradientTransformation, start: int) -> optax.GradientTransformation:
    """Wraps an optimizer so that its first ``start`` calls return zero updates."""
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> Delayed:
        return Delayed(jnp.zeros((), jnp.int32), inner.init(params))

    def update(updates: Any, state: Delayed, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        # The update is computed in any case and then selected, as the count is traced under jit.
        made = inner.update(updates, state.state, params, **extra)
        nothing = jax.tree.map(jnp.zeros_like, made[0]), state.state
        chosen = jax.tree.map(
            lambda new, old: jnp.where(state.calls >= start, new, old), made, nothing
        )
        return chosen[0], Delayed(state.calls + 1, chosen[1])

    return optax.GradientTransformationExtraArgs(init, update)


def layer_wise(
    optimizer: Callable[[float], optax.GradientTransformation],
    lr: float,
    layers: Sequence[str],
    factor: float = 2.6,
) -> optax.GradientTransformation:
    """Makes an optimizer with learning rates that decrease from the head to the first layer.

    The k-th entry of ``layers`` has the learning rate lr / factorᵏ, and all other parameters have
    lr. These are the discriminative learning rates of Howard and Ruder (2018).

    Args:
        optimizer: a function from a learning rate to an optimizer, such as ``optimizers.adam``, or
            ``functools.partial(optimizers.sgd, momentum=0.9)``.
        lr: the learning rate of the head, which is all parameters that ``layers`` does not match.
        layers: names of submodules, or patterns of parameters' dotted paths, from the layer below
            the head down to the first layer.
        factor: the ratio of the learning rates of successive entries, > 0.

    Returns:
        An Optax optimizer.

    Raises:
        InputError: if an argument is invalid; by ``init``, if a pattern matches no parameter, or
            two patterns match the same one.

    PyTorch: an optimizer with a parameter group for each layer.

    Examples:
        >>> from jaxnets import optimizers
        >>> optimizer = layer_wise(optimizers.adam, 1e-3, ["fc2", "fc1", "conv*"])
    """
    lr = check_number("lr", lr, least=0)
    factor = check_number("factor", factor, above=0)
    expected = "a function from a learning rate to an optimizer"

    def made(rate: float) -> optax.GradientTransformation:
        one = called("optimizer", expected, optimizer, rate)
        if not isinstance(one, optax.GradientTransformation):
            raise InputError("optimizer", expected, f"a function that returned {shown(one)}")
        return one

    if not callable(optimizer):
        raise InputError("optimizer", expected, shown(optimizer))
    groups = [
        (_selector(pattern), made(lr / factor**depth))
        for depth, pattern in enumerate(_patterns("layers", layers), start=1)
    ]
    return param_groups(made(lr), groups)


# ``lora`` changes the class of an existing layer to one of these, so that all options are kept.
class LoRALinear(Linear):
    """A ``Linear`` layer with a low-rank update of its weights, as ``lora`` makes it.

    y = x W + b + α/r · (x Aᵀ) Bᵀ. In addition to ``kernel`` and ``bias``, the layer has the
    ``nnx.LoRAParam`` variables ``lora_A`` [r, in_features] and ``lora_B`` [out_features, r].
    """

    lora_A: Any
    lora_B: Any
    scaling: float

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Computes [..., out_features] from [..., in_features]."""
        return _adapted(self, super().__call__(x), x)


class StockLoRALinear(nnx.Linear):
    """A Flax ``nnx.Linear`` layer with a low-rank update; see ``LoRALinear``."""

    lora_A: Any
    lora_B: Any
    scaling: float

    def __call__(self, inputs: Any, **named: Any) -> jax.Array:
        """Computes [..., out_features] from [..., in_features]."""
        return _adapted(self, super().__call__(inputs, **named), inputs)


def _adapted(layer: LoRALinear | StockLoRALinear, y: jax.Array, x: ArrayLike) -> jax.Array:
    """Adds the low-rank update for inputs x to the outputs y of a layer."""
    low = jnp.asarray(x) @ layer.lora_A[...].T @ layer.lora_B[...].T
    return y + (layer.scaling * low).astype(y.dtype)


#: The adapted class for each class of linear layers.
_ADAPTED: dict[type, type] = {Linear: LoRALinear, nnx.Linear: StockLoRALinear}


def lora(
    model: nnx.Module,
    rank: int = 8,
    alpha: float = 8.0,
    layers: str | Sequence[str] | None = None,
    *,
    rngs: nnx.Rngs | None = None,
) -> nnx.Module:
    """Adds low-rank updates (LoRA) to the linear layers of a network.

    Hu et al. (2021): h = W₀ x + α/r · B A x. A is drawn like the weights of a linear layer, and B
    is zero, so that the outputs do not change at first. To train only A and B::

        step = minimize(objective, optimizers.adam(1e-3), wrt=nnx.LoRAParam)

    Args:
        model: any network with linear layers; it is not changed.
        rank: r, the inner size of A and B.
        alpha: α; the update is scaled by alpha / rank.
        layers: names of the linear layers to adapt, of submodules with such layers, or patterns
            such as ``"fc*"``; None for all linear layers.
        rngs: the random streams to draw A from; None for seed 0.

    Returns:
        A new network. ``merge_lora`` converts it back to the old structure.

    Raises:
        InputError: if there is no linear layer, a pattern matches none, or an argument is invalid.
    """
    check_model(model)
    check_positive("rank", rank)
    scaling = check_number("alpha", alpha, above=0) / rank
    if rngs is not None and not isinstance(rngs, nnx.Rngs):
        raise InputError("rngs", "nnx.Rngs or None", shown(rngs))
    rngs = nnx.Rngs(0) if rngs is None else rngs
    model = nnx.clone(model)
    found = _linear_layers(model)
    if not found:
        raise InputError("model", "a network with linear layers", type(model).__name__)
    patterns = ("*",) if layers is None else _patterns("layers", layers)
    _check_matches("layers", patterns, {name: (name,) for name in found})
    for name, layer in found.items():
        if _matches(name, patterns):
            _adapt(layer, rank, scaling, rngs)
    return model


def _linear_layers(model: nnx.Module) -> dict[str, Any]:
    nodes = nnx.iter_graph(model)
    return {".".join(map(str, path)): node for path, node in nodes if type(node) in _ADAPTED}


def _adapt(layer: Any, rank: int, scaling: float, rngs: nnx.Rngs) -> None:
    """Converts a linear layer to its adapted class in place."""
    dtype, (in_features, out_features) = layer.kernel[...].dtype, layer.kernel.shape
    draw = initializers.fan_in_uniform(in_features)
    layer.__class__ = _ADAPTED[type(layer)]
    layer.lora_A = nnx.LoRAParam(draw(rngs.params(), (rank, in_features), dtype))
    layer.lora_B = nnx.LoRAParam(jnp.zeros((out_features, rank), dtype))
    layer.scaling = scaling


def merge_lora(model: nnx.Module) -> nnx.Module:
    """Adds the low-rank updates of ``lora`` to the weights, and restores the old structure.

    Args:
        model: a network that ``lora`` returned, trained or not; it is not changed.

    Returns:
        A new network with the same outputs, except for rounding.

    Raises:
        InputError: if the network has no layer with a low-rank update.
    """
    check_model(model)
    model = nnx.clone(model)
    plain = {adapted: kind for kind, adapted in _ADAPTED.items()}
    adapted: list[Any] = [node for _, node in nnx.iter_graph(model) if type(node) in plain]
    if not adapted:
        raise InputError("model", "a network that lora returned", type(model).__name__)
    for layer in adapted:
        update = layer.scaling * (layer.lora_B[...] @ layer.lora_A[...]).T
        layer.kernel.set_value((layer.kernel[...] + update).astype(layer.kernel[...].dtype))
        layer.__class__ = plain[type(layer)]
        del layer.lora_A, layer.lora_B, layer.scaling
    return model


def _patterns(argument: str, given: Any) -> tuple[str, ...]:
    several = (given,) if isinstance(given, str) else given
    if not isinstance(several, list | tuple) or not all(isinstance(x, str) and x for x in several):
        expected = "names or patterns, such as 'fc1' or 'conv*'"
        raise InputError(argument, expected, shown(given))
    return tuple(several)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a dotted name, or the name of a module that contains it, matches a pattern."""
    return any(fnmatchcase(name, p) or fnmatchcase(name, f"{p}.*") for p in patterns)


def _check_matches(
    argument: str, patterns: Sequence[str], named: Mapping[str, Sequence[str]]
) -> None:
    """Checks that each pattern matches one of the names."""
    names = [name for names in named.values() for name in names]
    for pattern in patterns:
        if not any(_matches(name, (pattern,)) for name in names):
            expected = f"a pattern that matches one of {shortened([*named])}"
            raise InputError(argument, expected, shown(pattern))


def _selector(pattern: str) -> Callable[[str], bool]:
    """Returns a predicate for ``param_groups``.

    The predicate's name is the pattern, because error messages of ``param_groups`` contain it.
    """

    def selector(path: str) -> bool:
        return _matches(path, (pattern,))

    selector.__name__ = pattern
    return selector


def _is_match(entry: Entry, patterns: Sequence[str]) -> bool:
    """Whether a weight matches a pattern by its dotted path or by its name in PyTorch."""
    return any(_matches(name, patterns) for name in (*entry.theirs, *entry.ours))


def _parameters(model: nnx.Module) -> dict[str, list[str]]:
    """Returns, for the dotted path of each parameter, the path and its names in PyTorch."""
    state = nnx.to_flat_state(nnx.state(model, nnx.Param))
    found = {path: [path] for path in (".".join(map(str, path)) for path, _ in state)}
    with contextlib.suppress(InputError):  # a layer without a counterpart in PyTorch
        for entry in entries(model):
            for path in entry.ours:
                found.get(path, []).extend(entry.theirs)
    return found
