"""Every layer of the table compared with PyTorch's: outputs, gradients and buffers in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets.interop import load_torch, to_numpy, to_torch
from jaxnets.interop.table import LAYERS
from tests import tier
from tests.parity.layer_cases import CASES, ELSEWHERE, FIRST, Case, our_layer
from tests.parity.oracle import assert_equal


def torch_layer(case: Case) -> torch.nn.Module:
    arguments = case.built_arguments(torch_layer)
    return getattr(torch.nn, case.name)(*arguments, **{**case.options, **case.theirs})


def randomized(layer: torch.nn.Module) -> None:
    """Draws vectors and statistics, which are often ones and zeros."""
    torch.manual_seed(0)
    for value in layer.state_dict().values():
        if value.is_floating_point() and value.ndim <= 1:
            value.uniform_(0.5, 1.5)


def check_weights(ours: nnx.Module, theirs: torch.nn.Module) -> None:
    """Asserts that PyTorch's weights are unchanged after loading and converting them back."""
    load_torch(ours, theirs.state_dict())
    back = to_torch(ours)
    assert back.keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(back[name], value, rtol=0, atol=0)


def is_float(array) -> bool:
    return np.issubdtype(np.asarray(array).dtype, np.floating)


def weights_of(outputs: list[torch.Tensor]) -> list[np.ndarray]:
    """The gradients of the outputs in PyTorch's layout."""
    wide = [np.cos(np.arange(one.numel())).reshape(one.shape) for one in outputs]
    return [w.astype(one.detach().numpy().dtype) for w, one in zip(wide, outputs, strict=True)]


def by_torch(layer, inputs, case):
    """PyTorch's outputs and input gradients; the layer keeps the gradients of its parameters."""
    given = [torch.tensor(array, requires_grad=is_float(array)) for array in inputs]
    outputs = jax.tree.leaves(layer(*given, **case.call))
    floats = [one for one in outputs if one.requires_grad]
    if floats:
        torch.autograd.backward(floats, [torch.tensor(one) for one in weights_of(floats)])
    grads = [torch.zeros_like(x) if x.grad is None else x.grad for x in given if x.requires_grad]
    return [one.detach().numpy() for one in outputs], [one.numpy() for one in grads]


def ours_at_once(layer, inputs, cotangents, case, evaluates):
    """Our outputs, gradients of inputs and parameters, and updated state, in one program."""
    graphdef, parameters, rest = nnx.split(layer, nnx.Param, ...)
    floats = [array for array in inputs if is_float(array)]

    def merged(parameters, rest, floats):
        values = iter(floats)
        given = [next(values) if is_float(array) else jnp.asarray(array) for array in inputs]
        return nnx.merge(graphdef, parameters, rest, copy=True), given

    def forward(parameters, floats):
        layer, given = merged(parameters, rest, floats)
        outputs = jax.tree.leaves(layer(*given, **case.call))
        found = [one for one in outputs if jnp.issubdtype(one.dtype, jnp.floating)]
        return found, (outputs, nnx.state(layer, nnx.Not(nnx.Param)))

    @jax.jit
    def run(parameters, floats, cotangents):
        _, pullback, (outputs, after) = jax.vjp(forward, parameters, floats, has_aux=True)
        evaluated = []
        if evaluates:
            layer, given = merged(parameters, after, floats)
            layer.eval()
            evaluated = jax.tree.leaves(layer(*given, **case.call))
        return outputs, pullback(cotangents), after, evaluated

    outputs, (of_parameters, of_inputs), after, evaluated = run(parameters, floats, cotangents)
    gradients = to_numpy(nnx.merge(graphdef, of_parameters, rest))
    state = to_numpy(nnx.merge(graphdef, parameters, after))
    return outputs, of_inputs, gradients, state, evaluated


def assert_same(ours, theirs, case: Case, what: str) -> None:
    assert len(ours) == len(theirs), what
    for one, other in zip(ours, theirs, strict=True):
        one = case.from_ours(np.asarray(one))
        if is_float(other):
            assert_equal(one, other, what)
        else:
            np.testing.assert_array_equal(one, other, what)


def check(case: Case, dtype=np.float64) -> None:
    ours = our_layer(case, rngs=nnx.Rngs(0), param_dtype=dtype)
    theirs = torch_layer(case).to(torch.tensor(dtype(0)).dtype)
    randomized(theirs)
    check_weights(ours, theirs)
    if case.drawn:
        ours.eval()
        theirs.eval()
    inputs = [x.astype(dtype) if is_float(x) else x for x in case.values()]
    outputs, of_inputs = by_torch(theirs, inputs, case)
    cotangents = [
        case.to_ours(one) for one in weights_of([torch.tensor(x) for x in outputs if is_float(x)])
    ]
    evaluates = any(True for _ in theirs.buffers())
    found = ours_at_once(ours, [*map(case.to_ours, inputs)], cotangents, case, evaluates)
    assert_same(found[0], outputs, case, "outputs")
    assert_same(found[1], of_inputs, case, "input gradients")
    for name, parameter in theirs.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert_equal(found[2][name], expected, f"gradient of {name}")
    for name, value in theirs.state_dict().items():
        assert_equal(found[3][name], value, f"{name} after the call")
    if evaluates:
        expected, _ = by_torch(theirs.eval(), inputs, case)
        assert_same(found[4], expected, case, "outputs in evaluation mode")


@pytest.mark.parametrize("case", tier.one_in(3, CASES), ids=str)
def test_layer_equals_torch_in_float64(case):
    check(case)


#: Layers that are more than products and element-wise operations, and not in other test modules.
IN_FLOAT32 = [
    *["AdaptiveLogSoftmaxWithLoss", "BatchNorm3d", "Bilinear", "CrossMapLRN2d", "EmbeddingBag"],
    *["InstanceNorm1d", "InstanceNorm3d", "LocalResponseNorm", "RMSNorm"],
]


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_layer_equals_torch_in_float32(name):
    check(FIRST[name], np.float32)


def test_every_layer_has_a_case():
    assert FIRST.keys() | ELSEWHERE.keys() == LAYERS.keys()
