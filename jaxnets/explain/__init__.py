"""Attributions of predictions to inputs, as in Captum, and pictures of what a network contains."""

from jaxnets.explain.attention import attention, draw_attention
from jaxnets.explain.cam import grad_cam
from jaxnets.explain.covering import occlusion
from jaxnets.explain.drawing import draw_bars, draw_image, draw_text
from jaxnets.explain.gradients import input_x_gradient, saliency, smooth_grad
from jaxnets.explain.graph import GraphNode, draw_graph, network_graph
from jaxnets.explain.inside import activations, features, parameter_gradients, project
from jaxnets.explain.inside_drawing import (
    draw_activations,
    draw_embedding,
    draw_histograms,
    draw_kernels,
)
from jaxnets.explain.integrated import (
    IntegratedGradients,
    integrated_gradients,
    token_attributions,
)
from jaxnets.explain.permutation import PermutationImportance, permutation_importance

__all__ = [
    "GraphNode",
    "IntegratedGradients",
    "PermutationImportance",
    "activations",
    "attention",
    "draw_activations",
    "draw_attention",
    "draw_bars",
    "draw_embedding",
    "draw_graph",
    "draw_histograms",
    "draw_image",
    "draw_kernels",
    "draw_text",
    "features",
    "grad_cam",
    "input_x_gradient",
    "integrated_gradients",
    "network_graph",
    "occlusion",
    "parameter_gradients",
    "permutation_importance",
    "project",
    "saliency",
    "smooth_grad",
    "token_attributions",
]
