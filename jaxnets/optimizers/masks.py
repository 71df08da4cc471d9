"""Masks of pruned weights, which training keeps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnets.arrays import InputError

_NAME = "pruning_mask"


class Mask:
    """Which entries of a weight are kept: a constant of the programs that train it.

    Args:
        keep: True where the weight stays, in the weight's own layout.
    """

    def __init__(self, keep: Any) -> None:
        self.keep = np.array(keep, bool)
        self.keep.flags.writeable = False
        self._hash = hash((self.keep.shape, self.keep.tobytes()))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:  # as nearly always
            return True
        return isinstance(other, Mask) and np.array_equal(self.keep, other.keep)

    def __repr__(self) -> str:
        return f"Mask({self.keep.sum()} of {self.keep.size} kept)"


def mask_of(weight: Any) -> np.ndarray | None:
    """Which entries of a parameter are kept; None of one that is not pruned."""
    if not isinstance(weight, nnx.Variable):
        return None
    found = weight.get_metadata(_NAME, None)
    return None if found is None else found.keep


def set_mask(weight: nnx.Variable, keep: np.ndarray | None) -> None:
    """Prunes a parameter: entries that are not kept become zero, and remain so in training.

    Args:
        weight: the parameter.
        keep: True where the weight stays, in the weight's own layout; None forgets its mask.
    """
    if keep is not None:
        weight.set_metadata(_NAME, Mask(keep))
        weight.set_value(_kept(weight.get_value(), keep))
    elif mask_of(weight) is not None:
        found = weight.get_metadata()
        del found[_NAME]
        weight.set_metadata(found)


def masked(parameters: Any) -> Any:
    """The same tree of parameters with zeros for what their masks remove."""
    if not has_masks(parameters):
        return parameters

    def each(weight: Any) -> Any:
        keep = mask_of(weight)
        return weight if keep is None else weight.replace(_kept(weight.get_value(), keep))

    return jax.tree.map(each, parameters, is_leaf=_is_variable)


def has_masks(weights: Any) -> bool:
    """Whether a tree holds a pruned parameter."""
    leaves = jax.tree.leaves(weights, is_leaf=_is_variable)
    return any(mask_of(weight) is not None for weight in leaves)


def keep_masks(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer that leaves pruned weights at zero, for training loops of your own.

    ``fit`` and ``minimize`` need none. Gradients of pruned weights are zero for the optimizer, as
    in PyTorch, and so are its updates, whatever weight decay or momentum would make of them.

    Args:
        optimizer: the gradient transformation.

    Returns:
        One whose state has the masks, too.

    Raises:
        InputError: on ``init`` if no parameter is pruned.

    Examples:
        >>> from jaxnets import optimizers
        >>> from jaxnets.layers import Linear
        >>> from jaxnets.pruning import l1_unstructured
        >>> layer = l1_unstructured(Linear(3, 2, rngs=nnx.Rngs(0)), "weight", amount=0.5)
        >>> trained = nnx.Optimizer(layer, keep_masks(optimizers.adamw(0.1)), wrt=nnx.Param)
        >>> _ = trained.update(layer, nnx.grad(lambda layer: layer(jnp.ones((1, 3))).sum())(layer))
        >>> int((layer.kernel[...] == 0).sum())
        3
    """
    if not isinstance(optimizer, optax.GradientTransformation):
        expected = "a gradient transformation, such as jaxnets.optimizers.sgd(0.01)"
        raise InputError("optimizer", expected, optimizer)
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> _Masked:
        if not has_masks(params):
            expected = "parameters of which some are pruned, as nnx.state(model, nnx.Param) has"
            raise InputError("params", expected, "none")
        found = map(mask_of, jax.tree.leaves(params, is_leaf=_is_variable))
        masks = tuple(None if keep is None else jnp.asarray(keep) for keep in found)
        return _Masked(masks, inner.init(params))

    def update(updates: Any, state: _Masked, params: Any = None, **more: Any) -> tuple[Any, Any]:
        made, after = inner.update(state.of(updates), state.inner, params, **more)
        return state.of(made), _Masked(state.masks, after)

    return optax.GradientTransformationExtraArgs(init, update)


class _Masked(NamedTuple):
    """The state of ``keep_masks``: a mask, or None, for each parameter, and the optimizer's own."""

    masks: tuple[Any, ...]
    inner: Any

    def of(self, updates: Any) -> Any:
        """Zeros for what the masks remove."""
        leaves, structure = jax.tree.flatten(updates)
        pairs = zip(leaves, self.masks, strict=True)
        kept = [array if keep is None else _kept(array, keep) for array, keep in pairs]
        return jax.tree.unflatten(structure, kept)


def _kept(array: Any, keep: Any) -> jax.Array:
    return jnp.where(keep, array, jnp.zeros((), array.dtype))


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)
