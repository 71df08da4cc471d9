"""Pruning methods with the interface and the results of ``torch.nn.utils.prune``.

A method returns a mask of the entries to keep. ``prune`` combines it with the mask of earlier
pruning, like PyTorch's ``PruningContainer``.
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
    """A pruning method.

    Attributes:
        kind: ``"unstructured"`` if it chooses among entries, ``"structured"`` if it chooses among
            slices along its ``dim``, ``"global"`` if it also sees entries that are already pruned.
    """

    kind: ClassVar[str]

    def keep(self, scores: np.ndarray) -> np.ndarray:
        """Returns a mask that is True for entries to keep, of the shape of ``scores``.

        Args:
            scores: the importance of each entry, in PyTorch's layout; entries of larger magnitude
                are more important.
        """


@dataclass(frozen=True)
class L1Unstructured:
    """Removes the entries of smallest magnitude.

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
    """Removes random entries.

    Args:
        amount: a fraction in [0, 1], or a count.
        rngs: a random key, or ``nnx.Rngs``.
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
    """Removes the slices of smallest norm along an axis.

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
    """Removes random slices along an axis.

    Args:
        amount: a fraction in [0, 1], or a count.
        dim: the axis of PyTorch's weight.
        rngs: a random key, or ``nnx.Rngs``.
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
    """Removes the entries that a mask excludes.

    Args:
        mask: 0 or False for entries to remove, 1 or True for others, in PyTorch's layout.
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
    """Removes nothing; the mask is all ones."""

    kind: ClassVar[str] = "unstructured"

    def keep(self, scores: np.ndarray) -> np.ndarray:
        """See ``Method``."""
        return np.ones(scores.shape, bool)


def combined(method: Method, scores: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Applies a method to the entries that earlier pruning kept.

    Args:
        method: the method.
        scores: the importance of each entry.
        before: a mask of the entries that are not pruned yet.

    Returns:
        A mask of the entries to keep.
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

    Pruned entries are zero, and remain zero in training by ``fit`` or ``minimize``. Pruning again
    chooses among the remaining entries. Functions such as ``l1_unstructured`` call this one.

    Args:
        module: the layer, which is changed in place.
        name: PyTorch's name of the parameter: ``"weight"``, ``"bias"``, ``"weight_hh_l0"``.
        method: a method, such as ``L1Unstructured(0.5)``, or a user's own ``Method``.
        importance_scores: scores to use instead of the values of the weight, in PyTorch's layout.

    Returns:
        The layer.

    Raises:
        InputError: if an argument is invalid.
    """
    weight = Weight.of(module, name)
    if not callable(getattr(method, "keep", None)) or not isinstance(
        getattr(method, "kind", None), str
    ):
        raise InputError("method", "a method such as L1Unstructured(0.5)", shown(method))
    weight.prune(combined(method, weight.scores(importance_scores), weight.mask))
    return module


def identity(module: Layer, name: str) -> Layer:
    """Adds a mask of ones, like ``torch.nn.utils.prune.identity``.

    Args:
        module: the layer, which is changed in place.
        name: PyTorch's name of the parameter.

    Returns:
        The layer.
    """
    return prune(module, name, Identity())


def l1_unstructured(
    module: Layer, name: str, amount: float, importance_scores: Any = None
) -> Layer:
    """Removes the entries of smallest magnitude, like ``torch.nn.utils.prune.l1_unstructured``.

    Args:
        module: the layer, which is changed in place.
        name: PyTorch's name of the parameter.
        amount: how many of the remaining entries to remove: a float is a fraction in [0, 1], an
            integer is a count.
        importance_scores: scores to use instead of the values of the weight, in PyTorch's layout.

    Returns:
        The layer.

    Raises:
        InputError: if an argument is invalid.

    Examples:
        >>> from jaxnets.layers import Linear
        >>> layer = l1_unstructured(Linear(3, 2, rngs=nnx.Rngs(0)), "weight", amount=0.5)
        >>> int((layer.kernel[...] == 0).sum())
        3
    """
    return prune(module, name, L1Unstructured(amount), importance_scores)


def random_unstructured(module: Layer, name: str, amount: float, *, rngs: Draws) -> Layer:
    """Removes random entries, like ``torch.nn.utils.prune.random_unstructured``.

    Args:
        module: the layer, which is changed in place.
        name: PyTorch's name of the parameter.
        amount: see ``l1_unstructured``.
        rngs: a random key, or ``nnx.Rngs``.

    Returns:
        The layer.

    Raises:
        InputError: if an argument is invalid.
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
    """Removes the slices of smallest norm, like ``torch.nn.utils.prune.ln_structured``.

    The entries of the slices become zero; use ``remove_units`` to make the arrays smaller.

    Args:
        module: the layer, which is changed in place.
        name: PyTorch's name of the parameter.
        amount: see ``l1_unstructured``.
        n: the order of the norm, such as 1, 2 or ``math.inf``; ``"fro"`` is 2.
        dim: the axis of PyTorch's weight: 0 for outputs, 1 for inputs of most layers.
        importance_scores: scores to use instead of the values of the weight, in PyTorch's layout.

    Returns:
        The layer.

    Raises:
        InputError: if an argument is invalid.

    Examples:
        >>> from jaxnets.layers import Conv2d
        >>> layer = ln_structured(Conv2d(1, 6, 5, rngs=nnx.Rngs(0)), "weight", 2, n=2, dim=0)
        >>> int((layer.kernel[...] == 0).all((0, 1, 2)).sum())  # number of removed filters
        2
    """
    return prune(module, name, LnStructured(amount, n, dim), importance_scores)


def random_structured(module: Layer, name: str, amount: float, dim: int, *, rngs: Draws) -> Layer:
    """Removes random slices along an axis, like ``torch.nn.utils.prune.random_structured``.

    Args:
        module: the layer, which is changed in place.
        name: PyTorch's name of the parameter.
        amount: see ``l1_unstructured``.
        dim: the axis of PyTorch's weight.
        rngs: a random key, or ``nnx.Rngs``.

    Returns:
        The layer.

    Raises:
        InputError: if an argument is invalid.
    """
    return prune(module, name, RandomStructured(amount, dim, rngs))


def custom_from_mask(module: Layer, name: str, mask: Any) -> Layer:
    """Removes the entries that a mask excludes, like ``torch.nn.utils.prune.custom_from_mask``.

    Args:
        module: the layer, which is changed in place.
        name: PyTorch's name of the parameter.
        mask: 0 for entries to remove and 1 for others, in PyTorch's layout.

    Returns:
        The layer.

    Raises:
        InputError: if an argument is invalid.
    """
    return prune(module, name, CustomFromMask(mask))


def global_unstructured(
    parameters: Iterable[tuple[nnx.Module, str]],
    pruning_method: type,
    importance_scores: Mapping[tuple[nnx.Module, str], Any] | None = None,
    **kwargs: Any,
) -> None:
    """Prunes several layers by one choice among all of their entries.

    Like ``torch.nn.utils.prune.global_unstructured``.

    Args:
        parameters: pairs of a layer, which is changed in place, and PyTorch's name of a parameter.
        pruning_method: ``L1Unstructured`` or ``RandomUnstructured``.
        importance_scores: scores to use instead of the values of the weight, for some of the pairs.
        **kwargs: arguments of the method, such as ``amount``.

    Raises:
        InputError: if an argument is invalid.

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
        raise InputError(
            "importance_scores", "a dict from (layer, name) to arrays, or None", shown(given)
        )
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
    """Removes the mask of a parameter, like ``torch.nn.utils.prune.remove``.

    The zeros remain, but training can change them again.

    Args:
        module: the layer, which is changed in place.
        name: PyTorch's name of the parameter.

    Returns:
        The layer.

    Raises:
        InputError: if the parameter is not pruned.
    """
    weight = Weight.of(module, name)
    if not is_pruned(module, name):
        raise InputError("name", "a parameter that is pruned", name)
    set_mask(weight.variable, None)
    return module


def is_pruned(module: nnx.Module, name: str | None = None) -> bool:
    """Whether a layer or a network has a pruned parameter, like ``torch.nn.utils.prune.is_pruned``.

    Args:
        module: a layer or a network.
        name: PyTorch's name of a parameter of the layer; None for all parameters.
    """
    check_network(module, "module")
    whole = nnx.state(module, nnx.Param) if name is None else Weight.of(module, name).variable
    return has_masks(whole)


def check_amount(amount: Any) -> None:
    """Checks that an amount is a fraction in [0, 1] or a count."""
    number = isinstance(amount, int | float | np.integer | np.floating)
    whole = number and isinstance(amount, int | np.integer)
    if not number or isinstance(amount, bool) or not 0 <= amount <= (amount if whole else 1):
        raise InputError("amount", "a fraction in [0, 1], or a count", shown(amount))


def count(amount: Any, size: int) -> int:
    """Returns the number of entries to remove; a fraction is rounded as in PyTorch.

    Args:
        amount: a fraction or a count.
        size: the number of remaining entries.

    Raises:
        InputError: if ``amount`` is neither a fraction in [0, 1] nor a count up to ``size``.
    """
    check_amount(amount)
    if isinstance(amount, int | np.integer):
        if amount > size:
            got = shown(amount)
            raise InputError("amount", f"a count of at most the {size} remaining", got)
        return int(amount)
    return round(float(amount) * size)


def _without_smallest(scores: np.ndarray, removed: int) -> np.ndarray:
    """Returns a mask that is False for the smallest scores; of equal ones, the first are False."""
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
