"""Changes the sizes of a network's arrays, and the attributes of layers that record them."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxnets.arrays import InputError, shown
from jaxnets.layers import Identity

#: Attributes of layers that record a size: the arrays and axes with that size, by preference.
_ATTRIBUTES: dict[str, tuple[tuple[str, int], ...]] = {
    "in1_features": (("kernel", 0),),
    "in2_features": (("kernel", 1),),
    "in_features": (("kernel", -2),),
    "out_features": (("kernel", -1),),
    "in_channels": (("kernel", -2),),
    "out_channels": (("kernel", -1),),
    "num_features": (("scale", 0), ("mean", 0)),
    "num_parameters": (("negative_slope", 0),),
    "embedding_dim": (("embedding", -1),),
    "features": (("embedding", -1),),
    "hidden_size": (("kernel_hr_l0", 0), ("kernel_hh_l0", 0), ("kernel_hh", 0)),
    "input_size": (("kernel_ih_l0", 0), ("kernel_ih", 0)),
}
_GROUPS = "groups", "feature_group_count"
_INPUTS = "in_features", "in_channels"


def structure(before: nnx.Module, after: nnx.Module) -> dict[str, Any]:
    """Records the changes of a network's structure, for ``restructured``, ready for JSON.

    Args:
        before: the network before the changes.
        after: the network from ``remove_units``, ``merge_units`` or ``remove_layers``.

    Returns:
        The new shapes by the names of arrays, and the removed layers; empty without changes.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxnets import MLP
        >>> from jaxnets.pruning import remove_units
        >>> model = MLP((4, 3, 2), rngs=nnx.Rngs(0))
        >>> smaller = remove_units(model, jnp.ones((1, 4)), {"fc1": [0]})
        >>> structure(model, smaller)["shapes"]
        {'fc1.bias': [1], 'fc1.kernel': [4, 1], 'fc2.kernel': [1, 2]}
    """
    for name, model in (("before", before), ("after", after)):
        if not isinstance(model, nnx.Module):
            raise InputError(name, "an nnx.Module", shown(model))
    old, new = _shapes(before), _shapes(after)
    gone = [path for path, node in modules(after) if isinstance(node, Identity)]
    there = dict(modules(before))
    found: dict[str, Any] = {
        "shapes": {name: list(new[name]) for name in new if new[name] != old.get(name)},
        "identity": [path for path in gone if not isinstance(there.get(path), Identity)],
    }
    return {name: value for name, value in found.items() if value}


def restructured(model: nnx.Module, settings: Mapping[str, Any]) -> nnx.Module:
    """Applies recorded changes to the structure of a network; changed arrays are zero.

    Args:
        model: a network with the structure before the changes, which is changed in place.
        settings: the changes, from ``structure``.

    Raises:
        InputError: if the network does not have a layer or array.
    """
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", shown(model))
    if not isinstance(settings, Mapping) or not {*settings} <= {"identity", "shapes"}:
        raise InputError("settings", "a result of structure", shown(settings))
    for path in settings.get("identity", ()):
        replace(model, path, Identity())
    arrays = {}
    known = variables(model)
    for name, shape in settings.get("shapes", {}).items():
        if name not in known or len(shape) != known[name].ndim:
            raise InputError("changes", "arrays of this network", name)
        arrays[name] = jnp.zeros(shape, known[name].dtype)
    resize(model, arrays)
    return model


def resize(model: nnx.Module, arrays: Mapping[str, Any]) -> None:
    """Replaces arrays of a network by ones of other sizes, and updates the attributes of layers.

    Args:
        model: the network, which is changed in place.
        arrays: the new arrays, by their dotted paths.
    """
    known = variables(model)
    for path, module in modules(model):
        prefix = f"{path}." if path else ""
        mine = {name.removeprefix(prefix) for name in arrays if name.rpartition(".")[0] == path}
        if not mine:
            continue
        before = _sizes(module)
        for name in mine:
            known[prefix + name].set_value(jnp.asarray(arrays[prefix + name]))
        _regroup(module, before)
        for name, size in _sizes(module).items():
            if getattr(module, name) == before[name]:
                setattr(module, name, size)


def _sizes(module: Any) -> dict[str, Any]:
    """Returns the values that a layer's attributes should have, from the shapes of its arrays."""
    groups = next((getattr(module, name) for name in _GROUPS if hasattr(module, name)), 1)
    found: dict[str, Any] = {}
    for name, places in _ATTRIBUTES.items():
        pairs = ((getattr(module, array, None), axis) for array, axis in places)
        array, axis = next(((a, k) for a, k in pairs if isinstance(a, nnx.Variable)), (None, 0))
        if isinstance(getattr(module, name, None), int) and array is not None:
            try:
                found[name] = array.shape[axis] * (groups if name in _INPUTS else 1)
            except IndexError:
                continue
    if hasattr(module, "kernel_shape") and isinstance(module.kernel, nnx.Variable):
        found["kernel_shape"] = module.kernel.shape
    return found


def _regroup(module: Any, before: Mapping[str, Any]) -> None:
    """Updates the number of groups of a depthwise convolution."""
    for name in _GROUPS:
        groups = getattr(module, name, 1)
        inputs = before.get("in_channels", before.get("in_features"))
        outputs = before.get("out_channels", before.get("out_features"))
        if groups > 1 and groups == inputs:
            setattr(module, name, groups * module.kernel.shape[-1] // outputs)


def replace(model: nnx.Module, path: str, layer: nnx.Module) -> None:
    """Replaces a layer of a network by another one.

    Args:
        model: the network, which is changed in place.
        path: the dotted path of the layer.
        layer: the new layer.

    Raises:
        InputError: if the network has no layer with this path.
    """
    above, _, last = path.rpartition(".")
    there = dict(nnx.iter_graph(model))
    holder: Any = next((n for p, n in there.items() if ".".join(map(str, p)) == above), None)
    if not isinstance(dict(modules(model)).get(path), nnx.Module) or not path:
        raise InputError("layers", f"layers of the network ({_listed(model)})", shown(path))
    if last.isdigit() and not hasattr(holder, last):
        holder[int(last)] = layer
    else:
        setattr(holder, last, layer)


def modules(model: nnx.Module) -> list[tuple[str, nnx.Module]]:
    """Returns the modules of a network with their dotted paths."""
    found = ((".".join(map(str, path)), node) for path, node in nnx.iter_graph(model))
    return [(path, node) for path, node in found if isinstance(node, nnx.Module)]


def _listed(model: nnx.Module) -> str:
    names = [path for path, _ in modules(model) if path]
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def variables(model: nnx.Module) -> dict[str, nnx.Variable]:
    """Returns the variables of a network by their dotted paths."""
    found = ((path, node) for path, node in nnx.iter_graph(model))
    return {".".join(map(str, p)): node for p, node in found if isinstance(node, nnx.Variable)}


def _shapes(model: nnx.Module) -> dict[str, tuple[int, ...]]:
    return {
        name: variable.shape
        for name, variable in sorted(variables(model).items())
        if hasattr(variable.get_value(), "shape")
    }
