"""Masks of pruned weights, which keep the weights at zero in training."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnets.arrays import InputError

_NAME = "pruning_mask"


class Mask:
    """A hashable mask of the entries of a weight that are kept.

    The mask is metadata of a variable, so it is a constant in compiled programs.

    Args:
        keep: True for entries that are kept, in the weight's layout.
    """

    def __init__(self, keep: Any) -> None:
        self.keep = np.array(keep, bool)
        self.keep.flags.writeable = False
        self._hash = hash((self.keep.shape, self.keep.tobytes()))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:  # the usual case, without a comparison of arrays
            return True
        return isinstance(other, Mask) and np.array_equal(self.keep, other.keep)

    def __repr__(self) -> str:
        return f"Mask({self.keep.sum()} of {self.keep.size} kept)"


def mask_of(weight: Any) -> np.ndarray | None:
    """Returns the mask of the entries of a parameter that are kept; None if it is not pruned."""
    if not isinstance(weight, nnx.Variable):
        return None
    found = weight.get_metadata(_NAME, None)
    return None if found is None else found.keep


def set_mask(weight: nnx.Variable, keep: np.ndarray | None) -> None:
    """Prunes a parameter: entries that are not kept become zero, and stay zero in training.

    Args:
        weight: the parameter.
        keep: True for entries that are kept, in the weight's layout; None removes the mask.
    """
    if keep is not None:
        weight.set_metadata(_NAME, Mask(keep))
        weight.set_value(_kept(weight.get_value(), keep))
    elif mask_of(weight) is not None:
        found = weight.get_metadata()
        del found[_NAME]
        weight.set_metadata(found)


def masked(parameters: Any) -> Any:
    """Returns the tree of parameters with pruned entries set to zero."""
    if not has_masks(parameters):
        return parameters

    def each(weight: Any) -> Any:
        keep = mask_of(weight)
        return weight if keep is None else weight.replace(_kept(weight.get_value(), keep))

    return jax.tree.map(each, parameters, is_leaf=_is_variable)


def has_masks(weights: Any) -> bool:
    """Whether a tree contains a pruned parameter."""
    leaves = jax.tree.leaves(weights, is_leaf=_is_variable)
    return any(mask_of(weight) is not None for weight in leaves)


def keep_masks(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Wraps an optimizer to keep pruned weights at zero in your own training loop.

    ``fit`` and ``minimize`` keep pruned weights at zero without this function. The gradients of
    pruned weights are set to zero before the optimizer, as in PyTorch, and their updates after it,
    so that weight decay and momentum have no effect on them.

    Args:
        optimizer: the gradient transformation.

    Returns:
        A gradient transformation whose state contains the masks.

    Raises:
        InputError: by ``init``, if no parameter is pruned.

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
            expected = "nnx.state(model, nnx.Param) of a model with pruned parameters"
            raise InputError("params", expected, "no pruned parameters")
        found = map(mask_of, jax.tree.leaves(params, is_leaf=_is_variable))
        masks = tuple(None if keep is None else jnp.asarray(keep) for keep in found)
        return _Masked(masks, inner.init(params))

    def update(updates: Any, state: _Masked, params: Any = None, **more: Any) -> tuple[Any, Any]:
        made, after = inner.update(state.of(updates), state.inner, params, **more)
        return state.of(made), _Masked(state.masks, after)

    return optax.GradientTransformationExtraArgs(init, update)


class _Masked(NamedTuple):
    """The state of ``keep_masks``: a mask or None for each parameter, and the inner state."""

    masks: tuple[Any, ...]
    inner: Any

    def of(self, updates: Any) -> Any:
        """Sets the entries of pruned weights to zero."""
        leaves, structure = jax.tree.flatten(updates)
        pairs = zip(leaves, self.masks, strict=True)
        kept = [array if keep is None else _kept(array, keep) for array, keep in pairs]
        return jax.tree.unflatten(structure, kept)


def _kept(array: Any, keep: Any) -> jax.Array:
    return jnp.where(keep, array, jnp.zeros((), array.dtype))


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)
