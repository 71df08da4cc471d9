"""Layers one after the other, under PyTorch's names."""

from collections.abc import Iterator, Mapping
from typing import Any

from flax import nnx

from jaxnets.arrays import InputError


class Sequential(nnx.Module):
    """``torch.nn.Sequential``: each layer is called with what the one before it returned.

    The layers are attributes of the names that they have in PyTorch, "0", "1", … or the keys of a
    mapping, so that weights are found by the same names.

    Args:
        layers: the layers, or one mapping from names to layers.

    Raises:
        InputError: if a layer is not callable.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxnets import layers
        >>> net = layers.Sequential(layers.Linear(4, 3, rngs=nnx.Rngs(0)), layers.ReLU())
        >>> net(jnp.ones((2, 4))).shape
        (2, 3)
    """

    def __init__(self, *layers: Any) -> None:
        named = layers[0] if len(layers) == 1 and isinstance(layers[0], Mapping) else None
        self._names: tuple[str, ...] = ()
        pairs = named or {str(number): layer for number, layer in enumerate(layers)}
        for name, layer in pairs.items() if named is not None or layers else ():
            self.add_module(name, layer)

    def add_module(self, name: str, module: Any) -> None:
        """Appends a layer under a name."""
        if not callable(module):
            raise InputError("layers", "layers that can be called", type(module).__name__)
        setattr(self, name, module)
        if name not in self._names:
            self._names = (*self._names, name)

    def append(self, module: Any) -> "Sequential":
        """Appends a layer under the next number."""
        self.add_module(str(len(self._names)), module)
        return self

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """The layers with their names."""
        yield from ((name, getattr(self, name)) for name in self._names)

    def __call__(self, x: Any) -> Any:
        """Calls the layers one after the other, the first one with x."""
        for layer in self:
            x = layer(x)
        return x

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, name) for name in self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int | slice) -> Any:
        names = self._names[index]
        if isinstance(names, str):
            return getattr(self, names)
        return Sequential({name: getattr(self, name) for name in names})
