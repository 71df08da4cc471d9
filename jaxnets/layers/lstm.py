"""The long short-term memory network."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import ArrayLike
from jaxnets.layers.parameters import check_others
from jaxnets.layers.recurrent import Recurrent, RecurrentCell


class LSTM(Recurrent):
    """``torch.nn.LSTM`` with batch_first=True: a stack of long short-term memory layers.

    At each time step, with σ the logistic function and ⊙ the element-wise product,

        [i, f, g, o] = x W_ih + b_ih + h W_hh + b_hh
        c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g)
        h' = σ(o) ⊙ tanh(c'), or (σ(o) ⊙ tanh(c')) W_hr if proj_size is not 0

    Parameters, for each layer k: ``kernel_ih_lk`` [input size of the layer, 4H], ``kernel_hh_lk``
    [H or P, 4H], ``bias_ih_lk`` and ``bias_hh_lk`` [4H], and ``kernel_hr_lk`` [H, P] if proj_size
    is not 0. The parameters of the other direction have the suffix ``_reverse``. Kernels are
    PyTorch's weights transposed, and all parameters start as U(±1/√hidden_size).

    Args:
        input_size: size of each input, the last axis of x.
        hidden_size: H, the size of the states.
        num_layers: the number of stacked layers; each takes the outputs of the layer below.
        bias: whether there are biases.
        dropout: the dropout probability of the outputs of each layer except for the last one, in
            training mode.
        bidirectional: whether each layer also runs from the last step to the first. The number of
            directions D is then 2, and the outputs of both are concatenated; otherwise D = 1.
        proj_size: P, the size that the hidden state is projected to; 0 for no projection.
        remat: to save memory with long sequences, the number of steps in a segment: only the states
            between segments are stored, and the backward pass recomputes the others. None stores
            the gates of every step.
        rngs: the random streams for the initial values and the dropout masks.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if a size is not positive, dropout is not in [0, 1], or proj_size is not smaller
            than hidden_size.

    Examples:
        >>> lstm = LSTM(28, 128, num_layers=2, rngs=nnx.Rngs(0))
        >>> outputs, (h_n, c_n) = lstm(jnp.zeros((64, 10, 28)))
        >>> outputs.shape, h_n.shape, c_n.shape
        ((64, 10, 128), (2, 64, 128), (2, 64, 128))
    """

    gate_count = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        remat: int | None = None,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others, "batch_first")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            dropout,
            bidirectional,
            proj_size,
            remat=remat,
            rngs=rngs,
            param_dtype=param_dtype,
        )

    def __call__(
        self,
        x: ArrayLike,
        initial_state: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Runs the layers over the sequences.

        Args:
            x: the sequences, [B, T, input_size].
            initial_state: (h_0 [layers · D, B, P or H], c_0 [layers · D, B, H]); None for zeros.
            lengths: the number of steps of each sequence, integers [B] from 1 to T; None for T.
                Steps after them are padding, which does not affect the results. This replaces
                PyTorch's packed sequences.

        Returns:
            The outputs [B, T, D · (P or H)], zero after the end of a sequence; and the final states
            (h_n, c_n), of the shapes of ``initial_state``, after the last step of each sequence
            (after the first step for the reverse direction). Within a layer the forward direction
            comes first.

        Raises:
            InputError: if a shape does not match, T is zero, or a length is not from 1 to T
                (lengths are not checked under ``jax.jit``).
        """
        sizes = self._state_size, self.hidden_size
        outputs, (h, c) = self._run(x, initial_state, sizes, lengths)
        return outputs, (h, c)

    @property
    def _cell(self) -> str:
        return "lstm"


class LSTMCell(RecurrentCell):
    """``torch.nn.LSTMCell``: one time step of an ``LSTM`` layer.

    Parameters: ``kernel_ih`` [input_size, 4H], ``kernel_hh`` [H, 4H], ``bias_ih`` and ``bias_hh``
    [4H]; they start as U(±1/√hidden_size).

    Args:
        input_size: size of each input, the last axis of x.
        hidden_size: H, the size of the states.
        bias: whether there are biases.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if a size is not positive.
    """

    gate_count = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others)
        super().__init__(input_size, hidden_size, bias, rngs=rngs, param_dtype=param_dtype)

    def __call__(
        self, x: ArrayLike, state: tuple[ArrayLike, ArrayLike] | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Computes the state after one step.

        Args:
            x: the inputs, [B, input_size].
            state: (h, c), both [B, H]; None for zeros.

        Returns:
            The new (h, c).

        Raises:
            InputError: if a shape does not match.
        """
        h, c = self._step("lstm", x, state, 2)
        return h, c
