"""Finds the first layer whose outputs differ between a model and its PyTorch counterpart."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import (
    InputError,
    as_array,
    called,
    check_function,
    check_number,
    check_usable,
    describe,
    is_tensor,
)
from jaxnets.interop.conversion import to_numpy
from jaxnets.interop.differences import Call, Trace, compared
from jaxnets.interop.watching import watched


def trace_difference(
    model: nnx.Module,
    torch_module: Any,
    inputs: np.ndarray | Sequence[np.ndarray],
    *,
    to_ours: Callable[[np.ndarray], np.ndarray] | None = None,
    tolerance: float = 1e-4,
) -> Trace:
    """Runs a model and its PyTorch counterpart on the same inputs and compares all layer outputs.

    Both run in evaluation mode; their own modes are restored afterwards. Layers are matched by
    name and by the number of the call. Images are compared after moving the channels, time-major
    outputs after swapping batch and time, and packed sequences after padding with zeros. NaN
    equals NaN. A layer whose outputs have no common layout does not count as a difference if the
    next layer agrees. Layers that run inside a nested ``jax.jit`` or a scan are not compared.

    The function temporarily replaces the ``__call__`` of the model's layer classes, so it is not
    thread-safe.

    Args:
        model: the JAX model, with the weights to check.
        torch_module: the PyTorch module.
        inputs: PyTorch's inputs, one array or one array for each positional argument.
            Floating-point inputs are converted to the dtype of PyTorch's parameters.
        to_ours: converts an input from PyTorch's layout to the layout of ``model``. None moves the
            channels of arrays of four or more axes last and leaves other arrays unchanged.
        tolerance: the largest relative difference that counts as equal.

    Returns:
        The table of layers. ``print`` shows the table; ``first`` is the first layer that differs.

    Raises:
        InputError: if ``model`` is not an ``nnx.Module``, ``torch_module`` is not a
            ``torch.nn.Module``, or a layer of ``model`` rejects its inputs.
        ImportError: if torch is not installed.
    """
    import torch

    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", type(model).__name__)
    if not isinstance(torch_module, torch.nn.Module):
        raise InputError("torch_module", "a torch.nn.Module", type(torch_module).__name__)
    check_number("tolerance", tolerance, least=0, finite=False)
    to_ours = _channels_last if to_ours is None else to_ours
    check_function("to_ours", to_ours, "a function of an array or None")
    arrays = _inputs(inputs)
    floats = [p.dtype for p in torch_module.parameters() if p.is_floating_point()]
    tensors = [torch.tensor(np.asarray(array)) for array in arrays]
    if floats:
        tensors = [t.to(floats[0]) if t.is_floating_point() else t for t in tensors]
    change = functools.partial(called, "to_ours", "a function of an array", to_ours)
    ours = [as_array("to_ours", change(to_numpy(tensor))) for tensor in tensors]
    kinds = {name: type(part).__name__ for name, part in torch_module.named_modules()}
    theirs = _torch_calls(torch_module, tensors)

    def trace(calls: list[Call]) -> Trace:
        return compared(theirs, calls, kinds, tolerance)

    return trace(_our_calls(model, ours, trace))


def _inputs(inputs: Any) -> list[np.ndarray]:
    """Returns the inputs as a list of NumPy arrays."""
    expected = "an array, or one for each positional argument"
    given = inputs if isinstance(inputs, list | tuple) else [inputs]
    if not given:
        raise InputError("inputs", expected, inputs)
    plain = (array.detach().cpu() if is_tensor(array) else array for array in given)
    arrays = [np.asarray(a) if is_tensor(a) or isinstance(a, jax.Array) else a for a in plain]
    for array in arrays:
        check_usable("inputs", expected, array)
        if not array.ndim or array.dtype.kind not in "biufc":
            raise InputError("inputs", expected, inputs)
    return arrays


def _channels_last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, -1) if array.ndim >= 4 else array


def _torch_calls(module: Any, tensors: list[Any]) -> list[Call]:
    """Runs a PyTorch module and returns the outputs of all its layers."""
    import torch

    calls: list[Call] = []
    training = {part: part.training for part in module.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()

    def watch(name: str) -> Callable[..., None]:
        # Outputs are copied, as a later in-place layer may overwrite them.
        return lambda part, inputs, outputs: calls.append((name, _arrays(outputs)))

    handles = [part.register_forward_hook(watch(name)) for name, part in module.named_modules()]
    # The fast path of attention skips its inner layers and returns nested tensors.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            got = ", ".join(map(str, (list(tensor.shape) for tensor in tensors)))
            called("inputs", "what torch_module takes", module.eval(), *tensors, got=got)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()
        for part, mode in training.items():
            part.training = mode
    return calls


def _our_calls(
    model: nnx.Module, arrays: list[jax.Array], trace: Callable[[list[Call]], Trace]
) -> list[Call]:
    """Runs a copy of a model and returns the outputs of all its layers.

    ``trace`` compares the calls so far, to explain an error.
    """
    copy = nnx.clone(model)
    copy.eval()
    calls: list[Call] = []

    def note(
        name: str, module: nnx.Module, call: Callable[..., Any], *args: Any, **named: Any
    ) -> Any:
        outputs = call(*args, **named)
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(outputs)):
            calls.append((name, _arrays(outputs)))
        return outputs

    with watched(copy, note), jax.default_matmul_precision("highest"):
        try:
            copy(*arrays)
        except (InputError, TypeError, ValueError) as error:
            expected = f"what {type(model).__name__} takes, or to_ours= to bring them to our layout"
            got = f"{', '.join(map(describe, arrays))}, with which {error}"
            if divergence := trace(calls).divergence:  # an earlier layer may be the cause
                got += f"; {divergence}"
            raise InputError("inputs", expected, got) from error
    return calls


def _arrays(outputs: Any) -> list[np.ndarray]:
    """Copies the arrays in nested outputs, such as an LSTM's (outputs, (h, c)), to a list."""
    if hasattr(outputs, "batch_sizes"):  # PyTorch's PackedSequence, which is also a tuple
        from torch.nn.utils.rnn import pad_packed_sequence

        outputs = pad_packed_sequence(outputs, batch_first=True)[0]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, tuple | list):
        return [array for part in outputs for array in _arrays(part)]
    return [np.array(to_numpy(outputs))] if hasattr(outputs, "shape") else []
