"""Recipes for recommendation."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from jaxnets.arrays import InputError
from jaxnets.data import Dataset, RatingsDataset, SampleNegatives
from jaxnets.metrics import Ratio, hit_rate, ndcg
from jaxnets.recipes.recipe import Objective, Recipe
from jaxnets.recipes.tested import tested
from jaxnets.training import minimize
from jaxnets.training.evaluation import EVALUATION_BATCH

#: Items not rated in a test example of implicit feedback, as in He et al., 2017.
NEGATIVES = 99


@dataclasses.dataclass(frozen=True)
class OfCandidates:
    """A metric of the candidates of test examples, which is empty for a batch of other rows.

    ``fit`` traces the evaluation on a training batch too, to check its columns.

    Attributes:
        measure: a metric of whole test examples.
        candidates: the number of rows in a test example.
    """

    measure: Callable[[Any, Any], Any]
    candidates: int

    def __call__(self, outputs: Any, labels: Any) -> Any:
        """The metric of a batch."""
        if outputs.size % self.candidates:
            return Ratio(jnp.float32(0), jnp.int32(0))
        return self.measure(outputs, labels)


def _implicit(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    return minimize(tested(objective), **update)


def of_ratings(data: Dataset) -> RatingsDataset:
    """Checks that data are ratings.

    Raises:
        ValueError: if they are not.
    """
    if not isinstance(data, RatingsDataset):
        expected = "ratings, such as the generated ones or u.data of MovieLens"
        raise InputError("data", expected, data.name)
    return data


def _settings(recipe: Recipe, data: Dataset) -> dict[str, Any]:
    """The negatives that training draws, and the metrics of the test's candidates."""
    rated = of_ratings(data)
    metrics = {"metrics": _ranking(rated)}
    return (
        metrics if recipe.augment else {**metrics, "augment": SampleNegatives(rated.rated("train"))}
    )


def _ranking(data: RatingsDataset) -> dict[str, Any]:
    """The metrics of the order of the candidates in a test example."""
    if data.candidates is None:
        expected = "negatives=99, or another number, for implicit feedback"
        raise InputError("data_options", expected, "none")
    if EVALUATION_BATCH % data.candidates:
        expected = f"a number such as 99, so that {EVALUATION_BATCH} rows are whole test examples"
        raise InputError("negatives", expected, data.candidates - 1)
    count = data.candidates
    measures = {"hit_rate_10": hit_rate(10, count), "ndcg_10": ndcg(10, count)}
    return {name: OfCandidates(measure, count) for name, measure in measures.items()}


#: The objectives of these recipes; see ``jaxnets.recipes.OBJECTIVES``.
OBJECTIVES = {
    "implicit": Objective(
        _implicit, settings=_settings, data_options={"negatives": NEGATIVES}, is_compared=True
    )
}

RECIPES = (
    Recipe(
        name="ratings-mf",
        document=(
            "Koren et al., 2009: matrix factorization with biases, on generated ratings, a fifth "
            "held out by chance; --data u.data for MovieLens"
        ),
        expect="the biases alone have RMSE 0.829, and 0.700 is the best possible",
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
        expect="popularity has 41.3 %, and 55.7 % is the best possible",
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
