"""Transforms of a batch of inputs, which run inside the compiled step. Images are [B, H, W, C].

Each transform is a frozen, hashable object that is called on a batch. Two transforms with the same
settings are equal, so a transform can be a static argument of ``jax.jit`` without recompilation.
Random transforms also take a key, and draw different numbers for each image of the batch.
"""

from jaxnets.data.transforms.affine import Affine, RandomAffine, RandomRotation, Rotate
from jaxnets.data.transforms.color import (
    ColorJitter,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
)
from jaxnets.data.transforms.compose import (
    AfterTransform,
    Compose,
    OnColumn,
    augment,
    is_random,
)
from jaxnets.data.transforms.cropping import RandomCrop, RandomHorizontalFlip
from jaxnets.data.transforms.erasing import RandomErasing
from jaxnets.data.transforms.geometry import CenterCrop, ImageRows, Pad, Resize
from jaxnets.data.transforms.masking import SpecAugment
from jaxnets.data.transforms.mixing import CutMix, Mixup, OneHot
from jaxnets.data.transforms.pixels import Normalize, ToFloat
from jaxnets.data.transforms.spectrograms import (
    MFCC,
    AmplitudeToDB,
    FrameCounts,
    MelScale,
    MelSpectrogram,
    Spectrogram,
)
from jaxnets.data.transforms.transform import (
    Augmentation,
    PairTransform,
    RandomTransform,
    Transform,
    check_transforms,
)

__all__ = [
    "MFCC",
    "Affine",
    "AfterTransform",
    "AmplitudeToDB",
    "Augmentation",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "CutMix",
    "FrameCounts",
    "ImageRows",
    "MelScale",
    "MelSpectrogram",
    "Mixup",
    "Normalize",
    "OnColumn",
    "OneHot",
    "Pad",
    "PairTransform",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomTransform",
    "Resize",
    "Rotate",
    "SpecAugment",
    "Spectrogram",
    "ToFloat",
    "Transform",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "augment",
    "check_transforms",
    "is_random",
]
