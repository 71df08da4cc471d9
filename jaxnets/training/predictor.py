"""A trained model as one compiled function, for calling it again and again."""

import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, check_fits, check_usable
from jaxnets.data.spec import described, named
from jaxnets.data.transforms import Transform
from jaxnets.kernels.rewrite import with_kernels
from jaxnets.training.checks import Checks, has_embeddings
from jaxnets.training.epoch import predicted
from jaxnets.training.evaluation import for_prediction

# For so long an answer is asked for before it is waited for: to wake a thread that waits takes as
# long as a small network computes.
_PATIENCE = 1e-3  # seconds


def predictor(model: nnx.Module, *, transform: Transform | None = None) -> Callable[[Any], Any]:
    """Compiles a trained model into a function of its inputs, for answers without delay.

    The weights become constants of the program: a call hands over the inputs alone, and what
    follows from weights alone is computed once, when the program is compiled. That happens at the
    first call with each shape of inputs, and each of these programs holds the weights. ``predict``
    suits a whole data set at once; ``model.eval()`` under ``torch.inference_mode()`` is the
    counterpart of PyTorch.

    On a CPU a call comes back with its answer, if that takes less than a millisecond; otherwise,
    as JAX's functions do, before the answer is there.

    Args:
        model: any ``nnx.Module``; it is left as it is, and what becomes of it later is not seen.
        transform: see ``fit``.

    Returns:
        A function of inputs [examples, …], as the data set holds them: an array, or a tuple or
        dictionary of arrays, which are the arguments of the model's call. It gives the model's
        outputs [examples, …] in evaluation mode, as JAX arrays in whatever structure the model
        returns.

    Raises:
        ValueError: if the model or the transform is none; by the function, if it is given anything
            but arrays with examples in them, or an index that has no row in an embedding. Arrays
            on an accelerator are not looked at: outputs for such an index are NaN.

    Examples:
        >>> model = nnx.Linear(784, 10, rngs=nnx.Rngs(0))
        >>> answer = predictor(model)
        >>> answer(np.zeros((1, 784), np.float32)).shape
        (1, 10)
    """
    state, _ = for_prediction(model, transform)
    on_cpu = jax.default_backend() == "cpu"

    def compute(inputs: Any) -> Any:
        # Looked at while the program is traced, so that a call costs nothing for it.
        _check_batch(inputs)
        return predicted(transform, state, inputs)

    compiled = jax.jit(with_kernels(compute))
    looks_up = has_embeddings(model)

    @cache
    def checks(structure: Any, shapes: tuple[tuple[tuple[int, ...], np.dtype], ...]) -> Checks:
        specs = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
        spec = {"inputs": jax.tree.unflatten(structure, specs)}
        return Checks(
            lambda state, batch: predicted(transform, state, batch["inputs"]), state, spec
        )

    def check(inputs: Any) -> None:
        arrays, structure = jax.tree.flatten(inputs)
        kinds = (np.ndarray, jax.Array) if on_cpu else (np.ndarray,)
        if all(isinstance(array, kinds) and np.ndim(array) for array in arrays):
            host = [np.asarray(array) for array in arrays]
            shapes = ((x.shape, jax.dtypes.canonicalize_dtype(x.dtype)) for x in host)
            columns = {"inputs": jax.tree.unflatten(structure, host)}
            checks(structure, tuple(shapes)).check("", columns)

    def answer(inputs: Any) -> Any:
        several = isinstance(inputs, tuple | dict)
        arrays = named("inputs", inputs) if several else {"inputs": inputs}
        if any(isinstance(array, jax.core.Tracer) for array in arrays.values()):
            return compute(inputs)  # of somebody's program, or gradient
        for name, array in arrays.items():
            check_fits(name, array)
        if looks_up:
            check(inputs)
        try:
            made = compiled(inputs)
        except (TypeError, ValueError) as error:
            raise _refused(inputs, error) from error
        if on_cpu:
            _ask_for(made)
        return made

    return answer


def _refused(inputs: Any, error: Exception) -> InputError:
    """What to say of inputs with which the program failed."""
    if isinstance(error, InputError):
        return error
    for name, array in named("inputs", inputs).items():
        check_usable(name, "an array [examples, …]", array)
    got = f"{described(inputs)} ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
    return InputError("inputs", "what the model takes", got)


def _check_batch(inputs: Any) -> None:
    """Raises unless inputs are arrays of one length with examples in them."""
    arrays = named("inputs", inputs)
    for name, array in arrays.items():
        if not isinstance(array, jax.Array):
            raise InputError(name, "an array [examples, …]", f"a {type(array).__name__}")
        if not array.ndim or not len(array):
            raise InputError(name, "at least one example", f"an array {list(array.shape)}")
    lengths = sorted({len(array) for array in arrays.values()})
    if len(lengths) > 1:
        raise InputError("inputs", "arrays of one length", f"lengths {lengths}")


def _ask_for(made: Any) -> None:
    """Returns when the outputs of a program are there, or patience ends."""
    one = next(iter(jax.tree.leaves(made)), None)  # all of them come at once
    rest = getattr(os, "sched_yield", None)  # there is no such call on Windows
    if one is None or rest is None:
        return
    end = time.perf_counter() + _PATIENCE
    while not one.is_ready() and time.perf_counter() < end:
        rest()  # this core may be the one that is to compute
