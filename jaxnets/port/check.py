"""Compares a PyTorch network with its port: outputs, gradients, buffers and trained weights.

Both networks use the same random numbers (see ``draws``). If PyTorch can run the network in
float64, both networks compute in float64, so that differences are not caused by rounding.
"""

import contextlib
import copy
import dataclasses
import functools
import itertools
import math
import types
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, called, check_integer, printable
from jaxnets.interop import to_numpy, trace_difference
from jaxnets.interop.computed import newer_names
from jaxnets.interop.differences import distance
from jaxnets.interop.dropout import without_dropout, without_torch_dropout
from jaxnets.interop.entries import entries, nodes
from jaxnets.networks import why
from jaxnets.port.compilers import eager
from jaxnets.port.convolutions import as_products
from jaxnets.port.draws import same_draws

if TYPE_CHECKING:
    import torch

#: The largest allowed relative differences in (float32, float64). Differences of outputs and
#: buffers are relative to the largest value of the array, those of gradients and of weights after
#: training to the largest value of the whole network.
TOLERANCES = {
    "outputs": (1e-5, 1e-8),
    "gradients": (1e-5, 1e-7),
    "buffers": (1e-6, 1e-8),
    "weights": (1e-4, 1e-6),
}
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


@dataclass(frozen=True)
class Measure:
    """One comparison of arrays of both networks.

    Attributes:
        what: the kind of arrays: "outputs", "gradients", "buffers", or "weights" after training.
        mode: "train" or "eval".
        inputs: the inputs: "as given", or another batch size such as "batch 3".
        dtype: the dtype of the computation.
        difference: the largest relative difference; infinite if shapes or names differ.
        tolerance: the largest allowed difference.
        where: the name of the output, parameter or buffer with the largest difference.
    """

    what: str
    mode: str
    inputs: str
    dtype: str
    difference: float
    tolerance: float
    where: str

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance


@dataclass(frozen=True)
class Proof:
    """The result of comparing a network with its port.

    Attributes:
        network: the name of the network's class.
        measures: all comparisons.
        failure: the reason why the comparison failed, or the first difference; empty if all
            comparisons agree.
        notes: remarks for the user.
        sizes: further input shapes for which the port agrees with PyTorch.
        fixed: input shapes that PyTorch accepts but the port does not.
    """

    network: str
    measures: tuple[Measure, ...]
    failure: str = ""
    notes: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """``"exact"``, ``"different"``, or ``"failed"`` if the networks could not be compared."""
        if not self.measures or self.failure.startswith("failed "):
            return "failed"
        return "exact" if all(one.holds for one in self.measures) else "different"

    @property
    def worst(self) -> Measure | None:
        """The comparison with the largest ratio of difference to tolerance, or None."""
        return max(self.measures, key=lambda one: one.difference / one.tolerance, default=None)

    def __str__(self) -> str:
        head = ("", "mode", "inputs", "dtype", "difference", "at most", "where")
        rows = [head] + [
            (
                *(one.what, one.mode, one.inputs, one.dtype),
                f"{one.difference:.1e}",
                f"{one.tolerance:.0e}" + ("" if one.holds else "  <-"),
                printable(one.where),
            )
            for one in self.measures
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        lines = lines if self.measures else []
        if self.sizes:
            lines.append(f"also equal with {', '.join(self.sizes)}")
        if self.fixed:
            lines.append(f"accepted by PyTorch but not by the port: {', '.join(self.fixed)}")
        lines += [f"note: {note}" for note in self.notes]
        lines.append(f"{self.network}: {self.verdict}{f': {self.failure}' * bool(self.failure)}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Returns the result as values that JSON supports."""
        return {
            "network": self.network,
            "verdict": self.verdict,
            "failure": self.failure,
            "notes": list(self.notes),
            "sizes": list(self.sizes),
            "fixed": list(self.fixed),
            "measures": [
                {**vars(one), "difference": _plain(one.difference), "holds": one.holds}
                for one in self.measures
            ],
        }


def _plain(number: float) -> float | None:
    return number if math.isfinite(number) else None


def prove(
    model: nnx.Module,
    torch_module: "torch.nn.Module",
    inputs: Sequence[Any],
    *,
    orders: Sequence[Order | None] | None = None,
    steps: int = 10,
    quick: bool = False,
) -> Proof:
    """Compares a network with its port: outputs, gradients, buffers, and weights after training.

    The networks are compared in training and evaluation mode, on the inputs and on a batch of
    another size, without dropout and with the same random numbers. Neither network is changed.

    Args:
        model: the port, with the weights of the network.
        torch_module: the network, on the CPU.
        inputs: PyTorch's inputs, tensors or other values, one for each positional argument.
        orders: for each input the order of its axes in the port: for each axis, the number of
            PyTorch's axis, such as (0, 2, 3, 1) for channels-last images; None for PyTorch's order.
        steps: the number of steps of gradient descent in the comparison of training.
        quick: whether to compile two programs instead of five or more: training mode on the
            inputs, and evaluation mode on the other batch, both in float64 if PyTorch can run it.

    Returns:
        The result of the comparison; ``print`` shows it.

    Raises:
        InputError: if an argument is invalid, or PyTorch's network does not accept the inputs.
    """
    import torch

    check_integer("steps", steps, least=1)
    if not isinstance(torch_module, torch.nn.Module):
        raise InputError("torch_module", "a torch.nn.Module", type(torch_module).__name__)
    given = tuple(inputs)
    known = to_numpy(model)
    frozen = _frozen(torch_module, known)
    ours = _Ours(model, [None] * len(given) if orders is None else list(orders), frozen)
    theirs = _Theirs(torch_module, known, ours.trained)
    with warnings.catch_warnings(), eager():
        warnings.simplefilter("ignore")
        run = functools.partial(theirs.run, given, train=False, double=False)
        called("inputs", "inputs that the network takes", run, got=f"{len(given)} inputs")
        prover = _Prover(ours, theirs, given, steps)
        if named := sorted(frozen & known.keys() & ours.parameters):
            more = f" and {len(named) - 3} more" if len(named) > 3 else ""
            prover.notes.append(f"frozen in PyTorch: {', '.join(named[:3])}{more}; see --freeze")
        failure = ""
        sizes: list[str] = []
        fixed: list[str] = []
        try:
            prover.compare(quick)
            if not quick and all(one.holds for one in prover.measures):
                sizes, fixed = prover.lengths()
        except Exception as error:  # the generated code may raise anything
            failure = f"failed with {why(error)}"
        proof = Proof(
            theirs.name,
            tuple(prover.measures),
            failure,
            tuple(prover.notes),
            tuple(sizes),
            tuple(fixed),
        )
        if proof.verdict == "exact":
            return proof
        failure = failure or _described(proof.worst)
        divergence = _first_difference(model, torch_module, given, orders)
    return dataclasses.replace(proof, failure=f"{failure}{divergence}")


def _frozen(module: Any, known: Collection[str]) -> set[str]:
    """Returns the names of the parameters that do not require gradients, if others do."""
    named: dict[str, Any] = dict(module.named_parameters(remove_duplicate=False))
    if not any(p.requires_grad for p in named.values()):
        return set()
    newer = newer_names(module.state_dict(), known)
    return {newer.get(name, name) for name, p in named.items() if not p.requires_grad}


def _described(worst: Measure | None) -> str:
    """Describes the worst comparison in words."""
    if worst is None:
        return ""
    where = printable(worst.where)
    return f"{worst.what} of {worst.mode} mode differ by {worst.difference:.1e} at {where}"


def _first_difference(
    model: nnx.Module, module: Any, inputs: tuple[Any, ...], orders: Sequence[Order | None] | None
) -> str:
    """Describes the first layer that differs, if the networks can be run layer by layer."""
    order_of = iter(orders or [None] * len(inputs))

    def to_ours(array: np.ndarray) -> np.ndarray:
        order = next(order_of)
        return array if order is None else np.transpose(array, order)

    if not all(map(_is_tensor, inputs)):
        return ""
    try:
        with _precision(False), same_draws():
            trace = trace_difference(model, module, list(inputs), to_ours=to_ours)
    except Exception as error:  # the generated code may raise anything
        return f"; layer by layer: {why(error)}"
    return f"; {trace.divergence}" if trace.divergence else ""


@dataclass
class _Outcome:
    """The results of one network: arrays in PyTorch's layouts, by PyTorch's names."""

    outputs: Arrays
    gradients: Arrays
    buffers: Arrays


class _Theirs:
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
        kept = [x for one in module.modules() for x in vars(one).values() if _is_tensor(x)]
        if double and any(x.is_floating_point() for x in kept):
            raise TypeError("the network has tensors that are not buffers and stay float32")
        return module.double() if double else module

    def run(self, inputs: Sequence[Any], *, train: bool, double: bool) -> _Outcome:
        """Runs the forward and backward pass of a copy."""
        module = self.twin(double)
        return self._seen(module, self._backwards(module, inputs, train=train, double=double))

    def trained(
        self, inputs: Sequence[Any], steps: int, *, double: bool
    ) -> tuple[_Outcome, float, Arrays]:
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
        with _precision(double), same_draws(), _only(double):
            outputs = _leaves(module(*[_as_tensor(x, double) for x in inputs]))
            tensors = [x for x in outputs.values() if _is_tensor(x) and x.is_floating_point()]
            loss = sum((x * _pattern(x)).mean() for x in tensors if x.numel())
            if _is_tensor(loss) and loss.requires_grad:
                loss.backward()
        return outputs

    def _seen(self, module: Any, outputs: Mapping[str, Any]) -> _Outcome:
        """Returns the outputs, gradients and buffers of a copy after a backward pass."""
        parameters = self._parameters(module)
        gradients = {
            name: np.zeros(p.shape) if p.grad is None else _numpy(p.grad)
            for name, p in parameters.items()
        }
        held = module.state_dict().items()
        return _Outcome(
            {name: _numpy(x) for name, x in outputs.items()},
            self._renamed(gradients),
            self._renamed({name: _numpy(x) for name, x in held if name not in parameters}),
        )

    def _renamed(self, arrays: Arrays) -> Arrays:
        return {self._newer.get(name, name): array for name, array in arrays.items()}


class _Ours:
    """Runs the ported network, without dropout.

    Args:
        model: the ported network.
        orders: the orders of its inputs, see ``prove``.
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
    ) -> tuple[_Outcome, Arrays]:
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
            seen = _Outcome(
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
            fixed = {place: x for place, x in enumerate(inputs) if not _is_tensor(x)}
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


class _Prover:
    """Makes the comparisons of a network and its port.

    Args:
        ours: the port.
        theirs: PyTorch's network.
        inputs: the example inputs.
        steps: the number of training steps.
    """

    def __init__(self, ours: _Ours, theirs: _Theirs, inputs: tuple[Any, ...], steps: int) -> None:
        self._ours, self._theirs, self._inputs, self._steps = ours, theirs, inputs, steps
        self.measures: list[Measure] = []
        self.notes: list[str] = []

    def compare(self, quick: bool) -> None:
        """Makes all comparisons."""
        if ours := self._ours.take(self._theirs.computed):
            theirs = {name: self._theirs.computed[name] for name in ours}
            self._add("buffers", "computed", ours, theirs, train=False, double=False)
        other = self._other_batch()
        batches = {"as given": self._inputs} | ({} if other is None else {_label(other): other})
        double = self._runs(self._inputs, train=False, double=True)
        if not double:
            self.notes.append("the network does not compute in float64; float32 is compared")
        trained = {k: x for k, x in batches.items() if self._runs(x, train=True, double=double)}
        if not trained:
            self.notes.append("PyTorch does not run in training mode on these inputs")
        if not quick:
            for name, batch in trained.items():
                self._one(name, batch, train=True, double=False)
            for name, batch in batches.items():
                self._one(name, batch, train=False, double=False)
            self._explain_rounding(batches, double)
        elif batches:
            name, batch = list(batches.items())[-1]
            self._one(name, batch, train=False, double=double)
        for name, batch in list(trained.items())[:1]:
            self._train(name, batch, double, first=quick)
        if self._ours.eager:
            self.notes.append("control flow depends on array values, so jax.jit does not work")

    def lengths(self) -> tuple[list[str], list[str]]:
        """Tries other sizes of axes other than the batch.

        Returns:
            The shapes for which both networks agree, and those that only PyTorch accepts.
        """
        both: list[str] = []
        theirs_alone: list[str] = []
        for changed in _other_lengths(self._inputs):
            if not self._runs(changed, train=False, double=False):
                continue
            before = len(self.measures)
            try:
                self._one("", changed, train=False, double=False, backwards=False)
                equal = all(one.holds for one in self.measures[before:])
            except Exception:  # the generated code may raise anything
                equal = False
            del self.measures[before:]
            sizes = " and ".join(_shape(x) for x in changed if _is_tensor(x))
            (both if equal else theirs_alone).append(sizes)
        return both, theirs_alone

    def _other_batch(self) -> tuple[Any, ...] | None:
        """Returns the inputs with one more example, or None if PyTorch does not accept them."""
        for changed in _longer(self._inputs, 0):
            if self._runs(changed, train=False, double=False):
                return changed
        self.notes.append("PyTorch accepts no other batch size than that of the inputs")
        return None

    def _runs(self, inputs: tuple[Any, ...], *, train: bool, double: bool) -> bool:
        try:
            self._theirs.run(inputs, train=train, double=double)
        except Exception:  # PyTorch or the user's code may raise anything
            return False
        return True

    def _one(
        self,
        name: str,
        inputs: tuple[Any, ...],
        *,
        train: bool,
        double: bool,
        backwards: bool = True,
    ) -> None:
        """Compares outputs, optionally gradients and, in training mode, buffers."""
        mode: dict[str, Any] = {"train": train, "double": double}
        theirs = self._theirs.run(inputs, **mode)
        ours, _ = self._ours.run(inputs, theirs.outputs, backwards=backwards, **mode)
        self._add("outputs", name, ours.outputs, theirs.outputs, **mode)
        if backwards:
            self._measure(name, ours, theirs, **mode)

    def _measure(
        self, name: str, ours: _Outcome, theirs: _Outcome, *, train: bool, double: bool
    ) -> None:
        """Compares gradients and, in training mode, buffers."""
        if theirs.gradients:
            given = ours.gradients, theirs.gradients
            self._add("gradients", name, *given, train=train, double=double)
        if train and theirs.buffers:
            self._add("buffers", name, ours.buffers, theirs.buffers, train=train, double=double)

    def _add(
        self, what: str, name: str, ours: Arrays, theirs: Arrays, *, train: bool, double: bool
    ) -> None:
        whole = what in ("gradients", "weights")
        difference, where = _largest_difference(ours, theirs, whole=whole, extra=what != "buffers")
        dtype, mode = ("float64" if double else "float32"), ("train" if train else "eval")
        limit = TOLERANCES[what][double]
        self.measures.append(Measure(what, mode, name, dtype, difference, limit, where))

    def _explain_rounding(self, batches: Mapping[str, tuple[Any, ...]], double: bool) -> None:
        """Repeats comparisons that fail in float32 in float64, which replace them if they agree."""
        beyond = [one for one in self.measures if not one.holds] if double else []
        for mode, name in dict.fromkeys((one.mode, one.inputs) for one in beyond):
            before = len(self.measures)
            self._one(name, batches[name], train=mode == "train", double=True)
            exact = {one.what: one for one in self.measures[before:] if one.holds}
            del self.measures[before:]
            for place, one in enumerate(self.measures):
                if (one.mode, one.inputs) == (mode, name) and not one.holds and one.what in exact:
                    self.measures[place] = exact[one.what]
                    self.notes.append(
                        f"float32 rounds the {one.what} of {mode} mode by {one.difference:.0e}"
                    )

    def _train(self, name: str, inputs: tuple[Any, ...], double: bool, first: bool) -> None:
        """Compares the weights after gradient descent, and optionally the first step."""
        mode: dict[str, Any] = {"train": True, "double": double}
        theirs, rate, their_weights = self._theirs.trained(inputs, self._steps, double=double)
        training: dict[str, Any] = {"steps": self._steps, "rate": rate}
        ours, our_weights = self._ours.run(inputs, theirs.outputs, **mode, **training)
        if first:
            self._add("outputs", name, ours.outputs, theirs.outputs, **mode)
            self._measure(name, ours, theirs, **mode)
        weights = our_weights, their_weights
        self._add("weights", f"{name}, {self._steps} steps", *weights, **mode)


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


# Values and their layouts.


@contextlib.contextmanager
def _precision(double: bool) -> Iterator[None]:
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
        _precision(double),
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


def _is_tensor(value: Any) -> bool:
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
    if not _is_tensor(x):
        return x
    x = x.detach().clone()
    return (x.double() if double else x.float()) if x.is_floating_point() else x


def _as_ours(x: Any, order: Order | None, double: bool) -> Any:
    """Converts an input to a JAX array in the port's order; None for a value not a tensor."""
    if not _is_tensor(x):
        return None
    array = _numpy(_as_tensor(x, double))
    array = array if order is None else np.transpose(array, order)
    return jax.device_put(array.astype(jax.dtypes.canonicalize_dtype(array.dtype)))


def _numpy(x: Any) -> np.ndarray:
    """Copies a tensor or array to NumPy."""
    return np.array(x.detach().cpu().numpy() if _is_tensor(x) else x)


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


def _largest_difference(
    ours: Arrays, theirs: Arrays, *, whole: bool, extra: bool
) -> tuple[float, str]:
    """Returns the largest relative difference and the name of its array.

    Args:
        ours: the port's arrays by name.
        theirs: PyTorch's arrays by name.
        whole: whether differences are relative to the largest value of all arrays instead of the
            same array.
        extra: whether a name that only the port has counts as a difference.
    """
    names = [*theirs, *([name for name in ours if name not in theirs] if extra else [])]
    finite = [np.abs(x[np.isfinite(x)]).max(initial=0) for x in theirs.values()] if whole else []
    scale = max(map(float, finite), default=0.0) or 1.0
    found = {}
    for name in names:
        if name not in ours or name not in theirs:
            missing = "missing in JAX" if name in theirs else "missing in PyTorch"
            found[name] = math.inf, f"{name} ({missing})"
        elif ours[name].shape != theirs[name].shape:
            shapes = f"{list(ours[name].shape)} in JAX, {list(theirs[name].shape)} in PyTorch"
            found[name] = math.inf, f"{name} ({shapes})"
        else:
            absolute, relative = distance(ours[name], theirs[name])
            found[name] = absolute / scale if whole else relative, name
    return max(found.values(), default=(0.0, ""))


def _copied(module: Any) -> Any:
    """Copies PyTorch's network, without the gradient graphs of weights that each call recomputes.

    ``copy.deepcopy`` does not support tensors that have a gradient graph, and it leaves functions
    as they are, so those in attributes would read the layers of the original.
    """
    computed = [
        (each, name, value)
        for each in module.modules()
        for name, value in vars(each).items()
        if _is_tensor(value) and value.grad_fn is not None
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


# Inputs of other sizes.


def _longer(inputs: tuple[Any, ...], axis: int) -> Iterator[tuple[Any, ...]]:
    """Yields variants of the inputs in which an axis of the first tensor is longer by one.

    The other tensors are extended along the same axis if it has the same size, then along their
    first axis of that size, then along all axes of that size, then not at all.
    """
    tensors = [x for x in inputs if _is_tensor(x)]
    if not tensors or tensors[0].ndim <= axis:
        return
    size = tensors[0].shape[axis]

    def at_the_same(x: Any) -> int | None:
        return axis if x.ndim > axis and x.shape[axis] == size else None

    def at_the_first(x: Any) -> int | None:
        if x is tensors[0]:
            return axis
        return list(x.shape).index(size) if size in x.shape else None

    def at_all(x: Any) -> list[int]:
        return [place for place, other in enumerate(x.shape) if other == size]

    def alone(x: Any) -> int | None:
        return axis if x is tensors[0] else None

    for choose in (at_the_same, at_the_first, at_all, alone):
        yield tuple(_extended(x, choose(x)) if _is_tensor(x) else x for x in inputs)


def _extended(x: Any, axes: Any) -> Any:
    """Prepends one element along some axes: the first one, or -0.7 times it for floats."""
    import torch

    for axis in axes if isinstance(axes, list) else [axes]:
        if axis is not None:
            first = x.narrow(axis, 0, 1)
            first = -0.7 * first if x.is_floating_point() else first
            x = torch.cat([first, x], axis)
    return x


def _other_lengths(inputs: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yields the inputs with another size along one axis other than the batch.

    Axes of images are extended by half, axes of other arrays by one.
    """
    first = next((x for x in inputs if _is_tensor(x)), None)
    if first is None:
        return
    for axis in range(1, first.ndim):
        more = max(1, first.shape[axis] // 2) if first.ndim >= 4 else 1
        for changed in itertools.islice(_longer(inputs, axis), 1):
            for _ in range(more - 1):
                changed = next(_longer(changed, axis))
            yield changed


def _label(inputs: tuple[Any, ...]) -> str:
    first = next(x for x in inputs if _is_tensor(x))
    return f"batch {first.shape[0]}"


def _shape(x: Any) -> str:
    return "x".join(map(str, x.shape))
