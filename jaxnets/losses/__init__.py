"""Losses: pure functions with the names and parameters of ``torch.nn.functional``.

A loss takes outputs and labels. By default it returns the mean loss, a scalar in the outputs'
dtype. Classes are the last axis, [N, d1, ..., C]; in PyTorch they are axis 1.
"""

from collections.abc import Callable

import jax

from jaxnets.losses.binary import binary_cross_entropy, binary_cross_entropy_with_logits
from jaxnets.losses.classification import cross_entropy, cross_entropy_of_probabilities, nll_loss
from jaxnets.losses.ctc import ctc_loss
from jaxnets.losses.divergence import kl_div
from jaxnets.losses.likelihood import gaussian_nll_loss, poisson_nll_loss
from jaxnets.losses.margins import (
    cosine_embedding_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    soft_margin_loss,
)
from jaxnets.losses.reduction import Reduction
from jaxnets.losses.regression import huber_loss, l1_loss, mse_loss, smooth_l1_loss
from jaxnets.losses.triplets import triplet_margin_loss, triplet_margin_with_distance_loss

__all__ = [
    "LOSSES",
    "Reduction",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "cross_entropy_of_probabilities",
    "ctc_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]

LOSSES: dict[str, Callable[..., jax.Array]] = {
    "binary-cross-entropy": binary_cross_entropy,
    "binary-cross-entropy-with-logits": binary_cross_entropy_with_logits,
    "cross-entropy": cross_entropy,
    "cross-entropy-of-probabilities": cross_entropy_of_probabilities,
    "huber": huber_loss,
    "kl-divergence": kl_div,
    "l1": l1_loss,
    "mse": mse_loss,
    "negative-log-likelihood": nll_loss,
    "smooth-l1": smooth_l1_loss,
}
"""The losses of outputs and labels, by their names on the command line."""
