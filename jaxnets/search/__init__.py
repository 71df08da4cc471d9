"""Hyperparameter search over a recipe, and the learning-rate range test."""

from jaxnets.search.rates import LRRangeTest, lr_range_test, smoothed, steepest
from jaxnets.search.results import SearchResult, Trial
from jaxnets.search.searching import search
from jaxnets.search.space import Between, Space

__all__ = [
    "Between",
    "LRRangeTest",
    "SearchResult",
    "Space",
    "Trial",
    "lr_range_test",
    "search",
    "smoothed",
    "steepest",
]
