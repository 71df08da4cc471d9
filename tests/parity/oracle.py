"""Compares layers and functions with PyTorch's, with the same weights and inputs."""

import os
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets.interop import load_torch, to_numpy
from jaxnets.kernels.rewrite import explain, with_kernels
from tests import tier

#: Largest relative difference allowed, by dtype: |ours - torch's| / max |torch's|.
TOLERANCE = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 1e-5}

#: float64, which has the narrow tolerance, runs each time; float32 runs with ``-m slow``.
DTYPES = pytest.mark.parametrize("dtype", tier.usually([np.float32, np.float64], [np.float64]))

#: By test and dtype: the number of compared arrays, and their largest relative difference.
MEASURED: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0])


def record(dtype, difference: float) -> float:
    """Records a difference for the current test, for the table of measured maxima."""
    test = os.environ["PYTEST_CURRENT_TEST"].partition("[")[0].partition(" ")[0]
    entry = MEASURED[test, np.dtype(dtype).name]
    entry[0] += 1
    entry[1] = max(entry[1], difference)
    return difference


def relative_difference(ours, theirs) -> float:
    """The largest difference relative to the largest value of the reference (at least 1e-3)."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, f"shape {ours.shape} against torch's {theirs.shape}"
    if ours.size == 0:
        return 0.0
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs))
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(ours[~finite], theirs[~finite])  # the same NaN and infinities
    if not finite.any():
        return 0.0
    scale = max(np.abs(theirs[finite]).max(), 1e-3)
    return record(theirs.dtype, float(np.abs(ours[finite] - theirs[finite]).max() / scale))


def assert_equal(ours, theirs, what: str) -> None:
    """Asserts that an array equals torch's within the tolerance of its dtype."""
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else np.asarray(theirs)
    assert np.asarray(ours).dtype == theirs.dtype, what
    difference = relative_difference(ours, theirs)
    tolerance = TOLERANCE.get(theirs.dtype, 0.0)
    assert difference <= tolerance, f"{what}: {difference:.2e} > {tolerance:.0e}"


def copy_weights(layer: nnx.Module, torch_layer: torch.nn.Module) -> None:
    """Copies all weights of a torch layer into ours."""
    load_torch(layer, torch_layer.state_dict())


def images_last(array: np.ndarray) -> np.ndarray:
    """From channels first, [N, C, ...], to channels last, [N, ..., C]."""
    return np.moveaxis(array, 1, -1)


def images_first(array: np.ndarray) -> np.ndarray:
    """From channels last, [N, ..., C], to channels first, [N, C, ...]."""
    return np.moveaxis(array, -1, 1)


def check_layer(
    layer: nnx.Module,
    torch_layer: torch.nn.Module,
    inputs: np.ndarray,
    *,
    to_ours=lambda array: array,
    from_ours=lambda array: array,
) -> None:
    """Compares outputs, input gradients and parameter gradients of one layer with torch's.

    The layer runs without kernels, and also with kernels if there are any for it.

    Args:
        layer: our layer, whose weights are replaced by torch's.
        torch_layer: the reference, in the dtype of ``inputs`` and in the mode to be tested.
        inputs: inputs in torch's layout, of a floating dtype.
        to_ours: converts inputs from torch's layout to ours (``images_last`` for images).
        from_ours: converts outputs and input gradients from our layout to torch's.
    """
    copy_weights(layer, torch_layer)
    x = torch.tensor(inputs, requires_grad=True)
    theirs = torch_layer(x)
    weight = np.cos(np.arange(theirs.numel())).reshape(theirs.shape).astype(inputs.dtype)
    theirs.backward(torch.tensor(weight))

    graphdef, parameters, rest = nnx.split(layer, nnx.Param, ...)

    def forward(parameters, x):
        # A copy, because statistics are updated and must belong to the current trace.
        return nnx.merge(graphdef, parameters, rest, copy=True)(x)

    ours = jnp.asarray(to_ours(inputs))
    cotangent = jnp.asarray(to_ours(weight) if weight.ndim == inputs.ndim else weight)
    by_kernels = [with_kernels(forward)] if explain(forward, parameters, ours) else []
    for function in (forward, *by_kernels):
        outputs, *gradients = outputs_and_gradients(function, parameters, ours, cotangent)
        outputs = np.asarray(outputs)
        outputs = from_ours(outputs) if weight.ndim == inputs.ndim else outputs
        assert_equal(outputs, theirs, "outputs")
        assert_equal(from_ours(np.asarray(gradients[1])), x.grad, "input gradient")
        named = to_numpy(nnx.merge(graphdef, gradients[0], rest))
        for name, parameter in torch_layer.named_parameters():
            assert_equal(named[name], parameter.grad, name)


def check_function(ours, theirs, *inputs: np.ndarray) -> None:
    """Compares outputs and all gradients of a function of arrays with torch's.

    The function runs without kernels, and also with kernels if there are any for it.

    Args:
        ours: function of arrays in torch's layout; see ``channels_first`` for images.
        theirs: function of tensors.
        inputs: inputs of both functions, of a floating dtype.
    """
    given = [torch.tensor(array, requires_grad=True) for array in inputs]
    expected = theirs(*given)
    weight = np.cos(np.arange(expected.numel())).reshape(expected.shape).astype(inputs[0].dtype)
    expected.backward(torch.tensor(weight))
    gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in given]
    first, *rest = map(jnp.asarray, inputs)

    def call(first, rest):
        return ours(first, *rest)

    by_kernels = [with_kernels(call)] if explain(call, first, rest) else []
    for function in (call, *by_kernels):
        outputs, of_first, of_rest = outputs_and_gradients(function, first, rest, weight)
        assert_equal(outputs, expected, "outputs")
        for number, (gradient, wanted) in enumerate(
            zip((of_first, *of_rest), gradients, strict=True)
        ):
            assert_equal(gradient, wanted, f"gradient of input {number}")


def channels_first(function):
    """Converts a function of channels-last arrays to a function of arrays in torch's layout."""

    def moved(x, *rest):
        return jnp.moveaxis(function(jnp.moveaxis(x, 1, -1), *rest), -1, 1)

    return moved


def outputs_and_gradients(function, parameters, x, cotangent):
    """The outputs of a function, and the gradients that it computes from a cotangent."""

    @jax.jit
    def run(parameters, x, cotangent):
        outputs, pullback = jax.vjp(function, parameters, x)
        return outputs, *pullback(cotangent)

    return run(parameters, x, cotangent)


def of_one_distribution(ours, theirs):
    """The p-value of the two-sample Kolmogorov-Smirnov test."""
    from scipy import stats  # 55 MB, which other workers do not need

    return stats.ks_2samp(ours, theirs).pvalue
