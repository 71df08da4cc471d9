"""Recipes for recommendation."""

from jaxnets.recipes.recipe import Recipe

RECIPES = (
    Recipe(
        name="ratings-mf",
        document=(
            "Koren et al., 2009: matrix factorization with biases, on generated ratings, a fifth "
            "held out by chance; --data u.data for MovieLens"
        ),
        expect="to be measured",
        data="ratings",
        model="matrix-factorization",
        model_options={"factors": 4},
        loss="mse",
        optimizer="adamw",
        optimizer_options={"lr": 0.005, "weight_decay": 0.1},
        epochs=40,
        batch_size=256,
        layout="columns",
    ),
    Recipe(
        name="ratings-ncf",
        document=(
            "He et al., 2017: NeuMF on implicit feedback, 4 negatives for each pair, Adam 0.001, "
            "batch 256, on generated ratings; the last of each user held out among 99 not rated"
        ),
        expect="to be measured",
        data="ratings",
        model="neural-collaborative-filtering",
        model_options={"factors": 8, "features": (64, 32, 16, 8)},
        loss="binary-cross-entropy-with-logits",
        objective="implicit",
        score="hit_rate_10",
        optimizer="adam",
        optimizer_options={"lr": 0.001},
        epochs=10,
        batch_size=256,
        layout="columns",
    ),
)
