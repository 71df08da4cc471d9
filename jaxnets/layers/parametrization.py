"""Parametrized layers: weight normalization and spectral normalization."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxnets import initializers
from jaxnets.arrays import (
    InputError,
    check_bool,
    check_integer,
    check_number,
    check_positive,
    describe,
)
from jaxnets.layers.layouts import TRANSPOSED, layout_of
from jaxnets.layers.parameters import check_rngs

#: The arrays that a weight is computed from, by their names in PyTorch.
Parts = dict[str, Any]


class Parametrized(nnx.Module):
    """A layer with a weight that is computed from other arrays in each call.

    The other arrays are in ``parametrizations``, with PyTorch's names and layouts. The wrapped
    layer is in ``layer``, without the weight.

    Args:
        layer: the layer, whose weight is set to None.
        name: the name of the weight in PyTorch.
        split: a function that computes the arrays from the weight in PyTorch's layout.
    """

    def __init__(self, layer: nnx.Module, name: str, split: Callable[[jax.Array], Parts]) -> None:
        if not isinstance(layer, nnx.Module):
            raise InputError("layer", "a layer", layer)
        layout = layout_of(layer, name) if isinstance(name, str) else None
        weight = getattr(layer, layout.attribute, None) if layout else None
        if layout is None or not isinstance(weight, nnx.Param):
            raise InputError("name", f"a parameter of {type(layer).__name__}", name)
        parts = split(layout.weight(weight[...]))
        setattr(layer, layout.attribute, None)
        self.layer, self.name = layer, name
        self.parametrizations = nnx.Dict({name: nnx.Dict(parts)})

    @property
    def _parts(self) -> Any:
        return self.parametrizations[self.name]

    def _weight(self) -> jax.Array:
        """Computes the weight in PyTorch's layout."""
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the weight and calls the layer with it.

        Args:
            args: the positional arguments of the layer.
            kwargs: the keyword arguments of the layer.

        Returns:
            The output of the layer.
        """
        layout = layout_of(self.layer, self.name)
        layer = nnx.view(self.layer)  # a new module with the same variables, to set the weight in
        setattr(layer, layout.attribute, nnx.data(nnx.Param(layout.kernel(self._weight()))))
        return layer(*args, **kwargs)


class WeightNorm(Parametrized):
    """``torch.nn.utils.parametrizations.weight_norm``: a layer with the weight g · v / ‖v‖.

    Parameters: the other parameters of the layer and, in ``parametrizations[name]``, ``original0``
    g and ``original1`` v in PyTorch's layout. At first the computed weight equals the layer's
    weight. Checkpoints with PyTorch's older names ``weight_g`` and ``weight_v`` can be loaded too.

    Args:
        layer: the layer, whose weight is replaced.
        name: the name of the weight in PyTorch.
        dim: the axis of the weight in PyTorch's layout along which each index has its own norm. 0
            is the axis of the outputs of most layers. None for one norm of the whole weight.

    Raises:
        InputError: if the layer does not have the weight, or the weight does not have the axis.

    Examples:
        >>> from jaxnets.layers import Linear
        >>> layer = WeightNorm(Linear(3, 2, rngs=nnx.Rngs(0)))
        >>> layer.parametrizations["weight"]["original0"].shape
        (2, 1)
        >>> layer(jnp.ones((5, 3))).shape
        (5, 2)
    """

    def __init__(self, layer: nnx.Module, name: str = "weight", dim: int | None = 0) -> None:
        def split(weight: jax.Array) -> Parts:
            self.dim = (
                dim if dim is None else check_integer("dim", dim, least=0, most=weight.ndim - 1)
            )
            return {"original0": nnx.Param(self._norm(weight)), "original1": nnx.Param(weight)}

        super().__init__(layer, name, split)

    def _norm(self, weight: jax.Array) -> jax.Array:
        if self.dim is None:
            return jnp.sqrt(jnp.square(weight).sum())
        axes = [axis for axis in range(weight.ndim) if axis != self.dim]
        return jnp.sqrt(jnp.square(weight).sum(axes, keepdims=True))

    def _weight(self) -> jax.Array:
        length, direction = (self._parts[part][...] for part in ("original0", "original1"))
        return direction * jnp.broadcast_to(length / self._norm(direction), direction.shape)


class SpectralNorm(Parametrized):
    """``torch.nn.utils.parametrizations.spectral_norm``: a layer with the weight W / σ(W).

    σ is the largest singular value of W as a matrix. It is estimated by power iteration:
    u = W v / ‖W v‖, v = Wᵀ u / ‖Wᵀ u‖, σ = uᵀ W v. A call in training mode, which
    ``model.train()`` sets, iterates from the stored vectors and stores the new ones. A call in
    evaluation mode uses the stored vectors.

    Parameters: the other parameters of the layer and, in ``parametrizations[name]``, ``original`` W
    in PyTorch's layout. Statistics, in ``parametrizations[name]["0"]``: ``_u`` and ``_v``.
    Checkpoints with PyTorch's older names ``weight_orig``, ``weight_u`` and ``weight_v`` can be
    loaded too.

    Args:
        layer: the layer, whose weight is replaced.
        name: the name of the weight in PyTorch; the weight has two axes or more.
        n_power_iterations: the number of iterations in each call.
        eps: the smallest length to divide by.
        dim: the axis of the weight in PyTorch's layout that becomes the rows of the matrix. None
            for the axis of the outputs, 1 for transposed convolutions and 0 for other layers.
        v_first: whether an iteration computes v before u, as the older
            ``torch.nn.utils.spectral_norm`` does, which starts from random vectors.
        rngs: the random streams for the first vectors.

    Raises:
        InputError: if the layer does not have the weight, or the weight does not have the axis.

    Examples:
        >>> from jaxnets.layers import Linear
        >>> layer = SpectralNorm(Linear(3, 2, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
        >>> layer(jnp.ones((5, 3))).shape
        (5, 2)
    """

    def __init__(
        self,
        layer: nnx.Module,
        name: str = "weight",
        n_power_iterations: int = 1,
        eps: float = 1e-12,
        dim: int | None = None,
        *,
        v_first: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.v_first = check_bool("v_first", v_first)
        self.n_power_iterations = check_positive("n_power_iterations", n_power_iterations)
        self.eps = check_number("eps", eps, least=0)
        self.use_running_average = False
        rngs = check_rngs(rngs)

        def split(weight: jax.Array) -> Parts:
            if weight.ndim < 2:
                raise InputError("name", "a weight of two axes or more", describe(weight))
            rows = int(isinstance(layer, TRANSPOSED)) if dim is None else dim
            rows = check_integer("dim", rows, least=-weight.ndim, most=weight.ndim - 1)
            self.dim = rows % weight.ndim
            matrix = self._matrix(weight)
            u, v = (
                self._of_length_one(initializers.normal()(rngs.params(), (size,), weight.dtype))
                for size in matrix.shape
            )
            if not v_first:
                u, v = self._iterated(matrix, u, v, 15)
            return {
                "original": nnx.Param(weight),
                "0": nnx.Dict({"_u": nnx.BatchStat(u), "_v": nnx.BatchStat(v)}),
            }

        super().__init__(layer, name, split)

    def _matrix(self, weight: jax.Array) -> jax.Array:
        return jnp.moveaxis(weight, self.dim, 0).reshape(weight.shape[self.dim], -1)

    def _of_length_one(self, vector: jax.Array) -> jax.Array:
        return vector / jnp.maximum(jnp.sqrt(jnp.square(vector).sum()), self.eps)

    def _iterated(
        self, matrix: jax.Array, u: jax.Array, v: jax.Array, count: int
    ) -> tuple[jax.Array, jax.Array]:
        for step in range(2 * count):
            if (step % 2 == 0) == self.v_first:
                v = self._of_length_one(matrix.T @ u)
            else:
                u = self._of_length_one(matrix @ v)
        return u, v

    def _weight(self) -> jax.Array:
        weight, vectors = self._parts["original"][...], self._parts["0"]
        matrix, u, v = self._matrix(weight), vectors["_u"][...], vectors["_v"][...]
        if not self.use_running_average:
            u, v = self._iterated(lax.stop_gradient(matrix), u, v, self.n_power_iterations)
            vectors["_u"][...], vectors["_v"][...] = u, v
        return weight / (u @ matrix @ v)

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Sets the mode of a view; ``nnx.view`` calls this.

        Args:
            use_running_average: True for evaluation mode, False for training mode, None to keep the
                mode.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average
