"""PyTorch as the oracle: the same layer, the same weights, the same numbers."""

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

#: Double precision each time, where the tolerance is narrow, and single with ``-m slow``.
DTYPES = pytest.mark.parametrize("dtype", tier.usually([np.float32, np.float64], [np.float64]))

#: By test and dtype: how many arrays were compared, and the largest relative difference found.
MEASURED: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0])


def record(dtype, difference: float) -> float:
    """Notes a difference under the test that is running, for the table of measured maxima."""
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
    """Asserts that an array equals torch's, to the tolerance of its dtype."""
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else np.asarray(theirs)
    assert np.asarray(ours).dtype == theirs.dtype, what
    difference = relative_difference(ours, theirs)
    tolerance = TOLERANCE.get(theirs.dtype, 0.0)
    assert difference <= tolerance, f"{what}: {difference:.2e} > {tolerance:.0e}"


def copy_weights(layer: nnx.Module, torch_layer: torch.nn.Module) -> None:
    """Copies a torch layer's weights into ours, every one of them."""
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

    As the layer is written, and by kernels where there are some for it.

    Args:
        layer: ours, with any weights; it gets torch's.
        torch_layer: the oracle, in the dtype of ``inputs`` and in the mode to be tested.
        inputs: torch's inputs, of a floating dtype.
        to_ours: from torch's layout of the inputs to ours (``images_last`` for images).
        from_ours: from our layout of outputs and input gradients to torch's.
    """
    copy_weights(layer, torch_layer)
    x = torch.tensor(inputs, requires_grad=True)
    theirs = torch_layer(x)
    weight = np.cos(np.arange(theirs.numel())).reshape(theirs.shape).astype(inputs.dtype)
    theirs.backward(torch.tensor(weight))

    graphdef, parameters, rest = nnx.split(layer, nnx.Param, ...)

    def forward(parameters, x):
        # A copy, since statistics are written and must belong to the trace they are written in.
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

    As the function is written, and by kernels where there are some for it.

    Args:
        ours: of arrays in torch's layout; ``channels_first`` makes one of a function of images.
        theirs: of tensors.
        inputs: what both are called with, of a floating dtype.
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
    """The function with images and other channels-last arrays in torch's layout."""

    def moved(x, *rest):
        return jnp.moveaxis(function(jnp.moveaxis(x, 1, -1), *rest), -1, 1)

    return moved


def outputs_and_gradients(function, parameters, x, cotangent):
    """What a function makes, and what it makes of a cotangent on the way back."""

    @jax.jit
    def run(parameters, x, cotangent):
        outputs, pullback = jax.vjp(function, parameters, x)
        return outputs, *pullback(cotangent)

    return run(parameters, x, cotangent)


def of_one_distribution(ours, theirs):
    """The p-value of the two-sample Kolmogorov-Smirnov test."""
    from scipy import stats  # 55 MB, which a worker without such tests does not need

    return stats.ks_2samp(ours, theirs).pvalue
