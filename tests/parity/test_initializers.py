"""Initial distributions of kernels [..., I, O] compared with those of ``torch.nn.init``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxnets import initializers
from jaxnets.layers.layouts import convolution_kernel
from tests.parity.oracle import of_one_distribution

#: By torch's name: arguments, and the shape of torch's weight.
DRAWN = {
    "uniform": ((-0.5, 2.0), (40, 30)),
    "normal": ((1.0, 0.5), (40, 30)),
    "trunc_normal": ((0.5, 2.0, -1.0, 1.5), (40, 30)),
    "xavier_uniform": ((2.0,), (20, 12, 3, 2)),
    "xavier_normal": ((2.0,), (20, 12, 3, 2)),
    "kaiming_uniform": ((0.3, "fan_in", "leaky_relu"), (40, 12, 3)),
    "kaiming_normal": ((0.0, "fan_out", "relu"), (40, 12, 3)),
    "sparse": ((0.3, 2.0), (37, 50)),
    "orthogonal": ((3.0,), (40, 12, 5)),
}


def both(name):
    """Our values, in torch's layout, and torch's."""
    arguments, shape = DRAWN[name]
    kernel = convolution_kernel(np.zeros(shape)).shape
    ours = getattr(initializers, name)(*arguments)(jax.random.key(1), kernel, jnp.float32)
    torch.manual_seed(0)
    theirs = getattr(torch.nn.init, f"{name}_")(torch.empty(shape), *arguments)
    return np.moveaxis(np.asarray(ours), (-1, -2), (0, 1)), theirs.numpy()


@pytest.mark.parametrize("name", DRAWN)
def test_values_have_the_distribution_of_torch(name):
    ours, theirs = both(name)
    assert ours.shape == theirs.shape
    assert of_one_distribution(ours.ravel(), theirs.ravel()) > 1e-3
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.1)
    if "uniform" in name or name == "trunc_normal":
        ends = [theirs.min(), theirs.max()]
        np.testing.assert_allclose([ours.min(), ours.max()], ends, rtol=0.02)


def test_a_fifth_too_much_is_seen():
    ours, theirs = both("kaiming_normal")
    assert of_one_distribution(1.2 * ours.ravel(), theirs.ravel()) < 1e-3


def test_sparse_kernels_have_as_many_zeros_for_each_input():
    ours, theirs = both("sparse")
    for values in (ours, theirs):
        assert set((values == 0).sum(0)) == {12}
    assert len({tuple(np.flatnonzero(column == 0)) for column in ours.T}) > 40


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (6, 2, 3, 2), (9, 2, 3)])
def test_orthogonal_kernels_are_orthonormal_where_those_of_torch_are(shape):
    kernel = convolution_kernel(np.zeros(shape)).shape
    ours = initializers.orthogonal(2.0)(jax.random.key(0), kernel, jnp.float64)
    theirs = torch.nn.init.orthogonal_(torch.empty(shape, dtype=torch.float64), 2.0).numpy()
    for weight in (np.moveaxis(np.asarray(ours), (-1, -2), (0, 1)), theirs):
        matrix = weight.reshape(shape[0], -1) / 2
        matrix = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        np.testing.assert_allclose(matrix, np.eye(len(matrix)), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("constant", (0.3,), (3, 2, 2)),
        ("ones", (), (3,)),
        ("zeros", (), (3, 2)),
        ("eye", (), (3, 5)),
        ("dirac", (), (3, 5, 4)),
        ("dirac", (2,), (6, 2, 3, 4)),
        ("dirac", (3,), (6, 4, 1, 2, 3)),
    ],
)
def test_constants_equal_torch(name, arguments, shape):
    kernel = shape if len(shape) < 2 else convolution_kernel(np.zeros(shape)).shape
    ours = getattr(initializers, name)(*arguments)(jax.random.key(0), kernel, jnp.float32)
    theirs = getattr(torch.nn.init, f"{name}_")(torch.empty(shape), *arguments).numpy()
    expected = theirs if len(shape) < 2 else convolution_kernel(theirs)
    np.testing.assert_array_equal(ours, expected, strict=True)


def test_gains_equal_torch():
    names = ["linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d"]
    for name in [*names, "conv_transpose3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]:
        for slope in (None, 0.2) if name == "leaky_relu" else (None,):
            ours = initializers.calculate_gain(name, slope)
            assert ours == pytest.approx(torch.nn.init.calculate_gain(name, slope), rel=1e-15)
