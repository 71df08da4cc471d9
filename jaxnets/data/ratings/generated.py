"""Ratings that are drawn from a model: latent factors, biases, popularity and noise."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxnets.data.ratings.files import Table

USERS, ITEMS = 1000, 500
_FACTORS, _LOW, _HIGH = 4, 1, 5
_MEAN, _USER, _ITEM, _TASTE, _NOISE = 3.3, 0.4, 0.5, 0.6, 0.7  # the last four standard deviations
_MEDIAN, _LEAST, _MOST = 60, 20, 250  # ratings of a user
_LIKING = 1.0  # weight of a user's taste in the choice of items to rate


@dataclass(frozen=True, eq=False)
class Truth:
    """The distribution of the generated ratings.

    Attributes:
        expected: the rating that each user would give to each item on average, after noise,
            rounding and clipping, float64 [users, items]. No other prediction has a smaller mean
            squared error.
        choice: the logarithm of the weight with which each user chooses each item to rate, up to a
            constant for each user, float64 [users, items]. Ranking the items by it gives the best
            possible recommendations.
    """

    expected: np.ndarray
    choice: np.ndarray


def generate() -> tuple[Table, Truth]:
    """Generates about 72,000 ratings from 1 to 5 of 500 items by 1,000 users; always the same.

    A rating is μ + b_u + b_i + p_u·q_i + ε with p, q of 4 normal factors and ε normal with a
    standard deviation of 0.7, rounded and clipped. A tenth of the items has a third of the
    ratings, and users are more likely to rate items that they like. Each user rates items in a
    random order, which the times follow.
    """
    draw = np.random.Generator(np.random.Philox(key=5))
    users, items = (draw.normal(size=(n, _FACTORS)) for n in (USERS, ITEMS))
    taste = _TASTE / math.sqrt(_FACTORS) * users @ items.T
    biases = _USER * draw.normal(size=(USERS, 1)) + _ITEM * draw.normal(size=ITEMS)
    mean = _MEAN + biases + taste
    popularity = -np.log(draw.permutation(ITEMS) + 5.0)  # Zipf's law, flattened at its top
    choice = popularity + _LIKING * taste / _TASTE
    counts = np.exp(math.log(_MEDIAN) + 0.6 * draw.normal(size=USERS))
    counts = np.clip(counts.round().astype(int), _LEAST, _MOST)
    # the n largest of the logarithms plus Gumbel noise are n draws without replacement
    order = np.argsort(-(choice + draw.gumbel(size=choice.shape)), axis=1)
    chosen = [draw.permutation(row[:count]) for row, count in zip(order, counts, strict=True)]
    user, item = np.repeat(np.arange(USERS), counts), np.concatenate(chosen)
    given = mean[user, item] + _NOISE * draw.normal(size=len(user))
    values = np.clip(np.rint(given), _LOW, _HIGH).astype(np.float32)
    times = np.concatenate([np.sort(draw.integers(0, 10**8, count)) for count in counts])
    names = [[str(each + 1) for each in column.tolist()] for column in (user, item)]
    table = Table(Path("ratings"), names[0], names[1], values, times.astype(np.float64))
    return table, Truth(_expected(mean), choice)


def _expected(mean: np.ndarray) -> np.ndarray:
    """Returns the mean of ratings, given their mean before noise, rounding and clipping."""
    total = np.full(mean.shape, float(_LOW))
    for limit in np.arange(_LOW, _HIGH) + 0.5:  # a rating is 1, and 1 more for each limit below it
        total += _normal((mean - limit) / _NOISE)
    return total


def _normal(x: np.ndarray) -> np.ndarray:
    """The cumulative normal distribution."""
    return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
