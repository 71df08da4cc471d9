"""Links for Flax layers whose arrays do not correspond one to one to PyTorch's."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.interop.links import Link

_SUM = "summed with the other bias, as Flax has one"


def _transpose(value: np.ndarray) -> tuple[np.ndarray]:
    return (value.T,)


def _kernel(ours: str, theirs: str) -> Link:
    return Link((ours,), (theirs,), _transpose, _transpose)


def _summed(total: np.ndarray, other: np.ndarray) -> tuple[np.ndarray]:
    return (total + other,)


def _with_zeros(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return total, np.zeros_like(total)


def _biases(ours: str, suffix: str) -> Link:
    # The gates depend only on the sum of PyTorch's two biases. In export the second is zeros.
    names = f"bias_ih{suffix}", f"bias_hh{suffix}"
    return Link((ours,), names, _summed, _with_zeros, note=_SUM)


def _two_kernels(bias: str, path: str, suffix: str) -> list[Link]:
    """Links a cell of two linear layers, of which the one named ``bias`` has the bias."""
    return [
        _kernel(f"{path}dense_i.kernel", f"weight_ih{suffix}"),
        _kernel(f"{path}dense_h.kernel", f"weight_hh{suffix}"),
        _biases(f"{path}{bias}.bias", suffix),
    ]


def _lstm(path: str, suffix: str) -> list[Link]:
    def gates(kind: str, array: str) -> tuple[str, ...]:
        return tuple(f"{path}{gate}.{array}" for gate in kind.split())

    inputs, states = "ii if_ ig io", "hi hf hg ho"  # the order of PyTorch's rows

    def split(weight: np.ndarray) -> list[np.ndarray]:
        return [rows.T for rows in np.split(weight, 4)]

    def joined(*kernels: np.ndarray) -> tuple[np.ndarray]:
        return (np.concatenate([kernel.T for kernel in kernels]),)

    return [
        Link(gates(inputs, "kernel"), (f"weight_ih{suffix}",), split, joined),
        Link(gates(states, "kernel"), (f"weight_hh{suffix}",), split, joined),
        Link(
            gates(states, "bias"),
            (f"bias_ih{suffix}", f"bias_hh{suffix}"),
            lambda total, other: np.split(total + other, 4),
            lambda *biases: _with_zeros(np.concatenate(biases)),
            note=_SUM,
        ),
    ]


def _gru(path: str, suffix: str) -> list[Link]:
    # PyTorch multiplies the last third of bias_hh by the reset gate; Flax has no such bias.
    def to_jax(inputs: np.ndarray, states: np.ndarray) -> tuple[np.ndarray]:
        if np.any(states[-(states.size // 3) :]):
            raise ValueError(
                "the new gate's part of bias_hh is not zero, which nnx.GRUCell does not support; "
                "use jaxnets.layers.GRU"
            )
        return (inputs + states,)

    names = f"bias_ih{suffix}", f"bias_hh{suffix}"
    return [
        _kernel(f"{path}dense_i.kernel", f"weight_ih{suffix}"),
        _kernel(f"{path}dense_h.kernel", f"weight_hh{suffix}"),
        Link((f"{path}dense_i.bias",), names, to_jax, _with_zeros, note=_SUM),
    ]


_CELLS: dict[type[nnx.Module], Callable[[str, str], list[Link]]] = {
    nnx.OptimizedLSTMCell: partial(_two_kernels, "dense_h"),
    nnx.LSTMCell: _lstm,
    nnx.GRUCell: _gru,
    nnx.SimpleCell: partial(_two_kernels, "dense_i"),
}


def _cell(cell: nnx.Module, path: str = "", suffix: str = "") -> list[Link]:
    """Returns the links of a recurrent cell.

    Without a suffix they are for PyTorch's cells, such as LSTMCell; with a suffix for one
    direction of PyTorch's layers, such as LSTM.
    """
    found = (build for kind, build in _CELLS.items() if isinstance(cell, kind))
    build = next(found, None)
    return [] if build is None else build(path, suffix)


def _sequence(layer: nnx.RNN) -> list[Link]:
    return _cell(layer.cell, "cell.", "_l0")


def _both_directions(layer: nnx.Bidirectional) -> list[Link]:
    links = []
    for name, suffix in (("forward_rnn", "_l0"), ("backward_rnn", "_l0_reverse")):
        direction = getattr(layer, name)
        if isinstance(direction, nnx.RNN):
            links += _cell(direction.cell, f"{name}.cell.", suffix)
    return links


def _batch_norm(layer: nnx.BatchNorm) -> list[Link]:
    # Flax does not count batches. PyTorch requires a count, but uses it only with momentum=None.
    def zero() -> tuple[np.ndarray]:
        return (np.zeros((), np.int64),)

    return [Link((), ("num_batches_tracked",), lambda count: (), zero, optional=True)]


def _attention(layer: nnx.MultiHeadAttention) -> list[Link]:
    size, heads = layer.in_features, layer.num_heads
    sizes = {layer.qkv_features, layer.out_features}
    if sizes != {size} or layer.num_kv_heads != heads or layer.normalize_qk:
        raise InputError(
            "model",
            "an nnx.MultiHeadAttention with in_features = qkv_features = out_features, "
            "num_kv_heads = num_heads and no normalize_qk",
            "one with other settings, which torch.nn.MultiheadAttention does not support",
        )
    return [
        *_projections(heads, packed=layer.in_kv_features == size),
        Link(
            ("query.bias", "key.bias", "value.bias"),
            ("in_proj_bias",),
            lambda bias: list(bias.reshape(3, heads, -1)),
            lambda *ours: (np.concatenate([bias.reshape(-1) for bias in ours]),),
        ),
        Link(
            ("out.kernel",),
            ("out_proj.weight",),
            lambda weight: (weight.T.reshape(heads, -1, weight.shape[0]),),
            lambda kernel: (kernel.reshape(-1, kernel.shape[-1]).T,),
        ),
        Link(("out.bias",), ("out_proj.bias",), lambda bias: (bias,), lambda bias: (bias,)),
    ]


def _projections(heads: int, packed: bool) -> list[Link]:
    """Returns the links of the query, key and value kernels, [I, heads, d] in Flax."""

    def flat(kernel: np.ndarray) -> np.ndarray:  # to [heads · d, I]
        return kernel.reshape(kernel.shape[0], -1).T

    def cut(weight: np.ndarray) -> np.ndarray:
        return weight.T.reshape(weight.shape[1], heads, -1)

    kernels = "query.kernel", "key.kernel", "value.kernel"
    if not packed:
        return [
            Link((ours,), (f"{ours[0]}_proj_weight",), lambda w: (cut(w),), lambda k: (flat(k),))
            for ours in kernels
        ]
    return [
        Link(
            kernels,
            ("in_proj_weight",),
            lambda weight: [cut(rows) for rows in np.split(weight, 3)],
            lambda *ours: (np.concatenate([flat(kernel) for kernel in ours]),),
        )
    ]


#: The links of a Flax layer class, in addition to those of the table of rules. A link is ignored
#: if the layer lacks one of its arrays, such as a bias. The most derived class takes precedence.
LINKS: dict[type[nnx.Module], Callable[[Any], list[Link]]] = {
    nnx.BatchNorm: _batch_norm,
    nnx.MultiHeadAttention: _attention,
    nnx.RNN: _sequence,
    nnx.Bidirectional: _both_directions,
    **dict.fromkeys(_CELLS, _cell),
}

#: Flax layer classes without a counterpart in PyTorch.
WITHOUT_COUNTERPART = (nnx.Einsum, nnx.LinearGeneral, nnx.LoRA, nnx.SpectralNorm, nnx.WeightNorm)
