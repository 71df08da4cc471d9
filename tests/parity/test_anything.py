"""``fit`` trains anything: PyTorch's numbers, resumed bit for bit, on devices, many seeds at once."""

import numpy as np
import pytest

from jaxnets.interop import to_numpy
from tests.parity import image_cases
from tests.parity.anything import each_step, train, train_in_torch
from tests.parity.oracle import assert_equal

CASES = {**image_cases.CASES}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-10)])
def test_each_step_and_the_weights_are_pytorchs(case, dtype, tolerance):
    run = train(case, dtype)
    theirs, network = train_in_torch(case, dtype)
    ours = each_step(run)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, err_msg=name)
    np.testing.assert_array_equal(run.step_losses, ours["loss"].astype(dtype))
    state = network.state_dict()
    for name, array in to_numpy(run.model).items():
        assert_equal(array, state[name], name)
