"""The plain recurrent network."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import ArrayLike, check_choice
from jaxnets.layers.parameters import check_others
from jaxnets.layers.recurrent import Recurrent, RecurrentCell

_NONLINEARITIES = "tanh", "relu"


class RNN(Recurrent):
    """``torch.nn.RNN`` with batch_first=True: a stack of plain recurrent layers.

    At each time step, h' = tanh(x W_ih + b_ih + h W_hh + b_hh), or max(0, ·) instead of tanh.

    Parameters, for each layer k: ``kernel_ih_lk`` [input size of the layer, H], ``kernel_hh_lk``
    [H, H], ``bias_ih_lk`` and ``bias_hh_lk`` [H]. The parameters of the other direction have the
    suffix ``_reverse``. Kernels are PyTorch's weights transposed, and all parameters start as
    U(±1/√hidden_size).

    Args:
        input_size: size of each input, the last axis of x.
        hidden_size: H, the size of the state.
        num_layers: the number of stacked layers; each takes the outputs of the layer below.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether the layer has biases.
        dropout: the dropout probability of the outputs of each layer except for the last one, in
            training mode.
        bidirectional: whether each layer also runs from the last step to the first. The number of
            directions D is then 2, and the outputs of both are concatenated; otherwise D = 1.
        remat: to save memory with long sequences, the number of steps in a segment: only the states
            between segments are stored, and the backward pass recomputes the others. None stores
            the gates of every step.
        rngs: the random streams for the initial values and the dropout masks.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if a size is not positive, dropout is not in [0, 1], or the nonlinearity is
            unknown.

    Examples:
        >>> rnn = RNN(28, 128, nonlinearity="relu", rngs=nnx.Rngs(0))
        >>> outputs, h_n = rnn(jnp.zeros((64, 10, 28)))
        >>> outputs.shape, h_n.shape
        ((64, 10, 128), (1, 64, 128))
    """

    gate_count = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        remat: int | None = None,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others, "batch_first")
        check_choice("nonlinearity", nonlinearity, _NONLINEARITIES)
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            dropout,
            bidirectional,
            remat=remat,
            rngs=rngs,
            param_dtype=param_dtype,
        )
        self.nonlinearity = nonlinearity

    def __call__(
        self,
        x: ArrayLike,
        initial_state: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Runs the layers over the sequences.

        Args:
            x: the sequences, [B, T, input_size].
            initial_state: h_0 [layers · D, B, H]; None for zeros.
            lengths: the number of steps of each sequence, integers [B] from 1 to T; None for T.
                Steps after them are padding, which does not affect the results. This replaces
                PyTorch's packed sequences.

        Returns:
            The outputs [B, T, D · H], zero after the end of a sequence; and the final states
            h_n [layers · D, B, H], after the last step of each sequence (after the first step for
            the reverse direction). Within a layer the forward direction comes first.

        Raises:
            InputError: if a shape does not match, T is zero, or a length is not from 1 to T
                (lengths are not checked under ``jax.jit``).
        """
        outputs, (h,) = self._run(x, initial_state, (self.hidden_size,), lengths)
        return outputs, h

    @property
    def _cell(self) -> str:
        return self.nonlinearity


class RNNCell(RecurrentCell):
    """``torch.nn.RNNCell``: one time step of an ``RNN`` layer.

    Parameters: ``kernel_ih`` [input_size, H], ``kernel_hh`` [H, H], ``bias_ih`` and ``bias_hh``
    [H]; they start as U(±1/√hidden_size).

    Args:
        input_size: size of each input, the last axis of x.
        hidden_size: H, the size of the state.
        bias: whether the layer has biases.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if a size is not positive, or the nonlinearity is unknown.
    """

    gate_count = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others)
        check_choice("nonlinearity", nonlinearity, _NONLINEARITIES)
        super().__init__(input_size, hidden_size, bias, rngs=rngs, param_dtype=param_dtype)
        self.nonlinearity = nonlinearity

    def __call__(self, x: ArrayLike, state: ArrayLike | None = None) -> jax.Array:
        """Computes the state after one step.

        Args:
            x: the inputs, [B, input_size].
            state: h [B, H]; None for zeros.

        Returns:
            The new h.

        Raises:
            InputError: if a shape does not match.
        """
        return self._step(self.nonlinearity, x, state, 1)[0]
