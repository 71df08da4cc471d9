"""Containers of layers: ``Sequential`` and ``ModuleDict``."""

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, ClassVar

from flax import nnx

from jaxnets.arrays import InputError


class _Container(nnx.Module):
    """Layers as attributes in the order of their assignment; Flax sorts attributes by name."""

    _names: tuple[str, ...]
    _argument: ClassVar[str] = "layers"

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, nnx.Pytree) and name not in self._order:
            self._names = (*self._order, name)

    @property
    def _order(self) -> tuple[str, ...]:
        return vars(self).get("_names", ())

    @property
    def _children(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._order}

    def add_module(self, name: str, module: Any) -> None:
        """Appends a layer under a name."""
        if not isinstance(name, str):
            raise InputError(self._argument, "names that are strings", name)
        if not callable(module) and not isinstance(module, nnx.Pytree):
            raise InputError(self._argument, "modules or functions", module)
        setattr(self, name, module)
        if name not in self._order:  # a function
            self._names = (*self._order, name)

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """Returns an iterator over the layers and their names."""
        return iter(self._children.items())

    def __len__(self) -> int:
        return len(self._order)


def _named(argument: str, modules: Any) -> dict[str, Any]:
    """Converts a mapping or pairs of names and layers to a dictionary.

    Raises:
        InputError: if they are neither, or a name is not a nonempty string without dots.
    """
    try:
        found = dict(modules)
    except (TypeError, ValueError):
        raise InputError(argument, "a mapping, or pairs, of names and layers", modules) from None
    for name in found:
        if not isinstance(name, str) or not name or "." in name:
            raise InputError(argument, "names that are strings without dots", name)
    return found


class Sequential(_Container):
    """``torch.nn.Sequential``: calls its layers in turn, each with the output of the previous one.

    The layers are attributes with their names in PyTorch, "0", "1", … or the keys of a mapping, so
    that weights have the same names.

    Args:
        layers: the layers, or one mapping from names to layers.

    Raises:
        InputError: if a layer is neither a module nor a function.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxnets import layers
        >>> net = layers.Sequential(layers.Linear(4, 3, rngs=nnx.Rngs(0)), layers.ReLU())
        >>> net(jnp.ones((2, 4))).shape
        (2, 3)
    """

    def __init__(self, *layers: Any) -> None:
        first = layers[0] if len(layers) == 1 else None
        named = isinstance(first, Mapping)
        pairs = _named("layers", first).items() if named else enumerate(layers)
        for name, layer in pairs:
            self.add_module(str(name), layer)

    def append(self, module: Any) -> "Sequential":
        """Appends a layer; its name is the number of layers before it."""
        self.add_module(str(len(self)), module)
        return self

    def __call__(self, x: Any) -> Any:
        """Calls the layers in turn, the first one with x."""
        for layer in self:
            x = layer(x)
        return x

    def __iter__(self) -> Iterator[Any]:
        return iter(self._children.values())

    def __getitem__(self, index: int | slice) -> Any:
        names = self._order[index]
        if isinstance(names, str):
            return getattr(self, names)
        return Sequential({name: getattr(self, name) for name in names})


class ModuleDict(_Container):
    """``torch.nn.ModuleDict``: layers by name, in the order in which they were added.

    Args:
        modules: a mapping from names to layers, or pairs of names and layers.

    Raises:
        InputError: if a layer is neither a module nor a function.

    Examples:
        >>> from jaxnets import layers
        >>> heads = layers.ModuleDict({"z": layers.ReLU(), "a": layers.Tanh()})
        >>> list(heads), "a" in heads
        (['z', 'a'], True)
    """

    _argument = "modules"

    def __init__(self, modules: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self.update(modules)

    def update(self, modules: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Adds layers, or replaces those of the same names."""
        for name, module in _named("modules", modules).items():
            self.add_module(name, module)

    def keys(self) -> KeysView[str]:
        """Returns the names of the layers."""
        return self._children.keys()

    def values(self) -> ValuesView[Any]:
        """Returns the layers."""
        return self._children.values()

    def items(self) -> ItemsView[str, Any]:
        """Returns the names and layers."""
        return self._children.items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._order)

    def __contains__(self, name: object) -> bool:
        return name in self._order

    def __getitem__(self, name: str) -> Any:
        return self._children[name]

    def __setitem__(self, name: str, module: Any) -> None:
        self.add_module(name, module)
