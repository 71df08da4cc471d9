import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from jaxnets import functional, layers
from tests import tier
from tests.parity.oracle import DTYPES, assert_equal, copy_weights


def check_embedding(ours: nnx.Embed, theirs: torch.nn.Embedding, indices: np.ndarray) -> None:
    """Compares the rows, and the gradient of the table, of one lookup."""
    copy_weights(ours, theirs)
    expected = theirs(torch.tensor(indices))
    weight = np.cos(np.arange(expected.numel())).reshape(expected.shape)
    weight = weight.astype(expected.detach().numpy().dtype)
    expected.backward(torch.tensor(weight))
    graphdef, parameters = nnx.split(ours)

    @jax.jit
    def run(parameters, indices, cotangent):
        outputs, pullback = jax.vjp(lambda p: nnx.merge(graphdef, p)(indices), parameters)
        return outputs, pullback(cotangent)[0]

    outputs, gradient = run(parameters, jnp.asarray(indices), jnp.asarray(weight))
    assert_equal(outputs, expected, "rows")
    assert_equal(gradient["embedding"].get_value(), theirs.weight.grad, "gradient")


@DTYPES
@tier.examples(6)
@given(
    rows=st.integers(1, 6),
    features=st.integers(1, 4),
    shape=st.lists(st.integers(0, 4), max_size=3),
    padding=st.none() | st.integers(-6, 5),
    index_dtype=st.sampled_from([np.int32, np.int64]),
)
def test_embedding_equals_torch(dtype, rows, features, shape, padding, index_dtype):
    padding = None if padding is None else max(-rows, min(padding, rows - 1))
    ours = layers.Embedding(rows, features, padding, rngs=nnx.Rngs(0), param_dtype=dtype)
    theirs = torch.nn.Embedding(rows, features, padding).to(torch.tensor(dtype(0)).dtype)
    # The padding row of a loaded table may have any values: it is looked up, but not trained.
    torch.nn.init.normal_(theirs.weight)
    indices = np.random.default_rng(0).integers(0, rows, size=shape).astype(index_dtype)
    check_embedding(ours, theirs, indices)


def test_flax_embed_takes_torch_weights():
    ours = nnx.Embed(5, 3, rngs=nnx.Rngs(0))
    check_embedding(ours, torch.nn.Embedding(5, 3), np.array([[0, 4], [2, 2]], np.int32))


def test_the_largest_row_of_a_bag_equals_torch_with_ties_and_nan():
    table = np.random.default_rng(0).choice([-1.0, 0.0, 2.0], (7, 4))
    table[1, :2], table[3, 1], table[4], table[5] = np.nan, np.nan, -np.inf, np.inf
    bags = np.array([[0, 1, 4], [1, 0, 5], [3, 0, 1], [4, 3, 4], [5, 5, 1], [2, 6, 2], [6, 0, 0]])
    theirs = torch.tensor(table, requires_grad=True)
    expected = torch.nn.functional.embedding_bag(torch.tensor(bags), theirs, mode="max")
    weight = np.cos(np.arange(expected.numel())).reshape(expected.shape)
    expected.backward(torch.tensor(weight))

    @jax.jit
    def run(table, weight):
        outputs, pull_back = jax.vjp(
            lambda table: functional.embedding_bag(jnp.asarray(bags), table, mode="max"), table
        )
        return outputs, pull_back(weight)[0]

    outputs, gradient = run(table, weight)
    assert_equal(outputs, expected, "rows")
    assert_equal(gradient, theirs.grad, "gradient")


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_out_of_range_are_nan_under_jit_and_empty_ones_are_zero(mode):
    layer = layers.EmbeddingBag(3, 2, mode=mode, rngs=nnx.Rngs(0))
    rows = jax.jit(layer)(jnp.array([[0, 1], [2, 3], [-1, 0]]))
    np.testing.assert_array_equal(np.isnan(rows), [[False] * 2, [True] * 2, [True] * 2])
    np.testing.assert_array_equal(layer(jnp.zeros((2, 0), jnp.int32)), np.zeros((2, 2)))
    np.testing.assert_array_equal(layer(jnp.zeros(0, jnp.int32), jnp.array([0, 0])), 0)
