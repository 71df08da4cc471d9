"""Every argument of what is built by settings alone: nothing of another kind gets in."""

import inspect
import math
import re

import numpy as np
import pytest
from flax import nnx

import jaxnets
from jaxnets import layers, optimizers
from jaxnets.arrays import shown
from jaxnets.data import transforms

SCHEDULE = optimizers.step_lr(0.1, 2)

#: What cannot be left out. Nothing is built of it: each case has one argument that is refused.
NEEDED = {
    **dict.fromkeys(["Conv1d", "Conv2d", "ConvTranspose2d"], (2, 2, 3)),
    **dict.fromkeys(["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"], (2, 3)),
    **dict.fromkeys(["BatchNorm1d", "BatchNorm2d", "InstanceNorm2d", "LayerNorm"], (2,)),
    **dict.fromkeys(["MaxPool1d", "MaxPool2d", "AvgPool1d", "AvgPool2d"], (2,)),
    **dict.fromkeys(["AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "Softmax", "LogSoftmax"], (1,)),
    **dict.fromkeys(["GroupNorm", "Embedding", "Linear", "RecurrentClassifier"], (2, 2)),
    **dict.fromkeys(["MultiheadAttention", "TransformerEncoderLayer"], (4, 2)),
    **dict.fromkeys(["TextClassifier", "LanguageModel"], (3, 2, 2)),
    **dict.fromkeys(["constant_lr", "linear_lr", "polynomial_lr"], (0.1,)),
    **dict.fromkeys(["cosine_annealing_lr", "cosine_annealing_warm_restarts"], (0.1, 3)),
    **dict.fromkeys(["one_cycle_lr", "step_lr"], (0.1, 9)),
    **dict.fromkeys(["CutMix", "Mixup"], (1, 3)),
    **dict.fromkeys(["CenterCrop", "RandomCrop", "Resize", "OneHot", "Pad", "Rotate"], (3,)),
    **dict.fromkeys(["RandomAffine", "RandomRotation"], (3,)),
    "TransformerEncoder": (nnx.Module(), 1),
    "exponential_lr": (0.1, 0.9),
    "lambda_lr": (0.1, lambda count: 1.0),
    "multi_step_lr": (0.1, [3]),
    "one_cycle_momentum": (9,),
    "per_epoch": (SCHEDULE, 2),
    "sequential_lr": ([SCHEDULE, SCHEDULE], [5]),
    "clip_grad_norm": (1.0,),
    "clip_grad_value": (1.0,),
    "param_groups": (optimizers.sgd(), []),
    "Normalize": (0.5, 0.5),
}
#: Records of what a step carries, whose fields are no settings.
RECORDS = {"OptimizerState", "Plateau", "PlateauState"}
ROOMS = [layers, optimizers, transforms]


def parameters(make):
    function = make.__init__ if inspect.isclass(make) else make
    found = inspect.signature(function).parameters.values()
    several = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return [p for p in found if p.name != "self" and p.kind not in several]


def builders():
    found = {name: getattr(room, name) for room in ROOMS for name in room.__all__}
    found |= {model.__name__: model for model in jaxnets.MODELS.values()}
    named = {*NEEDED, *optimizers.SCHEDULES, *optimizers.OPTIMIZERS, "reduce_lr_on_plateau"}
    named |= {name for name, make in found.items() if inspect.isclass(make)}
    return {name: found[name] for name in sorted(named - RECORDS) if parameters(found[name])}


def strange(parameter):
    """What no argument takes, and what this one does not."""
    yield from ["junk", object(), math.nan, 10**400]
    if parameter.annotation is bool:
        yield from [1, None, np.ones(2, bool)]
    if parameter.annotation is float:
        yield from [None, True, 1j, np.ones(2)]
    if parameter.annotation is int:
        yield from [None, True, 1.5, np.ones(2, int)]


@pytest.mark.parametrize("name", builders())
def test_nothing_of_another_kind_gets_in(name):
    make = builders()[name]
    known = parameters(make)
    given = dict(zip([p.name for p in known], NEEDED.get(name, ()), strict=False))
    if any(p.name == "rngs" for p in known):
        given["rngs"] = nnx.Rngs(0)
    for parameter in known:
        for value in strange(parameter):
            message = rf"^{parameter.name}(\[0\])?: expected .*, got {re.escape(value if isinstance(value, str) else shown(value))}"
            with pytest.raises(ValueError, match=message):
                make(**{**given, parameter.name: value})
