"""Data made up by a formula."""

import numpy as np

from jaxnets.data.dataset import Dataset, Split


def linear() -> Dataset:
    """Points on the line y = 2x + 1 with noise: something for linear regression to find.

    x is uniform on [-1, 1), the noise normal with standard deviation 0.1, so no model can have a
    mean squared error much below 0.01 on the test split. The points are always the same.

    Returns:
        1,000 points to train on and 200 to test with; inputs and labels float32 [N, 1].
    """
    generator = np.random.Generator(np.random.Philox(key=2))
    x = generator.uniform(-1.0, 1.0, size=(1200, 1))
    y = 2.0 * x + 1.0 + 0.1 * generator.normal(size=x.shape)
    points = Split(x.astype(np.float32), y.astype(np.float32))
    test = Split(points.inputs[1000:], points.labels[1000:])
    return Dataset("linear", points.take(1000), test)
