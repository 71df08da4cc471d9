"""A bad value of any argument of a public name raises an error with a short message."""

import functools
import inspect
import math
import re
import sys
import warnings

import click
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from jaxnets import (
    averaging,
    compare,
    data,
    export,
    interop,
    layers,
    losses,
    optimizers,
    pruning,
    recipes,
    runs,
    training,
    transfer,
)
from jaxnets.arrays import ArrayLike, InputError, shown
from jaxnets.cli import cli, main
from jaxnets.compilation import VARIABLE
from jaxnets.control import CartPole
from jaxnets.data import text
from jaxnets.detection import Detections
from jaxnets.models import MLP, VAE, LanguageModel, Seq2Seq
from tests import tier

from .parity.layer_cases import FIRST, our_layer
from .test_api_reference import PATHS, PUBLIC, meant

SCHEDULE = optimizers.step_lr(0.1, 2)
SPLIT = data.Split(np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1], np.int32))
DATA = data.Dataset("small", SPLIT, SPLIT)
TOKENS = text.Vocabulary(("<pad>", "<unk>", "a"))
ENCODER = text.TextEncoder(text.Tokenizer(), TOKENS)
TEXTS = data.Split(np.ones((4, 2), np.int32), np.array([0, 1, 0, 1], np.int32))
COLUMNS = {"user": np.array([0, 1], np.int32), "item": np.array([0, 1], np.int32)}
BOXES = {"boxes": np.ones((4, 2, 4), np.float32), "labels": np.zeros((4, 2), np.int32)}
BOXED = data.Split(np.zeros((4, 4, 4, 1), np.uint8), BOXES)
DETECTED = Detections(BOXES["boxes"], np.ones((4, 2)), BOXES["labels"])
PAIRS = data.Split(COLUMNS, np.array([4, 1], np.float32))
OUTPUTS, CLASSES = jnp.full((4, 3), -1.0), jnp.array([0, 1, 2, 0])
PIXELS = jnp.zeros((2, 4, 4, 3), jnp.uint8)
IMAGE = jnp.zeros((1, 4, 4, 4))
#: Inputs and kernels by the number of spatial axes.
SPACE = {n: jnp.zeros((2, *[3] * n, 2)) for n in [1, 2, 3]}
KERNELS = {n: jnp.zeros((*[2] * n, 2, 3)) for n in SPACE}
STEPS, ROW = jnp.zeros((2, 3, 3)), jnp.zeros((2, 2))
TOKEN_ROWS = jnp.ones((2, 3), jnp.int32)
EPOCH = training.EpochRecord(1, {"loss": 0.5}, {"loss": 0.5}, 1.0)
DRAWN = {"rngs": nnx.Rngs(0)}


@functools.cache
def model():
    return nnx.Linear(2, 3, rngs=nnx.Rngs(0))


@functools.cache
def convolution():
    return nnx.Sequential(layers.Conv2d(3, 2, 3, rngs=nnx.Rngs(0)), layers.flatten)


@functools.cache
def words():
    embedding = layers.Embedding(3, 2, rngs=nnx.Rngs(0))
    return nnx.Sequential(embedding, lambda x: x.mean(1))


OBJECTIVE = training.supervised(losses.cross_entropy)
STEP = training.minimize(OBJECTIVE, optax.identity())


RECIPE = recipes.recipe("linear-regression")


def program():
    return export.Program(model(), jax.ShapeDtypeStruct((2,), np.float32))


def adam_state():
    return optimizers.adam().init(nnx.state(model(), nnx.Param))


def sgd_state():
    return optimizers.sgd(0.1).init(nnx.state(model(), nnx.Param))


SGD_OPTIONS = {"lr": 0.1, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False}
SGD_SAVED = {"state": {}, "param_groups": [{**SGD_OPTIONS, "params": [0, 1]}]}


def pruned_layer():
    return pruning.l1_unstructured(layers.Linear(2, 3, **DRAWN), "weight", 0.5)


def torch_model():
    import torch

    return torch.nn.Linear(2, 3)


class TorchNetwork(torch.nn.Linear):
    pass


def torch_sgd(parameters):
    import torch

    return torch.optim.SGD(parameters, 0.1)


def comparison():
    return compare.Comparison(
        name="small",
        description="",
        command=None,
        date="today",
        paired=True,
        weights_from=None,
        settings={},
        margin=0.1,
        pairs=(),
    )


SAVED = runs.SavedRun(None, model(), True, None, None, None)
SHARES, LABELS = np.full((4, 3), 1 / 3), np.array([0, 1, 2, 0])

#: Valid arguments by the last part of a public name, or by the whole name where it is ambiguous.
#: The arguments of layers are in ``tests/parity/layer_cases.py``.
GOOD = {
    "RecurrentClassifier": (2, 2),
    **dict.fromkeys(["TextClassifier", "LanguageModel"], (3, 2, 2)),
    "GPT": (3, 2, 1, 1, 2),
    "ViT": (2, 1, 1, 1, 2, 2),
    "TransformerClassifier": (3, 2, 1, 1, 2),
    "Seq2Seq": (3, 2, 2),
    "TransformerSeq2Seq": (3, 2, 1, 1, 2),
    "Generator": (2, 2),
    "Discriminator": (2,),
    "DCGAN": (2, 2, 2),
    **dict.fromkeys(["Diffusion", "UNet"], (4, 1, 8, None, 2)),
    "VAE": (2, 1, 2, 2),
    "jaxnets.models.diffusion.signal": (4, "cosine"),
    "sample_images": (VAE(2, 1, 2, 2, **DRAWN), 1),
    "make_grid": (PIXELS,),
    "save_image": (PIXELS, "no-folder/a.png"),
    "frechet_distance": (np.zeros(2), np.eye(2), np.zeros(2), np.eye(2)),
    "translate": (Seq2Seq(3, 2, 2, **DRAWN), np.ones((1, 2), np.int32), 1),
    "jaxnets.explain.attention": (
        Seq2Seq(3, 2, 2, **DRAWN),
        np.ones((1, 2), int),
        np.ones((1, 1), int),
    ),
    "draw_attention": (np.ones((1, 2), np.float32), ["a"], ["b"]),
    "jaxnets.data.text.pairs": ("no-file",),
    "paired": ("texts", ["a", "b"] * 9, ["c", "d"] * 9, text.Tokenizer()),
    "target_texts": (ENCODER, np.ones((1, 2), np.int32)),
    **dict.fromkeys(["constant_lr", "linear_lr", "polynomial_lr"], (0.1,)),
    **dict.fromkeys(["cosine_annealing_lr", "cosine_annealing_warm_restarts"], (0.1, 3)),
    **dict.fromkeys(["one_cycle_lr", "step_lr"], (0.1, 9)),
    **dict.fromkeys(["CutMix", "Mixup"], (1, 3)),
    **dict.fromkeys(["CenterCrop", "RandomCrop", "Resize", "OneHot", "Pad", "Rotate"], (3,)),
    **dict.fromkeys(["RandomAffine", "RandomRotation"], (3,)),
    "OnColumn": (0, data.ToFloat()),
    "AfterTransform": (data.ToFloat(),),
    "FrameCounts": (256, 80),
    "SpecAugment": (1, 2, 1, 2),
    "AudioFormat": (8000, 2),
    "AudioDataset": ("sounds", SPLIT),
    "read_wav": ("no-file.wav",),
    "write_wav": ("no-folder/a.wav", np.zeros(3), 8000),
    **dict.fromkeys(["ctc_greedy", "ctc_beam_search"], (np.zeros((1, 2, 3)),)),
    **dict.fromkeys(["prepare_qat", "quantize_dynamic", "quantize_weights", "report"], (model(),)),
    "quantize_static": (model(), ROW),
    "restructured": (model(), {"layers": {}, "folded": {}}),
    "settings_of": (model(),),
    "convert": (model(),),
    **dict.fromkeys(["ema", "swa"], (STEP,)),
    "averaged": (training.initialize(model(), averaging.ema(STEP)),),
    "update_batch_norm": (model(), SPLIT),
    **dict.fromkeys(["soup", "Ensemble", "ensemble"], ([model()],)),
    "greedy_soup": ([model()], lambda model: 0.5),
    "swalr": (0.1, 0.2),
    "load_pretrained": (model(), {"weight": np.zeros((3, 2))}),
    "unfrozen": (model(), "kernel"),
    "gradual_unfreezing": (optimizers.sgd(), {"kernel": 1}, 2),
    "layer_wise": (optimizers.adam, 0.1, ["kernel"]),
    "lora": (model(),),
    "merge_lora": lambda: (transfer.lora(model()),),
    "chained_scheduler": ([SCHEDULE],),
    "cyclic_lr": (0.1, 0.2),
    "exponential_lr": (0.1, 0.9),
    **dict.fromkeys(["lambda_lr", "multiplicative_lr"], (0.1, lambda count: 1.0)),
    "multi_step_lr": (0.1, [3]),
    "one_cycle_momentum": (9,),
    "per_epoch": (SCHEDULE, 2),
    "sequential_lr": ([SCHEDULE, SCHEDULE], [5]),
    "clip_grad_norm": (1.0,),
    "clip_grad_value": (1.0,),
    "param_groups": (optimizers.sgd(), []),
    "learning_rates": (adam_state(),),
    "set_learning_rate": (adam_state(), 0.1),
    **dict.fromkeys(["Normalize", "Standardizer"], (0.5, 0.5)),
    "Split": (SPLIT.inputs, SPLIT.labels),
    "Draws": (3,),
    "Dataset": ("small", SPLIT, SPLIT),
    "StandardizedDataset": ("small", SPLIT, SPLIT),
    "StreamedSplit": ([(1.0, 0), (2.0, 1)],),
    "augment": (lambda x: x, PIXELS, CLASSES, jax.random.key(0)),
    "bucketed": (np.array([1, 2]), 2, 1),
    "epoch_plan": (4, 2),
    "hold_out": (SPLIT, 0.5),
    "keep_labels": (SPLIT, 2),
    "jaxnets.data.load": ("linear",),
    "jaxnets.load": ("no-folder",),
    "TableColumn": ("size",),
    "TableEncoder": ((data.TableColumn("size"),),),
    "TableDataset": ("table", SPLIT, SPLIT),
    "standardize": (DATA,),
    "jaxnets.data.windows": (np.arange(9.0), 3),
    "Chosen": (SPLIT, np.array([0])),
    "Joined": ((SPLIT,),),
    "Range": (SPLIT, 0, 1),
    "Rated": (np.array([0, 1], np.int32), np.array([0, 1, 2], np.int32), 2),
    "RatingsEncoder": (("1", "2"), ("3", "4")),
    "RatingsDataset": ("ratings", PAIRS, PAIRS),
    "DetectionDataset": ("boxes", BOXED, BOXED),
    "padded": ([[[0, 0, 1, 1]]], [[0]], 1),
    **dict.fromkeys(["box_iou", "generalized_box_iou"], (jnp.ones((2, 4)), jnp.ones((2, 4)))),
    "nms": (np.ones((2, 4)), np.ones(2), 0.5),
    "batched_nms": (np.ones((2, 4)), np.ones(2), np.zeros(2, int), 0.5),
    "collected": ("map", 2),
    "draw_boxes": (np.zeros((4, 4, 1), np.uint8), np.ones((1, 4)), ["a"]),
    "mean_average_precision": (DETECTED, BOXES["boxes"], BOXES["labels"]),
    "detection_loss": (jnp.zeros((4, 1, 1, 6)), BOXES),
    "detections": (jnp.zeros((4, 1, 1, 6)),),
    "SampleNegatives": (data.Rated.of(np.arange(2), np.arange(2), 2, 2),),
    **dict.fromkeys(["MatrixFactorization", "NeuMF"], (3, 2)),
    "Autoencoder": (4, (3,), 2),
    "TextDataset": ("texts", TEXTS, TEXTS),
    "TextEncoder": (text.Tokenizer(), TOKENS),
    "Vocabulary": (TOKENS.tokens,),
    "characters": ("no-file",),
    "classified": ("texts", {"a": ["a b", "b"] * 9, "b": ["c", "d"] * 9}, text.Tokenizer()),
    "learn_encoder": (["a b"], text.Tokenizer()),
    **dict.fromkeys(["names", "polarity"], ("no-folder",)),
    "pad": ([np.array([1, 2])],),
    "jaxnets.data.text.windows": (np.arange(9), 2),
    **{f"adjust_{what}": (PIXELS, 0.5) for what in ["brightness", "contrast", "hue", "saturation"]},
    "check_transforms": ("transforms", ()),
    "is_random": (lambda x: x,),
    **dict.fromkeys(["evaluate", "predict"], (model(), SPLIT.inputs)),
    "fit": (model(), DATA),
    "predictor": (model(),),
    "count_parameters": (model(),),
    **dict.fromkeys(["BatchNorm", "InstanceNorm"], (2,)),
    "recipe": ("linear-regression",),
    "search": (RECIPE, {"lr": "1e-3..1"}),
    "lr_range_test": (RECIPE,),
    "smoothed": ([1.0],),
    "steepest": ([0.1, 1.0], [2.0, 1.0]),
    "Between": (0.1, 1.0),
    "Space": ({},),
    **dict.fromkeys(["train", "train_many", "load_data", "build_model"], (RECIPE,)),
    "data_options": (RECIPE,),
    **dict.fromkeys(["build_transform", "build_optimizer", "build_augmentation"], (RECIPE,)),
    "build_network": ("MLP", {}),
    "sized": (RECIPE, DATA),
    "begin": ("new", RECIPE, 0),
    "resume": ("no-folder",),
    "sample": (LanguageModel(3, 2, 2, **DRAWN), np.array([1]), 1),
    "JsonLines": ("new",),
    **dict.fromkeys(["TensorBoard", "Profile", "Checkpoints", "steps"], ("no-folder",)),
    "jaxnets.training.checkpoints.read": ("no-folder",),
    **dict.fromkeys(["save_weights", "load_weights"], (model(), "no-folder")),
    "initialize": (model(), STEP, 0),
    "minimize": (OBJECTIVE, optax.identity()),
    **dict.fromkeys(["dqn", "ppo", "reinforce"], (CartPole(), optax.identity())),
    "play_gymnasium": (MLP((4, 2), **DRAWN),),
    **dict.fromkeys(["supervised", "reconstruction"], (losses.cross_entropy,)),
    "fixmatch": (SPLIT,),
    "kmeans": (np.eye(4), 2),
    "pca": (np.eye(4),),
    "plot_history": ([EPOCH], "no-folder/a.png"),
    "write_history": ([EPOCH], "no-folder/a.jsonl"),
    "train_step": (
        STEP,
        training.initialize(model(), STEP),
        {"inputs": jnp.zeros((2, 2)), "labels": jnp.zeros(2, jnp.int32)},
    ),
    "EarlyStopping": (1,),
    "Saving": ("no-folder",),
    "load_torch": (model(), {"weight": np.zeros((3, 2)), "bias": np.zeros(3)}),
    "read_torch": ({"weight": np.zeros(2)},),
    "Limits": (),
    **dict.fromkeys(["application", "serve"], (0,)),
    "Program": (model(), jax.ShapeDtypeStruct((2,), np.float32)),
    **dict.fromkeys(["save_onnx", "save_stablehlo"], lambda: (program(), "no-folder/a.onnx")),
    **dict.fromkeys(["save_safetensors", "save_torch"], (model(), "no-folder/a.pt")),
    **dict.fromkeys(["to_numpy", "to_torch"], (model(),)),
    "twin": (model(),),
    "run": lambda: (model(), torch_model(), DATA),
    "write": (comparison(), "report"),
    "load_torch_optimizer": (sgd_state(), SGD_SAVED, model()),
    "to_torch_optimizer": (sgd_state(), model(), SGD_SAVED),
    "optimizer_from_torch": (SGD_SAVED,),
    "trace_difference": lambda: (model(), torch_model(), SPLIT.inputs),
    "jaxnets.compare.report.read": ("no-folder",),
    "jaxnets.reports.report": (model(), DATA),
    "of_run": (SAVED, DATA),
    "data_of": (SAVED, "linear"),
    "jaxnets.scores.confusion_matrix": (LABELS, LABELS, 3),
    "precision_recall_f1": (np.eye(3, dtype=int),),
    "top_k_accuracy": (SHARES, LABELS, 2),
    **dict.fromkeys(["log_loss", "brier_score", "calibration"], (SHARES, LABELS)),
    "regression_scores": (SHARES, SHARES),
    **dict.fromkeys(["clustering_accuracy", "adjusted_rand_score"], (LABELS, LABELS)),
    "normalized_mutual_info_score": (LABELS, LABELS),
    "places": (SHARES, LABELS),
    **{f"jaxnets.scores.{name}": (LABELS, 2) for name in ["hit_rate", "ndcg"]},
    **dict.fromkeys(["hit_rate", "ndcg"], (2, 3)),
    "flatten": (jnp.zeros((2, 3)),),
    **dict.fromkeys(["celu", "elu", "gelu", "leaky_relu", "mish", "selu", "silu"], (OUTPUTS,)),
    **dict.fromkeys(["hardsigmoid", "hardswish", "hardtanh", "relu", "relu6"], (OUTPUTS,)),
    **dict.fromkeys(["glu", "log_softmax", "softmax"], (jnp.zeros((4, 2)), 1)),
    "softplus": (OUTPUTS,),
    "prelu": (OUTPUTS, jnp.zeros(3)),
    "linear": (jnp.zeros((4, 2)), jnp.zeros((3, 2))),
    "embedding": (CLASSES, OUTPUTS),
    "jaxnets.layers.padding.pad": (IMAGE, (1, 1)),
    "interpolate": (IMAGE, 3),
    "grid_sample": (IMAGE, jnp.zeros((1, 2, 2, 2))),
    "affine_grid": (jnp.zeros((1, 2, 3)), (1, 4, 4, 1)),
    "fold": (jnp.zeros((1, 9, 4)), 4, 2),
    **dict.fromkeys(["unfold", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"], (IMAGE, 2)),
    **dict.fromkeys(["normalize", "pdist", "gumbel_softmax"], (OUTPUTS,)),
    **dict.fromkeys(["cosine_similarity", "pairwise_distance", "cdist"], (OUTPUTS, OUTPUTS)),
    "one_hot": (CLASSES,),
    "scaled_dot_product_attention": (IMAGE, IMAGE, IMAGE),
    **{f"conv{n}d": (SPACE[n], KERNELS[n]) for n in SPACE},
    **{f"conv_transpose{n}d": (SPACE[n], KERNELS[n]) for n in SPACE},
    **{f"{kind}_pool{n}d": (SPACE[n], 2) for kind in ["avg", "max"] for n in SPACE},
    **{f"adaptive_{kind}_pool{n}d": (SPACE[n], 2) for kind in ["avg", "max"] for n in SPACE},
    **{f"lp_pool{n}d": (SPACE[n], 2, 2) for n in SPACE},
    **{f"max_unpool{n}d": (SPACE[n], jnp.zeros(SPACE[n].shape, jnp.int32), 2) for n in SPACE},
    **{f"fractional_max_pool{n}d": (SPACE[n], 2, 2) for n in [2, 3]},
    **dict.fromkeys(["cross_entropy", "nll_loss"], (OUTPUTS, CLASSES)),
    **dict.fromkeys(["correct", "correct_logits", "accuracy"], (OUTPUTS, CLASSES)),
    "top_k_correct": (OUTPUTS, CLASSES, 2),
    **dict.fromkeys(["top_k", "per_class_accuracy", "confusion"], (3,)),
    "confusion_matrix": (OUTPUTS, CLASSES, 3),
    "cross_entropy_of_probabilities": (jnp.full((4, 3), 0.3), CLASSES),
    "binary_cross_entropy": (jnp.full(3, 0.5), jnp.ones(3)),
    "binary_cross_entropy_with_logits": (jnp.full(3, 0.5), jnp.ones(3)),
    **dict.fromkeys(["huber_loss", "l1_loss", "mse_loss", "smooth_l1_loss"], (OUTPUTS, OUTPUTS)),
    "margin_ranking_loss": (OUTPUTS, OUTPUTS, jnp.ones((4, 3))),
    "cosine_embedding_loss": (OUTPUTS, OUTPUTS, jnp.ones(4)),
    **dict.fromkeys(["hinge_embedding_loss", "soft_margin_loss"], (OUTPUTS, jnp.ones((4, 3)))),
    "multi_margin_loss": (OUTPUTS, CLASSES),
    "multilabel_margin_loss": (OUTPUTS, jnp.zeros((4, 3), int)),
    **dict.fromkeys(["multilabel_soft_margin_loss", "poisson_nll_loss"], (OUTPUTS, OUTPUTS)),
    "gaussian_nll_loss": (OUTPUTS, OUTPUTS, jnp.ones(4)),
    "triplet_margin_loss": (OUTPUTS, OUTPUTS, OUTPUTS),
    "triplet_margin_with_distance_loss": (OUTPUTS, OUTPUTS, OUTPUTS),
    "kl_div": (OUTPUTS, jnp.exp(OUTPUTS)),
    "ctc_loss": (jnp.zeros((3, 1, 2)), jnp.ones((1, 1), int), jnp.array([3]), jnp.array([1])),
    "fan_in_uniform": (2,),
    "calculate_gain": ("relu",),
    "constant": (0.1,),
    "sparse": (0.1,),
    **dict.fromkeys(["WeightNorm", "SpectralNorm"], lambda: (layers.Linear(2, 3, **DRAWN),)),
    **{f"{name}_norm": (STEPS, 3) for name in ["layer", "rms", "group"]},
    "batch_norm": (STEPS, jnp.zeros(3), jnp.ones(3)),
    "instance_norm": (STEPS,),
    "local_response_norm": (STEPS, 2),
    **dict.fromkeys(["dropout", "dropout1d", "dropout2d", "alpha_dropout", "rrelu"], (STEPS,)),
    "dropout3d": (jnp.zeros((2, 2, 2, 2, 3)),),
    **dict.fromkeys(["feature_alpha_dropout", "hardshrink", "softshrink", "tanhshrink"], (STEPS,)),
    "softmin": (STEPS, -1),
    "threshold": (STEPS, 0.1, 0.2),
    "bilinear": (ROW, ROW, jnp.zeros((3, 2, 2))),
    "embedding_bag": (TOKEN_ROWS, jnp.zeros((5, 3))),
    **dict.fromkeys(
        ["jaxnets.tensors.abs", "amax", "amin", "norm", "median", "std", "sort"], (STEPS,)
    ),
    "clamp": (STEPS, 0.0),
    "pow": (STEPS, 2),
    "lerp": (ROW, ROW, 0.5),
    **dict.fromkeys(["jaxnets.tensors.max", "jaxnets.tensors.min", "cummax", "cummin"], (STEPS, 0)),
    **dict.fromkeys(["topk", "kthvalue"], (STEPS, 2)),
    "view_as_real": (jnp.zeros((2, 2), jnp.complex64),),
    "scatter_add": (ROW, 0, jnp.zeros((2, 2), int), ROW),
    "ModuleDict": ({"relu": layers.ReLU()},),
    "TiedLinear": (layers.Embedding(5, 3, rngs=nnx.Rngs(0)),),
    **dict.fromkeys(["identity", "is_pruned", "remove"], lambda: (pruned_layer(), "weight")),
    "prune": lambda: (pruned_layer(), "weight", pruning.Identity()),
    **dict.fromkeys(
        ["l1_unstructured", "random_unstructured"], lambda: (pruned_layer(), "weight", 0.5)
    ),
    "ln_structured": lambda: (pruned_layer(), "weight", 0.5, 2, 0),
    "random_structured": lambda: (pruned_layer(), "weight", 0.5, 0),
    "global_unstructured": lambda: ([(pruned_layer(), "weight")], pruning.L1Unstructured),
    "custom_from_mask": lambda: (pruned_layer(), "weight", np.ones((3, 2))),
    "region": lambda: (pruned_layer(), "weight", 0),
    "diagonal": lambda: (pruned_layer(), "weight"),
    **dict.fromkeys(["L1Unstructured", "RandomUnstructured"], (0.5,)),
    "LnStructured": (0.5, 2),
    "RandomStructured": (0.5,),
    "CustomFromMask": (np.ones((3, 2)),),
    "keep_masks": (optimizers.sgd(),),
    "pruned": (model(), 0.5),
    **dict.fromkeys(["sparsity", "mask_zeros"], (model(),)),
    "make_permanent": lambda: (pruned_layer(),),
    "structure": (model(), model()),
    "jaxnets.pruning.restructured": (model(), {}),
    "remove_units": (MLP((2, 3, 2), **DRAWN), jnp.zeros((2, 2)), {"fc1": 2}),
    "merge_units": (model(), jnp.zeros((2, 2))),
    "remove_layers": (MLP((2, 2, 2), **DRAWN), jnp.zeros((2, 2)), "fc1"),
    **dict.fromkeys(
        ["saliency", "input_x_gradient", "smooth_grad", "integrated_gradients", "occlusion"],
        (model(), SPLIT.inputs),
    ),
    **dict.fromkeys(["activations", "features", "network_graph"], (model(), SPLIT.inputs)),
    **dict.fromkeys(["draw_graph", "draw_kernels"], (model(), SPLIT.inputs)),
    "draw_activations": (model(), SPLIT.inputs[:1]),
    "draw_histograms": (model(),),
    "parameter_gradients": (model(), SPLIT.inputs, SPLIT.labels, losses.cross_entropy),
    "project": (np.eye(4),),
    "draw_embedding": (np.zeros((4, 2)), SPLIT.labels),
    "draw_image": (np.zeros((2, 2)), np.zeros((2, 2))),
    **dict.fromkeys(["draw_text", "draw_bars"], (["a"], np.zeros(1))),
    "token_attributions": lambda: (words(), TEXTS.inputs),
    "grad_cam": lambda: (convolution(), np.zeros((2, 4, 4, 3), np.float32)),
    "permutation_importance": (model(), SPLIT.inputs, SPLIT.labels),
    **dict.fromkeys(["port", "from_torch"], (TorchNetwork(2, 3), torch.ones(4, 2))),
}
#: Valid values of keyword arguments.
NAMED = {
    "dates": {"count": 20},
    "integrated_gradients": {"n_steps": 2},
    "token_attributions": {"n_steps": 2},
    "occlusion": {"sliding_window_shapes": 1},
    "train_many": {"seeds": 1},
    "search": {"trials": 1},
    "load_torch_optimizer": {"names": ["weight", "bias"]},
    "to_torch_optimizer": {"names": ["weight", "bias"]},
    "run": {"loss": losses.cross_entropy, "torch_optimizer": torch_sgd, "epochs": 1},
    "RatingsDataset": {"encoder": data.RatingsEncoder(("1", "2"), ("3", "4"))},
    "StandardizedDataset": {"inputs_scaler": data.Standardizer(0.0, 1.0)},
    "TextDataset": {"encoder": ENCODER},
    "AudioDataset": {"audio": data.AudioFormat(8000, 2)},
    "TableDataset": {"encoder": data.TableEncoder((data.TableColumn("size"),))},
    "epoch_plan": {"seed": 0, "epoch": 0},
    "evaluate": {"loss": losses.cross_entropy, "split": SPLIT},
    "fixmatch": {"weak": data.ToFloat(), "strong": data.ToFloat()},
    "fit": {"loss": losses.cross_entropy, "optimizer": optimizers.sgd(), "epochs": 1},
    "global_unstructured": {"amount": 0.5},
}
#: Records that other code creates, exceptions and the like: their fields are not settings.
RECORDS = {
    *["Side", "Control", "Timing", "Finding", "Disagreement", "Equivalence", "GivenImage"],
    *["paired", "independent", "read_image", "open_image", "RandomTransform"],
    *["BegunRun", "Saved", "Checkpoints", "Recipe", "extend", "error_in_units", "joined"],
    *["evaluation_of", "with_step"],
    *["check_recipe", "fit_settings", "initial_model", "learning_rate", "load_named", "of_own"],
    *["Objective", "objective_of", "AveragePrecision", "Detection"],
    *["vae_loss", "discriminator_loss", "generator_loss", "diffusion_loss"],
    "SavedRun",
    *["Clusters", "PrincipalComponents"],
    *["Classification", "ClassScores", "Calibration", "Mistake", "Regression", "RegressionScores"],
    *["LRRangeTest", "SearchResult", "Trial"],
    "Sparsity",
    "Chosen",
    "Comparison",
    "Course",
    "Divergence",
    "ElementSpec",
    "EpochRecord",
    "Evaluation",
    "Examples",
    "FromSums",
    "GraphNode",
    "InputError",
    "IntegratedGradients",
    "Interrupted",
    "Joined",
    "Mean",
    "MemberRun",
    "Metric",
    "NonFiniteLossError",
    "OptimizerState",
    "Pair",
    "PermutationImportance",
    "Plan",
    "Plateau",
    "PlateauState",
    "PortError",
    "Ported",
    "Range",
    "Ratio",
    "RecordPairs",
    "Records",
    "Refusal",
    "Report",
    "RunSoFar",
    "Schedule",
    "Soup",
    "StateDict",
    "Step",
    "StepMetrics",
    "StepComparison",
    "StopTraining",
    "Summary",
    "Timings",
    "Trace",
    "TrainState",
    "TrainingRun",
    "TrainingRuns",
    "Transfer",
    "WeightsError",
}


class Started(BaseException):
    """Raised when all arguments are accepted and the work would begin."""


def start(*given, **named):
    raise Started


def parameters(make):
    function = make.__init__ if inspect.isclass(make) else make
    found = inspect.signature(function).parameters.values()
    several = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return [p for p in found if p.name != "self" and p.kind not in several]


def builders():
    """Every public name with arguments, except for records, once each."""
    paths = [*(path for path in PATHS if path not in PUBLIC), *PUBLIC]
    paths = [path for path in paths if path.rpartition(".")[2] not in RECORDS]
    found = {path: meant(path) for path in paths}
    found = {path: v for path, v in found.items() if inspect.isroutine(v) or inspect.isclass(v)}
    found.pop("jaxnets.runs.write", None)  # of a finished run
    once = {id(value): path for path, value in found.items()}
    return {path: found[path] for path in sorted(once.values()) if parameters(found[path])}


BUILDERS = builders()


def case_of(path):
    """The case of a layer; None for other names, and for layers in ``GOOD``."""
    last = path.rpartition(".")[2]
    return FIRST.get(last) if path.startswith("jaxnets.layers.") and last not in GOOD else None


def good(path):
    names, last = [p.name for p in parameters(BUILDERS[path])], path.rpartition(".")[2]
    given = GOOD.get(path, GOOD.get(last, ()))
    given = given() if callable(given) else given
    if case := case_of(path):
        given = case.built_arguments(lambda one: our_layer(one, **DRAWN))
    given = dict(zip(names, given, strict=False))
    given |= {**case.options, **case.ours} if case else {}
    return {**given, **NAMED.get(last, {}), **({"rngs": nnx.Rngs(0)} if "rngs" in names else {})}


def bad_values():
    """Yields bad values; they are created for each call, as some can be used only once."""
    yield from [None, True, np.True_, -1, 0, 2.5, math.nan, -math.inf, 1j, 2**70, 10**5000]
    yield from ["", "junk\n\x1b[31m", "x" * 1000, b"bytes", object(), int, jnp, DATA]
    yield from [(), {"a": np.ones((30, 30))}, [np.ones((30, 30))] * 9, [None], [[0.0, 0.0]] * 4]
    yield from [lambda *given, **named: None, lambda: 0, (i for i in range(3)), nnx.Rngs(0)]
    yield from [jnp.ones((30, 30)), np.array(3), np.zeros((0, 5)), np.ma.masked_array([1.0], [1])]
    yield from [np.ones(4, ">f4"), np.ones(4, np.longdouble), np.array([object()] * 4)]
    yield from [np.zeros(4, "i4,f8"), np.array(["2020"] * 4, "M8[D]"), np.array(["word"] * 4)]


@functools.cache
def torch_values():
    layer = torch.nn.Linear(2, 3)
    gradients = torch.ones(4, 2, requires_grad=True)
    return [gradients, layer, torch.optim.SGD(layer.parameters()), torch.nn.MSELoss()]


def fault(call, value):
    """The problem with the error of a call; None if the error is good or the value is accepted."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Python iterable type", DeprecationWarning)
            call()
    except (Started, ImportError):
        return None
    except InputError as error:
        message = re.sub(r"/\S*", "", str(error))  # without the paths of folders
        dumped = re.search(r"array\(\[|tensor\(|Tracer|\n", message)
        listed = error.whole or isinstance(error, interop.WeightsError)
        return message if not listed and (dumped or len(message) >= 300) else None
    except Exception as error:
        return f"{type(error).__name__} at {shown(value)}: {error}"
    return None


@pytest.fixture
def no_work(monkeypatch, tmp_path):
    """Prevents compilation and training; files are written only to a temporary folder."""
    monkeypatch.chdir(tmp_path)
    for place in ["fit.Loop", "minimize.measure", "evaluation.Compiled"]:
        module, _, name = place.partition(".")
        monkeypatch.setattr(sys.modules[f"jaxnets.training.{module}"], name, start)
    monkeypatch.setattr("jaxnets.compare.own.compared", start)
    monkeypatch.setattr("jaxnets.sampling._draw", start)
    monkeypatch.setattr("jaxnets.sampling._draw_images", start)
    monkeypatch.setattr("jaxnets.search.studies._database", start)
    monkeypatch.setattr("jaxnets.explain.permutation.predict", start)
    for module in ["drawing", "inside_drawing", "graph"]:
        monkeypatch.setattr(f"jaxnets.explain.{module}.new_figure", start)
    for module, name in PROGRAMS:
        monkeypatch.setattr(f"jaxnets.explain.{module}._{name}", start)
    monkeypatch.setattr("jaxnets.losses.ctc.negative_log_likelihood", start)
    monkeypatch.setattr("jaxnets.training.storage._QUIET", 0)


#: Functions that explanations compile.
PROGRAMS = [
    *[("gradients", name) for name in ["saliency", "input_x_gradient", "smooth_grad"]],
    *[("integrated", name) for name in ["integrated_gradients", "token_attributions"]],
    *[("cam", "grad_cam"), ("covering", "occlusion")],
    *[("inside", name) for name in ["features", "gradients"]],
]
#: Functions of arrays. The outputs for values that they accept are not checked here.
COMPUTES = re.compile(r"jaxnets\.(layers|losses|metrics|tensors|data\.transforms)\.(?!.*one_hot$)")


def faults_of(make, given, bad):
    """The problems with the errors for bad values, by argument."""
    faults = {}
    for name, values in bad.items():
        for value in values:
            if found := fault(functools.partial(make, **{**given, name: value}), value):
                faults.setdefault(name, []).append(found)
    return faults


@pytest.mark.slow
@pytest.mark.parametrize("path", BUILDERS)
def test_a_bad_value_is_refused_in_one_short_sentence(path, no_work):
    make, given = BUILDERS[path], good(path)
    bad = {p.name: [*bad_values(), *torch_values()] for p in parameters(make)}
    faults = {}

    def find():
        faults.update(faults_of(make, given, bad))

    if inspect.isroutine(make) and COMPUTES.match(path) and "rngs" not in given:
        jax.eval_shape(find)  # does not compile
    else:
        find()
    assert faults == {}


SETTINGS = re.compile(r"jaxnets\.(layers|optimizers|models|data\.transforms|initializers)\.")
#: Functions whose arguments are not settings; other tests check them.
OF_ARRAYS = re.compile(
    r"adjust_|augment|check_transforms|flatten|is_random|learning_rate|OnColumn|AfterTr"
)
SIMPLE = {bool: [1, None, np.ones(2, bool)], float: [None, True, 1j, np.ones(2)]}
SIMPLE[int] = [None, True, 1.5, np.ones(2, int)]


def strange(path, parameter):
    """Yields values that are invalid for any setting, and for arguments with this annotation."""
    array = parameter.annotation in (ArrayLike, ArrayLike | None)
    if SETTINGS.match(path) and not OF_ARRAYS.search(path) and not array:
        yield from ["junk", object(), math.nan, 10**400]
    yield from SIMPLE.get(parameter.annotation, [])


@pytest.mark.parametrize("path", tier.one_in(2, BUILDERS))
def test_nothing_of_another_kind_gets_in(path, no_work):
    given = good(path)
    for parameter in parameters(BUILDERS[path]):
        for value in strange(path, parameter):
            got = value if isinstance(value, str) else re.escape(shown(value))
            message = rf"^{parameter.name}(\[0\])?: expected .*, got {got}"
            with pytest.raises(ValueError, match=message):
                BUILDERS[path](**{**given, parameter.name: value})


#: Inputs of the objects of a class. The default is one row; layers get the inputs of their case.
CALLED = {
    "TiedLinear": (jnp.ones((2, 3)),),
    **dict.fromkeys(["GRU", "RNN"], (STEPS, jnp.zeros((1, 2, 4)))),
    "LSTM": (STEPS, (jnp.zeros((1, 2, 4)), jnp.zeros((1, 2, 4)))),
    "LSTMCell": (jnp.zeros((2, 3)), (jnp.zeros((2, 4)), jnp.zeros((2, 4)))),
    **dict.fromkeys(["TextClassifier", "LanguageModel", "TransformerClassifier"], (TOKEN_ROWS,)),
    "GPT": (TOKEN_ROWS[:, :2],),
    "ViT": (jnp.zeros((2, 2, 2, 3)),),
    "VAE": (jnp.zeros((2, 2, 2, 1)),),
    **dict.fromkeys(["DCGAN", "Generator"], (jnp.zeros((2, 2)),)),
    "Discriminator": (jnp.zeros((2, 28, 28, 1)),),
    **dict.fromkeys(["Diffusion", "UNet"], (jnp.zeros((2, 4, 4, 1)), jnp.zeros(2, jnp.int32))),
    **dict.fromkeys(["Seq2Seq", "TransformerSeq2Seq"], (TOKEN_ROWS, TOKEN_ROWS)),
    "LeNet": (jnp.zeros((2, 28, 28, 1)),),
    **dict.fromkeys(["MatrixFactorization", "NeuMF"], (jnp.zeros(2, int), jnp.zeros(2, int))),
    "MLP": (jnp.zeros((2, 784)),),
    "CenterNet": (jnp.zeros((2, 8, 8, 1)),),
    "Autoencoder": (jnp.zeros((2, 4)),),
    "ImageClassifier": (jnp.zeros((2, 3072)),),
    "LinearRegression": (jnp.zeros((2, 1)),),
    "RecurrentClassifier": (jnp.zeros((2, 3, 2)),),
    **dict.fromkeys(["ToFloat", "Normalize", "Affine", "CenterCrop", "Pad"], (PIXELS,)),
    **dict.fromkeys(["Resize", "Rotate", "ImageRows"], (PIXELS,)),
    **dict.fromkeys(["RandomAffine", "RandomCrop", "RandomErasing"], (PIXELS, jax.random.key(0))),
    **dict.fromkeys(["ColorJitter", "RandomRotation"], (PIXELS, jax.random.key(0))),
    "RandomHorizontalFlip": (PIXELS, jax.random.key(0)),
    **dict.fromkeys(["CutMix", "Mixup"], (PIXELS, jnp.zeros(2, jnp.int32), jax.random.key(0))),
    "OneHot": (jnp.zeros(2, jnp.int32),),
    **dict.fromkeys(["Spectrogram", "MelSpectrogram", "MFCC"], (jnp.ones((2, 400)),)),
    "MelScale": (jnp.ones((2, 3, 201)),),
    "AmplitudeToDB": (jnp.ones((2, 3, 4)),),
    "FrameCounts": (jnp.ones(2, jnp.int32),),
    "SpecAugment": (jnp.ones((2, 3, 4)), jax.random.key(0)),
    "SpeechCNN": (jnp.ones((2, 8, 40)),),
    "SpeechGRU": (jnp.ones((2, 3, 40)), jnp.array([3, 2])),
    "SpeechRecognizer": (jnp.ones((2, 8, 40)), jnp.array([8, 4])),
    "OnColumn": ((PIXELS,),),
    "Tokenizer": ("a b",),
    "TextEncoder": (["a b"],),
    "TableEncoder": ([{"size": 1}],),
}
MADE = "jaxnets.(layers|models|data.transforms|data.text|data.Standardizer|data.Table)"
CLASSES = {
    path: make
    for path, make in {path: meant(path) for path in PUBLIC}.items()
    if re.match(MADE, path) and inspect.isclass(make) and not inspect.isabstract(make)
    if any("__call__" in vars(base) for base in make.__mro__)
}


def called(path):
    """The inputs of an object of a class."""
    last, case = path.rpartition(".")[2], case_of(path)
    if case and last not in CALLED:
        return [jnp.asarray(case.to_ours(value)) for value in case.values()]
    return CALLED.get(last, (ROW,))


@pytest.mark.parametrize("path", CLASSES)
@pytest.mark.slow
def test_a_call_refuses_bad_values_in_one_short_sentence(path):
    made = CLASSES[path](**good(path)) if path in BUILDERS else CLASSES[path]()
    names = [p.name for p in inspect.signature(made).parameters.values() if p.kind < 2]
    given = dict(zip(names, called(path), strict=False))
    bad = {name: [*bad_values(), *torch_values()] for name in given}
    assert faults_of(made, given, bad) == {}


def commands(command=cli, words=()):
    """Yields every command with the words that call it."""
    if isinstance(command, click.Group):
        for name in command.list_commands(None):
            yield from commands(command.get_command(None, name), (*words, name))
    else:
        yield words, command


COMMANDS = {" ".join(words): command for words, command in commands() if command.params}
#: Valid arguments.
WORDS = {
    "data head": ["linear"],
    "data info": ["linear"],
    "data check": ["no-folder"],
    "combine": ["no-run"],
    "compare": ["linear-regression"],
    "evaluate": ["no-run"],
    "port": ["no-file.py:Net", "--input", "2x3"],
    "train": ["linear-regression"],
    "summary": ["linear-regression"],
    "predict": ["no-run", "text"],
    "export": ["no-run", "--out", "new.onnx"],
    "serve": ["no-run"],
    "prune": ["no-run", "--amount", "0.5", "--out", "new"],
    "explain": ["no-run", "text"],
    "visualize": ["no-run"],
    "inspect": ["no-file"],
    "search": ["linear-regression", "--lr", "1e-3..1", "--trials", "1"],
    "lr-find": ["linear-regression"],
    "convert": ["no-file", "new", "--model", "LinearRegression"],
    "quantize": ["no-run", "--out", "new"],
}
BAD_WORDS = ["", " ", "junk", "-1", "0", "2.5", "nan", "-inf", "1e400", "9" * 50, "x" * 1000]
BAD_WORDS += ["é\x1b[31m\n", "../..", "/dev/null", "a=", "a=1", "=1", "a=[1,", "a=" + "[" * 500]
BAD_WORDS += ["1,2", "1,,2", "true", "None", "[1, 2]", "~nobody/x", "train[:", "a\0b"]


def said(words, capsys):
    """Returns what is wrong with the error message of a command; None if nothing is."""
    try:
        code = main(["--no-cache", *words])
    except Started:
        return None
    except Exception as error:
        return f"{words}: {type(error).__name__}: {error}"
    message = capsys.readouterr().err
    one = message.count("\n") == 1 and message.startswith("jaxnets: ") and len(message) < 310
    return None if code == 0 or (code in (1, 2) and one) else f"{words}: {code}, {message}"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_a_bad_word_is_refused_in_one_short_sentence(command, no_work, monkeypatch, capsys):
    monkeypatch.setattr("jaxnets.commands.compare.compared", start)
    monkeypatch.setenv(VARIABLE, "off")  # which --no-cache sets
    first, faults = command.split(), []
    for parameter in COMMANDS[command].params:
        for bad in BAD_WORDS:
            if isinstance(parameter, click.Argument):
                place = [p.name for p in COMMANDS[command].params].index(parameter.name)
                words = [*WORDS[command]]
                words[place : place + 1] = [bad]
            elif parameter.is_flag:
                words = [*WORDS[command], f"{parameter.opts[0]}={bad}"]
            else:
                words = [*WORDS[command], parameter.opts[0], *[bad] * parameter.nargs]
            if (found := said([*first, *words], capsys)) is not None:
                faults.append(found)
    assert faults == []
