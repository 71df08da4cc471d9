"""Suggestions for weights that do not fit a model."""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping

from flax import nnx

from jaxnets.interop.entries import plain_arrays

_QUANTIZED = "the weights are quantized: save the state_dict() of the network before that"
_MERGED = "use model.merge_and_unload() first, in PEFT, and save the result"
#: Name parts that show that a file has no plain weights, with the suggestion.
_SIGNS = {
    "_packed_params": "the weights are quantized: save the state_dict() of the network "
    "before torch.ao.quantization.convert",
    **dict.fromkeys(("qweight", "quant_state", "SCB"), _QUANTIZED),
    **dict.fromkeys(("lora_A", "lora_B", "base_layer"), f"the weights are an adapter's: {_MERGED}"),
}
#: Name endings of the parts from which PyTorch computes a weight, with the function that removes
#: the computation.
_COMPUTED = {
    "_u": "torch.nn.utils.remove_spectral_norm",
    "_mask": "torch.nn.utils.prune.remove",
    "_g": "torch.nn.utils.remove_weight_norm",
    "_v": "torch.nn.utils.remove_weight_norm",
    "_orig": "torch.nn.utils.remove_spectral_norm or prune.remove",
}
_PARAMETRIZED = re.compile(r"(?:.*\.)?parametrizations\.([^.]+)\..*")
_COUNT = "num_batches_tracked"
_MOST_TRIED = 1000  # pairs of prefixes that are tried; a file may have any number of names


def hints(
    model: nnx.Module,
    missing: Mapping[str, str],
    unexpected: Mapping[str, str],
    mismatched: Collection[str] = (),
    aside: Collection[str] = (),
) -> tuple[str, ...]:
    """Returns suggestions for arrays that do not fit a model.

    Args:
        model: the model.
        missing: PyTorch's names of the weights that the source lacks, with their shapes.
        unexpected: the names that the model lacks, with their shapes.
        mismatched: the names of arrays that do not fit.
        aside: the names of entries that are not weights.
    """
    found = []
    for name, path in plain_arrays(model).items():
        if name in unexpected:
            found.append(f"the model has `{path}` as a plain array: make it an nnx.Variable")
    found += _no_plain_weights([*unexpected, *(aside if missing else ())])
    found += _other_first_part(missing, unexpected)
    if any(name.endswith(_COUNT) for name in mismatched):
        found.append(f"the counts of batches may be absent: rename={{'*{_COUNT}': None}}")
    if unexpected:
        first = next(iter(unexpected))
        found.append(f"to leave arrays out: rename={{{first!r}: None}}, or strict=False")
    return tuple(dict.fromkeys(found))


def _no_plain_weights(names: Collection[str]) -> Iterator[str]:
    """Yields at most one suggestion if the names show that the file has no plain weights."""
    parts = {part for name in names for part in name.split(".")}
    for found in filter(None, map(_PARAMETRIZED.fullmatch, names)):
        yield _undone("torch.nn.utils.parametrize.remove_parametrizations", found[1])
        return
    for sign, hint in _SIGNS.items():
        if sign in parts:
            yield hint
            return
    for ending, remedy in _COMPUTED.items():
        for part in sorted(parts):
            if part.startswith(("weight", "bias")) and part.endswith(ending):
                yield _undone(remedy, part.removesuffix(ending))
                return


def _undone(remedy: str, name: str) -> str:
    line = f"{remedy.rpartition('.')[2]}(layer, {name!r})"
    return f"a weight is computed from others: use {remedy} first, in PyTorch: {line}"


def _other_first_part(missing: Mapping[str, str], unexpected: Mapping[str, str]) -> list[str]:
    """Suggests the rename of a prefix that finds most of the missing names, if there is one."""
    step = max(1, len(missing) // 4)
    pairs = dict.fromkeys(
        pair
        for ours, shape in itertools.islice(missing.items(), 0, None, step)
        for theirs, other in unexpected.items()
        if _size(other) == _size(shape)
        for pair in _first_parts(theirs, ours)
    )
    counts = {
        pair: _brought(pair, missing, unexpected) for pair in itertools.islice(pairs, _MOST_TRIED)
    }
    (theirs, ours), most = max(counts.items(), key=lambda item: item[1], default=(("", ""), 0))
    if 2 * most <= len(missing):
        return []
    what = "all" if most == len(missing) else f"{most} of {len(missing)}"
    return [f"{what} that are missing have other names: rename={{{theirs!r}: {ours!r}}}"]


def _size(described: str) -> str:
    return described[described.find("[") :]


def _first_parts(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    """Yields pairs of prefixes in which two names differ, from the shortest to the longest."""
    one, other = theirs.split("."), ours.split(".")
    shared = 0
    while shared < min(len(one), len(other)) and one[-1 - shared] == other[-1 - shared]:
        shared += 1
    for count in range(shared, 0, -1):
        yield ".".join(one[:-count]), ".".join(other[:-count])


def _brought(
    pair: tuple[str, str], missing: Mapping[str, str], unexpected: Mapping[str, str]
) -> int:
    """Counts the missing names that a rename of a prefix would find with the right shape."""
    theirs, ours = (f"{part}." if part else "" for part in pair)
    return sum(
        name.startswith(ours)
        and _size(unexpected.get(theirs + name[len(ours) :], "")) == _size(shape)
        for name, shape in missing.items()
    )
