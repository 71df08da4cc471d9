"""Functions compute the same as the corresponding layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import functional as F
from jaxnets import layers

X = jnp.asarray(np.random.default_rng(0).normal(0, 3, (2, 5, 4)), jnp.float32)
#: The name of a function, that of the layer, and the arguments of both.
SAME = [
    ("gelu", "GELU", ("tanh",)),
    ("glu", "GLU", ()),
    ("hardshrink", "Hardshrink", (0.3,)),
    ("hardsigmoid", "Hardsigmoid", ()),
    ("hardswish", "Hardswish", ()),
    ("hardtanh", "Hardtanh", (-2.0, 0.5)),
    ("leaky_relu", "LeakyReLU", (0.3,)),
    ("local_response_norm", "LocalResponseNorm", (3, 0.5, 0.7, 2.0)),
    ("log_softmax", "LogSoftmax", (-1,)),
    ("relu6", "ReLU6", ()),
    ("softmax", "Softmax", (-2,)),
    ("softmin", "Softmin", (-1,)),
    ("softplus", "Softplus", (2.0, 5.0)),
    ("softshrink", "Softshrink", (0.3,)),
    ("tanhshrink", "Tanhshrink", ()),
    ("threshold", "Threshold", (0.3, 2.0)),
]


@pytest.mark.parametrize(("name", "layer", "arguments"), SAME)
def test_a_function_is_its_layer(name, layer, arguments):
    found = getattr(F, name)(X, *arguments)
    np.testing.assert_array_equal(found, getattr(layers, layer)(*arguments)(X))
    with pytest.raises(ValueError, match="input: expected a floating-point array .*, got int32"):
        getattr(F, name)(X.astype(jnp.int32), *arguments)


def test_functions_with_weights_are_their_layers():
    rngs = nnx.Rngs(0)
    linear, bilinear = layers.Linear(4, 3, rngs=rngs), layers.Bilinear(4, 4, 3, rngs=rngs)
    np.testing.assert_array_equal(F.linear(X, linear.kernel.T, linear.bias), linear(X))
    weight = jnp.moveaxis(bilinear.kernel[...], -1, 0)
    np.testing.assert_array_equal(F.bilinear(X, X, weight, bilinear.bias), bilinear(X, X))
    prelu = layers.PReLU(4)
    np.testing.assert_array_equal(F.prelu(X, prelu.negative_slope), prelu(X))
    indices = jnp.array([[1, 2], [0, 1]])
    table = layers.Embedding(3, 4, 1, rngs=rngs)
    np.testing.assert_array_equal(F.embedding(indices, table.embedding, 1), table(indices))
    gradient = jax.grad(lambda table: F.embedding(indices, table, -2).sum())(table.embedding[...])
    np.testing.assert_array_equal(gradient.sum(1), [4.0, 0.0, 4.0])
    bag = layers.EmbeddingBag(3, 4, mode="max", rngs=rngs)
    found = F.embedding_bag(indices, bag.embedding, mode="max")
    np.testing.assert_array_equal(found, bag(indices))


def test_a_softmax_may_be_computed_in_another_dtype():
    halves = X.astype(jnp.float16)
    found = F.log_softmax(halves, -1, dtype=jnp.float32)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, F.log_softmax(halves.astype(jnp.float32), -1))
    with pytest.raises(ValueError, match="dtype: expected a floating-point dtype, got <class"):
        F.softmax(X, -1, dtype=jnp.int32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.bilinear(X, X, jnp.ones((4, 4))), r"weight: expected .* \[O, I1, I2\], got"),
        (lambda: F.bilinear(X, X[0], jnp.ones((2, 4, 4))), r"input2: .* \[2, 5, 4\], got float"),
        (lambda: F.bilinear(X, X, jnp.ones((2, 4, 4)), X), r"bias: expected .* \[2\], got"),
        (lambda: F.softmin(X, 1), "dim: expected 0, -1 for the channels .*, got 1"),
        (
            lambda: F.embedding_bag(jnp.array([[0]]), jnp.ones((3, 2)), padding_idx=3),
            "padding_idx: expected an integer from -3 to 2, got 3",
        ),
        (
            lambda: F.embedding_bag(jnp.array([[0]]), jnp.ones((3, 2)), max_norm=1.0),
            "max_norm: expected None, the only supported value, got 1.0",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
