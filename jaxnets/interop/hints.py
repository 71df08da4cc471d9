"""What to do about weights that do not fit."""

from collections.abc import Collection

from flax import nnx

from jaxnets.interop.entries import plain_arrays

#: What names have for a part where PyTorch computes a weight from others, and what undoes it.
_COMPUTED = {
    "parametrizations": "torch.nn.utils.parametrize.remove_parametrizations",
    "weight_g": "torch.nn.utils.remove_weight_norm",
    "weight_v": "torch.nn.utils.remove_weight_norm",
    "weight_orig": "torch.nn.utils.remove_spectral_norm or prune.remove",
}


def hints(model: nnx.Module, unexpected: Collection[str]) -> tuple[str, ...]:
    """The next steps for names that a model has no place for.

    Args:
        model: the model.
        unexpected: PyTorch's names.
    """
    found = []
    for name, path in plain_arrays(model).items():
        if name in unexpected:
            found.append(f"the model has `{path}` as a plain array: make it an nnx.Variable")
    for sign, remedy in _COMPUTED.items():
        if any(sign in name.split(".") for name in unexpected):
            found.append(f"a weight is computed from others: use {remedy} first, in PyTorch")
    if unexpected:
        first = next(iter(unexpected))
        found.append(f"to leave arrays out: rename={{{first!r}: None}}, or strict=False")
    return tuple(dict.fromkeys(found))
