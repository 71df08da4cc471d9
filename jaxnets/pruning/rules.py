"""Propagates labels of positions through the operations of a jaxpr.

An array is represented by the labels along each of its axes. The rule of an operation returns the
labels of its outputs, and unites positions that the operation combines, such as corresponding
positions of two arrays that are added. Positions are fixed if the result depends on their number,
as for a sum over them. An operation without a rule fixes all positions of its inputs.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jax.extend import core

from jaxnets.pruning.atoms import Atoms

#: The labels along each axis of an array.
Axes = list[np.ndarray]

_MEETS = "they are combined with an axis that cannot be pruned"
#: Operations that compute each entry from the entries at the same position.
_ELEMENTWISE = (
    "abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp conj",
    "convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1",
    "floor ge gt imag integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg",
    "nextafter not or pow pvary real reduce_precision rem round rsqrt select_n",
    "sharding_constraint sign sin sinh sqrt square stop_gradient sub tan tanh xor",
)
#: Operations that combine the entries along some axes.
_REDUCTIONS = "argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum"
_CUMULATIVE = ["cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum"]
_WINDOWS = ["reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"]


class Labels:
    """Labels the arrays of a traced function.

    Args:
        atoms: the sets of positions.
    """

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = atoms

    def run(self, traced: Any, inputs: Sequence[Axes]) -> list[Axes]:
        """Propagates labels through a jaxpr.

        Args:
            traced: a closed jaxpr.
            inputs: the labels of its arguments.

        Returns:
            The labels of its outputs.
        """
        known: dict[Any, Axes] = dict(zip(traced.jaxpr.invars, inputs, strict=True))
        known.update((variable, fixed(variable.aval)) for variable in traced.jaxpr.constvars)

        def read(atom: Any) -> Axes:
            return fixed(atom.aval) if isinstance(atom, core.Literal) else known[atom]

        for equation in traced.jaxpr.eqns:
            given = [read(atom) for atom in equation.invars]
            rule = _RULES.get(equation.primitive.name, _unknown)
            made = rule(self, equation, given)
            known.update(zip(equation.outvars, made, strict=True))
        return [read(atom) for atom in traced.jaxpr.outvars]

    def unite(self, some: Axes, others: Axes) -> None:
        """Unites corresponding positions of two arrays of the same shape."""
        for one, other in zip(some, others, strict=True):
            self.atoms.unite(one, other, _MEETS)

    def is_fixed(self, labels: np.ndarray) -> bool:
        """Whether no position of an axis may be removed."""
        return not self.atoms.removable(labels).any()


def fixed(aval: Any) -> Axes:
    """Returns the labels of an array from which nothing can be removed."""
    return [np.zeros(size, np.int64) for size in getattr(aval, "shape", ())]


Rule = Callable[[Labels, Any, list[Axes]], list[Axes]]


def _unknown(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    for axis in itertools.chain(*given):
        labels.atoms.fix(axis, f"they are inputs of {equation.primitive.name}, which has no rule")
    return [fixed(variable.aval) for variable in equation.outvars]


def _elementwise(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    made = fixed(equation.outvars[0].aval)
    for k, size in enumerate(map(len, made)):
        same = [axes[k] for axes in given if axes and len(axes[k]) == size]
        made[k] = labels.atoms.unite_rows(np.vstack(same), _MEETS)
    return [made for _ in equation.outvars]


def _several(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    """Passes the labels of several arrays through unchanged."""
    return given


def _called(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    """Propagates labels through the jaxpr that a call operation contains."""
    parameters = equation.params
    inner = next(parameters[name] for name in ("jaxpr", "call_jaxpr") if name in parameters)
    return labels.run(_closed(inner), given)


def _closed(inner: Any) -> Any:
    return inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())


def _branches(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    made = [labels.run(branch, given[1:]) for branch in equation.params["branches"]]
    for branch in made[1:]:
        for axes, others in zip(made[0], branch, strict=True):
            labels.unite(axes, others)
    return made[0]


def _scan(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    consts, carried = equation.params["num_consts"], equation.params["num_carry"]
    start, sequences = given[consts : consts + carried], given[consts + carried :]
    for axes in sequences:
        labels.atoms.fix(axes[0], "they are the steps of a loop")
    each = [axes[1:] for axes in sequences]
    made = labels.run(equation.params["jaxpr"], [*given[:consts], *start, *each])
    for before, after in zip(start, made[:carried], strict=True):
        labels.unite(before, after)
    steps = np.zeros(equation.params["length"], np.int64)
    return [*made[:carried], *([steps, *axes] for axes in made[carried:])]


def _while(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    parameters = equation.params
    of_cond, of_body = parameters["cond_nconsts"], parameters["body_nconsts"]
    start = given[of_cond + of_body :]
    labels.run(parameters["cond_jaxpr"], [*given[:of_cond], *start])
    made = labels.run(parameters["body_jaxpr"], given[of_cond:])
    for before, after in zip(start, made, strict=True):
        labels.unite(before, after)
    return made


def _reduction(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    over = equation.params["axes"]
    for axes in given:
        for axis in over:
            labels.atoms.fix(
                axes[axis], f"the network computes {equation.primitive.name} over them"
            )
    left = [[axis for k, axis in enumerate(axes) if k not in over] for axes in given]
    return [left[0] for _ in equation.outvars]


def _cumulative(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    labels.atoms.fix(
        given[0][equation.params["axis"]],
        f"the network computes {equation.primitive.name} over them",
    )
    return given


def _window(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    made = fixed(equation.outvars[0].aval)
    for k, size in enumerate(equation.params["window_dimensions"]):
        if size == 1 and len(made[k]) == len(given[0][k]):
            made[k] = given[0][k]
        else:
            labels.atoms.fix(given[0][k], "a window slides over them")
    return [made for _ in equation.outvars]


def _broadcast(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    made = [labels.atoms.new(size) for size in equation.params["shape"]]
    for axis, place in zip(given[0], equation.params["broadcast_dimensions"], strict=True):
        if len(axis) == len(made[place]):
            made[place] = axis
    return [made]


def _transpose(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    return [[given[0][k] for k in equation.params["permutation"]]]


def _squeeze(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    gone = equation.params["dimensions"]
    return [[axis for k, axis in enumerate(given[0]) if k not in gone]]


def _reverse(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    turned = equation.params["dimensions"]
    return [[axis[::-1] if k in turned else axis for k, axis in enumerate(given[0])]]


def _concatenate(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    along = equation.params["dimension"]
    for axes in given[1:]:
        for k, axis in enumerate(axes):
            if k != along:
                labels.atoms.unite(given[0][k], axis)
    made = list(given[0])
    made[along] = np.concatenate([axes[along] for axes in given])
    return [made]


def _stack(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    for axes in given[1:]:
        labels.unite(given[0], axes)
    made, place = given[0], equation.params["axis"]
    return [[*made[:place], np.zeros(len(given), np.int64), *made[place:]]]


def _unstack(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    along = equation.params["axis"]
    labels.atoms.fix(given[0][along], "the network uses them one by one")
    left = [axis for k, axis in enumerate(given[0]) if k != along]
    return [left for _ in equation.outvars]


def _pad(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    made = []
    for axis, (low, high, between) in zip(given[0], equation.params["padding_config"], strict=True):
        spread = np.zeros(max(len(axis) + (len(axis) - 1) * between, 0), np.int64)
        spread[:: between + 1] = axis
        kept = spread[max(-low, 0) : len(spread) - max(-high, 0)]
        made.append(np.pad(kept, (max(low, 0), max(high, 0))))
    return [made]


def _slice(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    starts, ends = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or (1,) * len(starts)
    made = []
    for axis, start, end, step in zip(given[0], starts, ends, steps, strict=True):
        size = end - start
        if size < len(axis) and not labels.is_fixed(axis):
            if len(axis) % size or start % size or step > 1:
                labels.atoms.fix(axis, "the network selects some of them by index")
            else:  # equal parts, such as halves: the same positions are removed from each
                labels.atoms.unite_rows(axis.reshape(-1, size))
        made.append(axis[start:end:step])
    return [made]


def _split(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    along, sizes = equation.params["axis"], equation.params["sizes"]
    axis = given[0][along]
    if len(set(sizes)) == 1:
        labels.atoms.unite_rows(axis.reshape(len(sizes), -1))
    else:
        labels.atoms.fix(axis, "the network selects some of them by index")
    parts = np.split(axis, np.cumsum(sizes)[:-1])
    return [[*given[0][:along], part, *given[0][along + 1 :]] for part in parts]


def _dynamic_slice(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    made = []
    for axis, size in zip(given[0], equation.params["slice_sizes"], strict=True):
        if size < len(axis):
            labels.atoms.fix(axis, "the network selects some of them by index")
        made.append(axis[:size])
    return [made]


def _dynamic_update(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    for axis, part in zip(given[0], given[1], strict=True):
        if len(part) == len(axis):
            labels.atoms.unite(axis, part)
        else:
            for one in (axis, part):
                labels.atoms.fix(one, "the network selects some of them by index")
    return [given[0]]


def _gather(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    numbers, made = equation.params["dimension_numbers"], fixed(equation.outvars[0].aval)
    for axis in given[1]:
        labels.atoms.fix(axis, "they are indices")
    gone = {*numbers.collapsed_slice_dims, *getattr(numbers, "operand_batching_dims", ())}
    places = iter(numbers.offset_dims)
    for k, (axis, size) in enumerate(zip(given[0], equation.params["slice_sizes"], strict=True)):
        place = None if k in gone else next(places)
        if place is not None and size == len(axis):
            made[place] = axis
        else:
            labels.atoms.fix(axis, "the network selects some of them by index")
    return [made]


def _sort(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    for axes in given:
        labels.atoms.fix(axes[equation.params["dimension"]], "they are sorted")
        labels.unite(given[0], axes)
    return given


def _product(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    (left_over, right_over), (left_each, right_each) = equation.params["dimension_numbers"]
    left, right = given
    for k, m in zip((*left_over, *left_each), (*right_over, *right_each), strict=True):
        labels.atoms.unite(left[k], right[m], _MEETS)
    first = [left[k] for k in left_each]
    first += [axis for k, axis in enumerate(left) if k not in (*left_over, *left_each)]
    return [[*first, *(a for k, a in enumerate(right) if k not in (*right_over, *right_each))]]


def _convolution(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    parameters, (image, kernel) = equation.params, given
    of_image, of_kernel, of_output = parameters["dimension_numbers"]
    groups = parameters["feature_group_count"]
    if parameters["batch_group_count"] > 1:
        return _unknown(labels, equation, given)
    for axes, places in ((image, of_image), (kernel, of_kernel)):
        for k in places[2:]:
            labels.atoms.fix(axes[k], "a window slides over them")
    inputs, outputs = image[of_image[1]], kernel[of_kernel[0]]
    if groups == 1:
        labels.atoms.unite(inputs, kernel[of_kernel[1]], "they are the network's inputs")
    elif groups == len(inputs):  # depthwise: an input channel is removed with its output channels
        labels.atoms.unite_rows(np.vstack([inputs, outputs.reshape(groups, -1).T]))
    else:  # grouped: the same channels are removed from each group
        labels.atoms.unite_rows(np.vstack([kernel[of_kernel[1]], inputs.reshape(groups, -1)]))
        labels.atoms.unite_rows(outputs.reshape(groups, -1))
    made = fixed(equation.outvars[0].aval)
    made[of_output[0]], made[of_output[1]] = image[of_image[0]], outputs
    return [made]


def _reshape(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    made: Axes = []
    for before, sizes in _blocks(given[0], equation.params["new_sizes"]):
        made += _cut(labels, _flattened(labels, before), sizes)
    return [made]


def _blocks(axes: Axes, sizes: Sequence[int]) -> Iterator[tuple[Axes, Sequence[int]]]:
    """Yields the smallest groups of axes that a reshape converts to each other."""
    start, begin = 0, 0
    while start < len(axes) or begin < len(sizes):
        stop, end = min(start + 1, len(axes)), min(begin + 1, len(sizes))
        while True:
            before, after = math.prod(map(len, axes[start:stop])), math.prod(sizes[begin:end])
            if before == after:
                break
            stop, end = (stop + 1, end) if before < after else (stop, end + 1)
        yield axes[start:stop], sizes[begin:end]
        start, begin = stop, end


def _flattened(labels: Labels, axes: Axes) -> np.ndarray:
    """Returns the labels of several axes merged to one.

    This is possible if at most one of them can be pruned; otherwise all are fixed.
    """
    shape = [len(axis) for axis in axes]
    chosen = [k for k, axis in enumerate(axes) if not labels.is_fixed(axis)]
    if len(chosen) > 1:
        for k in chosen:
            labels.atoms.fix(axes[k], "they are merged with another axis")
    if len(chosen) != 1:
        return np.zeros(math.prod(shape), np.int64)
    spread = [1] * len(shape)
    spread[chosen[0]] = -1
    return np.broadcast_to(axes[chosen[0]].reshape(spread), shape).ravel()


def _cut(labels: Labels, axis: np.ndarray, sizes: Sequence[int]) -> Axes:
    """Splits one axis into several, and assigns its labels to one of them.

    The labels belong to the axis along which the sets vary; if several are possible, to the last.
    """
    made = [np.zeros(size, np.int64) for size in sizes]
    if labels.is_fixed(axis):
        return made
    table, roots = axis.reshape(sizes), labels.atoms.roots(axis).reshape(sizes)
    wide = [k for k, size in enumerate(sizes) if size > 1]
    alone = [
        k for k in wide if all((roots == np.take(roots, [0], m)).all() for m in wide if m != k)
    ]
    k = alone[-1] if alone else wide[-1]
    rows = np.moveaxis(table, k, -1).reshape(-1, sizes[k])
    made[k] = labels.atoms.unite_rows(rows)
    return made


def _iota(labels: Labels, equation: Any, given: list[Axes]) -> list[Axes]:
    return [fixed(equation.outvars[0].aval)]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(" ".join(_ELEMENTWISE).split(), _elementwise),
    **dict.fromkeys(_REDUCTIONS.split(), _reduction),
    **dict.fromkeys(_CUMULATIVE, _cumulative),
    **dict.fromkeys(_WINDOWS, _window),
    **dict.fromkeys(
        ["checkpoint", "closed_call", "custom_jvp_call", "custom_vjp_call", "jit", "remat2"],
        _called,
    ),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "cond": _branches,
    "conv_general_dilated": _convolution,
    "device_put": _several,
    "dot_general": _product,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update,
    "gather": _gather,
    "iota": _iota,
    "optimization_barrier": _several,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _reverse,
    "scan": _scan,
    "slice": _slice,
    "sort": _sort,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "transpose": _transpose,
    "unstack": _unstack,
    "while": _while,
}
