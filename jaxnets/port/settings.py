"""Recovers the constructor arguments of a torch.nn layer from its attributes."""

import inspect
from collections.abc import Callable
from typing import Any

from jaxnets.port.names import is_einops
from jaxnets.port.values import Refused

#: Arguments that only affect initialization, the device or the dtype, or are deprecated.
_INITIAL = frozenset(
    ("args", "kwargs", "device", "dtype", "init", "_weight", "_freeze", "size_average", "reduce")
)
_RECURRENT = (
    *("input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "batch_first"),
    *("dropout", "bidirectional", "proj_size"),
)
_PAIRED = ("Conv", "MaxPool", "AvgPool", "MaxUnpool", "LPPool", "FractionalMaxPool", "Adaptive")


def settings(layer: Any, kind: type) -> dict[str, Any]:
    """Returns the constructor arguments of a layer by PyTorch's names, in PyTorch's order.

    Args:
        layer: a layer of torch.nn, or of a class that derives from one.
        kind: the class of torch.nn or einops.

    Raises:
        Refused: if an argument cannot be recovered.
    """
    given: dict[str, Any] = {}
    if is_einops(kind):
        reduction = {"reduction": layer.reduction} if hasattr(layer, "reduction") else {}
        return {"pattern": layer.pattern, **reduction, **layer.axes_lengths}
    for name in defaults(kind):
        if name not in _INITIAL:
            given[name] = _setting(layer, kind, name)
    if "inplace" in given:
        given["inplace"] = False
    return {name: _short(kind, name, value) for name, value in given.items()}


def defaults(kind: type) -> dict[str, Any]:
    """Returns the constructor parameters of a class of torch.nn with their defaults.

    Required parameters have the default ``inspect.Parameter.empty``.
    """
    if kind.__name__ in ("LSTM", "GRU", "RNN"):
        return {**dict.fromkeys(_RECURRENT, inspect.Parameter.empty), **_RECURRENT_DEFAULTS}
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]  # type: ignore[misc]
    return {one.name: one.default for one in parameters}


_RECURRENT_DEFAULTS = {
    "num_layers": 1,
    "nonlinearity": "tanh",
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "proj_size": 0,
}


def _setting(layer: Any, kind: type, name: str) -> Any:
    known = _KNOWN.get((kind.__name__, name), _KNOWN.get(("", name)))
    if known is not None:
        return known(layer)
    if hasattr(layer, name):
        return getattr(layer, name)
    default = defaults(kind)[name]
    if default is inspect.Parameter.empty or not name.startswith(("min_value", "max_value")):
        if kind.__name__ in ("LSTM", "GRU", "RNN"):
            return default
        raise Refused(f"{name} of an nn.{kind.__name__} cannot be recovered")
    return default


def _short(kind: type, name: str, value: Any) -> Any:
    """Simplifies an argument: 3 for (3, 3)."""
    paired = kind.__name__.startswith(_PAIRED) and name != "output_ratio"
    if paired and isinstance(value, tuple) and value and len(set(map(repr, value))) == 1:
        return value[0]
    if name == "normalized_shape" and len(value) == 1:
        return value[0]
    return tuple(value) if isinstance(value, list) else value


def _of(path: str) -> Callable[[Any], Any]:
    def found(layer: Any) -> Any:
        for part in path.split("."):
            layer = layer[int(part)] if part.isdigit() else getattr(layer, part)
        return layer

    return found


def _has(path: str) -> Callable[[Any], bool]:
    def found(layer: Any) -> bool:
        return _of(path)(layer) is not None

    return found


def _pool_stride(layer: Any) -> Any:
    """Returns the stride of a pool, or None for PyTorch's default, the kernel size."""
    same = layer.stride == layer.kernel_size
    return None if same else layer.stride


def _norm_bias(layer: Any) -> bool:
    affine = getattr(layer, "affine", getattr(layer, "elementwise_affine", True))
    return layer.bias is not None or not affine


def _activation(layer: Any) -> Any:
    return layer.activation


_BLOCK = {
    "d_model": _of("self_attn.embed_dim"),
    "nhead": _of("self_attn.num_heads"),
    "dim_feedforward": _of("linear1.out_features"),
    "dropout": _of("dropout.p"),
    "activation": _activation,
    "layer_norm_eps": _of("norm1.eps"),
    "batch_first": _of("self_attn.batch_first"),
    "bias": _has("linear1.bias"),
}
_POOLS = [f"{kind}Pool{n}d" for kind in ("Max", "Avg", "LP") for n in (1, 2, 3)]
_KNOWN: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("", "bias"): lambda layer: layer.bias if isinstance(layer.bias, bool) else _norm_bias(layer),
    **{(pool, "stride"): _pool_stride for pool in _POOLS},
    **{(f"MaxUnpool{n}d", "stride"): _pool_stride for n in (1, 2, 3)},
    ("MultiheadAttention", "bias"): _has("in_proj_bias"),
    ("MultiheadAttention", "add_bias_kv"): _has("bias_k"),
    ("MultiheadAttention", "kdim"): lambda m: None if m.kdim == m.embed_dim else m.kdim,
    ("MultiheadAttention", "vdim"): lambda m: None if m.vdim == m.embed_dim else m.vdim,
    **{("TransformerEncoderLayer", name): found for name, found in _BLOCK.items()},
    **{("TransformerDecoderLayer", name): found for name, found in _BLOCK.items()},
    ("TransformerEncoder", "encoder_layer"): _of("layers.0"),
    ("TransformerEncoder", "mask_check"): lambda layer: True,
    ("TransformerEncoder", "enable_nested_tensor"): lambda layer: True,
    ("TransformerDecoder", "decoder_layer"): _of("layers.0"),
    ("PairwiseDistance", "p"): _of("norm"),
    ("FractionalMaxPool2d", "_random_samples"): lambda layer: None,
    ("FractionalMaxPool3d", "_random_samples"): lambda layer: None,
}
