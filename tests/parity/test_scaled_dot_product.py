"""Scaled dot-product attention compared with PyTorch's, with and without the kernel."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from jaxnets import functional as F
from tests.parity.oracle import DTYPES, check_function


def draw(shape, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def forbidding(allowed):
    """Converts a boolean mask to one that is added to the scores."""
    return np.where(allowed, 0.5, -np.inf)


ALLOWED = draw((3, 5), np.float64, seed=1) < 0.4
ALLOWED[1] = False  # a query without a key
#: The shapes of queries, keys and values, and the options of both.
DOT_PRODUCTS = {
    "four axes": ([(2, 4, 3, 4), (2, 4, 5, 4), (2, 4, 5, 4)], {}),
    "values of another size": ([(2, 4, 3, 4), (2, 4, 5, 4), (2, 4, 5, 2)], {}),
    "boolean mask": ([(2, 4, 3, 4), (2, 4, 5, 4), (2, 4, 5, 4)], {"attn_mask": ALLOWED}),
    "two axes": ([(3, 4), (5, 4), (5, 2)], {"attn_mask": ALLOWED}),
    "three axes": ([(2, 3, 4), (2, 5, 4), (2, 5, 4)], {"attn_mask": forbidding(ALLOWED)}),
    "five axes": (
        [(2, 3, 4, 3, 4), (1, 3, 4, 5, 4), (2, 1, 4, 5, 2)],
        {"attn_mask": draw((2, 1, 4, 3, 5), np.float64) < 0.4},
    ),
    "causal and scaled": (
        [(2, 4, 3, 4), (2, 4, 5, 4), (2, 4, 5, 4)],
        {"is_causal": True, "scale": 0.3},
    ),
    "grouped": ([(2, 4, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4)], {"enable_gqa": True}),
    "all dropped": ([(2, 4, 3, 4), (2, 4, 5, 4), (2, 4, 5, 4)], {"dropout_p": 1.0}),
    "no keys": ([(1, 2, 3, 4), (1, 2, 0, 4), (1, 2, 0, 4)], {}),
}


@DTYPES
@pytest.mark.parametrize("name", DOT_PRODUCTS)
def test_dot_product_attention_equals_torch(name, dtype):
    shapes, options = DOT_PRODUCTS[name]
    ours, theirs = dict(options), dict(options)
    if (mask := options.get("attn_mask")) is not None:
        mask = mask if mask.dtype == bool else mask.astype(dtype)
        ours["attn_mask"], theirs["attn_mask"] = mask, torch.tensor(mask)
    check_function(
        lambda *x: F.scaled_dot_product_attention(*x, **ours),
        lambda *x: functional.scaled_dot_product_attention(*x, **theirs),
        *(draw(shape, dtype, seed) for seed, shape in enumerate(shapes)),
    )


@pytest.mark.parametrize("shape", [(3, 5), (2, 1, 3, 5), (2, 4, 1, 5)])
def test_the_gradient_of_a_mask_equals_torch_in_float64(shape):
    mask = draw(shape, np.float64)
    mask[..., 2] = -np.inf
    check_function(
        F.scaled_dot_product_attention,
        functional.scaled_dot_product_attention,
        *(draw((2, 4, length, 4), np.float64) for length in (3, 5, 5)),
        mask,
    )
