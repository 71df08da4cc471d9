"""Building blocks that the encoder and decoder of a transformer share."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import InputError, check_bool, check_number, check_positive
from jaxnets.layers.activation import GELU, ReLU
from jaxnets.layers.attention import MultiheadAttention
from jaxnets.layers.dropout import Dropout
from jaxnets.layers.linear import Linear
from jaxnets.layers.normalization import LayerNorm
from jaxnets.layers.parameters import check_others

_ACTIVATIONS = {"relu": ReLU, "gelu": GELU}


class TransformerLayer(nnx.Module):
    """The base class of transformer layers: attention blocks and an MLP, with residual connections.

    Args:
        d_model: the size of each input and output.
        nhead: the number of attention heads.
        dim_feedforward: the size of the hidden layer.
        dropout: the probability of all dropouts.
        activation: "relu", "gelu" or a function of one array.
        layer_norm_eps: added to the variance in every normalization.
        norm_first: whether to normalize the input of each block instead of its output.
        bias: whether linear layers and normalizations have biases.
        rngs: the random streams for the initial values and the dropout masks.
        param_dtype: the dtype of the parameters.
    """

    #: The names of the attention blocks in PyTorch.
    attentions: ClassVar[tuple[str, ...]]
    self_attn: MultiheadAttention

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[jax.Array], jax.Array] = "relu",
        layer_norm_eps: float = 1e-5,
        *,
        norm_first: bool = False,
        bias: bool = True,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others, "batch_first")
        check_positive("d_model", d_model)
        check_positive("nhead", nhead)
        check_number("layer_norm_eps", layer_norm_eps, least=0)
        check_positive("dim_feedforward", dim_feedforward)
        if isinstance(activation, str) and activation in _ACTIVATIONS:
            activation = _ACTIVATIONS[activation]()
        if not callable(activation):
            raise InputError("activation", "relu, gelu or a function", activation)
        self.activation, self.norm_first = activation, check_bool("norm_first", norm_first)
        made: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        for name in self.attentions:
            setattr(self, name, MultiheadAttention(d_model, nhead, dropout, bias, **made))
        self.linear1 = Linear(d_model, dim_feedforward, bias, **made)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **made)
        self.dropout = Dropout(dropout, rngs=rngs)
        for number in range(1, len(self.attentions) + 2):
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias, param_dtype=param_dtype)
            setattr(self, f"norm{number}", norm)
            setattr(self, f"dropout{number}", Dropout(dropout, rngs=rngs))

    def _added(self, x: jax.Array, *steps: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """Applies the blocks in turn and then the MLP, each with norm, dropout and residual."""
        for number, step in enumerate([*steps, self._feed_forward], 1):
            norm, dropout = getattr(self, f"norm{number}"), getattr(self, f"dropout{number}")
            x = x + dropout(step(norm(x))) if self.norm_first else norm(x + dropout(step(x)))
        return x

    def _feed_forward(self, x: jax.Array) -> jax.Array:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


def attended(
    attention: MultiheadAttention,
    queries: jax.Array,
    keys: jax.Array,
    *,
    to: str,
    mask: jax.Array | None,
    key_padding_mask: jax.Array | None,
    is_causal: bool,
) -> jax.Array:
    """Calls an attention layer without weights, and converts errors to the caller's names of masks.

    Args:
        attention: the layer.
        queries: [N, L, E].
        keys: the keys and values, [N, S, E].
        to: the prefix of the caller's names of the masks, for error messages.
        mask: [L, S] or [N · heads, L, S].
        key_padding_mask: [N, S].
        is_causal: whether each position attends only to itself and earlier positions.

    Raises:
        InputError: if a mask has another shape or dtype.
    """
    masks: dict[str, Any] = {"attn_mask": mask, "key_padding_mask": key_padding_mask}
    try:
        outputs, _ = attention(
            *(queries, keys, keys), **masks, is_causal=is_causal, need_weights=False
        )
    except InputError as error:
        if error.argument not in masks:
            raise
        name = f"{to}_{error.argument.removeprefix('attn_')}"
        raise InputError(name, error.expected, error.got) from None
    return outputs


def check_stack(argument: str, layer: Any, num_layers: int, norm: Any) -> None:
    """Checks the arguments of a stack of layers.

    Raises:
        InputError: if an argument is invalid.
    """
    if not isinstance(layer, nnx.Module):
        raise InputError(argument, "a layer", layer)
    if norm is not None and not callable(norm):
        raise InputError("norm", "a normalization or None", norm)
    check_positive("num_layers", num_layers)


def copies(layer: nnx.Module, count: int) -> nnx.List:
    """Copies a layer ``count`` times, with separate buffers, so that all can be donated."""
    return nnx.List([_copy(layer, index) for index in range(count)])


def _copy(layer: nnx.Module, index: int) -> nnx.Module:
    """Copies a layer, and folds the index into its dropout keys."""
    copy = nnx.clone(layer, arrays=True)
    keys = nnx.state(copy, nnx.RngKey)
    nnx.update(copy, jax.tree.map(lambda key: jax.random.fold_in(key, index), keys))
    return copy
