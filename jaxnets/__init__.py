"""Neural networks in JAX with PyTorch's layers, weights and numerical results."""

from jaxnets import (
    data,
    explain,
    functional,
    initializers,
    interop,
    kernels,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    tensors,
    training,
)
from jaxnets.arrays import InputError
from jaxnets.compilation import keep_memory, keep_programs
from jaxnets.models import (
    GPT,
    MLP,
    MODELS,
    ImageClassifier,
    LanguageModel,
    LeNet,
    LinearRegression,
    RecurrentClassifier,
    Seq2Seq,
    TextClassifier,
    TransformerClassifier,
    TransformerSeq2Seq,
    ViT,
)
from jaxnets.runs import SavedRun
from jaxnets.runs import read as load
from jaxnets.training import (
    NonFiniteLossError,
    TrainingRun,
    TrainState,
    evaluate,
    fit,
    predict,
    predictor,
)

__version__ = "0.1.0"

__all__ = [
    "GPT",
    "MLP",
    "MODELS",
    "ImageClassifier",
    "InputError",
    "LanguageModel",
    "LeNet",
    "LinearRegression",
    "NonFiniteLossError",
    "RecurrentClassifier",
    "SavedRun",
    "Seq2Seq",
    "TextClassifier",
    "TrainState",
    "TrainingRun",
    "TransformerClassifier",
    "TransformerSeq2Seq",
    "ViT",
    "data",
    "evaluate",
    "explain",
    "fit",
    "functional",
    "initializers",
    "interop",
    "keep_memory",
    "keep_programs",
    "kernels",
    "layers",
    "load",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "predict",
    "predictor",
    "tensors",
    "training",
]
