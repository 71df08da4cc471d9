import numpy as np
import torch
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from jaxnets import layers
from tests.parity.oracle import DTYPES, check_layer


@DTYPES
@given(
    features=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    leading=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    bias=st.booleans(),
)
def test_linear_equals_torch(dtype, features, leading, bias):
    inputs = np.random.default_rng(0).normal(size=(*leading, features[0])).astype(dtype)
    ours = layers.Linear(*features, bias, rngs=nnx.Rngs(0), param_dtype=dtype)
    check_layer(ours, torch.nn.Linear(*features, bias).to(torch.tensor(inputs).dtype), inputs)
