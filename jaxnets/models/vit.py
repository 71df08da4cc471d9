"""The Vision Transformer."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets import initializers
from jaxnets.arrays import InputError, check_floats, check_number, check_positive
from jaxnets.layers import (
    GELU,
    Conv2d,
    Dropout,
    LayerNorm,
    Linear,
    ModuleDict,
    MultiheadAttention,
    Sequential,
)
from jaxnets.layers.parameters import check_rngs

_EPS = 1e-6


class ViT(nnx.Module):
    """A pre-norm Transformer encoder whose tokens are patches of an image; returns logits.

    The network of "An Image is Worth 16x16 Words" (Dosovitskiy et al., 2021): ``conv_proj`` maps
    each patch to a vector, a class token is prepended, learned positions are added, and a linear
    head is applied to the class token of the last layer. Names of parameters are those of
    torchvision's ``VisionTransformer``, whose checkpoints ``jaxnets.interop.load_torch`` loads.

    Args:
        image_size: height and width of the images, a multiple of ``patch_size``.
        patch_size: height and width of a patch.
        num_layers: number of encoder layers.
        num_heads: number of attention heads.
        hidden_dim: size of the vector of a patch; a multiple of ``num_heads``.
        mlp_dim: size of the hidden layer in each encoder layer.
        dropout: probability of dropping, in training, a value of an embedding, an attention
            output and an output of each linear layer in the MLPs.
        num_classes: number of classes.
        in_channels: channels of the images.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, ``image_size`` is not a multiple of
            ``patch_size`` or ``hidden_dim`` of ``num_heads``, or dropout is outside [0, 1].

    Examples:
        >>> model = ViT(8, 4, 1, 2, 16, 32, num_classes=3, in_channels=1, rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((2, 8, 8, 1))).shape
        (2, 3)
    """

    def __init__(
        self,
        image_size: int = 28,
        patch_size: int = 4,
        num_layers: int = 4,
        num_heads: int = 4,
        hidden_dim: int = 64,
        mlp_dim: int = 128,
        dropout: float = 0.0,
        num_classes: int = 10,
        in_channels: int = 3,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_positive("patch_size", patch_size)
        check_positive("num_layers", num_layers)
        check_positive("mlp_dim", mlp_dim)
        check_positive("in_channels", in_channels)
        check_positive("num_classes", num_classes)
        check_number("dropout", dropout, least=0, most=1)
        if check_positive("image_size", image_size) % patch_size:
            raise InputError("image_size", f"a multiple of patch_size {patch_size}", image_size)
        check_positive("num_heads", num_heads)
        if check_positive("hidden_dim", hidden_dim) % num_heads:
            raise InputError("hidden_dim", f"a multiple of {num_heads} heads", hidden_dim)
        self.image_shape = (image_size, image_size, in_channels)
        made: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv_proj = Conv2d(in_channels, hidden_dim, patch_size, patch_size, **made)
        self.class_token = nnx.Param(jnp.zeros((1, 1, hidden_dim), param_dtype))
        tokens = (image_size // patch_size) ** 2 + 1
        sizes = tokens, num_layers, num_heads, hidden_dim, mlp_dim, dropout
        self.encoder = Encoder(*sizes, **made)
        self.heads = ModuleDict({"head": Linear(hidden_dim, num_classes, **made)})

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        size, _, channels = self.image_shape
        layers = [layer for _, layer in self.encoder.layers.named_children()]
        return {
            "image_size": size,
            "patch_size": self.conv_proj.kernel.shape[0],
            "num_layers": len(layers),
            "num_heads": layers[0].self_attention.num_heads,
            "hidden_dim": self.class_token.shape[-1],
            "mlp_dim": layers[0].mlp[0].out_features,
            "dropout": self.encoder.dropout.rate,
            "num_classes": self.heads.head.out_features,
            "in_channels": channels,
        }

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns logits [batch, num_classes] for images [batch, size, size, in_channels]."""
        check_floats("images", images, ("batch", *self.image_shape))
        x = self.conv_proj(images)  # [batch, rows, columns, hidden_dim]
        x = x.reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
        first = jnp.broadcast_to(self.class_token[...], (x.shape[0], 1, x.shape[2]))
        x = self.encoder(jnp.concatenate([first, x], axis=1))
        return self.heads.head(x[:, 0])


class Encoder(nnx.Module):
    """Adds the positions to the tokens, and passes both through the layers and ``ln``.

    Args:
        tokens: number of tokens.
        num_layers: see ``ViT``.
        num_heads: see ``ViT``.
        hidden_dim: see ``ViT``.
        mlp_dim: see ``ViT``.
        dropout: see ``ViT``.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self,
        tokens: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        mlp_dim: int,
        dropout: float,
        *,
        rngs: nnx.Rngs | None,
        param_dtype: DTypeLike,
    ) -> None:
        sizes = num_heads, hidden_dim, mlp_dim, dropout
        layers = [
            EncoderBlock(*sizes, rngs=rngs, param_dtype=param_dtype) for _ in range(num_layers)
        ]
        named = {f"encoder_layer_{number}": layer for number, layer in enumerate(layers)}
        draw = initializers.normal(0.0, 0.02)
        shape = (1, tokens, hidden_dim)
        self.pos_embedding = nnx.Param(draw(check_rngs(rngs).params(), shape, param_dtype))
        self.dropout = Dropout(dropout, rngs=rngs)
        self.layers = Sequential(named)
        self.ln = LayerNorm(hidden_dim, _EPS, param_dtype=param_dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [batch, tokens, hidden_dim] for tokens of this shape."""
        x = x + jnp.broadcast_to(self.pos_embedding[...], x.shape)
        return self.ln(self.layers(self.dropout(x)))


class EncoderBlock(nnx.Module):
    """x ← x + self_attention(ln_1(x)), x ← x + mlp(ln_2(x)).

    Args:
        num_heads: see ``ViT``.
        hidden_dim: see ``ViT``.
        mlp_dim: see ``ViT``.
        dropout: see ``ViT``.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self,
        num_heads: int,
        hidden_dim: int,
        mlp_dim: int,
        dropout: float,
        *,
        rngs: nnx.Rngs | None,
        param_dtype: DTypeLike,
    ) -> None:
        made: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.ln_1 = LayerNorm(hidden_dim, _EPS, param_dtype=param_dtype)
        self.self_attention = MultiheadAttention(hidden_dim, num_heads, **made)
        self.dropout = Dropout(dropout, rngs=rngs)
        self.ln_2 = LayerNorm(hidden_dim, _EPS, param_dtype=param_dtype)
        self.mlp = Sequential(
            Linear(hidden_dim, mlp_dim, **made),
            GELU(),
            Dropout(dropout, rngs=rngs),
            Linear(mlp_dim, hidden_dim, **made),
            Dropout(dropout, rngs=rngs),
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [batch, tokens, hidden_dim] for tokens of this shape."""
        y = self.ln_1(x)
        y, _ = self.self_attention(y, y, y, need_weights=False)
        x = x + self.dropout(y)
        return x + self.mlp(self.ln_2(x))
