"""PyTorch's weights into a model."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import check_bool, describe
from jaxnets.interop import files
from jaxnets.interop.conversion import as_count, check_kind, converted, described, to_numpy
from jaxnets.interop.entries import Entry, entries
from jaxnets.interop.hints import hints
from jaxnets.interop.naming import Rename
from jaxnets.interop.report import Report, WeightsError
from jaxnets.interop.unwrapping import StateDict, unwrap

#: A state_dict, a checkpoint around one, or the path of a file with either.
Source = Mapping[str, Any] | str | os.PathLike[str]


def read_torch(source: Source, *, rename: Rename | None = None) -> StateDict:
    """Reads the arrays of a checkpoint without a model.

    Args:
        source: as of ``load_torch``.
        rename: as of ``load_torch``.

    Returns:
        Tensors or NumPy arrays by name, and what was taken off from around them.

    Raises:
        InputError: if there is no state_dict in it, or the file is not one that can be trusted.
    """
    return unwrap(*_open(source), rename=rename)


def load_torch(
    model: nnx.Module, source: Source, *, strict: bool = True, rename: Rename | None = None
) -> Report:
    """Fills a model with the weights of its PyTorch twin.

    The model may be any network of jaxnets' and Flax's layers whose attributes bear PyTorch's
    names. Each parameter and each running statistic is filled exactly once; if anything is wrong,
    the model stays as it is. Weights alone carry over, not settings: ``nnx.LayerNorm`` has an
    epsilon of 1e-6 by default where PyTorch has 1e-5.

    What wraps the weights is recognised and taken off: a mapping within a checkpoint (``{"epoch":
    3, "state_dict": …}``), the ``module.`` of DataParallel, the ``_orig_mod.`` of
    ``torch.compile``, and a first part that the model lacks (``model.``, where a few others such
    as ``loss_fn.weight`` may lack it). Where several would do, ``rename={"online_model": None}``
    decides. AveragedModel's ``n_averaged`` is left aside. Floating-point arrays are converted to
    the dtypes of the model. ``num_batches_tracked`` may be absent, or a whole number of any dtype.
    Weights that ``weight_norm`` or pruning has split are computed from their parts. Flax's
    recurrent cells have one bias where PyTorch has two: they get the sum. A parameter of your own
    has PyTorch's name and layout; a layer of your own that differs gets a row in
    ``jaxnets.interop.table.RULES``.

    A weight that PyTorch ties to another comes under both names; name it twice as well::

        self.wte = layers.Embedding(vocabulary, features, rngs=rngs)
        self.lm_head = TiedHead(self.wte)  # a module with self.weight = wte.embedding

    A buffer of PyTorch's, such as a mask, needs a variable to go to:
    ``self.bias = nnx.Variable(mask)``.

    Args:
        model: filled in place.
        source: a state_dict of tensors or NumPy arrays, or the path of a file, which is known by
            its content: one of ``torch.save`` or ``pickle.dump`` (read by ``weights_only``, which
            runs no code), of safetensors or of ``numpy.savez``; or the ``.index.json`` of a
            checkpoint in several files.
        strict: whether every weight must be filled and every array used. If not, what fits is
            filled, and the report says the rest; nothing at all is an error.
        rename: from names, or their first parts, to others, or to None for arrays to be dropped:
            ``{"features.0": "conv1", "*.attn.bias": None}``, where ``*``, ``?`` and ``[…]`` stand
            for any characters; or a function from a name to another or None. Names may be given
            with or without their wrapping; a function sees them without.

    Returns:
        What was loaded, converted and taken off; ``print`` shows it.

    Raises:
        WeightsError: a ``ValueError`` that names all arrays that are missing, unexpected or do
            not fit, and holds the report.
        InputError: a ``ValueError``: the source is not one of the above, ``rename`` matches
            nothing, or a layer has no counterpart in PyTorch.
        ImportError: the package that reads the file is not installed.

    Examples:
        >>> from jaxnets.layers import Linear
        >>> layer = Linear(2, 3, rngs=nnx.Rngs(0))
        >>> weights = {"module.weight": np.ones((3, 2)), "module.bias": np.zeros(3)}
        >>> print(load_torch(layer, weights))
        2 arrays of state_dict loaded into Linear
          taken off: module.
          float64 to float32: weight, bias
    """
    check_bool("strict", strict)
    tree, origin = _open(source)
    weights = entries(model)
    known = {name for entry in weights for name in entry.theirs}
    state = unwrap(tree, origin, known, rename)
    plan = _Plan(state.arrays, state.computed)
    for entry in weights:
        plan.add(entry)
    unexpected = {k: described(v) for k, v in state.arrays.items() if k not in known}
    missing = plan.missing()
    report = Report(
        origin,
        type(model).__name__,
        loaded=tuple(plan.loaded),
        kept=tuple(plan.kept),
        missing=missing,
        unexpected=unexpected,
        mismatched=plan.mismatched,
        conversions=plan.conversions,
        wrapping=state.wrapping,
        aside=(*state.aside, *plan.aside),
        hints=hints(model, missing, unexpected, plan.mismatched, state.aside),
    )
    if report.faults and (strict or not report.loaded):
        raise WeightsError(report)
    plan.carry_out()
    return report


def _open(source: Source) -> tuple[Any, str]:
    """What a source holds, and what to call it."""
    if isinstance(source, str | os.PathLike):
        return files.read(Path(source)), str(source)
    return source, "state_dict"


@dataclass
class _Plan:
    """What each weight of a model is to become; nothing is changed before all is known."""

    arrays: Mapping[str, Any]
    computed: Mapping[str, str]
    loaded: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    mismatched: dict[str, str] = field(default_factory=dict)
    conversions: dict[str, str] = field(default_factory=dict)
    _lacking: list[Entry] = field(default_factory=list)
    _values: dict[int, tuple[nnx.Variable, np.ndarray, str]] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Plans one entry, or notes why it cannot be filled."""
        absent = [name for name in entry.theirs if name not in self.arrays]
        if absent and entry.link.optional:
            self.kept += absent if entry.ours else []
        elif absent:
            self._lacking.append(entry)
        elif not entry.ours:  # a count, say, that PyTorch keeps and Flax does not
            self.aside += entry.theirs
        elif (arrays := self._read(entry)) is not None:
            try:
                values = entry.link.to_jax(*arrays)
                for variable, value in zip(entry.variables, values, strict=True):
                    self._set(variable, converted(value, variable.dtype), entry)
            except ValueError as error:
                self.mismatched[", ".join(entry.theirs)] = str(error)
            else:
                self.loaded += entry.theirs

    def _read(self, entry: Entry) -> list[np.ndarray] | None:
        """The arrays of an entry, or None if one is of a wrong shape or kind."""
        arrays = []
        for name, expected in entry.template().items():
            try:
                theirs = to_numpy(self.arrays[name])
                count = expected.shape == () and np.issubdtype(expected.dtype, np.integer)
                array = as_count(theirs) if count else theirs
                if array.shape != expected.shape:
                    wanted = f"{describe(expected)} (for {entry.own_shapes()})"
                    raise ValueError(f"is {describe(array)}, not {wanted}")
                check_kind(array.dtype, expected.dtype)
            except ValueError as error:
                self.mismatched[name] = str(error)
                continue
            arrays.append(array)
            changes = [f"from {self.computed[name]}"] if name in self.computed else []
            changes += [entry.link.note] if entry.link.note else []
            if theirs.dtype != expected.dtype:
                changes.append(f"{theirs.dtype} to {expected.dtype}")
            if changes:
                self.conversions[name] = ", ".join(changes)
        return arrays if len(arrays) == len(entry.theirs) else None

    def _set(self, variable: nnx.Variable, value: np.ndarray, entry: Entry) -> None:
        names = ", ".join(entry.theirs)
        _, known, other = self._values.setdefault(id(variable), (variable, value, names))
        if known.tobytes() != value.tobytes():
            raise ValueError(f"differs from {other}, to which the model ties it")

    def missing(self) -> dict[str, str]:
        """The absent names, but those of weights that came under another name."""
        return {
            name: describe(array)
            for entry in self._lacking
            if not all(id(variable) in self._values for variable in entry.variables)
            for name, array in entry.template().items()
            if name not in self.arrays
        }

    def carry_out(self) -> None:
        """Fills the model; all arrays are on their devices before the first is put in."""
        placed = [
            (variable, jax.device_put(value, getattr(variable.get_value(), "sharding", None)))
            for variable, value, _ in self._values.values()
        ]
        for variable, value in placed:
            variable.set_value(value)
