"""Small versions of all documented networks, with matching inputs and labels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from flax import nnx

from jaxnets import losses
from jaxnets.models import (
    DCGAN,
    GPT,
    MLP,
    VAE,
    Autoencoder,
    CenterNet,
    CifarResNet,
    Diffusion,
    Discriminator,
    Generator,
    ImageClassifier,
    LanguageModel,
    LeNet,
    LinearRegression,
    MatrixFactorization,
    NeuMF,
    RecurrentClassifier,
    SpeechCNN,
    SpeechGRU,
    TextClassifier,
    TransformerClassifier,
    ViT,
)
from jaxnets.models.center_net import detection_loss


@dataclass(frozen=True)
class Case:
    build: Callable[[nnx.Rngs], nnx.Module]
    example: tuple[int, ...]
    outputs: int | tuple[int, ...] | None  # None for one output without an axis
    loss: Callable = losses.cross_entropy
    idle: str | None = None  # the one parameter whose gradient is zero by construction
    vocabulary: int = 0  # number of tokens if inputs are tokens
    per_token: bool = False  # whether each token has outputs and a label
    columns: tuple[tuple[str, int], ...] = ()  # input columns: names and numbers of indices
    floats: str | None = None  # name of a float input of shape ``example``
    grid: tuple[int, ...] = ()  # positions that have outputs, if labels are boxes

    def inputs(self, count: int, seed: int = 0) -> np.ndarray | dict[str, np.ndarray]:
        size = (count, *self.example)
        if self.columns:
            draw = np.random.default_rng(seed)
            found = {k: draw.integers(n, size=count).astype(np.int32) for k, n in self.columns}
            more = {self.floats: draw.normal(size=size).astype(np.float32)} if self.floats else {}
            return {**found, **more}
        if self.vocabulary:
            return self._tokens(size, seed)
        return np.random.default_rng(seed).normal(size=size).astype(np.float32)

    def labels(self, count: int, seed: int = 1) -> np.ndarray | dict[str, np.ndarray]:
        if self.grid:
            return self._boxes(count, np.random.default_rng(seed))
        if self.per_token:
            return self._tokens((count, *self.example), seed)
        draw = np.random.default_rng(seed)
        if self.loss is losses.mse_loss:
            return draw.normal(size=(count, *self.last)).astype(np.float32)
        return draw.integers(max(self.outputs or 0, 2), size=count).astype(np.int32)

    @property
    def last(self) -> tuple[int, ...]:
        """The shape of the outputs after the axes that inputs have too."""
        one = isinstance(self.outputs, int)
        return (self.outputs,) if one else self.outputs or ()

    def _boxes(self, count: int, draw: np.random.Generator) -> dict[str, np.ndarray]:
        corners = draw.uniform(0, 6, size=(count, 2, 2))
        boxes = np.concatenate([corners, corners + draw.uniform(4, 9, size=(count, 2, 2))], -1)
        labels = draw.integers(-1, self.outputs - 4, size=(count, 2))
        return {"boxes": boxes.astype(np.float32), "labels": labels.astype(np.int32)}

    def _tokens(self, size: tuple[int, int], seed: int) -> np.ndarray:
        """Rows of tokens; for classifiers, all rows but the first may end in padding."""
        draw = np.random.default_rng(seed)
        tokens = draw.integers(1, self.vocabulary, size=size).astype(np.int32)
        if not self.per_token:
            ends = draw.integers(1, size[1] + 1, size=(size[0], 1))
            ends[0] = size[1]
            tokens[np.arange(size[1])[None, :] >= ends] = 0
        return tokens


def _text(**options) -> Callable[[nnx.Rngs], nnx.Module]:
    return lambda rngs: TextClassifier(11, 5, 8, rngs=rngs, **options)


def _language(**options) -> Callable[[nnx.Rngs], nnx.Module]:
    return lambda rngs: LanguageModel(11, 5, 8, rngs=rngs, **options)


def _gpt(**options) -> Callable[[nnx.Rngs], nnx.Module]:
    return lambda rngs: GPT(11, 7, n_layer=1, n_head=2, n_embd=8, rngs=rngs, **options)


def _encoder(**options) -> Callable[[nnx.Rngs], nnx.Module]:
    return lambda rngs: TransformerClassifier(11, 8, 2, 1, 16, rngs=rngs, **options)


def _recurrent(**options) -> Callable[[nnx.Rngs], nnx.Module]:
    return lambda rngs: RecurrentClassifier(5, 8, rngs=rngs, **options)


CASES = {
    "linear-regression": Case(
        lambda rngs: LinearRegression(3, 2, rngs=rngs), (3,), 2, losses.mse_loss
    ),
    "linear-regression-normal": Case(
        lambda rngs: LinearRegression(init_std=0.01, rngs=rngs), (1,), 1, losses.mse_loss
    ),
    "mlp": Case(lambda rngs: MLP((36, 16, 8, 10), rngs=rngs), (6, 6, 1), 10),
    "softmax-mlp": Case(lambda rngs: MLP((36, 16, 10), output="softmax", rngs=rngs), (6, 6, 1), 10),
    "image-classifier": Case(lambda rngs: ImageClassifier(48, 8, 10, rngs=rngs), (4, 4, 3), 10),
    "lenet-28": Case(lambda rngs: LeNet(1, 10, 28, rngs=rngs), (28, 28, 1), 10),
    "lenet-32": Case(lambda rngs: LeNet(3, 7, 32, rngs=rngs), (32, 32, 3), 7),
    "cifar-resnet-a": Case(lambda rngs: CifarResNet(8, 5, rngs=rngs), (8, 8, 3), 5),
    "cifar-resnet-b": Case(
        lambda rngs: CifarResNet(8, 5, 1, shortcut="B", rngs=rngs), (8, 8, 1), 5
    ),
    "center-net": Case(
        lambda rngs: CenterNet(3, 2, 4, rngs=rngs), (16, 24, 2), 7, detection_loss, grid=(4, 6)
    ),
    "lstm": Case(_recurrent(n_layers=2, dropout=0.3, output_dim=4), (6, 5), 4),
    "lstm-sigmoid": Case(
        _recurrent(n_layers=2, output_dim=1), (6, 5), 1, losses.binary_cross_entropy
    ),
    "lstm-bidirectional": Case(
        _recurrent(n_layers=2, bidirectional=True, output_dim=4),
        (6, 5),
        4,
        idle="kernel_hh_l1_reverse",
    ),
    "gru": Case(_recurrent(cell="gru", n_layers=2, dropout=0.3, output_dim=4), (6, 5), 4),
    "gru-bidirectional": Case(
        _recurrent(cell="gru", bidirectional=True, output_dim=4),
        (6, 5),
        4,
        idle="kernel_hh_l0_reverse",
    ),
    "speech-cnn": Case(lambda rngs: SpeechCNN(4, 8, 3, rngs=rngs), (12, 8), 4),
    "speech-gru": Case(lambda rngs: SpeechGRU(4, 5, 6, dropout=0.3, rngs=rngs), (7, 5), 4),
    "text-lstm": Case(
        _text(n_layers=2, dropout=0.3), (7,), 1, losses.binary_cross_entropy, vocabulary=11
    ),
    "text-gru-bidirectional": Case(
        _text(n_layers=2, cell="gru", bidirectional=True, output_dim=4), (7,), 4, vocabulary=11
    ),
    "language-lstm": Case(
        _language(n_layers=2, dropout=0.3), (6,), 11, vocabulary=11, per_token=True
    ),
    "language-gru": Case(_language(cell="gru"), (6,), 11, vocabulary=11, per_token=True),
    "text-transformer": Case(
        _encoder(dropout=0.3), (7,), 1, losses.binary_cross_entropy, vocabulary=11
    ),
    "vit": Case(
        lambda rngs: ViT(8, 4, 1, 2, 8, 16, 0.1, 4, in_channels=3, rngs=rngs), (8, 8, 3), 4
    ),
    "gpt": Case(_gpt(dropout=0.3), (6,), 11, vocabulary=11, per_token=True),
    "autoencoder": Case(
        lambda rngs: Autoencoder(12, (8,), 3, rngs=rngs), (12,), 12, losses.mse_loss
    ),
    "matrix-factorization": Case(
        lambda rngs: MatrixFactorization(7, 5, 3, mean=0.5, rngs=rngs),
        (),
        None,
        losses.mse_loss,
        columns=(("item", 5), ("user", 7)),
    ),
    "neumf": Case(
        lambda rngs: NeuMF(7, 5, 3, (8, 6, 4), rngs=rngs),
        (),
        None,
        losses.binary_cross_entropy_with_logits,
        columns=(("item", 5), ("user", 7)),
    ),
    "vae": Case(
        lambda rngs: VAE(4, 2, 6, 3, rngs=rngs), (4, 4, 2), (4, 4, 2), losses.mse_loss, idle="fc22"
    ),
    "generator": Case(
        lambda rngs: Generator(3, 2, 1, 8, rngs=rngs), (3,), (8, 8, 1), losses.mse_loss
    ),
    "conditional-generator": Case(
        lambda rngs: DCGAN(3, 2, 2, 2, 4, 5, rngs=rngs).generator,
        (3,),
        (4, 4, 2),
        losses.mse_loss,
        columns=(("labels", 5),),
        floats="noise",
    ),
    "discriminator": Case(
        lambda rngs: Discriminator(2, 3, 8, 4, rngs=rngs),
        (8, 8, 3),
        None,
        losses.binary_cross_entropy_with_logits,
        columns=(("labels", 4),),
        floats="images",
    ),
    "diffusion": Case(
        lambda rngs: Diffusion(8, 2, 8, 3, 10, rngs=rngs),
        (8, 8, 2),
        (8, 8, 2),
        losses.mse_loss,
        columns=(("labels", 3), ("time", 10)),
        floats="images",
    ),
}
