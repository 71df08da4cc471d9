"""The built-in networks that Flax and Keras can train, described by their sizes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import nnx

from jaxnets import losses
from jaxnets.arrays import InputError
from jaxnets.compare.experiment import Experiment
from jaxnets.interop import to_numpy
from jaxnets.models import MLP, LeNet, RecurrentClassifier
from jaxnets.training.labels import unwrapped


@dataclass(frozen=True)
class Sizes:
    """A description of a network and its optimizer, from which each framework can build them.

    Attributes:
        kind: ``"mlp"``, ``"lenet"``, ``"lstm"`` or ``"gru"``.
        shape: the shape of an input: images [H, W, C], sequences [time, features].
        widths: the number of units of each hidden or recurrent layer.
        classes: the number of outputs.
        optimizer: ``"sgd"`` or ``"adam"``.
        options: the optimizer's ``lr``, and for SGD ``momentum``.
    """

    kind: str
    shape: tuple[int, ...]
    widths: tuple[int, ...]
    classes: int
    optimizer: str
    options: dict[str, float]

    @property
    def carries(self) -> bool:
        """Whether weights of jaxnets can be used: not for cells with one bias instead of two."""
        return self.kind in ("mlp", "lenet")


_OPTIONS = {"sgd": {"lr": 1e-3, "momentum": 0.0}, "adam": {"lr": 1e-3}}


def sizes_of(this: Experiment, framework: str) -> Sizes:
    """Returns the sizes of an experiment's network.

    Args:
        this: the experiment.
        framework: the name of the framework, for messages.

    Raises:
        InputError: if the framework does not support the network, loss or optimizer.
    """
    if unwrapped(this.loss) != (losses.cross_entropy, {}):
        raise InputError("loss", f"cross-entropy with {framework}", this.settings.get("loss"))
    if this.augment is not None:
        raise InputError("augment", f"none with {framework}", this.settings.get("augment"))
    shape = this.inputs(this.train.inputs[:1]).shape[1:]
    return Sizes(shape=shape, **_network(this.build(0), framework), **_optimizer(this, framework))


def _network(model: nnx.Module, framework: str) -> dict[str, Any]:
    if isinstance(model, MLP) and model.output == "logits":
        *widths, classes = model.features[1:]
        return {"kind": "mlp", "widths": tuple(widths), "classes": classes}
    if isinstance(model, LeNet):
        return {"kind": "lenet", "widths": (), "classes": model.fc3.out_features}
    if isinstance(model, RecurrentClassifier) and model.output == "logits":
        layer = getattr(model, model.cell)
        if not layer.bidirectional and not layer.dropout:
            widths = (layer.hidden_size,) * layer.num_layers
            return {"kind": model.cell, "widths": widths, "classes": model.fc.out_features}
    expected = f"an MLP, LeNet or plain recurrent network with logits for {framework}"
    raise InputError("model", expected, type(model).__name__)


def _optimizer(this: Experiment, framework: str) -> dict[str, Any]:
    if (scheduler := this.settings.get("scheduler")) is not None:
        raise InputError("scheduler", f"none with {framework}", scheduler)
    name, options = this.settings.get("optimizer"), dict(this.settings["optimizer_options"])
    known = _OPTIONS.get(str(name))
    if known is None or not options.keys() <= known.keys():
        expected = f"sgd with lr and momentum, or adam with lr, for {framework}"
        raise InputError("optimizer", expected, f"{name} with {', '.join(options)}")
    return {"optimizer": name, "options": known | options}


def weights_of(model: nnx.Module, sizes: Sizes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns kernel and bias of each layer in the layout of Flax and Keras.

    Kernels have the shape [in, out], or [H, W, in, out] for convolutions.

    Args:
        model: the jaxnets network.
        sizes: its sizes.
    """
    arrays = to_numpy(model)
    names = sorted({name.rpartition(".")[0] for name in arrays})  # conv1, conv2, fc1, fc2, …
    return [
        (_kernel(arrays[f"{name}.weight"], name, sizes), arrays[f"{name}.bias"]) for name in names
    ]


def _kernel(weight: np.ndarray, name: str, sizes: Sizes) -> np.ndarray:
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    if sizes.kind == "lenet" and name == "fc1":  # Flax and Keras flatten images channels last
        weight = weight.reshape(-1, 16, 5, 5).transpose(0, 2, 3, 1).reshape(weight.shape)
    return weight.T
