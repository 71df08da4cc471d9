"""What a recipe does to its inputs before the network sees them."""

from collections.abc import Callable

from jaxnets.arrays import InputError, check_positive, shown
from jaxnets.data import (
    AfterTransform,
    AmplitudeToDB,
    Augmentation,
    ColorJitter,
    Compose,
    CutMix,
    Dataset,
    FrameCounts,
    ImageRows,
    MelSpectrogram,
    Mixup,
    Normalize,
    OnColumn,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomRotation,
    SpecAugment,
    ToFloat,
    Transform,
)
from jaxnets.recipes.recipe import Recipe, check_recipe

AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Compose(),
    "shift": RandomCrop(28, padding=2),
    "crop-flip": Compose(RandomCrop(32, padding=4), RandomHorizontalFlip()),
    "flip": RandomHorizontalFlip(),
    "rotate": RandomRotation(10, "bilinear"),
    "affine": RandomAffine(10, (0.1, 0.1), (0.9, 1.1), interpolation="bilinear"),
    "jitter": ColorJitter(0.2, 0.2, 0.2, 0.05),
    "erase": RandomErasing(),
    "mixup": Compose(ToFloat(), Mixup(0.2, 10)),
    "cutmix": CutMix(1.0, 10),
    "spec-augment": AfterTransform(SpecAugment(2, 10, 2, 5)),
}
"""The augmentations by name.

Those that mix labels are for ten classes here; ``build_augmentation`` builds them for another
number.
"""


#: The augmentations that depend on the number of classes.
_OF_CLASSES: dict[str, Callable[[int], Augmentation]] = {
    "mixup": lambda classes: Compose(ToFloat(), Mixup(0.2, classes)),
    "cutmix": lambda classes: CutMix(1.0, classes),
}


def build_transform(recipe: Recipe) -> Transform:
    """Returns the transform of the recipe's inputs.

    Args:
        recipe: ``layout`` and ``normalize`` determine the transform.

    Raises:
        ValueError: if the layout is unknown, or ``normalize`` is given for tokens.
    """
    check_recipe(recipe)
    if recipe.layout in ("tokens", "columns"):
        if recipe.normalize is not None:
            expected = f"None, as {recipe.layout} are no quantities"
            raise InputError("normalize", expected, recipe.normalize)
        return Compose()
    if recipe.layout == "log-mel":
        return _log_mel(recipe)
    steps: list[Transform] = [ToFloat()]
    if recipe.normalize is not None:
        steps.append(Normalize(*recipe.normalize))
    if recipe.layout not in ("images", "rows"):
        raise InputError(
            "layout", "'images', 'rows', 'tokens', 'log-mel' or 'columns'", recipe.layout
        )
    if recipe.layout == "rows":
        steps.append(ImageRows())
    return Compose(*steps)


_WINDOW, _HOP, _BANDS = 0.032, 0.016, 40  # seconds, seconds, bands
_RANGE = 80.0  # decibels


def _log_mel(recipe: Recipe) -> Transform:
    """Returns the transform of waveforms, or of waveforms with their lengths."""
    rate = recipe.data_options.get("sample_rate")
    if rate is None:
        raise InputError("data_options", "a sample_rate, as the layout is 'log-mel'", "none")
    check_positive("sample_rate", rate)
    size, hop = max(round(_WINDOW * rate), 1), max(round(_HOP * rate), 1)
    mel = MelSpectrogram(rate, n_fft=size, hop_length=hop, n_mels=_BANDS)
    steps: list[Transform] = [mel, AmplitudeToDB(top_db=_RANGE)]
    if recipe.normalize is not None:
        steps.append(Normalize(*recipe.normalize))
    if not recipe.data_options.get("lengths"):
        return Compose(*steps)
    return Compose(OnColumn("sound", Compose(*steps)), OnColumn("lengths", FrameCounts(size, hop)))


def build_augmentation(recipe: Recipe, data: Dataset | None = None) -> Augmentation | None:
    """Returns the augmentation of the recipe's images.

    Args:
        recipe: ``augment`` names the augmentations.
        data: determines the number of classes for augmentations that mix labels; None for ten.

    Raises:
        ValueError: if a name is unknown.
    """
    check_recipe(recipe, data)
    if recipe.augment is None:
        return None
    names = [recipe.augment] if isinstance(recipe.augment, str) else recipe.augment
    for name in names:
        if name not in AUGMENTATIONS:
            raise InputError("augment", f"one of {', '.join(AUGMENTATIONS)}", shown(name))
    return Compose(*(_augmentation(name, data) for name in names))


def _augmentation(name: str, data: Dataset | None) -> Augmentation:
    classes = None if data is None else num_classes(data)
    if classes is None or name not in _OF_CLASSES:
        return AUGMENTATIONS[name]
    return _OF_CLASSES[name](classes)


def num_classes(data: Dataset) -> int | None:
    """Returns the number of classes, or None for values and for streamed labels."""
    try:
        return data.num_classes
    except InputError:  # streamed labels are only read along with their examples
        return None


def mixes_labels(recipe: Recipe) -> bool:
    """Whether augmentation turns class numbers into probabilities."""
    names = [recipe.augment] if isinstance(recipe.augment, str) else recipe.augment or ()
    return not {"mixup", "cutmix"}.isdisjoint(names)
