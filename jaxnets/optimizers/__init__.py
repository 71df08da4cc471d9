"""The optimizers and learning rate schedules of ``torch.optim``, for Optax.

An optimizer here is an ordinary ``optax.GradientTransformation`` that takes PyTorch's steps: the
same names, the same defaults, the same numbers. A schedule is a pure function from the count of
steps taken to the learning rate, and stands in place of it: ``sgd(step_lr(0.1, 30))``.

``torch.optim.LBFGS`` is not among them: one of its steps calls the loss up to 25 times, along its
own line search, while Optax's L-BFGS takes one gradient a step; they do not agree.
"""

from collections.abc import Callable

import optax

from jaxnets.optimizers.adadelta import adadelta
from jaxnets.optimizers.adagrad import adagrad
from jaxnets.optimizers.adam import adam, adamw
from jaxnets.optimizers.adamax import adamax
from jaxnets.optimizers.clipping import clip_grad_norm, clip_grad_value
from jaxnets.optimizers.composition import lambda_lr, per_epoch, sequential_lr
from jaxnets.optimizers.cosine import cosine_annealing_lr, cosine_annealing_warm_restarts
from jaxnets.optimizers.decay import (
    constant_lr,
    exponential_lr,
    linear_lr,
    multi_step_lr,
    polynomial_lr,
    step_lr,
)
from jaxnets.optimizers.groups import param_groups
from jaxnets.optimizers.nadam import nadam
from jaxnets.optimizers.onecycle import one_cycle_lr, one_cycle_momentum
from jaxnets.optimizers.plateau import Plateau, PlateauState, reduce_lr_on_plateau
from jaxnets.optimizers.radam import radam
from jaxnets.optimizers.rmsprop import rmsprop
from jaxnets.optimizers.scalars import Schedule
from jaxnets.optimizers.sgd import sgd
from jaxnets.optimizers.state import OptimizerState, learning_rates, set_learning_rate

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adadelta": adadelta,
    "adagrad": adagrad,
    "adam": adam,
    "adamax": adamax,
    "adamw": adamw,
    "nadam": nadam,
    "radam": radam,
    "rmsprop": rmsprop,
    "sgd": sgd,
}
"""Every optimizer by name."""

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant_lr": constant_lr,
    "cosine_annealing_lr": cosine_annealing_lr,
    "cosine_annealing_warm_restarts": cosine_annealing_warm_restarts,
    "exponential_lr": exponential_lr,
    "lambda_lr": lambda_lr,
    "linear_lr": linear_lr,
    "multi_step_lr": multi_step_lr,
    "one_cycle_lr": one_cycle_lr,
    "polynomial_lr": polynomial_lr,
    "sequential_lr": sequential_lr,
    "step_lr": step_lr,
}
"""Every schedule of the learning rate alone by name."""

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "OptimizerState",
    "Plateau",
    "PlateauState",
    "Schedule",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "clip_grad_norm",
    "clip_grad_value",
    "constant_lr",
    "cosine_annealing_lr",
    "cosine_annealing_warm_restarts",
    "exponential_lr",
    "lambda_lr",
    "learning_rates",
    "linear_lr",
    "multi_step_lr",
    "nadam",
    "one_cycle_lr",
    "one_cycle_momentum",
    "param_groups",
    "per_epoch",
    "polynomial_lr",
    "radam",
    "reduce_lr_on_plateau",
    "rmsprop",
    "sequential_lr",
    "set_learning_rate",
    "sgd",
    "step_lr",
]
