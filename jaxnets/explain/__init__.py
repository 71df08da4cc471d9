"""Why a network gives an answer: attributions of its inputs, as Captum computes them."""

from jaxnets.explain.cam import grad_cam
from jaxnets.explain.covering import occlusion
from jaxnets.explain.gradients import input_x_gradient, saliency, smooth_grad
from jaxnets.explain.integrated import (
    IntegratedGradients,
    integrated_gradients,
    token_attributions,
)
from jaxnets.explain.permutation import PermutationImportance, permutation_importance

__all__ = [
    "IntegratedGradients",
    "PermutationImportance",
    "grad_cam",
    "input_x_gradient",
    "integrated_gradients",
    "occlusion",
    "permutation_importance",
    "saliency",
    "smooth_grad",
    "token_attributions",
]
