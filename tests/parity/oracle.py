"""PyTorch as the oracle: the same layer, the same weights, the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from jaxnets.interop import rules

#: Largest relative difference allowed, by dtype: |ours - torch's| / max |torch's|.
TOLERANCE = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 1e-5}


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
    return float(np.abs(ours[finite] - theirs[finite]).max() / scale)


def assert_equal(ours, theirs, what: str) -> None:
    """Asserts that an array equals torch's, to the tolerance of its dtype."""
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else np.asarray(theirs)
    assert np.asarray(ours).dtype == theirs.dtype, what
    difference = relative_difference(ours, theirs)
    tolerance = TOLERANCE.get(theirs.dtype, 0.0)
    assert difference <= tolerance, f"{what}: {difference:.2e} > {tolerance:.0e}"


def copy_weights(layer: nnx.Module, torch_layer: torch.nn.Module) -> None:
    """Copies a torch layer's weights into ours, submodule by submodule, by the interop rules."""
    tensors = {name: value.detach().numpy() for name, value in torch_layer.state_dict().items()}
    for path, module in nnx.iter_modules(layer):
        prefix = "".join(f"{part}." for part in path if part != "layers")
        for attribute, leaf in rules.leaves(module).items():
            variable = getattr(module, attribute)
            value = leaf.to_jax(tensors.pop(prefix + leaf.name))
            assert variable.shape == value.shape, (prefix, attribute, variable.shape, value.shape)
            variable.set_value(jnp.asarray(value))
    assert not tensors, f"not copied: {sorted(tensors)}"


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

    @jax.jit
    def run(parameters, x, cotangent):
        def forward(parameters, x):
            return nnx.merge(graphdef, parameters, rest)(x)

        outputs, pullback = jax.vjp(forward, parameters, x)
        return outputs, *pullback(cotangent)

    cotangent = to_ours(weight) if weight.ndim == inputs.ndim else weight
    outputs, gradients, input_gradient = run(
        parameters, jnp.asarray(to_ours(inputs)), jnp.asarray(cotangent)
    )
    outputs = np.asarray(outputs)
    assert_equal(from_ours(outputs) if weight.ndim == inputs.ndim else outputs, theirs, "outputs")
    assert_equal(from_ours(np.asarray(input_gradient)), x.grad, "input gradient")

    expected = {name: value.grad for name, value in torch_layer.named_parameters()}
    with_gradients = nnx.merge(graphdef, gradients, rest)
    for path, module in nnx.iter_modules(with_gradients):
        prefix = "".join(f"{part}." for part in path if part != "layers")
        for attribute, leaf in rules.leaves(module).items():
            if prefix + leaf.name in expected:
                gradient = leaf.to_torch(np.asarray(getattr(module, attribute).get_value()))
                assert_equal(gradient, expected.pop(prefix + leaf.name), prefix + leaf.name)
    assert not expected, f"no gradient of ours for {sorted(expected)}"
