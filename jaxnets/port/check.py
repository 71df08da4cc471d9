"""Compares a PyTorch network with its port: outputs, gradients, buffers and trained weights.

Both networks use the same random numbers (see ``draws``). If PyTorch can run the network in
float64, both networks compute in float64, so that differences are not caused by rounding.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, called, check_integer, printable
from jaxnets.interop import to_numpy, trace_difference
from jaxnets.interop.computed import newer_names
from jaxnets.interop.differences import distance
from jaxnets.networks import why
from jaxnets.port.compilers import eager
from jaxnets.port.draws import same_draws
from jaxnets.port.other_inputs import label, longer, other_lengths, shape
from jaxnets.port.proof import TOLERANCES, Measure, Proof
from jaxnets.port.sides import Arrays, Order, Ours, Outcome, Theirs, is_tensor, precision

if TYPE_CHECKING:
    import torch


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
    ours = Ours(model, [None] * len(given) if orders is None else list(orders), frozen)
    theirs = Theirs(torch_module, known, ours.trained)
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

    if not all(map(is_tensor, inputs)):
        return ""
    try:
        with precision(False), same_draws():
            trace = trace_difference(model, module, list(inputs), to_ours=to_ours)
    except Exception as error:  # the generated code may raise anything
        return f"; layer by layer: {why(error)}"
    return f"; {trace.divergence}" if trace.divergence else ""


class _Prover:
    """Makes the comparisons of a network and its port.

    Args:
        ours: the port.
        theirs: PyTorch's network.
        inputs: the example inputs.
        steps: the number of training steps.
    """

    def __init__(self, ours: Ours, theirs: Theirs, inputs: tuple[Any, ...], steps: int) -> None:
        self._ours, self._theirs, self._inputs, self._steps = ours, theirs, inputs, steps
        self.measures: list[Measure] = []
        self.notes: list[str] = []

    def compare(self, quick: bool) -> None:
        """Makes all comparisons."""
        if ours := self._ours.take(self._theirs.computed):
            theirs = {name: self._theirs.computed[name] for name in ours}
            self._add("buffers", "computed", ours, theirs, train=False, double=False)
        other = self._other_batch()
        batches = {"as given": self._inputs} | ({} if other is None else {label(other): other})
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
        for changed in other_lengths(self._inputs):
            if not self._runs(changed, train=False, double=False):
                continue
            before = len(self.measures)
            try:
                self._one("", changed, train=False, double=False, backwards=False)
                equal = all(one.holds for one in self.measures[before:])
            except Exception:  # the generated code may raise anything
                equal = False
            del self.measures[before:]
            sizes = " and ".join(shape(x) for x in changed if is_tensor(x))
            (both if equal else theirs_alone).append(sizes)
        return both, theirs_alone

    def _other_batch(self) -> tuple[Any, ...] | None:
        """Returns the inputs with one more example, or None if PyTorch does not accept them."""
        for changed in longer(self._inputs, 0):
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
        self, name: str, ours: Outcome, theirs: Outcome, *, train: bool, double: bool
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
