"""Ratings of items by users: tables of (user, item, rating, time) as data sets."""

from jaxnets.data.ratings.dataset import RatingsDataset, RatingsEncoder
from jaxnets.data.ratings.negatives import SampleNegatives
from jaxnets.data.ratings.rated import Rated

__all__ = ["Rated", "RatingsDataset", "RatingsEncoder", "SampleNegatives"]
