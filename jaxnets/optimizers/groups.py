"""Parameter groups: different options for different parameters."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import optax
from jax.tree_util import GetAttrKey, KeyPath, keystr

from jaxnets.arrays import InputError

#: A glob such as ``"fc1.*"``, or a function of the parameter's dotted path.
Selector = str | Callable[[str], bool]


def param_groups(
    default: optax.GradientTransformation,
    groups: Sequence[tuple[Selector, optax.GradientTransformation]],
) -> optax.GradientTransformation:
    """The parameter groups of ``torch.optim``: different optimizers for different parameters.

    Args:
        default: the optimizer of the parameters that no selector matches.
        groups: pairs of a selector and an optimizer. A selector is a glob for the dotted path of a
            parameter, such as ``"fc1.*"`` or ``"*.bias"`` (``*`` also matches dots), or a function
            from the path to a bool.

    Returns:
        A gradient transformation for any tree of parameters. Its ``init`` raises
        ``~jaxnets.arrays.InputError`` if a selector matches no parameter, or two selectors match
        the same one.

    Raises:
        InputError: if ``groups`` are not pairs of a selector and an optimizer.

    Examples:
        >>> from jaxnets import optimizers
        >>> optimizer = optimizers.param_groups(
        ...     optimizers.sgd(0.01, momentum=0.9), [("*.bias", optimizers.sgd(0.02))]
        ... )
    """
    _check_optimizer("default", default)
    if not isinstance(groups, Sequence) or isinstance(groups, str):
        raise InputError("groups", "pairs of a selector and an optimizer", groups)
    for index, group in enumerate(groups):
        _check_group(f"groups[{index}]", group)

    def group_of(path: str) -> int:
        found = [i for i, (selector, _) in enumerate(groups, 1) if _picks(selector, path)]
        if len(found) > 1:
            names = [_name(groups[i - 1][0]) for i in found]
            raise InputError("groups", f"at most one group for {path}", " and ".join(names))
        return found[0] if found else 0

    def labels(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: group_of(dotted(path)), params)

    optimizers = dict(enumerate([default, *(optimizer for _, optimizer in groups)]))
    partition = optax.partition(optimizers, labels)

    def init(params: Any) -> Any:
        used = set(jax.tree.leaves(labels(params)))
        for index, (selector, _) in enumerate(groups, 1):
            if index not in used:
                paths = [dotted(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
                expected = f"a selector that matches one of {', '.join(paths)}"
                raise InputError(f"groups[{index - 1}]", expected, _name(selector))
        return partition.init(params)

    return optax.GradientTransformation(init, partition.update)


def _check_group(name: str, group: Any) -> None:
    if not isinstance(group, Sequence) or len(group) != 2:
        raise InputError(name, "a selector and an optimizer", group)
    selector, optimizer = group
    if not isinstance(selector, str) and not callable(selector):
        raise InputError(name, "a glob or a function of the path", selector)
    _check_optimizer(name, optimizer)


def _check_optimizer(name: str, optimizer: Any) -> None:
    if not isinstance(optimizer, optax.GradientTransformation):
        raise InputError(name, "an optimizer", optimizer)


def _picks(selector: Selector, path: str) -> bool:
    return fnmatchcase(path, selector) if isinstance(selector, str) else bool(selector(path))


def _name(selector: Selector) -> str:
    return selector if isinstance(selector, str) else getattr(selector, "__name__", repr(selector))


def dotted(path: KeyPath) -> str:
    """Converts the path of a parameter in its tree to a string, such as ``fc1.kernel``."""
    # The array of a Flax variable is one level down, in its attribute `value`.
    if path and path[-1] == GetAttrKey("value"):
        path = path[:-1]
    return keystr(path, simple=True, separator=".")
