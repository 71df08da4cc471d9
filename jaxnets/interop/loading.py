"""Loads PyTorch's weights into a model."""

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
        source: see ``load_torch``.
        rename: see ``load_torch``.

    Returns:
        Tensors or NumPy arrays by name, and the removed wrappers.

    Raises:
        InputError: if the source has no state_dict, or the file cannot be read safely.
        ImportError: if the package that reads the file is not installed.
    """
    return unwrap(*_open(source), rename=rename)


def load_torch(
    model: nnx.Module, source: Source, *, strict: bool = True, rename: Rename | None = None
) -> Report:
    """Loads PyTorch's weights into a model of the same architecture.

    The model may be any network of jaxnets and Flax layers whose attributes have PyTorch's names.
    Every parameter and running statistic is set exactly once. After an error the model is
    unchanged. Only weights are loaded, not settings: the default epsilon of ``nnx.LayerNorm`` is
    1e-6, PyTorch's is 1e-5.

    Wrappers of the weights are recognized and removed: a mapping within a checkpoint (``{"epoch":
    3, "state_dict": …}``), the ``module.`` of DataParallel, the ``_orig_mod.`` of
    ``torch.compile``, and a prefix that the model lacks, such as ``model.``, even if a few names
    such as ``loss_fn.weight`` lack the prefix. If several prefixes fit equally well,
    ``rename={"online_model": None}`` drops one. AveragedModel's ``n_averaged`` is ignored.

    Floating-point arrays are converted to the dtypes of the model. ``num_batches_tracked`` may be
    missing, or a whole number of any dtype. Weights that ``weight_norm`` or pruning has split are
    computed from their parts. Flax's recurrent cells have one bias where PyTorch has two; the bias
    is their sum. A user-defined parameter has the same name and layout in PyTorch. For a
    user-defined layer with another layout, add a rule to ``jaxnets.interop.table.RULES``.

    A state_dict contains a tied weight under both names. The model needs both names as well::

        self.wte = layers.Embedding(vocabulary, features, rngs=rngs)
        self.lm_head = TiedHead(self.wte)  # a module with self.weight = wte.embedding

    A buffer, such as a mask, is loaded into an ``nnx.Variable`` of the same name:
    ``self.bias = nnx.Variable(mask)``.

    Args:
        model: the model, whose weights are set in place.
        source: a state_dict of tensors or NumPy arrays, or the path of a file. The format is
            recognized by the content: ``torch.save`` or ``pickle.dump`` (read with
            ``weights_only``, which runs no code), safetensors, ``numpy.savez``, or the
            ``.index.json`` of a checkpoint in several files.
        strict: whether every weight must be set and every array used. If False, all arrays that
            fit are loaded and the report lists the others; it is an error if no array fits.
        rename: a mapping from names, or their first parts, to new names, or to None for arrays to
            drop: ``{"features.0": "conv1", "*.attn.bias": None}``, with the wildcards ``*``, ``?``
            and ``[…]``; or a function from a name to a new name or None. The keys of a mapping may
            include wrappers; a function gets names without wrappers.

    Returns:
        The report of loaded, converted and ignored arrays; ``print`` shows it.

    Raises:
        WeightsError: a ``ValueError`` that lists all arrays that are missing, unexpected or do
            not fit; its attribute ``report`` has the report.
        InputError: a ``ValueError``: the source has no readable state_dict, a key of ``rename``
            matches nothing, or a layer has no counterpart in PyTorch.
        ImportError: if the package that reads the file is not installed.

    Examples:
        >>> from jaxnets.layers import Linear
        >>> layer = Linear(2, 3, rngs=nnx.Rngs(0))
        >>> weights = {"module.weight": np.ones((3, 2)), "module.bias": np.zeros(3)}
        >>> print(load_torch(layer, weights))
        2 arrays of state_dict loaded into Linear
          unwrapped: module.
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
    """Returns the content of a source and its name for messages."""
    if isinstance(source, str | os.PathLike):
        return files.read(Path(source)), str(source)
    return source, "state_dict"


@dataclass
class _Plan:
    """The planned new values of a model's weights, so that an error leaves the model unchanged."""

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
        """Plans the values of one entry, or records why it cannot be filled."""
        absent = [name for name in entry.theirs if name not in self.arrays]
        if absent and entry.link.optional:
            self.kept += absent if entry.ours else []
        elif absent:
            self._lacking.append(entry)
        elif not entry.ours:  # an array without a counterpart in Flax, such as a batch count
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
        """Reads the arrays of an entry; returns None if one has a wrong shape or dtype."""
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
        """Plans the value of a variable; a tied variable must get the same value every time."""
        names = ", ".join(entry.theirs)
        _, known, other = self._values.setdefault(id(variable), (variable, value, names))
        if known.tobytes() != value.tobytes():
            raise ValueError(f"differs from {other}, to which the model ties it")

    def missing(self) -> dict[str, str]:
        """Returns the missing names, except for tied weights that are set by another name."""
        return {
            name: describe(array)
            for entry in self._lacking
            if not all(id(variable) in self._values for variable in entry.variables)
            for name, array in entry.template().items()
            if name not in self.arrays
        }

    def carry_out(self) -> None:
        """Sets the weights after all arrays are on their devices, so that a failure sets none."""
        placed = [
            (variable, jax.device_put(value, getattr(variable.get_value(), "sharding", None)))
            for variable, value, _ in self._values.values()
        ]
        for variable, value in placed:
            variable.set_value(value)
