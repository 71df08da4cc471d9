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

# A call polls for its outputs for this long before it blocks, because waking a blocked thread takes
# about as long as the inference of a small network.
_POLLING = 1e-3  # seconds

_ALIGNMENT = 64  # bytes; JAX reads a NumPy array in place if its address is a multiple of this
_LARGE = 2**20  # bytes; JAX's copy of smaller unaligned arrays is fast enough
_MEDIUM = 2**14  # bytes; not worth a separate program below


def predictor(model: nnx.Module, *, transform: Transform | None = None) -> Callable[[Any], Any]:
    """Compiles a trained model into a function of its inputs, for inference at low latency.

    The weights become constants of the program: a call passes only the inputs, and expressions of
    weights alone are computed once, when the program is compiled. A program is compiled at the
    first call with each shape of inputs, and each program contains a copy of the weights. Use
    ``predict`` for a whole data set. The PyTorch counterpart is ``model.eval()`` under
    ``torch.inference_mode()``.

    On a CPU, a call with NumPy arrays may read them in place, so it returns only when the outputs
    are available; the arrays can be changed afterwards. Large arrays whose address is not a
    multiple of 64 bytes are read in place by a kernel, or copied into memory that the predictor
    reuses. A call with JAX arrays returns before the outputs are available, as JAX's functions do,
    if inference takes more than a millisecond.

    Args:
        model: any ``nnx.Module``. It is not changed, and later changes to it have no effect.
        transform: see ``fit``.

    Returns:
        A function of inputs [examples, …], as in the data set, before ``transform``: an array, or a
        tuple or dictionary of arrays, which are the arguments of the model's call. It returns the
        model's outputs [examples, …] in evaluation mode, as JAX arrays in whatever structure the
        model returns.

    Raises:
        ValueError: if the model or the transform is not valid. The returned function raises it if
            an input is not an array, there are no examples, or an index has no row in an
            embedding. Indices on an accelerator are not checked; their outputs are NaN.

    Examples:
        >>> model = nnx.Linear(784, 10, rngs=nnx.Rngs(0))
        >>> infer = predictor(model)
        >>> infer(np.zeros((1, 784), np.float32)).shape
        (1, 10)
    """
    state, _ = for_prediction(model, transform)
    on_cpu = jax.default_backend() == "cpu"

    def compute(inputs: Any) -> Any:
        # Checked while the program is traced, so that the check adds nothing to a call.
        _check_batch(inputs)
        return predicted(transform, state, inputs)

    compiled = jax.jit(with_kernels(compute))
    copies = _Copies()

    @cache
    def of_address(shape: tuple[int, ...], dtype: np.dtype) -> Callable[[np.ndarray], Any] | None:
        """Returns a program that reads inputs in place; None if the program would copy them."""
        found = by_address(compute, jax.ShapeDtypeStruct(shape, dtype))
        return found and jax.jit(found)

    def run(inputs: Any) -> Any:
        if _is_unaligned(inputs, _MEDIUM) and borrowed.can_borrow(inputs):
            program = of_address(inputs.shape, inputs.dtype)
            if program is not None:
                return _awaited(program(borrowed.address_of(inputs)))
        return copies.run(compiled, inputs)

    looks_up = has_embeddings(model)

    # Traced once for each structure and shape of the inputs.
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

    def infer(inputs: Any) -> Any:
        several = isinstance(inputs, tuple | dict)
        arrays = named("inputs", inputs) if several else {"inputs": inputs}
        if any(isinstance(array, jax.core.Tracer) for array in arrays.values()):
            return compute(inputs)  # within a caller's jit or grad
        for name, array in arrays.items():
            check_fits(name, array)
        if looks_up:
            check(inputs)
        # The program may read NumPy arrays in place, so ``run`` waits until it has finished.
        in_place = on_cpu and any(isinstance(array, np.ndarray) for array in arrays.values())
        try:
            made = run(inputs) if in_place else compiled(inputs)
        except (TypeError, ValueError) as error:  # raised while the model is traced
            raise _refused(inputs, error) from error
        if on_cpu and not in_place:
            _poll(made)
        return made

    return infer


def _refused(inputs: Any, error: Exception) -> InputError:
    """Returns the error to raise for inputs with which the program failed."""
    if isinstance(error, InputError):
        return error
    for name, array in named("inputs", inputs).items():
        check_usable(name, "an array [examples, …]", array)
    got = f"{described(inputs)} ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
    return InputError("inputs", "what the model takes", got)


def _check_batch(inputs: Any) -> None:
    """Checks that inputs are arrays of one length with at least one example."""
    arrays = named("inputs", inputs)
    for name, array in arrays.items():
        if not isinstance(array, jax.Array):
            raise InputError(name, "an array [examples, …]", f"a {type(array).__name__}")
        if not array.ndim or not len(array):
            raise InputError(name, "at least one example", f"an array {list(array.shape)}")
    lengths = sorted({len(array) for array in arrays.values()})
    if len(lengths) > 1:
        raise InputError("inputs", "arrays of one length", f"lengths {lengths}")


def _poll(made: Any) -> None:
    """Returns when the outputs of a program are available, or after ``_POLLING`` seconds."""
    one = next(iter(jax.tree.leaves(made)), None)  # all outputs become available together
    rest = getattr(os, "sched_yield", None)  # not available on Windows
    if one is None or rest is None:
        return
    end = time.perf_counter() + _POLLING
    while not one.is_ready() and time.perf_counter() < end:
        rest()  # the program may need this core


class _Copies:
    """Copies large NumPy arrays into aligned memory that later calls reuse.

    JAX copies an unaligned array into newly allocated memory, whose page faults cost more time than
    the copy.
    """

    def __init__(self) -> None:
        self._free: list[dict[int, np.ndarray]] = []  # buffers of calls that have returned

    def run(self, function: Callable[[Any], Any], inputs: Any) -> Any:
        """Returns the outputs of a compiled function after it has finished reading the inputs."""
        arrays, structure = jax.tree.flatten(inputs)
        unaligned = [number for number, array in enumerate(arrays) if _is_unaligned(array, _LARGE)]
        if not unaligned:
            return _awaited(function(inputs))
        try:
            memory = self._free.pop()
        except IndexError:  # calls in other threads use all buffers
            memory = {}
        for number in unaligned:
            arrays[number] = _copied(arrays[number], memory, number)
        made = _awaited(function(jax.tree.unflatten(structure, arrays)))
        self._free.append(memory)  # not after an error, because the program may still read it
        return made


def _awaited(made: Any) -> Any:
    """Returns the outputs of a program when they are available."""
    _poll(made)
    return jax.block_until_ready(made)


def _is_unaligned(array: Any, least: int) -> bool:
    """Whether an array has at least ``least`` bytes and JAX would copy it."""
    if type(array) is not np.ndarray or array.nbytes < least or array.dtype.kind not in "biuf":
        return False
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        return False  # JAX converts it
    return bool(array.ctypes.data % _ALIGNMENT) or not array.flags.c_contiguous


def _copied(array: np.ndarray, memory: dict[int, np.ndarray], number: int) -> np.ndarray:
    """Copies an array into buffer ``number``, which is replaced if it is too small."""
    if number not in memory or len(memory[number]) < array.nbytes:
        room = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
        memory[number] = room[-room.ctypes.data % _ALIGNMENT :]
    copy = memory[number][: array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(copy, array)
    return copy
