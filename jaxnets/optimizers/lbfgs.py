"""Limited-memory BFGS."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import ArrayLike

from jaxnets.arrays import InputError, check_choice, check_number, check_positive
from jaxnets.optimizers import checks
from jaxnets.optimizers.scalars import Hyperparameter, at, scalar
from jaxnets.optimizers.state import OptimizerState
from jaxnets.optimizers.template import check_floating, compute_dtype
from jaxnets.optimizers.wolfe import Point, strong_wolfe

#: Slots with the structure of the parameters, and slots with an additional first axis of pairs.
VECTORS, HISTORIES = ("d", "prev_flat_grad"), ("old_dirs", "old_stps")
#: Slots for all parameters together.
OF_ALL = ("ro", "t", "H_diag", "prev_loss", "n_iter", "func_evals", "pairs")


def lbfgs(
    lr: Hyperparameter = 1,
    max_iter: int = 20,
    max_eval: int | None = None,
    tolerance_grad: float = 1e-7,
    tolerance_change: float = 1e-9,
    history_size: int = 100,
    line_search_fn: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """``torch.optim.LBFGS``: limited-memory BFGS, several iterations on one batch in each step.

    An iteration changes the parameters by t d. The direction d is the negative gradient times an
    estimate of the inverse Hessian, from the last pairs of changes of the gradient and of the
    parameters. The step length t is lr, or is found by a line search. PyTorch's ``step`` calls a
    closure; here ``update`` evaluates ``value_fn``, within one compiled loop. ``fit`` and
    ``minimize`` pass the loss of the batch; in your own loop call
    ``update(gradients, state, params, value=loss, value_fn=loss_of_params)``. Within a step all
    evaluations use the same random numbers, and only the first one updates running statistics.

    As in PyTorch, the optimizer has no parameter groups. Memory for ``2 * history_size`` copies of
    the parameters is allocated at the start.

    Slots: ``d``, ``prev_flat_grad``, the pairs ``old_dirs`` and ``old_stps`` [history_size, …] with
    ``ro`` [history_size], and the numbers ``t``, ``H_diag``, ``prev_loss``, ``n_iter``,
    ``func_evals`` and ``pairs``. ``pairs`` is the number of pairs so far; pair n is at index
    n modulo history_size.

    Args:
        lr: the step length t, or the length of the first trial of the line search.
        max_iter: the largest number of iterations in a step.
        max_eval: the largest number of evaluations in a step; None for 5/4 max_iter. A line search
            may exceed it by its first trial.
        tolerance_grad: a step ends if no element of the gradient is larger than this.
        tolerance_change: a step ends if no parameter changes by more than this, or the loss does
            not.
        history_size: the number of pairs that are kept.
        line_search_fn: ``"strong_wolfe"`` or None.

    Raises:
        InputError: if a value is out of range.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxnets import optimizers
        >>> def loss(x):
        ...     return jnp.sum((x - 3) ** 4 + x**2)
        >>> optimizer, x = optimizers.lbfgs(line_search_fn="strong_wolfe"), jnp.zeros(2)
        >>> value, gradient = jax.value_and_grad(loss)(x)
        >>> update, state = optimizer.update(
        ...     gradient, optimizer.init(x), x, value=value, value_fn=loss
        ... )
        >>> print(jnp.round(x + update, 3))
        [2. 2.]
    """
    lr = checks.number_or_schedule("lr", lr)
    check_positive("max_iter", max_iter)
    max_eval = max_iter * 5 // 4 if max_eval is None else check_positive("max_eval", max_eval)
    tolerance_grad = check_number("tolerance_grad", tolerance_grad, least=0)
    tolerance_change = check_number("tolerance_change", tolerance_change, least=0)
    check_positive("history_size", history_size)
    if line_search_fn is not None:
        check_choice("line_search_fn", line_search_fn, ("strong_wolfe",))
    limits = _Limits(
        max_iter, max_eval, tolerance_grad, tolerance_change, line_search_fn is not None
    )

    def init(params: Any) -> OptimizerState:
        check_floating(params)
        if _is_of_group(params):
            raise InputError("params", "all parameters, as lbfgs has no groups", "those of a group")
        step = jnp.zeros((), jnp.int32)
        return OptimizerState(step, scalar(at(lr, step)), _first(params, history_size))

    def update(
        updates: Any,
        state: OptimizerState,
        params: Any = None,
        *,
        value: ArrayLike | None = None,
        value_fn: Callable[[Any], jax.Array] | None = None,
        **others: Any,
    ) -> tuple[Any, OptimizerState]:
        if params is None or value_fn is None:
            expected = "the loss as a function of the parameters, and params"
            got = "no params" if value_fn is not None else "None"
            raise InputError("value_fn", expected, got)
        flat = _Flat(params)

        def evaluate(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            loss, gradient = jax.value_and_grad(value_fn)(flat.tree(x))
            return loss.astype(flat.dtype), flat.vector(gradient)

        rate = scalar(at(lr, state.step)) if callable(lr) else state.lr
        start = flat.vector(params)
        loss, gradient = (
            evaluate(start)
            if value is None
            else (jnp.asarray(value, flat.dtype), flat.vector(updates))
        )
        x, slots = _step(
            evaluate,
            limits,
            rate.astype(flat.dtype),
            _Place(start, loss, gradient),
            _vectors(state.slots, flat.vector),
        )
        slots = _vectors(slots, flat.tree)
        return flat.tree(x - start), OptimizerState(state.step + 1, rate, slots)

    return optax.GradientTransformationExtraArgs(init, update)


class _Limits(NamedTuple):
    """The conditions that end a step; see ``lbfgs``."""

    max_iter: int
    max_eval: int
    tolerance_grad: float
    tolerance_change: float
    line_search: bool


class _Place(NamedTuple):
    """Parameters as one vector, with the loss and gradient at this point."""

    x: jax.Array
    loss: jax.Array
    gradient: jax.Array


class _Run(NamedTuple):
    """The state of the loop over iterations."""

    place: _Place
    slots: dict[str, jax.Array]
    iterations: jax.Array
    evaluations: jax.Array
    stop: jax.Array


#: A function from a vector of parameters to the loss and the gradient.
_Evaluate = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def _step(
    evaluate: _Evaluate,
    limits: _Limits,
    lr: jax.Array,
    place: _Place,
    slots: dict[str, jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Runs all iterations of a step, and returns the new parameters and slots."""

    def iterate(run: _Run) -> _Run:
        place, count = run.place, run.slots["n_iter"] + 1
        slots = _remembered(run.slots, place.gradient, count)
        d = _direction(slots, place.gradient)
        first = jnp.minimum(1, 1 / jnp.sum(jnp.abs(place.gradient))) * lr
        t = jnp.where(count == 1, first, lr)
        slots |= {"d": d, "t": t, "n_iter": count}
        slots |= {"prev_flat_grad": place.gradient, "prev_loss": place.loss}
        run = run._replace(slots=slots, iterations=run.iterations + 1, stop=jnp.array(True))
        slope = place.gradient @ d
        return lax.cond(slope > -limits.tolerance_change, lambda run: run, moved, run)

    def moved(run: _Run) -> _Run:
        before, d, t = run.place, run.slots["d"], run.slots["t"]
        if limits.line_search:
            t, place, trials = _searched(evaluate, limits, run)
        else:
            x = before.x + t * d
            # The loss after the last iteration is not evaluated, as the next step computes it.
            last = run.iterations == limits.max_iter
            place = lax.cond(
                last, lambda x: before._replace(x=x), lambda x: _Place(x, *evaluate(x)), x
            )
            trials = jnp.where(last, 0, 1)
        evaluations = run.evaluations + trials
        change = limits.tolerance_change
        stop = (
            (run.iterations == limits.max_iter)
            | (evaluations >= limits.max_eval)
            | (jnp.max(jnp.abs(place.gradient)) <= limits.tolerance_grad)
            | (jnp.max(jnp.abs(d * t)) <= change)
            | (jnp.abs(place.loss - before.loss) < change)
        )
        slots = run.slots | {"t": t, "func_evals": run.slots["func_evals"] + trials}
        return run._replace(place=place, slots=slots, evaluations=evaluations, stop=stop)

    optimal = jnp.max(jnp.abs(place.gradient)) <= limits.tolerance_grad
    slots = slots | {"func_evals": slots["func_evals"] + 1}
    run = _Run(place, slots, jnp.int32(0), jnp.int32(1), optimal)
    run = lax.while_loop(lambda run: ~run.stop, iterate, run)
    return run.place.x, run.slots


def _searched(
    evaluate: _Evaluate, limits: _Limits, run: _Run
) -> tuple[jax.Array, _Place, jax.Array]:
    """Runs the line search, and returns the step length, the new point and the evaluations."""
    before, d = run.place, run.slots["d"]

    def at(t: jax.Array) -> Point:
        loss, gradient = evaluate(before.x + t * d)
        return Point(t, loss, gradient, gradient @ d)

    start = Point(jnp.zeros_like(run.slots["t"]), before.loss, before.gradient, before.gradient @ d)
    point, trials = strong_wolfe(
        at,
        start,
        run.slots["t"],
        size=jnp.max(jnp.abs(d)),
        most=limits.max_eval - run.evaluations,
        tolerance_change=limits.tolerance_change,
    )
    return point.t, _Place(before.x + point.t * d, point.loss, point.gradient), trials


def _remembered(
    slots: dict[str, jax.Array], gradient: jax.Array, count: jax.Array
) -> dict[str, jax.Array]:
    """Adds the pair of the previous iteration to the slots, unless its product is too small."""
    y, s = gradient - slots["prev_flat_grad"], slots["d"] * slots["t"]
    ys = y @ s
    keep = (count > 1) & (ys > 1e-10)
    place = slots["pairs"] % len(slots["ro"])
    new = {"old_dirs": y, "old_stps": s, "ro": 1 / ys}
    kept = {
        name: slots[name].at[place].set(jnp.where(keep, value, slots[name][place]))
        for name, value in new.items()
    }
    diagonal = jnp.where(keep, ys / (y @ y), slots["H_diag"])
    return {**slots, **kept, "H_diag": diagonal, "pairs": slots["pairs"] + jnp.where(keep, 1, 0)}


def _direction(slots: dict[str, jax.Array], gradient: jax.Array) -> jax.Array:
    """Computes the negative gradient times the inverse Hessian, by the two-loop recursion."""
    old_dirs, old_stps, ro = (slots[name] for name in ("old_dirs", "old_stps", "ro"))
    size, pairs = len(ro), slots["pairs"]
    count = jnp.minimum(pairs, size)

    def back(age: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        q, al = carry
        i = (pairs - 1 - age) % size
        a = old_stps[i] @ q * ro[i]
        return q - a * old_dirs[i], al.at[i].set(a)

    def forth(number: jax.Array, r: jax.Array) -> jax.Array:
        i = (pairs - count + number) % size
        return r + (al[i] - old_dirs[i] @ r * ro[i]) * old_stps[i]

    q, al = lax.fori_loop(0, count, back, (-gradient, jnp.zeros_like(ro)))
    return lax.fori_loop(0, count, forth, q * slots["H_diag"])


class _Flat:
    """Converts trees of the parameters' structure to vectors and back, in their widest dtype."""

    def __init__(self, params: Any) -> None:
        leaves = jax.tree.leaves(params)
        self._structure: Any = jax.tree.structure(params)
        self._leaves = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        self.dtype = jnp.result_type(*(compute_dtype(leaf.dtype) for leaf in leaves))

    def vector(self, tree: Any) -> jax.Array:
        """Converts a tree to a vector, and a tree of arrays [pairs, …] to [pairs, size]."""
        leaves = self._structure.flatten_up_to(tree)
        pairs = leaves[0].shape[: leaves[0].ndim - len(self._leaves[0].shape)]
        rows = [jnp.reshape(leaf, (*pairs, -1)).astype(self.dtype) for leaf in leaves]
        return jnp.concatenate(rows, axis=-1)

    def tree(self, vector: jax.Array) -> Any:
        """Converts a vector back to a tree; the inverse of ``vector``."""
        ends = np.cumsum([math.prod(leaf.shape) for leaf in self._leaves])[:-1]
        parts = zip(jnp.split(vector, ends, axis=-1), self._leaves, strict=True)
        pairs = vector.shape[:-1]
        leaves = [part.reshape(*pairs, *like.shape).astype(like.dtype) for part, like in parts]
        return self._structure.unflatten(leaves)


def _first(params: Any, history_size: int) -> dict[str, Any]:
    """Returns the slots before the first step."""
    dtype = _Flat(params).dtype

    def zeros(*pairs: int) -> Any:
        """Makes zeros with NumPy, because JAX would compile a program for each shape."""
        return jax.tree.map(lambda p: jax.device_put(np.zeros((*pairs, *p.shape), p.dtype)), params)

    numbers = dict.fromkeys(("t", "prev_loss"), 0.0) | {"H_diag": 1.0}
    return {
        **{name: zeros() for name in VECTORS},
        **{name: zeros(history_size) for name in HISTORIES},
        "ro": jax.device_put(np.zeros(history_size, dtype)),
        **{name: jnp.asarray(number, dtype) for name, number in numbers.items()},
        **{name: jnp.zeros((), jnp.int32) for name in ("n_iter", "func_evals", "pairs")},
    }


def _vectors(slots: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Applies a function to those slots that have the structure of the parameters."""
    like = VECTORS + HISTORIES
    return {name: change(slot) if name in like else slot for name, slot in slots.items()}


def _is_of_group(params: Any) -> bool:
    """Whether the parameters are those of a group, so that optax.partition masked the others."""
    leaves = jax.tree.leaves(params, is_leaf=lambda node: isinstance(node, optax.MaskedNode))
    return any(isinstance(leaf, optax.MaskedNode) for leaf in leaves)
