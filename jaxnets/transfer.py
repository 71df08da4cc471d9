"""A trained network for another task: its weights, frozen parts, rates by layer, and LoRA."""

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
    """What became of every weight of a network, and of every array of what it began with.

    Attributes:
        report: what was read, converted and taken off.
        loaded: PyTorch's names of the weights that were filled.
        new: names of the weights that keep their initial values, each with the reason.
        unused: names of arrays that the network has no place for, each with its shape.
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
    """Fills a network with another one's weights, as far as they fit.

    What does not fit, such as the last layer for other classes, keeps its initial values, and is
    named. ``jaxnets.interop.load_torch`` is for weights of the same network, all of which must fit.

    Args:
        model: filled in place.
        source: a network, or what ``load_torch`` takes: a state_dict or a file of one.
        head: names of submodules, or patterns such as ``"fc*"``, that keep their initial values
            although weights may fit.

    Returns:
        What was loaded, what is new and what was not used; ``print`` shows it.

    Raises:
        InputError: if nothing fits, or the network has no such submodule.

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
    of_head = {name for e in weights if _is_one(e, patterns) for name in e.theirs}
    filled = nnx.clone(model)
    report = interop.load_torch(filled, arrays, strict=False)
    report = dataclasses.replace(report, source=origin or report.source)
    loaded = [name for name in report.loaded if name not in of_head]
    if not loaded:
        raise InputError("source", "weights of which some fit outside of the head", "none")
    after = {entry.ours: entry for entry in entries(filled)}
    for entry in weights:
        if _is_one(entry, patterns):
            for new, old in zip(after[entry.ours].variables, entry.variables, strict=True):
                new.set_value(old.get_value())
    nnx.update(model, nnx.state(filled, _WEIGHTS))
    kept = {name: "of the head" for name in report.loaded if name not in loaded}
    none = "of which the source has none"
    missing = {name: f"{what}, {none}" for name, what in report.missing.items()}
    new = {**kept, **missing, **report.mismatched}
    return Transfer(report, tuple(loaded), new, report.unexpected)


@dataclasses.dataclass(frozen=True)
class Unfrozen:
    """The filter of the variables that are not at some dotted paths."""

    frozen: tuple[str, ...]

    def __call__(self, path: Any, value: Any) -> bool:
        """Whether a variable is trained."""
        return ".".join(map(str, path)) not in self.frozen


def unfrozen(model: nnx.Module, *patterns: str) -> Unfrozen:
    """What is trained of a network whose parameters of some names are frozen.

    A frozen parameter does not change, as with ``requires_grad_(False)`` in PyTorch: there too,
    running statistics move on. ``minimize(frozen=...)`` leaves these alone as well.

    Args:
        model: the network, on which the patterns are tried.
        *patterns: names of submodules, or patterns of parameters, such as ``"conv*"`` or
            ``"*.bias"``: of their dotted paths here, or of their names in PyTorch.

    Returns:
        A filter, for ``minimize(wrt=...)``.

    Raises:
        InputError: if a pattern matches no parameter, or nothing is left to train.

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
    """The state of an optimizer that begins later.

    Attributes:
        calls: how many steps the others have taken.
        state: the optimizer's.
    """

    calls: jax.Array
    state: Any


def gradual_unfreezing(
    optimizer: optax.GradientTransformation, epochs: Mapping[str, int], steps_per_epoch: int
) -> optax.GradientTransformation:
    """An optimizer that begins to train some parameters in a later epoch.

    Until then they and their part of the optimizer's state do not change, as those of PyTorch that
    have no gradient: momentum, the counts of Adam and schedules begin when they do.

    Args:
        optimizer: the optimizer of all.
        epochs: by the name of a submodule or a pattern of parameters' dotted paths, how many epochs
            they stay frozen: ``{"conv2": 1, "conv1": 2}``. All others are trained from the start.
        steps_per_epoch: how many steps an epoch has: the number of batches.

    Raises:
        InputError: if an argument is bad; by ``init``, if a pattern matches nothing, or two the
            same parameter.
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
    """An optimizer that leaves out its first calls."""
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> Delayed:
        return Delayed(jnp.zeros((), jnp.int32), inner.init(params))

    def update(updates: Any, state: Delayed, params: Any = None, **extra: Any) -> tuple[Any, Any]:
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
    """Learning rates that shrink from the head of a network to its inputs.

    The k-th of ``layers`` has lr / factorᵏ, all others have lr: the discriminative rates of Howard
    and Ruder (2018). They are PyTorch's parameter groups.

    Args:
        optimizer: from a learning rate to an optimizer, such as ``optimizers.adam``, or
            ``functools.partial(optimizers.sgd, momentum=0.9)``.
        lr: the learning rate of the head: of all that no name of ``layers`` matches.
        layers: names of submodules, or patterns of parameters' dotted paths, from the layer below
            the head down to the first one.
        factor: by how much each layer's rate is smaller than that of the one above.

    Raises:
        InputError: if an argument is bad; by ``init``, if a pattern matches nothing, or two the
            same parameter.

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
            raise InputError("optimizer", expected, f"one to {shown(one)}")
        return one

    if not callable(optimizer):
        raise InputError("optimizer", expected, shown(optimizer))
    groups = [
        (_selector(pattern), made(lr / factor**depth))
        for depth, pattern in enumerate(_patterns("layers", layers), start=1)
    ]
    return param_groups(made(lr), groups)


# A layer becomes an adapted one by its class, so that it keeps all its options.
class LoRALinear(Linear):
    """A ``Linear`` whose weights have an update of low rank; ``lora`` makes it.

    y = x W + b + α/r · (x Aᵀ) Bᵀ. ``lora_A`` [r, in_features] and ``lora_B`` [out_features, r] are
    ``nnx.LoRAParam``, which stand beside ``kernel`` and ``bias``.
    """

    lora_A: Any
    lora_B: Any
    scaling: float

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Computes [..., out_features] from [..., in_features]."""
        return _adapted(self, super().__call__(x), x)


class StockLoRALinear(nnx.Linear):
    """The same of Flax's layer."""

    lora_A: Any
    lora_B: Any
    scaling: float

    def __call__(self, inputs: Any, **named: Any) -> jax.Array:
        """Computes [..., out_features] from [..., in_features]."""
        return _adapted(self, super().__call__(inputs, **named), inputs)


def _adapted(layer: LoRALinear | StockLoRALinear, y: jax.Array, x: ArrayLike) -> jax.Array:
    """The outputs of a layer with those of its update."""
    low = jnp.asarray(x) @ layer.lora_A[...].T @ layer.lora_B[...].T
    return y + (layer.scaling * low).astype(y.dtype)


#: Linear layers, and what becomes of them.
_ADAPTED: dict[type, type] = {Linear: LoRALinear, nnx.Linear: StockLoRALinear}


def lora(
    model: nnx.Module,
    rank: int = 8,
    alpha: float = 8.0,
    layers: str | Sequence[str] | None = None,
    *,
    rngs: nnx.Rngs | None = None,
) -> nnx.Module:
    """A network whose linear layers have updates of low rank beside their weights (LoRA).

    Hu et al. (2021): h = W₀ x + α/r · B A x. A is drawn as the weights of a linear layer, and B is
    zero, so that the outputs do not change at first. To train A and B alone::

        step = minimize(objective, optimizers.adam(1e-3), wrt=nnx.LoRAParam)

    Args:
        model: any network with linear layers; it is left as it is.
        rank: r, the inner size of A and B.
        alpha: α; the update is scaled by alpha / rank.
        layers: names of submodules, or patterns such as ``"fc*"``: the linear layers to adapt; None
            for all of them.
        rngs: where A is drawn from; None for the seed 0.

    Returns:
        A new network. ``merge_lora`` makes one of the old structure of it.

    Raises:
        InputError: if there is no linear layer, a pattern matches none, or an argument is bad.
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
    """Makes a layer an adapted one."""
    dtype, (entering, leaving) = layer.kernel[...].dtype, layer.kernel.shape
    draw = initializers.fan_in_uniform(entering)
    layer.__class__ = _ADAPTED[type(layer)]
    layer.lora_A = nnx.LoRAParam(draw(rngs.params(), (rank, entering), dtype))
    layer.lora_B = nnx.LoRAParam(jnp.zeros((leaving, rank), dtype))
    layer.scaling = scaling


def merge_lora(model: nnx.Module) -> nnx.Module:
    """A network of the structure before ``lora``, with the updates added to its weights.

    Args:
        model: what ``lora`` made, trained or not; it is left as it is.

    Returns:
        A new network with the same outputs, except for rounding.

    Raises:
        InputError: if the network has no adapted layer.
    """
    check_model(model)
    model = nnx.clone(model)
    plain = {adapted: kind for kind, adapted in _ADAPTED.items()}
    adapted: list[Any] = [node for _, node in nnx.iter_graph(model) if type(node) in plain]
    if not adapted:
        raise InputError("model", "a network that lora has made", type(model).__name__)
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
    """Whether a dotted name, or the name of a module that it is in, matches one of the patterns."""
    return any(fnmatchcase(name, p) or fnmatchcase(name, f"{p}.*") for p in patterns)


def _check_matches(
    argument: str, patterns: Sequence[str], named: Mapping[str, Sequence[str]]
) -> None:
    """Raises unless each pattern matches one of the names of something."""
    names = [name for names in named.values() for name in names]
    for pattern in patterns:
        if not any(_matches(name, (pattern,)) for name in names):
            raise InputError(argument, f"what matches one of {shortened([*named])}", shown(pattern))


def _selector(pattern: str) -> Callable[[str], bool]:
    """For ``param_groups``, which names it in its messages."""

    def selector(path: str) -> bool:
        return _matches(path, (pattern,))

    selector.__name__ = pattern
    return selector


def _is_one(entry: Entry, patterns: Sequence[str]) -> bool:
    """Whether a weight matches by its name here or in PyTorch."""
    return any(_matches(name, patterns) for name in (*entry.theirs, *entry.ours))


def _parameters(model: nnx.Module) -> dict[str, list[str]]:
    """By the dotted path of each parameter, its names: the path, and those in PyTorch."""
    state = nnx.to_flat_state(nnx.state(model, nnx.Param))
    found = {path: [path] for path in (".".join(map(str, path)) for path, _ in state)}
    with contextlib.suppress(InputError):  # of a layer that PyTorch has no counterpart of
        for entry in entries(model):
            for path in entry.ours:
                found.get(path, []).extend(entry.theirs)
    return found
