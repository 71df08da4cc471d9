"""Linear regression, the first network of document 002."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets import initializers
from jaxnets.arrays import ArrayLike, check_floats, check_number
from jaxnets.layers import Linear
from jaxnets.layers.parameters import check_rngs


class LinearRegression(Linear):
    """Linear regression: y = x W + b.

    As in document 002, the model is a single linear layer. Parameters: ``kernel`` W
    [in_features, out_features] and ``bias`` b [out_features].

    Args:
        in_features: the number of values per input.
        out_features: the number of values per output.
        init_std: the standard deviation of the normal distribution from which weight and bias are
            drawn, 0.01 in the document; None for PyTorch's default U(±1/√in_features).
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if a size is not a positive integer or ``init_std`` is negative.
    """

    def __init__(
        self,
        in_features: int = 1,
        out_features: int = 1,
        *,
        init_std: float | None = None,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        super().__init__(in_features, out_features, rngs=rngs, param_dtype=param_dtype)
        if init_std is not None:
            draw = initializers.normal(0.0, check_number("init_std", init_std, least=0))
            for parameter in (self.kernel, self.bias):
                parameter.set_value(draw(check_rngs(rngs).params(), parameter.shape, param_dtype))

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        return {"in_features": self.in_features, "out_features": self.out_features}

    def __call__(self, inputs: ArrayLike) -> jax.Array:
        """Computes [batch, out_features] from [batch, in_features]."""
        check_floats("inputs", inputs, ("batch", self.in_features))
        return super().__call__(inputs)
