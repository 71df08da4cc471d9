"""Functions of norms, distances and categories compared with PyTorch's, also at kinks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from jaxnets import functional as F
from jaxnets import layers
from tests.parity.layer_cases import VECTORS
from tests.parity.oracle import DTYPES, check_function

POWERS = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf]
#: Rows that equal those of ``VECTORS``, differ in one element, or have several maximal differences.
OTHERS = VECTORS.copy()
OTHERS[2, 1] += 1.0
OTHERS[4] = 0.0
OTHERS[5] *= 2


@DTYPES
@pytest.mark.parametrize("p", [*POWERS, -1.0, -math.inf])
def test_normalize_equals_torch(p, dtype):
    check_function(
        lambda x: F.normalize(x, p, -1),
        lambda x: functional.normalize(x, p, -1),
        VECTORS.astype(dtype),
    )


@pytest.mark.parametrize("eps", [5.0, 1e-12])
def test_normalize_equals_torch_where_the_norm_is_eps(eps):
    x = np.array([[3.0, 4.0], [3.0, 3.0], [30.0, 4.0]]) * (eps / 5)
    check_function(lambda x: F.normalize(x, eps=eps), lambda x: functional.normalize(x, eps=eps), x)


@DTYPES
@pytest.mark.parametrize("p", [*POWERS, -1.0, -math.inf])
def test_pairwise_distance_equals_torch(p, dtype):
    check_function(
        lambda x, y: F.pairwise_distance(x, y, p, 0.0, True),
        lambda x, y: functional.pairwise_distance(x, y, p, 0.0, True),
        VECTORS.astype(dtype),
        OTHERS.astype(dtype),
    )


@pytest.mark.parametrize("p", POWERS)
def test_distances_of_all_rows_equal_torch(p):
    x = np.concatenate([VECTORS, OTHERS[2:5]])
    check_function(lambda x: F.pdist(x, p), lambda x: functional.pdist(x, p), x)
    check_function(
        lambda x, y: layers.cdist(x, y, p),
        lambda x, y: torch.cdist(x, y, p),
        VECTORS.reshape(2, 3, 4),
        OTHERS.reshape(2, 3, 4),
    )


def test_distances_broadcast_as_in_torch():
    check_function(layers.cdist, torch.cdist, VECTORS, OTHERS.reshape(2, 3, 4))
    check_function(F.pairwise_distance, functional.pairwise_distance, VECTORS, OTHERS[0])


@DTYPES
@pytest.mark.parametrize("eps", [1e-8, 0.9])
def test_cosine_similarity_equals_torch(eps, dtype):
    check_function(
        lambda x, y: F.cosine_similarity(x, y, -1, eps),
        lambda x, y: functional.cosine_similarity(x, y, -1, eps),
        VECTORS[:, None].astype(dtype),
        OTHERS[None].astype(dtype),
    )


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("name", ["normalize", "cosine_similarity"])
def test_nan_and_infinities_are_where_torch_has_them(name, value):
    x = VECTORS.copy()
    x[0, 2] = value
    others = [OTHERS] if name == "cosine_similarity" else []
    check_function(getattr(F, name), getattr(functional, name), x, *others)


def test_second_derivatives_are_finite_where_the_norm_is_zero():
    hessian = jax.jit(jax.hessian(lambda x: F.normalize(x).sum()))
    assert np.isfinite(hessian(jnp.zeros((1, 2)))).all()


# -- categories ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), (5,)])
def test_one_hot_equals_torch(arguments):
    x = np.array([[0, 3], [1, 3]])
    ours, theirs = F.one_hot(x, *arguments), functional.one_hot(torch.tensor(x), *arguments)
    assert ours.dtype == theirs.numpy().dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_softmax_equals_torch_with_the_same_noise(hard, monkeypatch):
    key, x = jax.random.key(0), VECTORS
    noise = torch.tensor(np.asarray(jax.random.gumbel(key, x.shape, x.dtype)))
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda empty: (-noise).exp())
    check_function(
        lambda x: F.gumbel_softmax(x, 0.7, hard, rngs=key),
        lambda x: functional.gumbel_softmax(x, 0.7, hard),
        x,
    )
