"""Recipes for recommendation."""

from jaxnets.recipes.recipe import Recipe

RECIPES = (
    Recipe(
        name="ratings-mf",
        document=(
            "Koren et al., 2009: matrix factorization with biases, on generated ratings, a fifth "
            "held out by chance; --data u.data for MovieLens"
        ),
        expect=(
            "RMSE 0.768 ± 0.013 for 3 seeds (the biases alone 0.829, the best possible 0.700), in "
            "7 s on 2 CPU cores"
        ),
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
        expect=(
            "hit rate@10 52.4 ± 0.3 % for 3 seeds (popularity 41.3 %, the best possible 55.7 %), "
            "in 17 s on 2 CPU cores"
        ),
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
