"""A recurrent network that recognizes words from their spectrograms."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import as_array, check_floats, check_number, check_positive
from jaxnets.layers import GRU, Dropout, Linear


class SpeechGRU(nnx.Module):
    """A bidirectional GRU over the frames of a spectrogram, and the mean of its outputs.

    Args:
        num_classes: number of classes.
        bands: values of a frame.
        hidden_dim: size of the hidden state of each direction.
        n_layers: number of stacked layers.
        dropout: probability of dropping, in training, an output between layers, and a value of the
            mean.
        rngs: source of the initial values and of dropout masks.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, or dropout is outside [0, 1].
    """

    def __init__(
        self,
        num_classes: int = 10,
        bands: int = 40,
        hidden_dim: int = 64,
        n_layers: int = 1,
        dropout: float = 0.0,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        sizes = {"num_classes": num_classes, "bands": bands}
        for name, size in (*sizes.items(), ("hidden_dim", hidden_dim), ("n_layers", n_layers)):
            check_positive(name, size)
        check_number("dropout", dropout, least=0, most=1)
        kw: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.gru = GRU(bands, hidden_dim, n_layers, dropout=dropout, bidirectional=True, **kw)
        self.dropout = Dropout(dropout, rngs=rngs)
        self.fc = Linear(2 * hidden_dim, num_classes, **kw)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        return {
            "num_classes": self.fc.out_features,
            "bands": self.gru.input_size,
            "hidden_dim": self.gru.hidden_size,
            "n_layers": self.gru.num_layers,
            "dropout": self.dropout.rate,
        }

    def __call__(self, sound: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
        """Returns logits [batch, num_classes].

        Args:
            sound: spectrograms [batch, frames, bands].
            lengths: number of frames of each spectrogram before its padding, integers [batch]; None
                for all.
        """
        check_floats("sound", sound, ("batch", "frames", self.gru.input_size))
        lengths = None if lengths is None else as_array("lengths", lengths)
        x, _ = self.gru(sound, lengths=lengths)  # [batch, frames, 2·hidden_dim], 0 in the padding
        count = x.shape[1] if lengths is None else jnp.maximum(lengths, 1)[:, None].astype(x.dtype)
        return self.fc(self.dropout(jnp.sum(x, axis=1) / count))
