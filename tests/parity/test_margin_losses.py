"""Losses of margins, pairs, triplets and likelihoods compared with PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jaxnets import losses
from tests import tier
from tests.parity.oracle import DTYPES, assert_equal

RANDOM = np.random.default_rng(0)
#: Multiples of 0.5, so that many scores are equal and many differences equal the margin.
SCORES = np.round(2 * RANDOM.normal(size=(4, 5))) / 2
OTHERS = np.round(2 * RANDOM.normal(size=(4, 5))) / 2
THIRDS = np.where(RANDOM.random((4, 5)) < 0.5, SCORES, OTHERS)
SIGNS = RANDOM.choice([-1.0, 1.0], (4, 5))
VARIANCES = np.abs(RANDOM.normal(size=(4, 5)))
VARIANCES[0, :3] = [0.0, 1e-7, 0.5]
COUNTS = np.arange(20.0).reshape(4, 5)
CLASSES, SEVERAL = np.array([0, 3, 2, 4]), np.array([[1, 3, -1, 0, 2], [-1] * 5, [2, 2, 0, 4, 1]])
SEVERAL = np.concatenate([SEVERAL, [[0, -1, -1, -1, -1]]])
WEIGHT = np.arange(5) / 4


def farthest(x, y):
    return abs(x - y).max(-1)


def farthest_of_tensors(x, y):
    return (x - y).abs().amax(-1)


#: The loss, its positional arguments, and its options.
CASES = [
    ("margin_ranking_loss", (SCORES, OTHERS, SIGNS), {"margin": 0.5}),
    ("margin_ranking_loss", (SCORES, OTHERS, SIGNS), {}),
    ("hinge_embedding_loss", (SCORES, SIGNS), {}),
    ("hinge_embedding_loss", (SCORES, SIGNS), {"margin": 0.5}),
    ("cosine_embedding_loss", (SCORES, OTHERS, SIGNS[:, 0]), {}),
    ("cosine_embedding_loss", (np.zeros((4, 5)), OTHERS, SIGNS[:, 0]), {"margin": -0.5}),
    ("cosine_embedding_loss", (SCORES[0], OTHERS[0], np.array(-1.0)), {}),
    ("soft_margin_loss", (SCORES, SIGNS.astype(int)), {}),
    ("multi_margin_loss", (SCORES, CLASSES), {}),
    ("multi_margin_loss", (SCORES, CLASSES), {"p": 2, "margin": 0.5, "weight": WEIGHT}),
    ("multi_margin_loss", (SCORES[0], CLASSES[1]), {}),
    ("multilabel_margin_loss", (SCORES, SEVERAL), {}),
    ("multilabel_margin_loss", (SCORES[0], SEVERAL[0]), {}),
    ("multilabel_soft_margin_loss", (SCORES, np.abs(np.tanh(OTHERS))), {"weight": WEIGHT}),
    ("multilabel_soft_margin_loss", (SCORES[0], SIGNS[0]), {}),
    ("triplet_margin_loss", (SCORES, OTHERS, THIRDS), {}),
    ("triplet_margin_loss", (SCORES, OTHERS, THIRDS), {"p": 1, "swap": True, "eps": 0.0}),
    ("triplet_margin_loss", (SCORES, OTHERS, THIRDS), {"p": np.inf, "eps": 0.0, "margin": 0.5}),
    ("triplet_margin_loss", (SCORES, SCORES, OTHERS), {"p": 0.5, "eps": 0.0, "margin": 90.0}),
    ("triplet_margin_loss", (SCORES, SCORES, OTHERS), {"eps": 0.0, "margin": 9.0}),
    ("triplet_margin_loss", (SCORES[0], OTHERS[0], THIRDS[0]), {"margin": 3.0}),
    ("triplet_margin_with_distance_loss", (SCORES, OTHERS, THIRDS), {"swap": True}),
    (
        "triplet_margin_with_distance_loss",
        (SCORES, OTHERS, THIRDS),
        {"distance_function": farthest, "margin": 0.5},
    ),
    ("gaussian_nll_loss", (SCORES, OTHERS, VARIANCES), {}),
    ("gaussian_nll_loss", (SCORES, OTHERS, VARIANCES[:, 0]), {"full": True, "eps": 0.1}),
    ("gaussian_nll_loss", (SCORES, OTHERS, VARIANCES[:1]), {}),
    ("gaussian_nll_loss", (SCORES, OTHERS), {"var": 0.25}),
    ("poisson_nll_loss", (SCORES, COUNTS), {}),
    ("poisson_nll_loss", (SCORES, COUNTS + 0.5), {"full": True}),
    ("poisson_nll_loss", (VARIANCES, COUNTS), {"log_input": False, "eps": 1e-3}),
]


def name_of(case):
    name, arrays, options = case
    return f"{name}({', '.join(f'{k}={v}' for k, v in options.items())}){arrays[0].shape}"


def floating(array):
    return array.dtype.kind == "f"


@pytest.mark.parametrize(
    ("dtype", "reduction"),
    [
        tier.slow(np.float32, "mean"),
        tier.slow(np.float64, "sum"),
        (np.float64, "none"),
    ],
)
def test_losses_equal_torch(dtype, reduction):
    """Compares all losses, computed in one program."""
    given, found = [], []
    for name, arrays, options in CASES:
        arrays = [array.astype(dtype) if floating(array) else array for array in arrays]
        tensors = [torch.tensor(array, requires_grad=floating(array)) for array in arrays]
        theirs = dict(options)
        if "weight" in theirs:
            theirs["weight"] = torch.tensor(theirs["weight"].astype(dtype))
        if "distance_function" in theirs:
            theirs["distance_function"] = farthest_of_tensors
        loss = getattr(F, name)(*tensors, **theirs, reduction=reduction)
        cotangent = np.cos(np.arange(loss.numel())).reshape(loss.shape).astype(dtype)
        inputs = [tensor for tensor in tensors if tensor.requires_grad]
        slopes = torch.autograd.grad(
            loss, inputs, torch.tensor(cotangent), allow_unused=True, materialize_grads=True
        )
        found.append((loss, slopes))
        given.append((arrays, cotangent))

    @jax.jit
    def run(given):
        results = []
        for (name, _, options), (arrays, cotangent) in zip(CASES, given, strict=True):

            def loss(*floats, name=name, arrays=arrays, options=options):
                values = iter(floats)
                every = [
                    next(values) if jnp.issubdtype(x.dtype, jnp.floating) else x for x in arrays
                ]
                return getattr(losses, name)(*every, **options, reduction=reduction)

            floats = [x for x in arrays if floating(x)]
            value, pull_back = jax.vjp(loss, *floats)
            results.append((value, pull_back(cotangent)))
        return results

    for case, (loss, gradients), (expected, theirs) in zip(
        CASES, run(jax.tree.map(jnp.asarray, given)), found, strict=True
    ):
        assert_equal(loss, expected, f"{name_of(case)}: loss")
        for i, (ours, other) in enumerate(zip(gradients, theirs, strict=True)):
            assert_equal(ours, other, f"{name_of(case)}: gradient in argument {i}")


inf, nan = np.inf, np.nan
SPECIAL = [
    ("margin_ranking_loss", ([nan, inf, -inf, inf], [0, 0, 0, inf], [1, -1, 1, 1])),
    ("hinge_embedding_loss", ([nan, nan, inf, -inf], [1, -1, 1, -1])),
    ("multi_margin_loss", ([[nan, 1, 0], [inf, 1, 0], [0, inf, inf]], np.array([1, 1, 1]))),
    ("multilabel_margin_loss", ([[nan, 1, 0], [inf, 1, 0]], np.array([[1, -1, 0], [2, 1, -1]]))),
    ("multilabel_soft_margin_loss", ([[nan, 1], [inf, 1], [-inf, 0]], [[0, 1], [1, 0], [0, 1]])),
    ("gaussian_nll_loss", ([nan, inf, 0, 1, 1], [0, 0, inf, 0, 0], [1, 1, 1, inf, nan])),
    ("poisson_nll_loss", ([nan, inf, -inf, 0], [1, 1, 1, inf])),
]


@DTYPES
def test_special_values_equal_torch(dtype):
    given = []
    for name, values in SPECIAL:
        arrays = [x if isinstance(x, np.ndarray) else np.array(x, dtype) for x in values]
        outputs = torch.tensor(arrays[0], requires_grad=True)
        loss = getattr(F, name)(outputs, *map(torch.tensor, arrays[1:]), reduction="none")
        (gradient,) = torch.autograd.grad(loss, outputs, torch.ones_like(loss))
        given.append((arrays, loss, gradient))

    @jax.jit
    def run(given):
        results = []
        for (name, _), (outputs, *rest) in zip(SPECIAL, given, strict=True):
            value, pull_back = jax.vjp(
                lambda x, name=name, rest=rest: getattr(losses, name)(x, *rest, reduction="none"),
                outputs,
            )
            results.append((value, *pull_back(jnp.ones_like(value))))
        return results

    results = run([[jnp.asarray(x) for x in arrays] for arrays, *_ in given])
    for (name, _), ours, (_, *theirs) in zip(SPECIAL, results, given, strict=True):
        for what, one, other in zip(["loss", "gradient"], ours, theirs, strict=True):
            assert_equal(one, other, f"{name}: {what}")


def test_the_soft_margin_does_not_overflow():
    value, slope = jax.jit(jax.value_and_grad(losses.soft_margin_loss))(-1e4, 1.0)
    assert (value, slope) == (1e4, -1.0)
