"""jaxnets.tensors: NaN, infinities, equal elements and bad arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxnets import tensors
from jaxnets.arrays import InputError

NUMBERS = [1.0, -np.inf, np.nan, -2.0, 0.0, np.inf]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (tensors.abs, torch.abs),
        (lambda x: tensors.clamp(x, -1, 1), lambda x: x.clamp(-1, 1)),
        (lambda x: tensors.clamp(x, 1, -1), lambda x: x.clamp(1, -1)),
        (lambda x: tensors.max(x, 0)[0], lambda x: x.max(0)[0]),
        (lambda x: tensors.min(x, 0)[1], lambda x: x.min(0)[1]),
        (lambda x: tensors.amax(x, -1), lambda x: x.amax(-1)),
        (tensors.amin, torch.amin),
        (tensors.median, torch.median),
        (lambda x: tensors.median(x, 0)[0], lambda x: x.median(0)[0]),
        (lambda x: tensors.cummax(x, 0)[0], lambda x: x.cummax(0)[0]),
        (lambda x: tensors.sort(x, descending=True)[0], lambda x: x.sort(descending=True)[0]),
        (lambda x: tensors.norm(x, np.inf), lambda x: x.norm(np.inf)),
    ],
)
def test_numbers_that_are_not_finite(ours, theirs):
    y = ours(jnp.array(NUMBERS, jnp.float32))
    np.testing.assert_array_equal(np.asarray(y), theirs(torch.tensor(NUMBERS)).numpy())


def test_equal_elements_share_or_do_not_as_in_pytorch():
    x = jnp.array([1.0, 3.0, 3.0])
    np.testing.assert_array_equal(jax.grad(lambda x: tensors.max(x, 0)[0])(x), [0, 1, 0])
    np.testing.assert_array_equal(jax.grad(tensors.median)(x), [0, 0.5, 0.5])
    np.testing.assert_array_equal(jax.grad(tensors.amax)(x), [0, 0.5, 0.5])
    np.testing.assert_array_equal(jax.grad(tensors.amin)(-x), [0, 0.5, 0.5])


def test_axes_of_one_element_stay():
    x = jnp.arange(6.0).reshape(2, 3)
    for result in (
        tensors.max(x, 1, keepdim=True)[0],
        tensors.amax(x, 1, keepdim=True),
        tensors.kthvalue(x, 1, 1, keepdim=True)[0],
        tensors.median(x, 1, keepdim=True)[0],
        tensors.std(x, 1, keepdim=True),
        tensors.norm(x, 0, 1, keepdim=True),
    ):
        assert result.shape == (2, 1)


def test_whole_numbers_with_fractions_become_fractions():
    x = jnp.array([1, 3])
    np.testing.assert_array_equal(tensors.clamp(x, 1.5, 2.5), [1.5, 2.5])
    np.testing.assert_array_equal(tensors.lerp(x, x + 2, 0.5), [2.0, 4.0])
    np.testing.assert_allclose(tensors.pow(x, 0.5), np.sqrt(x), rtol=1e-6)
    assert tensors.clamp(x, 2).dtype == x.dtype


def test_the_median_of_large_whole_numbers_is_exact():
    assert tensors.median(jnp.array([2**24 + 1, 2**24 + 3, 0])) == 2**24 + 1


def test_no_axes_are_all_axes():
    assert tensors.norm(jnp.ones((2, 2)), dim=()) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: tensors.max(x, 2), r"dim: expected an axis of float32\[2, 3\], got 2"),
        (lambda x: tensors.sort(x, 0.5), "dim: expected an integer"),
        (lambda x: tensors.clamp(x), "min: expected a limit here or as max, got None"),
        (lambda x: tensors.topk(x, 4), "k: expected an integer from 0 to 3, got 4"),
        (lambda x: tensors.kthvalue(x, 0), "k: expected an integer from 1 to 3, got 0"),
        (lambda x: tensors.scatter_add(x, 0, x[0], x), "index: expected integers of the shape of"),
        (lambda x: tensors.abs("x"), "input: expected an array"),
        (lambda x: tensors.sort(x[0, 0]), r"input: expected .* with an axis, got float32\[\]"),
        (lambda x: tensors.min(x[:0], 0), "input: expected an array with elements along axis 0"),
        (lambda x: tensors.amax(x[:0]), "input: expected an array with elements along axis 0"),
        (lambda x: tensors.amin(x, (1, 1)), r"dim: expected different axes, got \(1, 1\)"),
        (lambda x: tensors.amax(x.astype(complex)), "real numbers, got complex64"),
        (lambda x: tensors.cummax(x.astype(complex), 0), "real numbers, got complex64"),
        (lambda x: tensors.clamp(x > 0, 1), "input: expected an array of real numbers, got bool"),
        (lambda x: tensors.clamp(x, 1j), "min: expected an array of real numbers, got complex64"),
        (lambda x: tensors.lerp(x, x, True), "weight: expected an array of numbers, got bool"),
        (lambda x: tensors.pow(x, x[:, :2]), r"exponent: expected an .* broadcasts with \[2, 3\]"),
        (lambda x: tensors.std(x.astype(int)), r"input: expected a floating-point array \[...\]"),
        (lambda x: tensors.std(x, (0, -2)), r"dim: expected different axes, got \(0, -2\)"),
        (lambda x: tensors.std(x, correction=0.5), "correction: expected an integer, got 0.5"),
        (lambda x: tensors.norm(x, "fro"), "p: expected a number, got fro"),
        (lambda x: tensors.max(x, 0, "no"), "keepdim: expected True or False, got no"),
        (lambda x: tensors.sort(x, 0, None), "descending: expected True or False, got None"),
        (lambda x: tensors.topk(x, 1, 0, 2), "largest: expected True or False, got 2"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InputError, match=message):
        call(jnp.zeros((2, 3)))
