"""A batch that is taken in parts, beside the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets.layers.parts import in_parts
from jaxnets.models import LeNet


def test_parts_give_outputs_and_gradients_of_the_whole():
    seen = []

    def function(x):
        seen.append(len(x))
        return jnp.tanh(x @ weight)

    draw = np.random.default_rng(0)
    # Of eighths the sums of products are exact: no order of them rounds otherwise.
    x, weight = (
        jnp.asarray((8 * draw.normal(size=size)).round() / 8) for size in ((96, 3), (3, 2))
    )
    whole = function(x)
    np.testing.assert_allclose(in_parts(function, x), whole, rtol=1e-6)
    assert set(seen) == {96, 48}  # the latter on CPUs

    def loss(weight, apply):
        return apply(lambda x: jnp.sin(x @ weight), x).var()

    expected = jax.grad(loss)(weight, lambda function, x: function(x))
    np.testing.assert_allclose(jax.grad(loss)(weight, in_parts), expected, rtol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 64, 67, 130])
def test_what_makes_no_whole_number_of_parts_is_taken_whole(count):
    sizes = []
    in_parts(lambda x: sizes.append(len(x)) or x, jnp.zeros((count, 2)))
    assert sizes == [count]


def test_lenet_trains_on_parts_as_on_the_whole(monkeypatch):
    model = LeNet(rngs=nnx.Rngs(0))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(68, 28, 28, 1)), jnp.float32)

    def gradient():
        def of_class_0(model):
            return model(images)[:, 0].mean()

        return nnx.jit(nnx.grad(of_class_0))(model)

    in_two = gradient()
    monkeypatch.setattr("jaxnets.layers.parts._MOST", 99)
    whole = gradient()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), in_two, whole)
