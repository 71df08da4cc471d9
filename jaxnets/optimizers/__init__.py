"""The optimizers and learning rate schedules of ``torch.optim``, for Optax.

An optimizer is an ``optax.GradientTransformation`` with the name, the defaults and the updates of
PyTorch's optimizer. A schedule is a pure function from the number of steps taken to the learning
rate, and is passed instead of a number: ``sgd(step_lr(0.1, 30))``.
"""

from collections.abc import Callable

import optax

from jaxnets.optimizers.adadelta import adadelta
from jaxnets.optimizers.adafactor import adafactor
from jaxnets.optimizers.adagrad import adagrad
from jaxnets.optimizers.adam import adam, adamw
from jaxnets.optimizers.adamax import adamax
from jaxnets.optimizers.asgd import asgd
from jaxnets.optimizers.clipping import clip_grad_norm, clip_grad_value
from jaxnets.optimizers.composition import (
    chained_scheduler,
    lambda_lr,
    multiplicative_lr,
    per_epoch,
    sequential_lr,
)
from jaxnets.optimizers.cosine import (
    cosine_annealing_lr,
    cosine_annealing_warm_restarts,
    swalr,
)
from jaxnets.optimizers.cyclic import cyclic_lr, cyclic_momentum
from jaxnets.optimizers.decay import (
    constant_lr,
    exponential_lr,
    linear_lr,
    multi_step_lr,
    polynomial_lr,
    step_lr,
)
from jaxnets.optimizers.groups import param_groups
from jaxnets.optimizers.lbfgs import lbfgs
from jaxnets.optimizers.muon import muon
from jaxnets.optimizers.nadam import nadam
from jaxnets.optimizers.onecycle import one_cycle_lr, one_cycle_momentum
from jaxnets.optimizers.plateau import Plateau, PlateauState, reduce_lr_on_plateau
from jaxnets.optimizers.radam import radam
from jaxnets.optimizers.rmsprop import rmsprop
from jaxnets.optimizers.rprop import rprop
from jaxnets.optimizers.scalars import Schedule
from jaxnets.optimizers.sgd import sgd
from jaxnets.optimizers.state import OptimizerState, learning_rates, set_learning_rate

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adadelta": adadelta,
    "adafactor": adafactor,
    "adagrad": adagrad,
    "adam": adam,
    "adamax": adamax,
    "adamw": adamw,
    "asgd": asgd,
    "lbfgs": lbfgs,
    "muon": muon,
    "nadam": nadam,
    "radam": radam,
    "rmsprop": rmsprop,
    "rprop": rprop,
    "sgd": sgd,
}
"""All optimizers by name."""

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "chained_scheduler": chained_scheduler,
    "constant_lr": constant_lr,
    "cosine_annealing_lr": cosine_annealing_lr,
    "cosine_annealing_warm_restarts": cosine_annealing_warm_restarts,
    "cyclic_lr": cyclic_lr,
    "exponential_lr": exponential_lr,
    "lambda_lr": lambda_lr,
    "linear_lr": linear_lr,
    "multi_step_lr": multi_step_lr,
    "multiplicative_lr": multiplicative_lr,
    "one_cycle_lr": one_cycle_lr,
    "polynomial_lr": polynomial_lr,
    "sequential_lr": sequential_lr,
    "step_lr": step_lr,
    "swalr": swalr,
}
"""All schedules of the learning rate by name."""

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "OptimizerState",
    "Plateau",
    "PlateauState",
    "Schedule",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "asgd",
    "chained_scheduler",
    "clip_grad_norm",
    "clip_grad_value",
    "constant_lr",
    "cosine_annealing_lr",
    "cosine_annealing_warm_restarts",
    "cyclic_lr",
    "cyclic_momentum",
    "exponential_lr",
    "lambda_lr",
    "lbfgs",
    "learning_rates",
    "linear_lr",
    "multi_step_lr",
    "multiplicative_lr",
    "muon",
    "nadam",
    "one_cycle_lr",
    "one_cycle_momentum",
    "param_groups",
    "per_epoch",
    "polynomial_lr",
    "radam",
    "reduce_lr_on_plateau",
    "rmsprop",
    "rprop",
    "sequential_lr",
    "set_learning_rate",
    "sgd",
    "step_lr",
    "swalr",
]
