"""Reports which layers of a network are quantized, and why others are not."""

from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.quantization.layers import Prepared, QuantizedLayer
from jaxnets.quantization.parts import Dynamic
from jaxnets.quantization.structure import places, reason_against, shared_variables


@dataclass(frozen=True)
class Row:
    """A layer with weights.

    Attributes:
        path: the path of the layer in the network.
        kind: the name of its class before quantization.
        how: the quantization of its weights and inputs, or the reason why there is none.
        bytes: the size of its arrays in bytes.
    """

    path: str
    kind: str
    how: str
    bytes: int


@dataclass(frozen=True)
class Report:
    """The quantization of the layers of a network.

    Attributes:
        quantized: the quantized layers.
        left: the layers and other modules with floating-point parameters.
        bytes: the size of all arrays of the network in bytes.
    """

    quantized: tuple[Row, ...]
    left: tuple[Row, ...]
    bytes: int

    def __str__(self) -> str:
        rows = [*self.quantized, *self.left]
        widths = [max((len(row.path or "(all)") for row in rows), default=0)]
        widths.append(max((len(row.kind) for row in rows), default=0))
        lines = [
            f"{row.path or '(all)':{widths[0]}}  {row.kind:{widths[1]}}  {row.how}" for row in rows
        ]
        return "\n".join([*lines, f"{self.bytes:,} bytes"])


def report(model: nnx.Module) -> Report:
    """Lists the layers of a network that are quantized, and those that are not, with the reason.

    Args:
        model: any ``nnx.Module``, quantized or not.

    Returns:
        All modules with parameters; the report's string has a line for each.

    Raises:
        InputError: if ``model`` is not an ``nnx.Module``.

    Examples:
        >>> from jaxnets import MLP
        >>> from jaxnets.quantization import quantize_weights
        >>> print(report(quantize_weights(MLP((4, 3, 2), rngs=nnx.Rngs(0)))))
        fc1  Linear  weights int8, per channel
        fc2  Linear  weights int8, per channel
        58 bytes
    """
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", model)
    quantized, left, shared, found = [], [], shared_variables(model), places(model)
    layers = [place.module for place in found.values()]
    modes = [one.scheme.mode for one in layers if isinstance(one, QuantizedLayer)]
    # embeddings have the mode "weights" in a dynamic network, too
    mode = next((each for each in modes if each != "weights"), "weights")
    for path, place in found.items():
        module = place.module
        if isinstance(module, QuantizedLayer):
            kind = type(module.layer).__name__
            quantized.append(Row(path, kind, _how(module), size(module)))
            continue
        if isinstance(module, Prepared):
            kind, why = type(module.layer).__name__, "prepared for int8, not converted yet"
            left.append(Row(path, kind, f"floating point: {why}", size(module.layer)))
            continue
        own = [value for value in vars(module).values() if isinstance(value, nnx.Param)]
        if own:
            why = reason_against(mode, place, shared) or "not quantized"
            total = sum(value[...].nbytes for value in own)
            left.append(Row(path, type(module).__name__, f"floating point: {why}", total))
    return Report(tuple(quantized), tuple(left), size(model))


def size(model: nnx.Module) -> int:
    """Returns the size of a network's weights, statistics, integers and scales in bytes."""
    state = nnx.state(model, nnx.Not(nnx.RngState))
    return sum(int(np.prod(array.shape)) * array.dtype.itemsize for array in jax.tree.leaves(state))


def _how(layer: QuantizedLayer) -> str:
    scheme = layer.scheme
    scales = "per channel" if scheme.per_channel else "one scale"
    if scheme.group_size is not None:
        scales = f"a scale for {scheme.group_size} inputs"
    weights = f"weights int{scheme.bits}, {scales}"
    if layer.inputs is None:
        return weights
    bits = 7 if layer.inputs.reduce_range else 8
    how = "of each call" if isinstance(layer.inputs, Dynamic) else "calibrated"
    return f"{weights}; inputs {bits} bits, {how}"
