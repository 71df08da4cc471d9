"""Writes the networks of ``jaxnets.models`` as PyTorch source."""

from collections.abc import Callable
from typing import Any

from flax import nnx

from jaxnets.export import torch_source_transformers as transformers
from jaxnets.models import (
    GPT,
    MLP,
    ImageClassifier,
    LanguageModel,
    LeNet,
    LinearRegression,
    RecurrentClassifier,
    SpeechCNN,
    SpeechGRU,
    TextClassifier,
    TransformerClassifier,
    ViT,
)

_FILE = '''"""{about}

    network = Network()
    network.load_state_dict(torch.load("FILE"))
    network.eval()
"""

import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
{layers}

    def forward(self, x):
{steps}
'''


def torch_source(model: nnx.Module) -> str | None:
    """Returns the source of a PyTorch class ``Network``.

    The class accepts the network's inputs in PyTorch's layout: images are [batch, channels, height,
    width]. It does not contain the preprocessing.

    Args:
        model: the network.

    Returns:
        The source; None if the network is not one of ``jaxnets.models``.
    """
    write = _WRITERS.get(type(model))
    if write is None:
        return None
    layers, steps = write(model)
    about = f"{type(model).__name__} of jaxnets in PyTorch; inputs are in PyTorch's layout."
    return _FILE.format(about=about, layers=_indented(layers), steps=_indented(steps))


def _indented(lines: list[str]) -> str:
    return "\n".join(" " * 8 + line for line in lines)


def _linear(name: str, layer: Any) -> str:
    return f"self.{name} = nn.Linear({layer.in_features}, {layer.out_features})"


def _recurrent(name: str, layer: Any) -> str:
    options = f"num_layers={layer.num_layers}, batch_first=True"
    if layer.num_layers > 1 and layer.dropout:
        options += f", dropout={layer.dropout}"
    if layer.bidirectional:
        options += ", bidirectional=True"
    sizes = f"{layer.input_size}, {layer.hidden_size}"
    return f"self.{name} = nn.{type(layer).__name__}({sizes}, {options})"


def _ended(model: Any, value: str) -> list[str]:
    """Returns the last line of ``forward``, with sigmoid or softmax for probabilities."""
    given = {"sigmoid": f"torch.sigmoid({value})", "softmax": f"torch.softmax({value}, dim=1)"}
    return [f"return {given.get(model.output, value)}"]


def _of_regression(model: LinearRegression) -> tuple[list[str], list[str]]:
    layers = [
        f"self.weight = nn.Parameter(torch.zeros({model.out_features}, {model.in_features}))",
        f"self.bias = nn.Parameter(torch.zeros({model.out_features}))",
    ]
    return layers, ["return nn.functional.linear(x, self.weight, self.bias)"]


def _of_mlp(model: MLP) -> tuple[list[str], list[str]]:
    depth = len(model.features) - 1
    names = [f"fc{number}" for number in range(1, depth + 1)]
    layers = [_linear(name, getattr(model, name)) for name in names]
    steps = [f"x = torch.relu(self.{name}(x))" for name in names[:-1]]
    return layers, ["x = torch.flatten(x, 1)", *steps, *_ended(model, f"self.fc{depth}(x)")]


def _of_image_classifier(model: ImageClassifier) -> tuple[list[str], list[str]]:
    layers = [_linear("fc1", model.fc1), _linear("fc2", model.fc2)]
    return layers, ["return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))"]


def _of_lenet(model: LeNet) -> tuple[list[str], list[str]]:
    size, _, channels = model.image_shape
    layers = [
        f"self.conv1 = nn.Conv2d({channels}, 6, 5, padding={(32 - size) // 2})",
        "self.conv2 = nn.Conv2d(6, 16, 5)",
        "self.pool = nn.MaxPool2d(2)",
        *(_linear(name, getattr(model, name)) for name in ("fc1", "fc2", "fc3")),
    ]
    steps = [
        "x = self.pool(torch.relu(self.conv1(x)))",
        "x = self.pool(torch.relu(self.conv2(x)))",
        "x = torch.relu(self.fc1(torch.flatten(x, 1)))",
        "return self.fc3(torch.relu(self.fc2(x)))",
    ]
    return layers, steps


def _of_recurrent_classifier(model: RecurrentClassifier) -> tuple[list[str], list[str]]:
    layers = [_recurrent(model.cell, getattr(model, model.cell)), _linear("fc", model.fc)]
    steps = [f"outputs, _ = self.{model.cell}(x)", "x = self.fc(outputs[:, -1, :])"]
    return layers, [*steps, *_ended(model, "x")]


def _of_text_classifier(model: TextClassifier) -> tuple[list[str], list[str]]:
    count, width = model.embedding.embedding.shape
    layers = [
        f"self.embedding = nn.Embedding({count}, {width}, padding_idx=0)",
        _recurrent(model.cell, getattr(model, model.cell)),
        f"self.dropout = nn.Dropout({model.dropout.rate})",
        _linear("fc", model.fc),
    ]
    state = "(state, _)" if model.cell == "lstm" else "state"
    steps = [
        "lengths = (x != 0).sum(1).clamp(min=1).cpu()",
        "x = self.dropout(self.embedding(x))",
        "x = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)",
        f"_, {state} = self.{model.cell}(x)",
        f"x = torch.cat(list(state[-{model.directions} :]), dim=1)",
        "x = self.fc(self.dropout(x))",
    ]
    return layers, [*steps, *_ended(model, "x")]


def _of_language_model(model: LanguageModel) -> tuple[list[str], list[str]]:
    count, width = model.encoder.embedding.shape
    layers = [
        f"self.drop = nn.Dropout({model.drop.rate})",
        f"self.encoder = nn.Embedding({count}, {width})",
        _recurrent("rnn", model.rnn),
        _linear("decoder", model.decoder),
    ]
    steps = [
        "outputs, _ = self.rnn(self.drop(self.encoder(x)))",
        "return self.decoder(self.drop(outputs))",
    ]
    return layers, steps


def _of_speech_cnn(model: SpeechCNN) -> tuple[list[str], list[str]]:
    sizes = [1, *(model.bn1.num_features * factor for factor in (1, 2, 4))]
    layers, steps = [], ["x = x.unsqueeze(1)"]
    for number in (1, 2, 3):
        inputs, outputs = sizes[number - 1 : number + 1]
        convolution = f"nn.Conv2d({inputs}, {outputs}, 3, padding=1, bias=False)"
        layers += [f"self.conv{number} = {convolution}"]
        layers += [f"self.bn{number} = nn.BatchNorm2d({outputs})"]
        value = f"torch.relu(self.bn{number}(self.conv{number}(x)))"
        steps += [f"x = self.pool({value})" if number < 3 else f"x = {value}"]
    layers += ["self.pool = nn.MaxPool2d(2)", _linear("fc", model.fc)]
    return layers, [*steps, "return self.fc(torch.flatten(x.amax(2), 1))"]


def _of_speech_gru(model: SpeechGRU) -> tuple[list[str], list[str]]:
    layers = [
        _recurrent("gru", model.gru),
        f"self.dropout = nn.Dropout({model.dropout.rate})",
        _linear("fc", model.fc),
    ]
    return layers, ["x, _ = self.gru(x)", "return self.fc(self.dropout(x.mean(1)))"]


_WRITERS: dict[type[nnx.Module], Callable[[Any], tuple[list[str], list[str]]]] = {
    LinearRegression: _of_regression,
    MLP: _of_mlp,
    ImageClassifier: _of_image_classifier,
    LeNet: _of_lenet,
    RecurrentClassifier: _of_recurrent_classifier,
    SpeechCNN: _of_speech_cnn,
    SpeechGRU: _of_speech_gru,
    TextClassifier: _of_text_classifier,
    LanguageModel: _of_language_model,
    GPT: transformers.of_gpt,
    TransformerClassifier: transformers.of_classifier,
    ViT: transformers.of_vit,
}
