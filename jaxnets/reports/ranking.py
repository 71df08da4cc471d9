"""Ranks items for the users of a recommender."""

import numpy as np
from flax import nnx

from jaxnets import scores
from jaxnets.arrays import InputError
from jaxnets.data import Rated, RatingsDataset
from jaxnets.data.dataset import in_memory
from jaxnets.training import predict

_PAIRS = 1_000_000  # of a user and an item that are scored at a time
_CUTOFF = 10


def item_scores(model: nnx.Module, users: np.ndarray, num_items: int) -> np.ndarray:
    """Returns the output of a network for each user and each item, float32 [users, items].

    Args:
        model: a network of ``user`` and ``item``, integers [batch], that returns [batch].
        users: the indices of the users, integers [users].
        num_items: the number of items.
    """
    some = max(1, _PAIRS // num_items)
    rows = []
    for start in range(0, len(users), some):
        part = users[start : start + some].astype(np.int32)
        items = np.tile(np.arange(num_items, dtype=np.int32), len(part))
        inputs = {"item": items, "user": np.repeat(part, num_items)}
        rows.append(predict(model, inputs, batch_size=10_000).reshape(len(part), num_items))
    return np.concatenate(rows)


def recommend(
    model: nnx.Module, rated: Rated, user: int, top: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the items with the largest outputs among those that a user has not rated.

    Args:
        model: see ``item_scores``.
        rated: the items that each user has rated.
        user: the user's index.
        top: the number of items.

    Returns:
        The indices of the items, best first, int64 [n], and their outputs, float32 [n]. n is
        ``top``, or the number of unrated items if that is smaller.
    """
    outputs = item_scores(model, np.array([user]), rated.num_items)[0]
    left = np.setdiff1d(np.arange(rated.num_items), rated.by(user))
    best = left[np.argsort(-outputs[left], kind="stable")][:top]
    return best, outputs[best]


def ranking(model: nnx.Module, data: RatingsDataset, outputs: np.ndarray) -> dict[str, float]:
    """Computes the hit rate and the NDCG at 10 of the test examples of implicit feedback.

    Args:
        model: see ``item_scores``.
        data: implicit feedback.
        outputs: the outputs for the test rows.

    Returns:
        Both scores among the candidates of each test example, and both among all items that the
        user has not rated.

    Raises:
        InputError: if the data are explicit feedback.
    """
    if data.candidates is None:
        raise InputError("data", "implicit feedback, as negatives=99 makes", data.name)
    candidates = outputs.reshape(-1, data.candidates)
    found = _at_cutoff(scores.places(candidates, np.zeros(len(candidates), np.int64)), "")
    test, rated = in_memory(data.test), data.rated()
    user, item = (test.inputs[name][:: data.candidates] for name in ("user", "item"))
    every = item_scores(model, user, rated.num_items).astype(np.float64)
    for row, of, own in zip(every, user.tolist(), item.tolist(), strict=True):
        others = rated.by(of)
        row[others[others != own]] = -np.inf
    return found | _at_cutoff(scores.places(every, item), "_all_items")


def _at_cutoff(places: np.ndarray, suffix: str) -> dict[str, float]:
    return {
        f"hit_rate_{_CUTOFF}{suffix}": scores.hit_rate(places, _CUTOFF),
        f"ndcg_{_CUTOFF}{suffix}": scores.ndcg(places, _CUTOFF),
    }
