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

    At each time step, with σ the logistic function and ⊙ the product element by element,

        [i, f, g, o] = x W_ih + b_ih + h W_hh + b_hh
        c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g)
        h' = σ(o) ⊙ tanh(c'), or (σ(o) ⊙ tanh(c')) W_hr where proj_size is not 0

    Parameters, for each layer k: ``kernel_ih_lk`` [input size of the layer, 4H], ``kernel_hh_lk``
    [H, 4H], ``bias_ih_lk`` and ``bias_hh_lk`` [4H], ``kernel_hr_lk`` [H, P] where proj_size is not
    0; and the same with the suffix ``_reverse`` for the other direction. They are PyTorch's, the
    kernels transposed, and start as U(±1/√hidden_size).

    Args:
        input_size: size of each input, the last axis of x.
        hidden_size: H, the size of the states.
        num_layers: how many layers are stacked, each fed with the outputs of the one below.
        bias: whether there are biases.
        dropout: probability with which outputs of a layer, except for the last one, are zeroed in
            training mode.
        bidirectional: whether each layer also runs from the last step to the first; D = 2 then,
            else 1, and the outputs of both directions are concatenated.
        proj_size: P, the size to which the hidden state is projected; 0 for no projection.
        remat: for long sequences: of how many steps to keep the states alone, and compute the rest
            again on the way back. None keeps the gates of every step.
        rngs: where the initial values and the dropout masks are drawn from.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: a size is not positive, dropout is not in [0, 1], or proj_size is not smaller
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
            lengths: how many steps each sequence has, int [B], from 1 to T; what comes after them
                is padding and changes nothing. None means T. This is PyTorch's packed sequence.

        Returns:
            The outputs, [B, T, D · (P or H)], zero after a sequence's end; and the states after
            each sequence's last step (its first, for the other direction), (h_n, c_n), of the
            shapes of ``initial_state``, layer by layer and within a layer forward before reverse.

        Raises:
            InputError: a shape does not fit, T is zero, or a length is not in 1 to T (checked where
                the lengths are known, not under ``jax.jit``).
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
        rngs: where the initial values are drawn from.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: a size is not positive.
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
            InputError: a shape does not fit.
        """
        h, c = self._step("lstm", x, state, 2)
        return h, c
