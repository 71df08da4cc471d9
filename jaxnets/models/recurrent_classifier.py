"""The LSTM classifier of document 002, and the same network with a GRU."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import check_choice, check_floats, check_positive
from jaxnets.layers import GRU, LSTM, Linear


class RecurrentClassifier(nnx.Module):
    """A sequence classifier: a recurrent layer (``lstm`` or ``gru``) and ``fc`` on its last output.

    In the code of document 002, ``fc`` has 2·hidden_dim inputs although the LSTM is unidirectional;
    here it has hidden_dim inputs for each direction. ``output_dim``, which the document does not
    define, is an argument. As in the document, initial states are zero.

    As in the document, ``fc`` uses ``out[:, -1, :]``, the outputs at the last time step. In a
    bidirectional network the reverse direction has only processed the last input at this step.
    Therefore the recurrent weight of the reverse direction in the top layer has a zero gradient.

    Args:
        input_dim: the number of values per time step.
        hidden_dim: the size of the hidden state of each direction.
        n_layers: the number of stacked layers.
        dropout: the dropout probability of the outputs between layers, in training.
        output_dim: the number of outputs: the number of classes, or 1 for binary classification.
        cell: ``"lstm"`` or ``"gru"``.
        bidirectional: whether the layers also process the sequence in reverse.
        output: ``"sigmoid"`` for probabilities or ``"logits"``; None for ``"sigmoid"`` with a
            single output, as in the document, and ``"logits"`` with several.
        remat: the number of steps in a segment, to save memory; see ``LSTM``.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if a size is not a positive integer, dropout is outside [0, 1], or cell or
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
        setattr(self, cell, layer)  # the same name as in PyTorch, so that weights can be loaded
        directions = 2 if bidirectional else 1
        self.fc = Linear(directions * hidden_dim, output_dim, rngs=rngs, param_dtype=param_dtype)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
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
