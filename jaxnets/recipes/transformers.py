"""Recipes for Transformers and for sequence to sequence."""

from collections.abc import Mapping
from typing import Any

from jaxnets.arrays import InputError
from jaxnets.models.seq2seq import teacher_forcing
from jaxnets.recipes.recipe import Objective, Recipe
from jaxnets.training.minimize import minimize


def _teacher_forcing(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    if objective.get("compute_dtype") is not None:
        expected = "None, with the objective teacher-forcing"
        raise InputError("compute_dtype", expected, objective["compute_dtype"])
    return minimize(teacher_forcing, **update)


#: The objectives of these recipes; see ``jaxnets.recipes.OBJECTIVES``.
OBJECTIVES = {"teacher-forcing": Objective(_teacher_forcing)}

RECIPES = (
    Recipe(
        name="char-gpt",
        document=(
            "nanoGPT's smallest setting for CPUs: 4 layers, 4 heads, 128 values a character, "
            "blocks of 64 characters, AdamW, 2,000 steps of 12 blocks; here the blocks overlap and "
            "each occurs once, and the last tenth of the text is held out"
        ),
        expect="on tinyshakespeare 1.754 nats a character (seed 0), where nanoGPT has 1.88",
        score="loss",
        data="text",
        data_options={"stride": 42},
        model="gpt",
        model_options={"block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128},
        optimizer="adamw",
        optimizer_options={"lr": 0.004, "betas": (0.9, 0.99), "weight_decay": 0.1},
        scheduler="onecycle",
        scheduler_options={"pct_start": 0.05, "final_div_factor": 1.6},
        epochs=1,
        batch_size=12,
        layout="tokens",
    ),
    Recipe(
        name="dates-seq2seq",
        document=(
            "Bahdanau, Cho and Bengio (2015): a GRU encoder and decoder with additive attention, "
            "here from dates in English words to ISO 8601, character by character"
        ),
        expect="100 % exact match (seed 0)",
        data="dates",
        model="seq2seq",
        model_options={"embedding_dim": 32, "hidden_dim": 64},
        objective="teacher-forcing",
        optimizer="adam",
        optimizer_options={"lr": 0.003},
        scheduler="cosine",
        epochs=4,
        layout="tokens",
    ),
    Recipe(
        name="dates-transformer",
        document=(
            "Vaswani et al. (2017): a Transformer encoder and decoder, here from dates in English "
            "words to ISO 8601, character by character"
        ),
        expect="99.4 % exact match (seed 0)",
        data="dates",
        model="transformer-seq2seq",
        model_options={
            "d_model": 64,
            "nhead": 4,
            "num_layers": 2,
            "dim_feedforward": 128,
            "norm_first": True,
        },
        objective="teacher-forcing",
        optimizer="adam",
        optimizer_options={"lr": 0.002},
        scheduler="onecycle",
        scheduler_options={"pct_start": 0.1},
        epochs=8,
        layout="tokens",
    ),
    Recipe(
        name="sentiment-transformer",
        document=(
            "Vaswani et al. (2017): the encoder, with a mean over the words, on the sentences of "
            "film reviews of sentiment-lstm, a tenth held out by chance"
        ),
        data="rt-polarity",
        model="transformer-classifier",
        model_options={
            "d_model": 64,
            "nhead": 4,
            "num_layers": 1,
            "dim_feedforward": 128,
            "dropout": 0.5,
        },
        loss="binary-cross-entropy",
        optimizer="adamw",
        optimizer_options={"lr": 0.001, "weight_decay": 0.5},
        scheduler="cosine",
        epochs=6,
        layout="tokens",
        buckets=2,
    ),
    Recipe(
        name="mnist-vit",
        document=(
            "Dosovitskiy et al. (2021): a small Vision Transformer on patches of 4x4 pixels, here "
            "of MNIST, normalised, AdamW with one cycle of the learning rate"
        ),
        expect="96.8 % after 2 of the epochs (--epochs 2, seed 0)",
        data="mnist",
        model="vit",
        model_options={
            "image_size": 28,
            "patch_size": 4,
            "num_layers": 4,
            "num_heads": 4,
            "hidden_dim": 64,
            "mlp_dim": 128,
            "num_classes": 10,
            "in_channels": 1,
        },
        optimizer="adamw",
        optimizer_options={"lr": 0.002, "weight_decay": 0.05},
        scheduler="onecycle",
        epochs=5,
        normalize=(0.1307, 0.3081),
    ),
)
