"""The built-in networks written in PyTorch, to compare with."""

from collections.abc import Callable
from typing import Any

from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.compare import torch_twins_generation, torch_twins_speech
from jaxnets.compare import torch_twins_ratings as ratings
from jaxnets.compare import torch_twins_residual as residual
from jaxnets.compare import torch_twins_transformers as transformers
from jaxnets.layers import GRU, LSTM
from jaxnets.models import (
    GPT,
    MLP,
    CifarResNet,
    ImageClassifier,
    LanguageModel,
    LeNet,
    LinearRegression,
    MatrixFactorization,
    NeuMF,
    RecurrentClassifier,
    ResNet,
    Seq2Seq,
    TextClassifier,
    TransformerClassifier,
    TransformerSeq2Seq,
    ViT,
)
from jaxnets.optional import require


def twin(model: nnx.Module) -> Any:
    """Makes the PyTorch network with the same layers, sizes and names, and new random weights.

    Its images are NCHW. ``jaxnets.interop`` copies weights between the two.

    Args:
        model: one of ``jaxnets.models``.

    Returns:
        A ``torch.nn.Module`` in training mode, float32.

    Raises:
        ValueError: if the model is not one of ``jaxnets.models``.
        ImportError: if torch is not installed.
    """
    torch = require("torch", extra="torch", feature="a PyTorch twin")
    for kind, build in _TWINS.items():
        if type(model) is kind:
            return build(torch, model)
    known = ", ".join(kind.__name__ for kind in _TWINS)
    raise InputError("model", f"one of the documented networks ({known})", type(model).__name__)


def _linear_regression(torch: Any, model: LinearRegression) -> Any:
    return torch.nn.Linear(model.in_features, model.out_features)


def _mlp(torch: Any, model: MLP) -> Any:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depth = len(model.features) - 1
            for index in range(1, self.depth + 1):
                layer = torch.nn.Linear(model.features[index - 1], model.features[index])
                setattr(self, f"fc{index}", layer)

        def forward(self, x: Any) -> Any:
            x = torch.flatten(x, 1)
            for index in range(1, self.depth):
                x = torch.relu(getattr(self, f"fc{index}")(x))
            x = getattr(self, f"fc{self.depth}")(x)
            return torch.softmax(x, dim=1) if model.output == "softmax" else x

    return Network()


def _image_classifier(torch: Any, model: ImageClassifier) -> Any:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = torch.nn.Linear(model.fc1.in_features, model.fc1.out_features)
            self.relu = torch.nn.ReLU()
            self.fc2 = torch.nn.Linear(model.fc2.in_features, model.fc2.out_features)

        def forward(self, x: Any) -> Any:
            return self.fc2(self.relu(self.fc1(torch.flatten(x, 1))))

    return Network()


def _lenet(torch: Any, model: LeNet) -> Any:
    size, _, channels = model.image_shape

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = torch.nn.Conv2d(channels, 6, 5, padding=(32 - size) // 2)
            self.pool = torch.nn.MaxPool2d(2, 2)
            self.conv2 = torch.nn.Conv2d(6, 16, 5)
            self.fc1 = torch.nn.Linear(16 * 5 * 5, 120)
            self.fc2 = torch.nn.Linear(120, 84)
            self.fc3 = torch.nn.Linear(84, model.fc3.out_features)

        def forward(self, x: Any) -> Any:
            x = self.pool(torch.relu(self.conv1(x)))
            x = self.pool(torch.relu(self.conv2(x)))
            x = torch.flatten(x, 1)
            x = torch.relu(self.fc1(x))
            return self.fc3(torch.relu(self.fc2(x)))

    return Network()


def _recurrent_classifier(torch: Any, model: RecurrentClassifier) -> Any:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, model.cell, _layer(torch, getattr(model, model.cell)))
            self.fc = torch.nn.Linear(model.fc.in_features, model.fc.out_features)

        def forward(self, x: Any) -> Any:
            outputs, _ = getattr(self, model.cell)(x)
            x = self.fc(outputs[:, -1, :])
            return torch.sigmoid(x) if model.output == "sigmoid" else x

    return Network()


def _text_classifier(torch: Any, model: TextClassifier) -> Any:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            vocab_size, embedding_dim = model.embedding.embedding.shape
            self.embedding = torch.nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
            setattr(self, model.cell, _layer(torch, getattr(model, model.cell)))
            self.dropout = torch.nn.Dropout(model.dropout.rate)
            self.fc = torch.nn.Linear(model.fc.in_features, model.fc.out_features)

        def forward(self, tokens: Any) -> Any:
            x = self.dropout(self.embedding(tokens))
            lengths = (tokens != 0).sum(1).clamp(min=1).cpu()
            packed = torch.nn.utils.rnn.pack_padded_sequence(
                x, lengths, batch_first=True, enforce_sorted=False
            )
            _, state = getattr(self, model.cell)(packed)
            final = state[0] if model.cell == "lstm" else state
            x = self.fc(self.dropout(torch.cat(list(final[-model.directions :]), dim=1)))
            return torch.sigmoid(x) if model.output == "sigmoid" else x

    return Network()


def _language_model(torch: Any, model: LanguageModel) -> Any:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            vocab_size, embedding_dim = model.encoder.embedding.shape
            self.drop = torch.nn.Dropout(model.drop.rate)
            self.encoder = torch.nn.Embedding(vocab_size, embedding_dim)
            self.rnn = _layer(torch, model.rnn)
            self.decoder = torch.nn.Linear(model.decoder.in_features, vocab_size)

        def forward(self, tokens: Any) -> Any:
            outputs, _ = self.rnn(self.drop(self.encoder(tokens)))
            return self.decoder(self.drop(outputs))

    return Network()


def _layer(torch: Any, ours: LSTM | GRU) -> Any:
    """Makes the PyTorch layer for a recurrent layer, batch first."""
    return (torch.nn.LSTM if isinstance(ours, LSTM) else torch.nn.GRU)(
        ours.input_size,
        ours.hidden_size,
        ours.num_layers,
        batch_first=True,
        dropout=ours.dropout if ours.num_layers > 1 else 0.0,  # with one layer PyTorch would warn
        bidirectional=ours.bidirectional,
    )


_TWINS: dict[type[nnx.Module], Callable[[Any, Any], Any]] = {
    LinearRegression: _linear_regression,
    MLP: _mlp,
    ImageClassifier: _image_classifier,
    LeNet: _lenet,
    CifarResNet: residual.cifar_resnet,
    ResNet: residual.resnet,
    RecurrentClassifier: _recurrent_classifier,
    TextClassifier: _text_classifier,
    LanguageModel: _language_model,
    GPT: transformers.gpt,
    Seq2Seq: transformers.seq2seq,
    TransformerSeq2Seq: transformers.transformer_seq2seq,
    TransformerClassifier: transformers.classifier,
    ViT: transformers.vit,
    **torch_twins_speech.TWINS,
    **torch_twins_generation.TWINS,
    MatrixFactorization: ratings.matrix_factorization,
    NeuMF: ratings.neumf,
}
