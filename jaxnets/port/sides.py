"""Runs a PyTorch network and its port on the same inputs, in the same precision."""

import contextlib
import copy
import functools
import itertools
import math
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.interop import to_numpy
from jaxnets.interop.computed import newer_names
from jaxnets.interop.differences import distance
from jaxnets.interop.dropout import without_dropout, without_torch_dropout
from jaxnets.interop.entries import entries, nodes
from jaxnets.port.convolutions import as_products
from jaxnets.port.draws import same_draws

#: The errors of JAX if control flow depends on the values of a traced array.
_UNDECIDED = jax.errors.ConcretizationTypeError, jax.errors.NonConcreteBooleanIndexError
_WIDTH = 8  # largest number of axes of an output
#: Options of XLA for fast compilation. Each program runs only a few times.
_QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
_SLOWEST = 1e-3  # smallest factor of the learning rate that is tried
_PATTERN = 31  # period of the weights in the loss, which is a weighted mean of the outputs
#: Arrays by name.
Arrays = dict[str, np.ndarray]
Order = tuple[int, ...]


@dataclass
class Outcome:
    """The results of one network: arrays in PyTorch's layouts, by PyTorch's names."""

    outputs: Arrays
    gradients: Arrays
    buffers: Arrays


class Theirs:
    """Runs copies of PyTorch's network, without dropout.

    Args:
        module: the network.
        known: the names of the port's weights, to which PyTorch's older names are converted.
        trained: the names of the port's parameters. Other frozen parameters of PyTorch are
            compared as buffers.
    """

    def __init__(self, module: Any, known: Collection[str], trained: Collection[str]) -> None:
        self.name, self._trained = type(module).__name__, trained
        self._module = _copied(module)
        without_torch_dropout(self._module)
        held = self._module.state_dict()
        self._newer = newer_names(held, known)
        #: Non-persistent buffers, which are not in the state_dict and are computed by the
        #: constructor of each network.
        self.computed = {
            name: _numpy(x) for name, x in self._module.named_buffers() if name not in held
        }

    def twin(self, double: bool) -> Any:
        """Returns a copy of the network, in float64 if ``double``.

        Raises:
            TypeError: if the network has tensors that would stay float32.
        """
        module = _copied(self._module)
        kept = [x for one in module.modules() for x in vars(one).values() if is_tensor(x)]
        if double and any(x.is_floating_point() for x in kept):
            raise TypeError("the network has tensors that are not buffers and stay float32")
        return module.double() if double else module

    def run(self, inputs: Sequence[Any], *, train: bool, double: bool) -> Outcome:
        """Runs the forward and backward pass of a copy."""
        module = self.twin(double)
        return self._seen(module, self._backwards(module, inputs, train=train, double=double))

    def trained(
        self, inputs: Sequence[Any], steps: int, *, double: bool
    ) -> tuple[Outcome, float, Arrays]:
        """Trains a copy by gradient descent.

        Args:
            inputs: the inputs of every step.
            steps: the number of steps.
            double: whether to compute in float64.

        Returns:
            The results of the first step, the learning rate, and the parameters after the last
            step. The rate is small enough that the parameters stay finite, if there is such a rate.
        """
        slower = 1.0
        while True:
            module = self.twin(double)
            for step in range(steps):
                outputs = self._backwards(module, inputs, train=True, double=double)
                if step == 0:
                    first, rate = self._seen(module, outputs), _rate(module) * slower
                _descend(module, rate)
            named = self._parameters(module)
            trained = self._renamed({name: _numpy(p) for name, p in named.items()})
            if slower < _SLOWEST or all(np.isfinite(p).all() for p in trained.values()):
                return first, rate, trained
            slower /= 10  # the weights overflowed, so the steps were too large

    def _parameters(self, module: Any) -> dict[str, Any]:
        named = module.named_parameters(remove_duplicate=False)
        kept = self._trained
        return {n: p for n, p in named if p.requires_grad or self._newer.get(n, n) in kept}

    def _backwards(
        self, module: Any, inputs: Sequence[Any], *, train: bool, double: bool
    ) -> dict[str, Any]:
        """Runs the forward and backward pass of a copy; returns its outputs by name."""
        module.train(train)
        module.zero_grad(set_to_none=True)
        with precision(double), same_draws(), _only(double):
            outputs = _leaves(module(*[_as_tensor(x, double) for x in inputs]))
            tensors = [x for x in outputs.values() if is_tensor(x) and x.is_floating_point()]
            loss = sum((x * _pattern(x)).mean() for x in tensors if x.numel())
            if is_tensor(loss) and loss.requires_grad:
                loss.backward()
        return outputs

    def _seen(self, module: Any, outputs: Mapping[str, Any]) -> Outcome:
        """Returns the outputs, gradients and buffers of a copy after a backward pass."""
        parameters = self._parameters(module)
        gradients = {
            name: np.zeros(p.shape) if p.grad is None else _numpy(p.grad)
            for name, p in parameters.items()
        }
        held = module.state_dict().items()
        return Outcome(
            {name: _numpy(x) for name, x in outputs.items()},
            self._renamed(gradients),
            self._renamed({name: _numpy(x) for name, x in held if name not in parameters}),
        )

    def _renamed(self, arrays: Arrays) -> Arrays:
        return {self._newer.get(name, name): array for name, array in arrays.items()}


class Ours:
    """Runs the ported network, without dropout.

    Args:
        model: the ported network.
        orders: the orders of its inputs, see ``check.prove``.
        frozen: PyTorch's names of the parameters that are not trained.
    """

    def __init__(
        self, model: nnx.Module, orders: Sequence[Order | None], frozen: Collection[str]
    ) -> None:
        self._model = nnx.clone(model)
        without_dropout(self._model)
        self._orders = orders
        self.out_orders: dict[str, Order] = {}
        self.eager = False
        self._programs: dict[Any, Any] = {}
        found = entries(self._model)
        parameters = [
            entry for entry in found if any(isinstance(v, nnx.Param) for v in entry.variables)
        ]
        self.parameters = {name for entry in parameters for name in entry.theirs}
        fixed = [entry for entry in parameters if set(entry.theirs) <= set(frozen)]
        self.trained = self.parameters - {name for entry in fixed for name in entry.theirs}
        variables = {id(v) for entry in fixed for v in entry.variables}
        self._fixed = {path for path, v in nnx.iter_graph(self._model) if id(v) in variables}
        self._variables = {
            name + key: value
            for _, name, node in nodes(self._model)
            if isinstance(node, nnx.Module)
            for key, value in vars(node).items()
            if isinstance(value, nnx.Variable) and not isinstance(value, nnx.Param)
        }

    def take(self, computed: Arrays) -> Arrays:
        """Replaces computed values by PyTorch's, so that their rounding is compared only once.

        Args:
            computed: PyTorch's values by name, such as the table of a positional encoding.

        Returns:
            The replaced values by name.
        """
        before = {}
        for name, array in computed.items():
            variable = self._variables.get(name)
            if variable is not None and variable.shape == array.shape:
                before[name] = np.asarray(variable.get_value())
                variable.set_value(jnp.asarray(array, variable.dtype))
        return before

    def run(
        self,
        inputs: Sequence[Any],
        like: Arrays,
        *,
        train: bool,
        double: bool,
        backwards: bool = True,
        steps: int = 0,
        rate: float = 0.0,
    ) -> tuple[Outcome, Arrays]:
        """Runs the forward and backward pass, and optionally trains by gradient descent.

        Args:
            inputs: PyTorch's inputs.
            like: PyTorch's outputs, from which the orders of the port's outputs are inferred.
            train: whether to run in training mode.
            double: whether to compute in float64.
            backwards: whether to compute gradients; if not, the result has the parameters instead.
            steps: the number of training steps, including this run.
            rate: the learning rate.

        Returns:
            The results of the run, and the parameters after training.
        """
        (self._model.train if train else self._model.eval)()
        trained = nnx.All(nnx.Param, lambda path, _: path not in self._fixed)
        graph, *split = nnx.split(self._model, trained, ...)
        with _computing(double):
            parameters, rest = _cast(split, double)
            arrays = [_as_ours(*each, double) for each in zip(inputs, self._orders, strict=True)]
            program = self._program(graph, inputs, train, double, backwards)
            given = parameters, rest, arrays
            outputs, gradients, after = self._called(program, *given, self._strides(like))
            # The loss depends on the orders of the outputs, which the first run finds.
            if found := _orders(outputs, like, self.out_orders):
                self.out_orders |= found
                outputs, gradients, after = self._called(program, *given, self._strides(like))
            seen = Outcome(
                {name: self._back(name, np.asarray(x)) for name, x in outputs.items()},
                self._named(graph, gradients, rest, parameters=True),
                self._named(graph, parameters, after, parameters=False),
            )
            for step in range(steps):
                if step:
                    given = parameters, after, arrays
                    _, gradients, after = self._called(program, *given, self._strides(like))
                parameters = _descended(parameters, gradients, rate)
            return seen, self._named(graph, parameters, after, parameters=True)

    def _named(self, graph: Any, *split: Any, parameters: bool) -> Arrays:
        """Returns the parameters or the other variables in PyTorch's names and layouts."""
        named = to_numpy(nnx.merge(graph, *split))
        return {name: x for name, x in named.items() if (name in self.trained) == parameters}

    def _program(
        self, graph: Any, inputs: Sequence[Any], train: bool, double: bool, backwards: bool
    ) -> Any:
        """Returns the compiled forward and backward pass, cached by shape and mode."""
        shapes = tuple(str(getattr(x, "shape", x)) for x in inputs)
        key = train, double, backwards, shapes, self.eager
        if key not in self._programs:
            fixed = {place: x for place, x in enumerate(inputs) if not is_tensor(x)}
            function = functools.partial(_forwards_and_backwards, graph, fixed, backwards)
            compiled = jax.jit(function, compiler_options=_compiler_options())
            self._programs[key] = function if self.eager else compiled
        return self._programs[key]

    def _called(self, program: Any, *given: Any) -> Any:
        try:
            return program(*given)
        except _UNDECIDED:  # control flow depends on array values
            if not hasattr(program, "__wrapped__"):
                raise
            self.eager = True
            return program.__wrapped__(*given)

    def _strides(self, like: Arrays) -> dict[str, np.ndarray]:
        """Returns the strides in PyTorch's flat outputs for each axis of the port's outputs."""
        found = {}
        for name, array in like.items():
            order = self.out_orders.get(name, range(array.ndim))
            steps = [math.prod(array.shape[axis + 1 :]) for axis in order]
            found[name] = np.array(steps + [0] * (_WIDTH - len(steps)), np.int32)
        return found

    def _back(self, name: str, array: np.ndarray) -> np.ndarray:
        """Transposes an output to PyTorch's order of axes."""
        order = self.out_orders.get(name)
        return array if order is None else np.transpose(array, np.argsort(order))


def _forwards_and_backwards(
    graph: Any,
    fixed: dict[int, Any],
    backwards: bool,
    parameters: Any,
    rest: Any,
    inputs: list[Any],
    strides: Any,
) -> tuple[dict[str, Any], Any, Any]:
    """Runs a model; returns outputs by name, gradients of the loss, and the updated variables."""

    def loss_of(parameters: Any) -> Any:
        model = nnx.merge(graph, parameters, rest, copy=True)
        given = [fixed.get(place, x) for place, x in enumerate(inputs)]
        outputs = {name: jnp.asarray(x) for name, x in _leaves(model(*given)).items()}
        terms = [
            jnp.mean(x * _our_pattern(x, strides[name])).astype(float)
            for name, x in outputs.items()
            if jnp.issubdtype(x.dtype, jnp.floating) and x.size and name in strides
        ]
        return sum(terms, jnp.zeros(())), (outputs, _changed(rest, model))

    if not backwards:
        _, (outputs, after) = loss_of(parameters)
        return outputs, parameters, after
    (_, (outputs, after)), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters)
    return outputs, gradients, after


def _changed(rest: Any, model: nnx.Module) -> Any:
    """Returns the variables of a model after a run; variables that it lacks keep their values."""
    after = dict(nnx.to_flat_state(nnx.split(model, nnx.Param, ...)[2]))
    return nnx.from_flat_state(
        [(path, after.get(path, variable)) for path, variable in nnx.to_flat_state(rest)]
    )


def _only(double: bool) -> Any:
    """Returns a context in which converting float64 to a smaller dtype raises, if ``double``."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Only(TorchFunctionMode):
        """Raises if a function converts float64 to a smaller floating-point dtype."""

        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            """Calls the function and checks the dtype of its result."""
            result = function(*args, **(kwargs or {}))
            cut = getattr(result, "dtype", None) in (torch.float32, torch.float16, torch.bfloat16)
            if cut and any(getattr(x, "dtype", None) == torch.float64 for x in args):
                raise TypeError("float64 becomes float32 within the network")
            return result

    return Only() if double else contextlib.nullcontext()


@contextlib.contextmanager
def precision(double: bool) -> Iterator[None]:
    """Sets float64 or float32 in both frameworks, with JAX's default type promotion."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if double else torch.float32)
    try:
        with (
            jax.enable_x64(double),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
        ):
            yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _computing(double: bool) -> Iterator[None]:
    """Sets the precision, random numbers and convolutions for running the port."""
    with (
        precision(double),
        same_draws(),
        as_products(),
        jax.default_matmul_precision("highest"),
    ):
        yield


@functools.cache
def _compiler_options() -> dict[str, Any]:
    """Returns the compiler options that the installed version of XLA supports."""
    return {name: value for name, value in _QUICKLY.items() if _known(name, value)}


def _known(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of PyTorch."""
    return hasattr(value, "detach")


def _leaves(outputs: Any, name: str = "") -> dict[str, Any]:
    """Returns the tensors, arrays and numbers in nested outputs, by path."""
    if isinstance(outputs, Mapping):
        parts: Any = outputs.items()
    elif isinstance(outputs, list | tuple):
        parts = enumerate(outputs)
    else:
        plain = isinstance(outputs, bool | int | float) or hasattr(outputs, "shape")
        return {name or "output": outputs} if plain else {}
    dot = f"{name}." if name else ""
    return {k: x for key, part in parts for k, x in _leaves(part, f"{dot}{key}").items()}


def _as_tensor(x: Any, double: bool) -> Any:
    """Returns a copy of an input for PyTorch, whose network may change it in place."""
    if not is_tensor(x):
        return x
    x = x.detach().clone()
    return (x.double() if double else x.float()) if x.is_floating_point() else x


def _as_ours(x: Any, order: Order | None, double: bool) -> Any:
    """Converts an input to a JAX array in the port's order; None for a value not a tensor."""
    if not is_tensor(x):
        return None
    array = _numpy(_as_tensor(x, double))
    array = array if order is None else np.transpose(array, order)
    return jax.device_put(array.astype(jax.dtypes.canonicalize_dtype(array.dtype)))


def _numpy(x: Any) -> np.ndarray:
    """Copies a tensor or array to NumPy."""
    return np.array(x.detach().cpu().numpy() if is_tensor(x) else x)


def _cast(tree: Any, double: bool) -> Any:
    """Casts the floating-point variables of a tree to float64 or float32."""

    def one(x: Any) -> Any:
        floating = jnp.issubdtype(getattr(x, "dtype", int), jnp.floating)
        if not floating:
            return x
        return jax.device_put(np.asarray(x).astype(np.float64 if double else np.float32))

    return jax.tree.map(one, tree)


def _pattern(x: Any) -> Any:
    """Returns a weight in [-1, 1] for each element of a tensor.

    The weight depends on the position, so that swapped elements change the loss.
    """
    import torch

    index = torch.arange(x.numel()).reshape(x.shape)
    return ((index % _PATTERN) - _PATTERN // 2).to(x.dtype) / (_PATTERN // 2)


def _our_pattern(x: jax.Array, strides: jax.Array) -> jax.Array:
    """Returns ``_pattern`` for an array with another order of axes than PyTorch's."""
    index = jnp.zeros(x.shape, jnp.int32)
    for axis in range(x.ndim):
        index += jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) * strides[axis]
    return ((index % _PATTERN) - _PATTERN // 2).astype(x.dtype) / (_PATTERN // 2)


def _orders(outputs: Mapping[str, Any], like: Arrays, known: Mapping[str, Order]) -> dict:
    """Infers the orders of outputs that differ from PyTorch's and are not known yet.

    If several orders fit the shape, the one with the smallest difference is chosen.
    """
    found = {}
    for name in set(outputs) & set(like) - set(known):
        ours, theirs = np.asarray(outputs[name]), like[name]
        natural = tuple(range(theirs.ndim))
        fitting = [
            order
            for order in itertools.permutations(natural)
            if ours.shape == tuple(theirs.shape[axis] for axis in order)
        ]
        if theirs.ndim > 1 and fitting:
            order = min(fitting, key=lambda order: distance(ours, np.transpose(theirs, order)))
            if order != natural:
                found[name] = order
    return found


def _copied(module: Any) -> Any:
    """Copies PyTorch's network, without the gradient graphs of weights that each call recomputes.

    ``copy.deepcopy`` does not support tensors that have a gradient graph, and it leaves functions
    as they are, so those in attributes would read the layers of the original.
    """
    computed = [
        (each, name, value)
        for each in module.modules()
        for name, value in vars(each).items()
        if is_tensor(value) and value.grad_fn is not None
    ]
    for each, name, value in computed:
        vars(each)[name] = value.detach()
    copies: dict[int, Any] = {}
    try:
        twin = copy.deepcopy(module, copies)
        for each in twin.modules():
            for name, value in list(vars(each).items()):
                if isinstance(value, types.FunctionType) and value.__closure__:
                    vars(each)[name] = _closed_over(value, copies)
        return twin
    finally:
        for each, name, value in computed:
            vars(each)[name] = value


def _closed_over(function: types.FunctionType, copies: Mapping[int, Any]) -> types.FunctionType:
    """Returns a function that reads copies of the objects that its closure has."""
    cells = []
    for cell in function.__closure__ or ():
        value = cell.cell_contents
        cells.append(types.CellType(copies.get(id(value), value)))
    names = function.__name__, function.__defaults__, tuple(cells)
    made = types.FunctionType(function.__code__, function.__globals__, *names)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def _rate(module: Any) -> float:
    """Returns a learning rate for which no step exceeds a tenth of the largest weight."""
    pairs = [(p, p.grad) for p in module.parameters() if p.grad is not None and p.numel()]
    largest = max((float(p.detach().abs().max()) for p, _ in pairs), default=1.0)
    steepest = max((float(g.abs().max()) for _, g in pairs), default=1.0)
    return min(0.1, 0.1 * largest / steepest) if largest and steepest > 0 else 0.1


def _descend(module: Any, rate: float) -> None:
    import torch

    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter -= rate * parameter.grad


def _descended(parameters: Any, gradients: Any, rate: float) -> Any:
    def one(p: jax.Array, g: jax.Array) -> jax.Array:
        moved = np.asarray(p) - rate * np.asarray(g)  # in NumPy, as JAX would compile each shape
        return jax.device_put(moved.astype(p.dtype))

    with jax.enable_x64(True):
        return jax.tree.map(one, parameters, gradients)
