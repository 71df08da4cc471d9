"""Conversion of transforms to JSON values and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxnets.arrays import ArrayLike, InputError
from jaxnets.data.transforms.affine import Affine, Rotate
from jaxnets.data.transforms.compose import Compose, OnColumn
from jaxnets.data.transforms.geometry import CenterCrop, ImageRows, Pad, Resize
from jaxnets.data.transforms.pixels import Normalize, ToFloat
from jaxnets.data.transforms.spectrograms import (
    MFCC,
    AmplitudeToDB,
    FrameCounts,
    MelScale,
    MelSpectrogram,
    Spectrogram,
)
from jaxnets.data.transforms.transform import Augmentation, Transform

_KNOWN: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(Affine, CenterCrop, ImageRows, Normalize, Pad, Resize, Rotate, ToFloat),
        *(MFCC, AmplitudeToDB, FrameCounts, MelScale, MelSpectrogram, Spectrogram),
    )
}


@dataclasses.dataclass(frozen=True)
class UnknownTransform:
    """A placeholder for a user-defined transform, of which only the name was saved.

    Args:
        name: name of the transform.
    """

    name: str

    def __call__(self, x: ArrayLike) -> Any:
        """Raises an error, because the transform is unknown.

        Raises:
            InputError: always.
        """
        expected = f"load(…, transform=…) with the function {self.name} of the saved run"
        raise InputError("transform", expected, "none")


def describe_transform(transform: Augmentation | None) -> Any:
    """Converts a transform to a JSON value: a list of steps; None for None.

    Only the name is saved of a random transform, or one that is not of this package.
    """
    if transform is None:
        return None
    steps = transform.transforms if isinstance(transform, Compose) else (transform,)
    return [_step(step) for step in steps]


def _step(step: Any) -> dict[str, Any]:
    if isinstance(step, OnColumn):
        steps = describe_transform(step.transform)
        return {"name": "OnColumn", "column": step.column, "steps": steps}
    if isinstance(step, Compose):
        return {"name": "Compose", "steps": describe_transform(step)}
    name = getattr(step, "__name__", type(step).__name__)
    if type(step) is not _KNOWN.get(name):
        return {"unknown": step.name if isinstance(step, UnknownTransform) else name}
    return {"name": name, **{key: _plain(value) for key, value in _arguments(step).items()}}


def _arguments(step: Any) -> dict[str, Any]:
    if isinstance(step, Rotate):
        kept = step.affine
        return {"angle": step.angle, "interpolation": kept.interpolation, "fill": kept.fill}
    if isinstance(step, MFCC):
        options = dataclasses.asdict(step.mel)
        own = {name: getattr(step, name) for name in ("n_mfcc", "norm", "log_mels")}
        return {"sample_rate": options.pop("sample_rate"), **own, "melkwargs": options}
    return {field.name: getattr(step, field.name) for field in dataclasses.fields(step)}


def _plain(value: Any) -> Any:
    return (
        value if isinstance(value, int | float | str | tuple | list | dict | None) else str(value)
    )


def make_transform(described: Any) -> Transform | None:
    """Makes a transform from what ``describe_transform`` returned.

    Raises:
        InputError: if the value has another form, or an argument is invalid.
    """
    if described is None:
        return None
    expected = "a list of steps, each with its name"
    if not isinstance(described, list) or not all(isinstance(step, Mapping) for step in described):
        raise InputError("transform", expected, described)
    return Compose(*map(_made, described))


def _made(step: Mapping[str, Any]) -> Any:
    if "unknown" in step:
        return UnknownTransform(str(step["unknown"]))
    name, given = (
        str(step.get("name")),
        {key: value for key, value in step.items() if key != "name"},
    )
    try:
        if name == "OnColumn":
            inner: Any = make_transform(given["steps"])
            return OnColumn(given["column"], inner)
        return make_transform(given["steps"]) if name == "Compose" else _KNOWN[name](**given)
    except (KeyError, TypeError) as error:
        raise InputError("transform", f"one of {', '.join(_KNOWN)}", name) from error
