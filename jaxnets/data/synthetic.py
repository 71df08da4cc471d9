"""Synthetic data sets."""

import numpy as np

from jaxnets.data.dataset import Dataset, Split


def linear() -> Dataset:
    """Makes points on the line y = 2x + 1 with noise, for linear regression.

    x is uniform on [-1, 1) and the noise is normal with standard deviation 0.1, so no model has a
    mean squared error much below 0.01 on the test split. The points are always the same.

    Returns:
        1,000 training points and 200 test points; inputs and labels float32 [N, 1].
    """
    generator = np.random.Generator(np.random.Philox(key=2))
    x = generator.uniform(-1.0, 1.0, size=(1200, 1))
    y = 2.0 * x + 1.0 + 0.1 * generator.normal(size=x.shape)
    points = Split(x.astype(np.float32), y.astype(np.float32))
    test = Split(points.inputs[1000:], points.labels[1000:])
    return Dataset("linear", points.take(1000), test)
