"""Which entries of a weight are removed, as ``torch.nn.utils.prune`` chooses them.

A method says what it keeps of the entries that are left; ``prune`` composes it with what was
removed before, as PyTorch's ``PruningContainer`` does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, check_number, shown
from jaxnets.layers.parameters import Draws, check_draws, drawn_key
from jaxnets.optimizers.masks import has_masks, set_mask
from jaxnets.pruning.weights import Weight, check_network, in_layout

Layer = TypeVar("Layer", bound=nnx.Module)


class Method(Protocol):
    """A way to choose what is removed.

    Attributes:
        kind: ``"unstructured"`` if it chooses among entries, ``"structured"`` if among slices along
            its ``dim``, ``"global"`` if it looks at what is pruned already, too.
    """

    kind: ClassVar[str]

    def keep(self, scores: np.ndarray) -> np.ndarray:
        """True where the method keeps an entry.

        Args:
            scores: how important each entry is, in PyTorch's layout; the larger the magnitude, the
                more.
        """


@dataclass(frozen=True)
class L1Unstructured:
    """Removes the entries of the smallest magnitude.

    Args:
        amount: a fraction in [0, 1], or a count.
    """

    amount: float
    kind: ClassVar[str] = "unstructured"

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_amount(self.amount)

    def keep(self, scores: np.ndarray) -> np.ndarray:
        """See ``Method``."""
        return _without_smallest(np.abs(scores), count(self.amount, scores.size))


@dataclass(frozen=True)
class RandomUnstructured:
    """Removes entries by chance.

    Args:
        amount: a fraction in [0, 1], or a count.
        rngs: a random key, or streams of them.
    """

    amount: float
    rngs: Draws = None
    kind: ClassVar[str] = "unstructured"

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_amount(self.amount)
        check_draws(self.rngs)

    def keep(self, scores: np.ndarray) -> np.ndarray:
        """See ``Method``."""
        return _without_smallest(_drawn(self.rngs, scores.shape), count(self.amount, scores.size))


@dataclass(frozen=True)
class LnStructured:
    """Removes the slices along an axis that have the smallest norm.

    Args:
        amount: a fraction in [0, 1], or a count.
        n: the order of the norm, such as 1, 2 or ``math.inf``; ``"fro"`` is 2.
        dim: the axis of PyTorch's weight: 0 for outputs, 1 for inputs of most layers.
    """

    amount: float
    n: float | str
    dim: int = -1
    kind: ClassVar[str] = "structured"

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_amount(self.amount)
        _order(self.n)
        _checked_dim(self.dim)

    def keep(self, scores: np.ndarray) -> np.ndarray:
        """See ``Method``."""
        slices = np.moveaxis(scores, self.dim, 0).reshape(scores.shape[self.dim], -1)
        with np.errstate(divide="ignore", over="ignore"):
            norms = np.linalg.norm(slices, ord=_order(self.n), axis=1)
        kept = _without_smallest(norms, count(self.amount, norms.size))
        return _along(kept, self.dim, scores.shape)


@dataclass(frozen=True)
class RandomStructured:
    """Removes slices along an axis by chance.

    Args:
        amount: a fraction in [0, 1], or a count.
        dim: the axis of PyTorch's weight.
        rngs: a random key, or streams of them.
    """

    amount: float
    dim: int = -1
    rngs: Draws = None
    kind: ClassVar[str] = "structured"

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_amount(self.amount)
        _checked_dim(self.dim)
        check_draws(self.rngs)

    def keep(self, scores: np.ndarray) -> np.ndarray:
        """See ``Method``."""
        size = scores.shape[self.dim]
        kept = _without_smallest(_drawn(self.rngs, (size,)), count(self.amount, size))
        return _along(kept, self.dim, scores.shape)


@dataclass(frozen=True, eq=False)
class CustomFromMask:
    """Removes what a mask says.

    Args:
        mask: zero, or False, for what is removed, in PyTorch's layout.
    """

    mask: Any
    kind: ClassVar[str] = "global"

    def keep(self, scores: np.ndarray) -> np.ndarray:
        """See ``Method``."""
        mask = in_layout("mask", self.mask, scores.shape)
        if not np.isin(mask, (0, 1)).all():
            raise InputError("mask", "an array of 0 and 1", "other values")
        return mask.astype(bool)


@dataclass(frozen=True)
class Identity:
    """Removes nothing, and so begins with a mask of ones."""

    kind: ClassVar[str] = "unstructured"

    def keep(self, scores: np.ndarray) -> np.ndarray:
        """See ``Method``."""
        return np.ones(scores.shape, bool)


def combined(method: Method, scores: np.ndarray, before: np.ndarray) -> np.ndarray:
    """What is kept after a method: it chooses among what was kept before.

    Args:
        method: how to choose.
        scores: how important each entry is.
        before: True where an entry is still there.
    """
    after = before.copy()
    if method.kind == "unstructured":
        after[before] = method.keep(scores[before])
    elif method.kind == "structured":
        dim = _checked_dim(method.dim, scores.ndim)  # type: ignore[attr-defined]
        others = tuple(axis for axis in range(scores.ndim) if axis != dim)
        left = (slice(None),) * dim + (before.any(axis=others),)
        after[left] &= method.keep(scores[left])
    else:
        after &= method.keep(scores)
    return after


def prune(module: Layer, name: str, method: Method, importance_scores: Any = None) -> Layer:
    """Prunes a parameter of a layer by any method.

    The functions of PyTorch's names, such as ``l1_unstructured``, call it. The parameter has zeros
    where it is pruned, and training by ``fit`` or ``minimize`` leaves them. Pruning again chooses
    among what is left.

    Args:
        module: the layer, which is changed.
        name: the parameter, by PyTorch's name: ``"weight"``, ``"bias"``, ``"weight_hh_l0"``.
        method: such as ``L1Unstructured(0.5)``, or one of your own.
        importance_scores: in place of the weight's own values, in PyTorch's layout.

    Returns:
        The layer.

    Raises:
        InputError: if an argument is bad.
    """
    weight = Weight.of(module, name)
    if not callable(getattr(method, "keep", None)) or not isinstance(
        getattr(method, "kind", None), str
    ):
        raise InputError("method", "one such as L1Unstructured(0.5)", shown(method))
    weight.prune(combined(method, weight.scores(importance_scores), weight.mask))
    return module


def identity(module: Layer, name: str) -> Layer:
    """``torch.nn.utils.prune.identity``: a mask of ones.

    Args:
        module: the layer, which is changed.
        name: the parameter, by PyTorch's name.

    Returns:
        The layer.
    """
    return prune(module, name, Identity())


def l1_unstructured(
    module: Layer, name: str, amount: float, importance_scores: Any = None
) -> Layer:
    """``torch.nn.utils.prune.l1_unstructured``: removes the entries of the smallest magnitude.

    Args:
        module: the layer, which is changed.
        name: the parameter, by PyTorch's name.
        amount: how much of what is left: a fraction in [0, 1] if it is a float, a count if it is
            an integer.
        importance_scores: in place of the weight's own values, in PyTorch's layout.

    Returns:
        The layer.

    Raises:
        InputError: if an argument is bad.

    Examples:
        >>> from jaxnets.layers import Linear
        >>> layer = l1_unstructured(Linear(3, 2, rngs=nnx.Rngs(0)), "weight", amount=0.5)
        >>> int((layer.kernel[...] == 0).sum())
        3
    """
    return prune(module, name, L1Unstructured(amount), importance_scores)


def random_unstructured(module: Layer, name: str, amount: float, *, rngs: Draws) -> Layer:
    """``torch.nn.utils.prune.random_unstructured``: removes entries by chance.

    Args:
        module: the layer, which is changed.
        name: the parameter, by PyTorch's name.
        amount: see ``l1_unstructured``.
        rngs: a random key, or streams of them.

    Returns:
        The layer.

    Raises:
        InputError: if an argument is bad.
    """
    return prune(module, name, RandomUnstructured(amount, rngs))


def ln_structured(
    module: Layer,
    name: str,
    amount: float,
    n: float | str,
    dim: int,
    importance_scores: Any = None,
) -> Layer:
    """``torch.nn.utils.prune.ln_structured``: removes the slices of the smallest norm.

    The arrays keep their sizes; ``remove_units`` makes them smaller.

    Args:
        module: the layer, which is changed.
        name: the parameter, by PyTorch's name.
        amount: see ``l1_unstructured``.
        n: the order of the norm, such as 1, 2 or ``math.inf``; ``"fro"`` is 2.
        dim: the axis of PyTorch's weight: 0 for outputs, 1 for inputs of most layers.
        importance_scores: in place of the weight's own values, in PyTorch's layout.

    Returns:
        The layer.

    Raises:
        InputError: if an argument is bad.

    Examples:
        >>> from jaxnets.layers import Conv2d
        >>> layer = ln_structured(Conv2d(1, 6, 5, rngs=nnx.Rngs(0)), "weight", 2, n=2, dim=0)
        >>> int((layer.kernel[...] == 0).all((0, 1, 2)).sum())  # filters that are gone
        2
    """
    return prune(module, name, LnStructured(amount, n, dim), importance_scores)


def random_structured(module: Layer, name: str, amount: float, dim: int, *, rngs: Draws) -> Layer:
    """``torch.nn.utils.prune.random_structured``: removes slices along an axis by chance.

    Args:
        module: the layer, which is changed.
        name: the parameter, by PyTorch's name.
        amount: see ``l1_unstructured``.
        dim: the axis of PyTorch's weight.
        rngs: a random key, or streams of them.

    Returns:
        The layer.

    Raises:
        InputError: if an argument is bad.
    """
    return prune(module, name, RandomStructured(amount, dim, rngs))


def custom_from_mask(module: Layer, name: str, mask: Any) -> Layer:
    """``torch.nn.utils.prune.custom_from_mask``: removes what a mask says.

    Args:
        module: the layer, which is changed.
        name: the parameter, by PyTorch's name.
        mask: 0 for what is removed and 1 for the rest, in PyTorch's layout.

    Returns:
        The layer.

    Raises:
        InputError: if an argument is bad.
    """
    return prune(module, name, CustomFromMask(mask))


def global_unstructured(
    parameters: Iterable[tuple[nnx.Module, str]],
    pruning_method: type,
    importance_scores: Mapping[tuple[nnx.Module, str], Any] | None = None,
    **kwargs: Any,
) -> None:
    """``torch.nn.utils.prune.global_unstructured``: chooses among the entries of several layers.

    Args:
        parameters: pairs of a layer, which is changed, and PyTorch's name of its parameter.
        pruning_method: ``L1Unstructured`` or ``RandomUnstructured``.
        importance_scores: of some of these pairs, in place of the weight's own values.
        **kwargs: what the method takes, such as ``amount``.

    Raises:
        InputError: if an argument is bad.

    Examples:
        >>> from jaxnets import LeNet
        >>> model = LeNet(rngs=nnx.Rngs(0))
        >>> layers = [(model.fc1, "weight"), (model.fc2, "weight")]
        >>> global_unstructured(layers, L1Unstructured, amount=0.9)
    """
    pairs = _pairs(parameters)
    weights = [Weight.of(module, name) for module, name in pairs]
    if getattr(pruning_method, "kind", None) != "unstructured" or not callable(pruning_method):
        expected = "a class that chooses among entries, such as L1Unstructured"
        raise InputError("pruning_method", expected, shown(pruning_method))
    method = pruning_method(**kwargs)
    given = {} if importance_scores is None else importance_scores
    if not isinstance(given, Mapping):
        raise InputError("importance_scores", "arrays by layer and name, or None", shown(given))
    scores = [weight.scores(given.get(pair)) for pair, weight in zip(pairs, weights, strict=True)]
    before = [weight.mask for weight in weights]
    after = combined(method, _flat(scores), _flat(before))
    ends = np.cumsum([one.size for one in before])[:-1]
    for weight, kept in zip(weights, np.split(after, ends), strict=True):
        weight.prune(kept.reshape(weight.mask.shape))


def _pairs(parameters: Any) -> list[tuple[nnx.Module, str]]:
    expected = "pairs of a layer and a name, such as (model.fc1, 'weight')"
    try:
        found = [(module, name) for module, name in parameters]
    except (TypeError, ValueError) as error:
        raise InputError("parameters", expected, shown(parameters)) from error
    if not found:
        raise InputError("parameters", expected, "none")
    return found


def remove(module: Layer, name: str) -> Layer:
    """``torch.nn.utils.prune.remove``: makes the pruning of a parameter permanent.

    Its zeros remain; training may change them again.

    Args:
        module: the layer, which is changed.
        name: the parameter, by PyTorch's name.

    Returns:
        The layer.

    Raises:
        InputError: if it is not pruned.
    """
    weight = Weight.of(module, name)
    if not is_pruned(module, name):
        raise InputError("name", "a parameter that is pruned", name)
    set_mask(weight.variable, None)
    return module


def is_pruned(module: nnx.Module, name: str | None = None) -> bool:
    """``torch.nn.utils.prune.is_pruned``: whether a layer, or one in it, has a pruned parameter.

    Args:
        module: a layer or a network.
        name: looks at this parameter of the layer alone.
    """
    check_network(module, "module")
    whole = nnx.state(module, nnx.Param) if name is None else Weight.of(module, name).variable
    return has_masks(whole)


def check_amount(amount: Any) -> None:
    """Raises unless an amount is a fraction in [0, 1] or a count."""
    number = isinstance(amount, int | float | np.integer | np.floating)
    whole = number and isinstance(amount, int | np.integer)
    if not number or isinstance(amount, bool) or not 0 <= amount <= (amount if whole else 1):
        raise InputError("amount", "a fraction in [0, 1], or a count", shown(amount))


def count(amount: Any, size: int) -> int:
    """How many of ``size`` are removed: PyTorch's rounding of a fraction, or a count.

    Raises:
        InputError: if it is neither a fraction in [0, 1] nor a count up to ``size``.
    """
    check_amount(amount)
    if isinstance(amount, int | np.integer):
        if amount > size:
            got = shown(amount)
            raise InputError("amount", f"a count of at most the {size} that are left", got)
        return int(amount)
    return round(float(amount) * size)


def _without_smallest(scores: np.ndarray, removed: int) -> np.ndarray:
    """True for all but the smallest; of equal ones the first are removed."""
    keep = np.ones(scores.size, bool)
    keep[np.argsort(scores.ravel(), kind="stable")[:removed]] = False
    return keep.reshape(scores.shape)


def _along(kept: np.ndarray, dim: int, shape: tuple[int, ...]) -> np.ndarray:
    spread = [1] * len(shape)
    spread[dim] = -1
    return np.broadcast_to(kept.reshape(spread), shape)


def _drawn(rngs: Any, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(jax.random.uniform(drawn_key(rngs), shape))


def _order(n: Any) -> float:
    return 2 if isinstance(n, str) and n == "fro" else check_number("n", n, finite=False)


def _checked_dim(dim: Any, axes: int | None = None) -> int:
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise InputError("dim", "an axis of PyTorch's weight, an integer", shown(dim))
    if axes is not None and not -axes <= dim < axes:
        expected = f"an axis of PyTorch's weight, from {-axes} to {axes - 1}"
        raise InputError("dim", expected, shown(dim))
    return dim if axes is None else dim % axes


def _flat(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])
