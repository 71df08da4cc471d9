"""A small GPT: a decoder-only Transformer that predicts the next token."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxnets import initializers
from jaxnets.arrays import InputError, check_bool, check_number, check_positive, describe
from jaxnets.layers import GELU, Dropout, Embedding, LayerNorm, Linear, ModuleDict, TiedLinear
from jaxnets.layers.attention import attend
from jaxnets.layers.parameters import check_rngs
from jaxnets.models.text_classifier import check_tokens


class GPT(nnx.Module):
    """Token and position embeddings, pre-norm blocks, a last LayerNorm and a linear head.

    The structure, the names of the parameters and the initial values are those of nanoGPT
    (https://github.com/karpathy/nanoGPT), which are GPT-2's: ``transformer.wte``,
    ``transformer.h.0.attn.c_attn`` and so on. ``jaxnets.interop.load_torch`` therefore loads
    checkpoints of nanoGPT, and with ``gpt2_weights`` those of Hugging Face's GPT-2. nanoGPT's
    ``generate`` is ``jaxnets.sampling.sample``.

    Args:
        vocab_size: number of tokens.
        block_size: number of positions, the longest sequence that the network reads.
        n_layer: number of blocks.
        n_head: number of attention heads.
        n_embd: size of the vector of a token; a multiple of ``n_head``.
        dropout: probability of dropping, in training, a value of an embedding, an attention
            weight and an output of attention or MLP; in [0, 1).
        bias: whether linear layers and normalizations have biases.
        tie_weights: whether the head's weight is the token embedding, as in GPT-2.
        approximate: ``"none"`` for the exact GELU, as in nanoGPT; ``"tanh"`` as in GPT-2.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, ``n_embd`` is not a multiple of
            ``n_head``, or another argument is out of its range.

    Examples:
        >>> model = GPT(65, 16, n_layer=2, n_head=2, n_embd=8, rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((1, 16), int)).shape
        (1, 16, 65)
    """

    def __init__(
        self,
        vocab_size: int,
        block_size: int = 64,
        n_layer: int = 4,
        n_head: int = 4,
        n_embd: int = 128,
        dropout: float = 0.0,
        *,
        bias: bool = True,
        tie_weights: bool = True,
        approximate: str = "none",
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        for name, size in (("vocab_size", vocab_size), ("block_size", block_size)):
            check_positive(name, size)
        for name, size in (("n_layer", n_layer), ("n_head", n_head), ("n_embd", n_embd)):
            check_positive(name, size)
        if n_embd % n_head:
            raise InputError("n_embd", f"a multiple of {n_head} heads", n_embd)
        check_number("dropout", dropout, least=0, below=1)
        check_bool("bias", bias)
        check_bool("tie_weights", tie_weights)
        self.block_size = block_size
        sizes = n_embd, n_head, dropout, bias, approximate
        made: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.transformer = ModuleDict(
            {
                "wte": Embedding(vocab_size, n_embd, **made),
                "wpe": Embedding(block_size, n_embd, **made),
                "drop": Dropout(dropout, rngs=rngs),
                "h": nnx.List([Block(*sizes, **made) for _ in range(n_layer)]),
                "ln_f": LayerNorm(n_embd, bias=bias, param_dtype=param_dtype),
            }
        )
        if tie_weights:
            self.lm_head: nnx.Module = TiedLinear(self.transformer.wte)
        else:
            self.lm_head = Linear(n_embd, vocab_size, bias=False, **made)
        _initialize(self, n_layer, check_rngs(rngs))

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        parts, block = self.transformer, self.transformer.h[0]
        return {
            "vocab_size": parts.wte.num_embeddings,
            "block_size": self.block_size,
            "n_layer": len(parts.h),
            "n_head": block.attn.n_head,
            "n_embd": parts.wte.embedding_dim,
            "dropout": parts.drop.rate,
            "bias": parts.ln_f.bias is not None,
            "tie_weights": isinstance(self.lm_head, TiedLinear),
            "approximate": block.mlp.gelu.approximate,
        }

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Returns the next token's logits after each token, [batch, time, vocab_size].

        Args:
            tokens: integers [batch, time] in [0, vocab_size), with time of at most block_size.
        """
        self._check(tokens)
        x = self._embedded(tokens, jnp.arange(tokens.shape[1]))
        for block in self.transformer.h:
            x = block(x)
        return self.lm_head(self.transformer.ln_f(x))

    def advance(self, tokens: jax.Array, cache: "Cache | None") -> tuple[jax.Array, "Cache"]:
        """Reads more tokens, in evaluation mode: the keys and values of earlier ones are cached.

        The logits are those of a call with all tokens so far or, where these are more than
        ``block_size``, with the last ``block_size`` of them. In the second case every position
        has moved, and all keys and values are computed again.

        Args:
            tokens: the new tokens, as on a call.
            cache: what an earlier ``advance`` returned; None at the start.

        Returns:
            The logits after each new token, [batch, time, vocab_size], and the cache.
        """
        self._check(tokens)
        cache = self._empty(len(tokens)) if cache is None else cache
        fits = cache.size + tokens.shape[1] <= self.block_size
        return lax.cond(fits, self._append, self._move, tokens, cache)

    def _check(self, tokens: jax.Array) -> None:
        check_tokens(tokens)
        if tokens.shape[1] > self.block_size:
            expected = f"integers [batch, time] with time up to {self.block_size}"
            raise InputError("tokens", expected, describe(tokens))

    def _embedded(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        return self.transformer.drop(
            self.transformer.wte(tokens) + self.transformer.wpe(positions)[None]
        )

    def _empty(self, batch: int) -> "Cache":
        size, dtype = self.transformer.wte.embedding_dim, self.transformer.wte.embedding.dtype
        zeros = jnp.zeros((batch, self.block_size, size), dtype)
        tokens = jnp.zeros((batch, self.block_size), jnp.int32)
        return Cache(tokens, tuple((zeros, zeros) for _ in self.transformer.h), jnp.int32(0))

    def _append(self, tokens: jax.Array, cache: "Cache") -> tuple[jax.Array, "Cache"]:
        """Reads tokens that fit into the block."""
        x = self._embedded(tokens, cache.size + jnp.arange(tokens.shape[1], dtype=jnp.int32))
        layers = []
        for block, before in zip(self.transformer.h, cache.layers, strict=True):
            x, after = block.advance(x, before, cache.size)
            layers.append(after)
        written = jnp.asarray(tokens, jnp.int32)
        read = lax.dynamic_update_slice(cache.tokens, written, (0, cache.size))
        logits = self.lm_head(self.transformer.ln_f(x))
        return logits, Cache(read, tuple(layers), cache.size + tokens.shape[1])

    def _move(self, tokens: jax.Array, cache: "Cache") -> tuple[jax.Array, "Cache"]:
        """Reads the last ``block_size`` tokens from the start."""
        batch, new = tokens.shape
        room = jnp.zeros((batch, new), jnp.int32)
        written = jnp.asarray(tokens, jnp.int32)
        every = jnp.concatenate([cache.tokens, room], axis=1)
        every = lax.dynamic_update_slice(every, written, (0, cache.size))
        start = cache.size + new - self.block_size
        last = lax.dynamic_slice(every, (0, start), (batch, self.block_size))
        logits, cache = self._append(last, self._empty(batch))
        return logits[:, -new:], cache


class Cache(NamedTuple):
    """What a GPT has read.

    Attributes:
        tokens: the tokens, int32 [batch, block_size]; of these the first ``size``.
        layers: the keys and the values of each block, [batch, block_size, n_embd].
        size: the number of tokens.
    """

    tokens: jax.Array
    layers: tuple[tuple[jax.Array, jax.Array], ...]
    size: jax.Array


class Block(nnx.Module):
    """x ← x + attn(ln_1(x)), x ← x + mlp(ln_2(x)).

    Args:
        n_embd: size of the vector of a token.
        n_head: number of attention heads.
        dropout: probability of dropping a value.
        bias: whether linear layers and normalizations have biases.
        approximate: see ``GPT``.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self,
        n_embd: int,
        n_head: int,
        dropout: float,
        bias: bool,
        approximate: str,
        *,
        rngs: nnx.Rngs | None,
        param_dtype: DTypeLike,
    ) -> None:
        made: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.ln_1 = LayerNorm(n_embd, bias=bias, param_dtype=param_dtype)
        self.attn = CausalSelfAttention(n_embd, n_head, dropout, bias, **made)
        self.ln_2 = LayerNorm(n_embd, bias=bias, param_dtype=param_dtype)
        self.mlp = FeedForward(n_embd, dropout, bias, approximate, **made)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [batch, time, n_embd] for inputs of this shape."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))

    def advance(
        self, x: jax.Array, cache: tuple[jax.Array, jax.Array], count: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Returns the same for new positions, and the cache; see ``CausalSelfAttention``."""
        attended, cache = self.attn.advance(self.ln_1(x), cache, count)
        x = x + attended
        return x + self.mlp(self.ln_2(x)), cache


class CausalSelfAttention(nnx.Module):
    """Multi-head self-attention from each position to itself and those before it.

    Args:
        n_embd: size of each input and output.
        n_head: number of heads.
        dropout: probability of dropping an attention weight, and an output.
        bias: whether the projections have biases.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self,
        n_embd: int,
        n_head: int,
        dropout: float,
        bias: bool,
        *,
        rngs: nnx.Rngs | None,
        param_dtype: DTypeLike,
    ) -> None:
        made: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.n_head = n_head
        self.c_attn = Linear(n_embd, 3 * n_embd, bias, **made)  # queries, keys and values
        self.c_proj = Linear(n_embd, n_embd, bias, **made)
        self.attn_dropout = Dropout(dropout, rngs=rngs)
        self.resid_dropout = Dropout(dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [batch, time, n_embd] for inputs of this shape."""
        key = self.attn_dropout.draw_key()
        rate = 0.0 if key is None else self.attn_dropout.rate
        y = attend((self.c_attn(x),), (), key, heads=self.n_head, causal=True, rate=rate)
        return self.resid_dropout(self.c_proj(y))

    def advance(
        self, x: jax.Array, cache: tuple[jax.Array, jax.Array], count: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Attends from new positions to all so far.

        Args:
            x: the new positions, [batch, time, n_embd].
            cache: keys and values [batch, block_size, n_embd], of which the first ``count`` count.
            count: the number of earlier positions.

        Returns:
            The outputs [batch, time, n_embd], and keys and values with the new ones.
        """
        query, *new = jnp.split(self.c_attn(x), 3, axis=-1)
        keys, values = (
            lax.dynamic_update_slice(old, one, (0, count, 0))
            for old, one in zip(cache, new, strict=True)
        )
        own, every = (jnp.arange(size, dtype=jnp.int32) for size in (x.shape[1], keys.shape[1]))
        later = every[None, :] > count + own[:, None]  # [time, block_size]
        mask = jnp.where(later, -jnp.inf, 0.0).astype(x.dtype)[None, None]
        y = attend((query, keys, values), (mask,), heads=self.n_head, causal=False)
        return self.resid_dropout(self.c_proj(y)), (keys, values)


class FeedForward(nnx.Module):
    """``c_fc``, GELU, ``c_proj``, with a hidden layer of four times the size.

    Args:
        n_embd: size of each input and output.
        dropout: probability of dropping an output.
        bias: whether the linear layers have biases.
        approximate: see ``GPT``.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self,
        n_embd: int,
        dropout: float,
        bias: bool,
        approximate: str,
        *,
        rngs: nnx.Rngs | None,
        param_dtype: DTypeLike,
    ) -> None:
        made: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.c_fc = Linear(n_embd, 4 * n_embd, bias, **made)
        self.gelu = GELU(approximate)
        self.c_proj = Linear(4 * n_embd, n_embd, bias, **made)
        self.dropout = Dropout(dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [batch, time, n_embd] for inputs of this shape."""
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))


def _initialize(model: GPT, n_layer: int, rngs: nnx.Rngs) -> None:
    """GPT-2's initial values: kernels and embeddings N(0, 0.02), biases 0.

    The projections that end in the residual sum, of which there are two a block, start smaller by
    √(2 n_layer), so that the sum has the same size for any depth.
    """
    for path, parameter in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        if parameter.ndim > 1:
            last = "c_proj" in path
            draw = initializers.normal(0.0, 0.02 / (2 * n_layer) ** 0.5 if last else 0.02)
            parameter[...] = draw(rngs.params(), parameter.shape, parameter.dtype)
        elif "c_" in str(path[-2]):
            parameter[...] = jnp.zeros_like(parameter[...])


def gpt2_weights(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of Hugging Face's GPT-2 by the names and in the layout of nanoGPT.

    There the linear layers are ``Conv1D``, whose weight [in, out] is transposed, the causal mask
    is a buffer, and a bare ``GPT2Model`` has no ``transformer.`` and no head.

    Args:
        arrays: tensors or NumPy arrays by name, such as ``interop.read_torch(path).arrays``.

    Returns:
        The arrays for ``jaxnets.interop.load_torch``.

    Raises:
        InputError: if there is no ``wte.weight`` among them.

    Examples:
        >>> import numpy as np
        >>> given = {"wte.weight": np.zeros((5, 2)), "h.0.attn.c_attn.weight": np.zeros((2, 6))}
        >>> {name: array.shape for name, array in gpt2_weights(given).items()}
        {'transformer.wte.weight': (5, 2), 'transformer.h.0.attn.c_attn.weight': (6, 2)}
    """
    named = isinstance(arrays, Mapping) and all(isinstance(name, str) for name in arrays)
    if not named or not {"wte.weight", "transformer.wte.weight"} & set(arrays):
        raise InputError("arrays", "the arrays of a GPT-2 by name, wte.weight among them", arrays)
    found = {}
    for name, array in arrays.items():
        layer, _, last = name.rpartition(".")
        if layer.endswith(".attn") and last in ("bias", "masked_bias"):
            continue
        whole = name.startswith(("transformer.", "lm_head."))
        conv1d = last == "weight" and layer.rpartition(".")[2] in ("c_attn", "c_proj", "c_fc")
        found[name if whole else f"transformer.{name}"] = array.T if conv1d else array
    return found
