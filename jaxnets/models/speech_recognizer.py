"""A network that recognizes sequences of words, trained with CTC."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import InputError, as_array, check_floats, check_positive, describe
from jaxnets.layers import GRU, Conv2d, Linear
from jaxnets.losses import ctc_loss


class SpeechRecognizer(nnx.Module):
    """Two convolutions, a bidirectional GRU, and logits for every second frame.

    The last output is CTC's blank. The network is a small version of Deep Speech 2.

    Args:
        num_classes: number of classes without the blank.
        bands: values of a frame.
        channels: channels of the convolutions.
        hidden_dim: size of the hidden state of each direction.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer.
    """

    def __init__(
        self,
        num_classes: int = 10,
        bands: int = 40,
        channels: int = 16,
        hidden_dim: int = 96,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        sizes = {"num_classes": num_classes, "bands": bands}
        for name, size in (*sizes.items(), ("channels", channels), ("hidden_dim", hidden_dim)):
            check_positive(name, size)
        kw: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.bands = bands
        self.conv1 = Conv2d(1, channels, 3, stride=2, padding=1, **kw)
        self.conv2 = Conv2d(channels, channels, 3, stride=(1, 2), padding=1, **kw)
        self.gru = GRU(channels * ((bands + 3) // 4), hidden_dim, bidirectional=True, **kw)
        self.fc = Linear(2 * hidden_dim, num_classes + 1, **kw)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        return {
            "num_classes": self.fc.out_features - 1,
            "bands": self.bands,
            "channels": self.conv1.out_channels,
            "hidden_dim": self.gru.hidden_size,
        }

    def __call__(self, sound: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns logits [batch, frames/2, num_classes + 1] and their lengths [batch].

        Args:
            sound: spectrograms [batch, frames, bands].
            lengths: number of frames of each spectrogram before its padding, integers [batch].
        """
        check_floats("sound", sound, ("batch", "frames", self.bands))
        lengths = as_array("lengths", lengths)
        if lengths.shape != sound.shape[:1] or not jnp.issubdtype(lengths.dtype, jnp.integer):
            raise InputError("lengths", "integers [batch]", describe(lengths))
        x = jax.nn.relu(self.conv1(sound[..., None]))  # [batch, frames/2, bands/2, channels]
        x = jax.nn.relu(self.conv2(x))  # [batch, frames/2, bands/4, channels]
        x = jnp.swapaxes(x, 2, 3).reshape(*x.shape[:2], -1)  # channels slowest, as in PyTorch
        x, _ = self.gru(x, lengths=shorter(lengths))
        return self.fc(x), shorter(lengths)


def shorter(length: Any) -> Any:
    """Returns the length after a convolution of stride 2: half, rounded up."""
    return (length + 1) // 2


def recognition_loss(outputs: tuple[jax.Array, jax.Array], labels: jax.Array) -> jax.Array:
    """Computes the CTC loss of a recognizer's outputs.

    Args:
        outputs: logits [batch, time, num_classes + 1] and their lengths [batch].
        labels: sequences of classes, integers [batch, longest], padded with -1.

    Returns:
        The mean over the batch of each example's loss divided by its number of labels.
    """
    logits, lengths = outputs
    log_probs = jnp.swapaxes(jax.nn.log_softmax(logits), 0, 1)
    counts = jnp.sum(labels >= 0, axis=1)
    blank = logits.shape[-1] - 1
    return ctc_loss(
        log_probs, labels, lengths.astype(counts.dtype), counts, blank=blank, zero_infinity=True
    )
