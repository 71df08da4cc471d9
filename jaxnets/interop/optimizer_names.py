"""The parameters that a torch optimizer numbers, by name."""

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

#: PyTorch's parameter names in its order; for several param_groups, a list of them for each.
Names = Iterable[str] | Sequence[Iterable[str]]
#: What is wrong, by kind: collected, to be raised at once.
Faults = defaultdict[str, list[str]]


@dataclass(frozen=True, eq=False)
class Group:
    """A param_group.

    Attributes:
        options: its hyperparameters.
        names: PyTorch's names of its parameters, as the model knows them, by number.
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
    """The param_groups that have parameters of the model, these by name.

    Args:
        source: whose groups.
        parameters: the model's.
        names: PyTorch's, or None to find them in the source.
        rename: from PyTorch's names to the model's; None for parameters that the model lacks.
        faults: gets what is wrong with single parameters.

    Raises:
        InputError: if the names are not to be found, or of another number than the parameters.
    """
    lists = _names(source, parameters, names)
    flat = [name for own in lists for name in own]
    if repeated := sorted({name for name in flat if flat.count(name) > 1}):
        raise InputError("names", "each parameter once", f"{listed(repeated)} again")
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
    """As many names as numbers: those of a state_dict are without the buffers and repetitions."""
    if len(names) == len(numbers):
        return names
    own = parameters.without_others(name for name in names if name is not None)
    if len(own) != len(numbers):
        expected = f"the names of the {len(numbers)} parameters of a param_group"
        raise InputError("names", expected, f"{len(own)}: {listed(own)}")
    return own


def _names(source: Source, parameters: Parameters, names: Names | None) -> list[list[str]]:
    """The names of each group, given or read from the source."""
    groups = source.groups
    if names is not None:
        return _given(names, len(groups))
    if all("param_names" in group for group in groups):
        return [list(group["param_names"]) for group in groups]
    if all(isinstance(number, str) for group in groups for number in group["params"]):
        return [list(group["params"]) for group in groups]  # as torch.distributed.checkpoint has it
    if len(groups) > 1:
        expected = f"a list of names for each of the {len(groups)} param_groups"
        raise InputError("names", f"{expected}, whose parameters are only numbered", None)
    try:
        found = unwrap(source.tree, source.origin, parameters.known) if source.path else None
    except InputError:
        found = None
    if found is None:
        expected = "PyTorch's parameter names in its order, as there are no weights that tell it"
        raise InputError("names", expected, None)
    return [list(found.arrays)]


def _given(names: Names, count: int) -> list[list[str]]:
    """The names as a list for each of so many groups."""
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
