"""A trained model as one compiled function, for repeated inference."""

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
from jaxnets.kernels import borrowed
from jaxnets.kernels.rewrite import by_address, with_kernels
from jaxnets.training.checks import Checks, has_embeddings
from jaxnets.training.epoch import predicted
from jaxnets.training.evaluation import for_prediction

# For so long an answer is asked for before it is waited for: to wake a thread that waits takes as
# long as a small network computes.
_PATIENCE = 1e-3  # seconds

_ALIGNMENT = 64  # bytes; JAX reads a NumPy array in place that begins at a multiple of it
_LARGE = 2**20  # bytes, from which on an array is worth a copy of our own
_MEDIUM = 2**14  # bytes, from which on an array is worth a program that reads it in place


def predictor(model: nnx.Module, *, transform: Transform | None = None) -> Callable[[Any], Any]:
    """Compiles a trained model into a function of its inputs, for inference at low latency.

    The weights become constants of the program: a call hands over the inputs alone, and what
    follows from weights alone is computed once, when the program is compiled. That happens at the
    first call with each shape of inputs, and each of these programs holds the weights. ``predict``
    suits a whole data set at once; ``model.eval()`` under ``torch.inference_mode()`` is the
    counterpart of PyTorch.

    On a CPU a call with NumPy arrays returns when the answer is there, as it may read them in
    place; they can be changed afterwards. Large ones that do not begin at a multiple of 64 bytes
    are read in place by a kernel, or else copied into memory that the predictor keeps. With JAX
    arrays a call returns, as JAX's functions do, before the answer is there, if that takes more
    than a millisecond.

    Args:
        model: any ``nnx.Module``. It is not changed, and later changes to it have no effect.
        transform: see ``fit``.

    Returns:
        A function of inputs [examples, …], as the data set holds them: an array, or a tuple or
        dictionary of arrays, which are the arguments of the model's call. It gives the model's
        outputs [examples, …] in evaluation mode, as JAX arrays in whatever structure the model
        returns.

    Raises:
        ValueError: if the model or the transform is not valid; by the function, if it is given
            anything but arrays with examples in them, or an index that has no row in an embedding.
            Arrays on an accelerator are not looked at: outputs for such an index are NaN.

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
    copies = _Copies()

    @cache
    def of_address(shape: tuple[int, ...], dtype: np.dtype) -> Callable[[np.ndarray], Any] | None:
        """The program that reads inputs of a shape in place; None where it would copy them."""
        found = by_address(compute, jax.ShapeDtypeStruct(shape, dtype))
        return found and jax.jit(found)

    def run(inputs: Any) -> Any:
        if _is_unaligned(inputs, _MEDIUM) and borrowed.can_borrow(inputs):
            program = of_address(inputs.shape, inputs.dtype)
            if program is not None:
                return _awaited(program(borrowed.address_of(inputs)))
        return copies.run(compiled, inputs)

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
        in_place = on_cpu and any(isinstance(array, np.ndarray) for array in arrays.values())
        try:
            made = run(inputs) if in_place else compiled(inputs)
        except (TypeError, ValueError) as error:
            raise _refused(inputs, error) from error
        if on_cpu and not in_place:
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


class _Copies:
    """Copies of large NumPy arrays, aligned, in memory that later calls use again.

    JAX's own copy lies in memory that is often new to the process, which costs more than to copy.
    """

    def __init__(self) -> None:
        self._free: list[dict[int, np.ndarray]] = []  # each of a call that has ended

    def run(self, function: Callable[[Any], Any], inputs: Any) -> Any:
        """The outputs of a compiled function, which no longer reads the inputs."""
        arrays, structure = jax.tree.flatten(inputs)
        unaligned = [number for number, array in enumerate(arrays) if _is_unaligned(array, _LARGE)]
        if not unaligned:
            return _awaited(function(inputs))
        try:
            memory = self._free.pop()
        except IndexError:  # all that there is belongs to calls of other threads
            memory = {}
        for number in unaligned:
            arrays[number] = _copied(arrays[number], memory, number)
        made = _awaited(function(jax.tree.unflatten(structure, arrays)))
        self._free.append(memory)  # not after an error, as the program may still run
        return made


def _awaited(made: Any) -> Any:
    """The outputs of a program, once they are there."""
    _ask_for(made)
    return jax.block_until_ready(made)


def _is_unaligned(array: Any, least: int) -> bool:
    """Whether JAX would make a copy of an array of at least so many bytes."""
    if type(array) is not np.ndarray or array.nbytes < least or array.dtype.kind not in "biuf":
        return False
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        return False  # JAX converts it
    return bool(array.ctypes.data % _ALIGNMENT) or not array.flags.c_contiguous


def _copied(array: np.ndarray, memory: dict[int, np.ndarray], number: int) -> np.ndarray:
    """A copy of an array in the memory of this number, which grows if it is too small."""
    if number not in memory or len(memory[number]) < array.nbytes:
        room = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
        memory[number] = room[-room.ctypes.data % _ALIGNMENT :]
    copy = memory[number][: array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(copy, array)
    return copy
