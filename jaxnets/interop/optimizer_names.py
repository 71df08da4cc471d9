"""Maps the parameter numbers of a torch optimizer to parameter names."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxnets.arrays import InputError
from jaxnets.interop.naming import Rename, best_naming
from jaxnets.interop.optimizer_parts import Parameters
from jaxnets.interop.optimizer_source import Source
from jaxnets.interop.report import listed
from jaxnets.interop.unwrapping import unwrap

#: PyTorch's parameter names in PyTorch's order; for several param_groups, one list for each.
Names = Iterable[str] | Sequence[Iterable[str]]
#: Error messages by kind, collected so that one exception can list all of them.
Faults = defaultdict[str, list[str]]


@dataclass(frozen=True, eq=False)
class Group:
    """A param_group.

    Attributes:
        options: the hyperparameters.
        names: the model's PyTorch name of each parameter, by parameter number.
    """

    options: Mapping[str, Any]
    names: Mapping[Any, str]


def groups_of(
    source: Source,
    parameters: Parameters,
    names: Names | None,
    rename: Rename | None,
    faults: Faults,
) -> list[Group]:
    """Returns the param_groups that have parameters of the model, with parameter names.

    Args:
        source: the optimizer's state_dict.
        parameters: the parameters of the model.
        names: PyTorch's parameter names, or None to find them in the source.
        rename: maps PyTorch's names to the model's, or to None for parameters that the model lacks.
        faults: collects the errors of single parameters.

    Raises:
        InputError: if the names cannot be found, or if the number of names differs from the
            number of parameters.
    """
    lists = _names(source, parameters, names)
    flat = [name for own in lists for name in own]
    if repeated := sorted({name for name in flat if flat.count(name) > 1}):
        raise InputError("names", "each parameter once", f"{listed(repeated)} more than once")
    naming = best_naming(flat, parameters.known, rename)
    naming.check()
    groups = []
    for options, own in zip(source.groups, lists, strict=True):
        renamed = _fitted([naming.names[name] for name in own], options["params"], parameters)
        pairs = zip(options["params"], renamed, strict=True)
        named = {number: name for number, name in pairs if name is not None}
        faults["unexpected"] += [name for name in named.values() if name not in parameters.entries]
        known = {n: name for n, name in named.items() if name in parameters.entries}
        for number, name in known.items():
            shape, expected = source.shapes.get(number), parameters.shape(name)
            if shape is not None and shape != expected:
                faults["mismatched"].append(f"{name} is {list(shape)}, not {list(expected)}")
        if known:
            groups.append(Group(options, known))
    return groups


def _fitted(
    names: list[str | None], numbers: list[Any], parameters: Parameters
) -> Sequence[str | None]:
    """Returns one name for each number, after dropping the buffers and tied names if needed."""
    if len(names) == len(numbers):
        return names
    own = parameters.without_others(name for name in names if name is not None)
    if len(own) != len(numbers):
        expected = f"the names of the {len(numbers)} parameters of a param_group"
        raise InputError("names", expected, f"{len(own)}: {listed(own)}")
    return own


def _names(source: Source, parameters: Parameters, names: Names | None) -> list[list[str]]:
    """Returns the parameter names of each group, from the argument or from the source."""
    groups = source.groups
    if names is not None:
        return _given(names, len(groups))
    if all("param_names" in group for group in groups):
        return [list(group["param_names"]) for group in groups]
    if all(isinstance(number, str) for group in groups for number in group["params"]):
        return [list(group["params"]) for group in groups]  # as in torch.distributed.checkpoint
    if len(groups) > 1:
        expected = f"a list of names for each of the {len(groups)} param_groups"
        raise InputError("names", f"{expected}, as the source has only numbers", None)
    try:
        found = unwrap(source.tree, source.origin, parameters.known) if source.path else None
    except InputError:
        found = None
    if found is None:
        expected = "PyTorch's parameter names in PyTorch's order, as the source has no weights"
        raise InputError("names", expected, None)
    return [list(found.arrays)]


def _given(names: Names, count: int) -> list[list[str]]:
    """Returns the ``names`` argument as one list of names for each of ``count`` groups."""
    expected = f"{count} lists of names, one for each param_group" if count > 1 else "a list"
    scalar = getattr(names, "shape", None) == ()
    if isinstance(names, str) or scalar or not isinstance(names, Iterable):
        raise InputError("names", expected, names)
    items: list[Any] = list(names)
    if count == 1 and all(isinstance(name, str) for name in items):
        return [items]
    lists = [list(own) for own in items if _is_list(own)]
    are_names = all(isinstance(name, str) for own in lists for name in own)
    if len(lists) != count or len(items) != count or not are_names:
        raise InputError("names", expected, items)
    return lists


def _is_list(value: Any) -> bool:
    words_or_array = isinstance(value, str) or hasattr(value, "dtype")
    return isinstance(value, Iterable) and not words_or_array
