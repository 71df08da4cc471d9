"""The sizes of a network that follow from its data."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax

from jaxnets.arrays import InputError, describe
from jaxnets.data import Dataset, RatingsDataset
from jaxnets.data.spec import single
from jaxnets.data.text import TextDataset
from jaxnets.networks import OwnNetwork
from jaxnets.recipes.detection import of_boxes
from jaxnets.recipes.inputs import build_transform, num_classes
from jaxnets.recipes.ratings import of_ratings
from jaxnets.recipes.recipe import Recipe, check_recipe
from jaxnets.recipes.table import RECIPES

#: Losses that measure a distance between values.
LOSSES_OF_VALUES = ("huber", "l1", "mse", "smooth-l1")
_LOSSES_OF_TWO_CLASSES = ("binary-cross-entropy", "binary-cross-entropy-with-logits")


def sized(recipe: Recipe, data: Dataset) -> Recipe:
    """Returns the recipe with every setting that depends on its data filled in.

    Settings that depend on the data are the network's input sizes (values, channels, pixels,
    tokens), its output size (classes, or values to predict), and a loss or layout that is
    ``"auto"``. Sizes that the user chose are kept. Sizes of a documented recipe are those of its
    documented data, and are replaced for other data. The schedules ``"cosine"`` and
    ``"onecycle"`` get the length of the whole training. A network of the user's own is built with
    its own arguments.

    Args:
        recipe: the recipe, complete or not.
        data: the training data.

    Raises:
        ValueError: if a network of this kind does not fit the data.
    """
    check_recipe(recipe, data)
    if data is None:
        raise InputError("data", "a Dataset", data)
    recipe = settled(recipe, data)
    options = dict(recipe.model_options)
    documented = RECIPES.get(recipe.name)
    usual = documented.model_options if documented and documented.model == recipe.model else {}
    own = isinstance(recipe.model, OwnNetwork)
    find = None if own else SIZES.get(str(recipe.model))
    found = {} if find is None else find(Ends(recipe, data))
    for name, size in found.items():
        said = options.get(name)
        if name == "features":
            options[name] = _features(said, usual.get(name), size)
        elif size is not None and (said is None or said == usual.get(name)):
            options[name] = size
    schedule = _lengths(recipe) | dict(recipe.scheduler_options)
    return dataclasses.replace(recipe, model_options=options, scheduler_options=schedule)


def settled(recipe: Recipe, data: Dataset) -> Recipe:
    """Returns the recipe with a loss and a layout that are not ``"auto"``."""
    loss, layout = recipe.loss, recipe.layout
    if loss == "auto":
        labels = single(f"labels of {data.name}", data.spec.labels)
        loss = "mse" if labels.dtype.kind == "f" else "cross-entropy"
    if layout == "auto":
        layout = "tokens" if isinstance(data, TextDataset) else "images"
        layout = "columns" if isinstance(data, RatingsDataset) else layout
    return dataclasses.replace(recipe, loss=loss, layout=layout)


def _lengths(recipe: Recipe) -> dict[str, int]:
    """Returns the arguments that set the length of a schedule, if the recipe lacks them."""
    if recipe.scheduler == "onecycle" and "total_steps" not in recipe.scheduler_options:
        return {"epochs": recipe.epochs}
    return {"T_max": recipe.epochs} if recipe.scheduler == "cosine" else {}


_HIDDEN = (128, 64)  # the documented hidden layers of an MLP


def _features(chosen: Any, usual: Any, ends: tuple[int, int | None]) -> Any:
    """Returns the features of an MLP, with the first and last from the data if they are open."""
    if chosen is None:
        chosen = (None, *_HIDDEN, None)
    if not isinstance(chosen, tuple | list) or len(chosen) < 2:
        return chosen
    open_ends = (None, None) if usual is not None and tuple(chosen) == tuple(usual) else chosen
    first = chosen[0] if open_ends[0] is not None else ends[0]
    last = chosen[-1] if open_ends[-1] is not None or ends[1] is None else ends[1]
    return (first, *chosen[1:-1], last)


@dataclass(frozen=True)
class Ends:
    """The sizes of a network's inputs and outputs, computed from the data when they are read.

    Attributes:
        recipe: the recipe, whose transform changes the shape of an example.
        data: the training data.
    """

    recipe: Recipe
    data: Dataset

    @property
    def is_text(self) -> bool:
        """Whether the data are texts."""
        return isinstance(self.data, TextDataset)

    @property
    def vocab_size(self) -> int | None:
        """The number of tokens in the vocabulary; None if the data are not texts."""
        return len(self.data.vocabulary) if isinstance(self.data, TextDataset) else None

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of an example after the transform."""
        spec = single(f"inputs of {self.data.name}", self.data.spec.inputs)
        means = self.recipe.normalize and self.recipe.normalize[0]
        if isinstance(means, tuple | list) and len(means) not in (1, *spec.shape[-1:]):
            channels = f"one for each channel of {describe(spec)}"
            expected = f"one mean and standard deviation, or {channels}"
            raise InputError("normalize", expected, self.recipe.normalize)
        batch = jax.ShapeDtypeStruct((1, *spec.shape), spec.dtype)
        shape: tuple[int, ...] = jax.eval_shape(build_transform(self.recipe), batch).shape[1:]
        return shape

    @property
    def inputs(self) -> int:
        """The number of values in an example."""
        return math.prod(self.shape)

    @cached_property
    def outputs(self) -> int | None:
        """The number of outputs for an example; None if it cannot be known before training."""
        if self.data.spec.labels is None:
            return None
        labels = single(f"labels of {self.data.name}", self.data.spec.labels)
        shape, classes = labels.shape, num_classes(self.data)
        if self.recipe.loss in _LOSSES_OF_TWO_CLASSES and classes is not None:
            if math.prod(shape) == 1 and classes > 2:
                loss = f"{self.recipe.loss} (cross-entropy takes more)"
                expected = f"two classes, for the loss {loss}"
                raise InputError(f"labels of {self.data.name}", expected, f"{classes} classes")
            return math.prod(shape)
        return math.prod(shape) if labels.dtype.kind == "f" else classes

    @cached_property
    def square_image(self) -> tuple[int, int] | None:
        """The size and the number of channels of square images; None if they are not images."""
        if len(self.shape) != 3:
            return None
        if self.shape[0] != self.shape[1]:
            expected = "square images [size, size, channels]"
            raise InputError("data", expected, f"examples {list(self.shape)} of {self.data.name}")
        return self.shape[0], self.shape[2]


def _of_mlp(ends: Ends) -> dict[str, Any]:
    return {} if ends.is_text else {"features": (ends.inputs, ends.outputs)}


def _of_image_classifier(ends: Ends) -> dict[str, Any]:
    return {} if ends.is_text else {"input_size": ends.inputs, "num_classes": ends.outputs}


def _of_autoencoder(ends: Ends) -> dict[str, Any]:
    return {} if ends.is_text else {"in_features": ends.inputs}


def _of_linear_regression(ends: Ends) -> dict[str, Any]:
    return {} if ends.is_text else {"in_features": ends.inputs, "out_features": ends.outputs}


def _of_lenet(ends: Ends) -> dict[str, Any]:
    if ends.is_text or ends.square_image is None:
        return {}
    size, channels = ends.square_image
    return {"image_size": size, "in_channels": channels, "num_classes": ends.outputs}


def _of_resnet(ends: Ends) -> dict[str, Any]:
    if ends.is_text or len(ends.shape) != 3:
        return {}
    return {"in_channels": ends.shape[-1], "num_classes": ends.outputs}


def _of_vae(ends: Ends) -> dict[str, Any]:
    if ends.square_image is None:
        raise InputError("data", "images", f"examples {list(ends.shape)} of {ends.data.name}")
    size, channels = ends.square_image
    return {"image_size": size, "in_channels": channels}


def _of_center_net(ends: Ends) -> dict[str, Any]:
    return {"num_classes": of_boxes(ends.data).num_classes, "in_channels": ends.shape[-1]}


def _of_dcgan(ends: Ends) -> dict[str, Any]:
    sizes = _of_diffusion(ends)
    return {"nc": sizes.pop("in_channels"), **sizes}


def _of_diffusion(ends: Ends) -> dict[str, Any]:
    if ends.recipe.model_options.get("num_classes") is None:  # which ignores classes
        return _of_vae(ends)
    return {**_of_vae(ends), "num_classes": num_classes(ends.data)}


def _of_recurrent_classifier(ends: Ends) -> dict[str, Any]:
    if ends.is_text:
        return {}
    if len(ends.shape) == 1:
        expected = "examples [time, features], as window=24 makes of a table"
        raise InputError("data", expected, f"examples {list(ends.shape)}")
    return {"input_dim": ends.shape[-1], "output_dim": ends.outputs}


def _of_text_classifier(ends: Ends) -> dict[str, Any]:
    return {"vocab_size": ends.vocab_size, "output_dim": ends.outputs}


def _of_language_model(ends: Ends) -> dict[str, Any]:
    return {"vocab_size": ends.vocab_size}


def _of_gpt(ends: Ends) -> dict[str, Any]:
    return {"vocab_size": ends.vocab_size, "block_size": ends.inputs if ends.is_text else None}


def _of_speech(ends: Ends) -> dict[str, Any]:
    return {"num_classes": ends.outputs, "bands": ends.shape[-1]}


def _of_speech_recognizer(ends: Ends) -> dict[str, Any]:
    return {"num_classes": num_classes(ends.data)}


def _of_matrix_factorization(ends: Ends) -> dict[str, Any]:
    data = of_ratings(ends.data)
    mean = data.mean if ends.recipe.loss in LOSSES_OF_VALUES else 0.0
    return {**_of_neumf(ends), "mean": mean}


def _of_neumf(ends: Ends) -> dict[str, Any]:
    encoder = of_ratings(ends.data).encoder
    return {"num_users": len(encoder.users), "num_items": len(encoder.items)}


#: For each documented network, the function from the ends to the sizes among its arguments.
#: A size that is None stays as the recipe has it.
SIZES: dict[str, Callable[[Ends], dict[str, Any]]] = {
    "center-net": _of_center_net,
    "autoencoder": _of_autoencoder,
    "cifar-resnet": _of_resnet,
    "dcgan": _of_dcgan,
    "diffusion": _of_diffusion,
    "gpt": _of_gpt,
    "image-classifier": _of_image_classifier,
    "language-model": _of_language_model,
    "lenet": _of_lenet,
    "linear-regression": _of_linear_regression,
    "matrix-factorization": _of_matrix_factorization,
    "mlp": _of_mlp,
    "neural-collaborative-filtering": _of_neumf,
    "recurrent-classifier": _of_recurrent_classifier,
    "resnet": _of_resnet,
    "seq2seq": _of_language_model,
    "speech-cnn": _of_speech,
    "speech-gru": _of_speech,
    "speech-recognizer": _of_speech_recognizer,
    "text-classifier": _of_text_classifier,
    "transformer-classifier": _of_text_classifier,
    "transformer-seq2seq": _of_language_model,
    "vae": _of_vae,
    "vit": _of_lenet,
}
