"""The LSTM classifier of document 002, and the same network with a GRU."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import check_choice, check_floats, check_positive
from jaxnets.layers import GRU, LSTM, Linear


class RecurrentClassifier(nnx.Module):
    """A recurrent layer (``lstm`` or ``gru``) whose last step's output goes through ``fc``.

    The document's ``fc`` takes 2·hidden_dim values of a unidirectional LSTM, which gives
    hidden_dim; here it takes as many as the directions give. Its ``output_dim`` is never defined;
    here it is an argument. Initial states are zero, as there.

    The last step of the reverse direction has seen the last input only: that is what the
    document's ``out[:, -1, :]`` takes of a bidirectional layer, and what this takes. The top
    layer's reverse recurrent weight therefore meets a zero state alone and has a zero gradient.

    Args:
        input_dim: values per time step.
        hidden_dim: size of the hidden state of each direction.
        n_layers: number of stacked layers.
        dropout: probability of dropping an output between layers, in training.
        output_dim: number of outputs: classes, or 1 for the binary case.
        cell: ``"lstm"`` or ``"gru"``.
        bidirectional: whether a second layer reads the sequence backwards.
        output: ``"sigmoid"`` for probabilities, ``"logits"``; None takes the sigmoid for a single
            output, as in the document, and logits for several.
        remat: for long sequences: see ``LSTM``.
        rngs: where the initial values are drawn from.
        param_dtype: the dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, dropout is outside [0, 1], or cell or
            output is unknown.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        n_layers: int = 1,
        dropout: float = 0.0,
        output_dim: int = 1,
        *,
        cell: Literal["lstm", "gru"] = "lstm",
        bidirectional: bool = False,
        output: Literal["sigmoid", "logits"] | None = None,
        remat: int | None = None,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_positive("input_dim", input_dim)
        check_positive("hidden_dim", hidden_dim)
        check_positive("n_layers", n_layers)
        check_positive("output_dim", output_dim)
        check_choice("cell", cell, ("lstm", "gru"))
        if output is None:
            output = "sigmoid" if output_dim == 1 else "logits"
        self.output = check_choice("output", output, ("sigmoid", "logits"))
        self.input_dim = input_dim
        self.cell = cell
        layer = {"lstm": LSTM, "gru": GRU}[cell](
            input_dim,
            hidden_dim,
            n_layers,
            dropout=dropout,
            bidirectional=bidirectional,
            remat=remat,
            rngs=rngs,
            param_dtype=param_dtype,
        )
        setattr(self, cell, layer)  # named as PyTorch's attribute is, so that weights carry over
        directions = 2 if bidirectional else 1
        self.fc = Linear(directions * hidden_dim, output_dim, rngs=rngs, param_dtype=param_dtype)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that make a network of this kind and these sizes, except for ``rngs``."""
        layer = getattr(self, self.cell)
        return {
            "input_dim": self.input_dim,
            "hidden_dim": layer.hidden_size,
            "n_layers": layer.num_layers,
            "dropout": layer.dropout,
            "output_dim": self.fc.out_features,
            "cell": self.cell,
            "bidirectional": layer.bidirectional,
            "output": self.output,
            "remat": layer.remat,
        }

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Returns probabilities or logits [batch, output_dim].

        Args:
            inputs: [batch, time, input_dim].
        """
        check_floats("inputs", inputs, ("batch", "time", self.input_dim))
        outputs, _ = getattr(self, self.cell)(inputs)  # [batch, time, directions · hidden_dim]
        x = self.fc(outputs[:, -1, :])
        return jax.nn.sigmoid(x) if self.output == "sigmoid" else x
