"""Values and gradients of every loss compared with PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from jaxnets import losses
from tests import tier
from tests.parity.oracle import DTYPES, assert_equal

EITHER = st.sampled_from([np.float32, np.float64])
REDUCTIONS = st.sampled_from(["mean", "sum", "none"])
#: Each example has five losses, which are computed in one program.
TOGETHER = tier.examples(5)


def compare(ours, theirs, *arrays):
    """Compares a loss and its gradients with respect to all arrays; classes are the last axis."""
    compare_all([(ours, theirs, *arrays)])


def compare_all(cases):
    """Compares several losses, computed in one program."""
    found = []
    for _, theirs, *arrays in cases:
        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
        loss = theirs(*tensors)
        cotangent = np.cos(np.arange(loss.numel())).reshape(loss.shape).astype(arrays[0].dtype)
        gradients = torch.autograd.grad(loss, tensors, torch.tensor(cotangent))
        found.append((arrays, cotangent, loss, gradients))

    @jax.jit
    def run(given):
        pairs = [jax.vjp(case[0], *arrays) for case, (arrays, _) in zip(cases, given, strict=True)]
        return [
            (loss, pull_back(cotangent))
            for (loss, pull_back), (_, cotangent) in zip(pairs, given, strict=True)
        ]

    results = run(
        jax.tree.map(jnp.asarray, [(arrays, cotangent) for arrays, cotangent, *_ in found])
    )
    for (ours, our_gradients), (_, _, loss, gradients) in zip(results, found, strict=True):
        assert_equal(ours, loss, "loss")
        for i, (got, want) in enumerate(zip(our_gradients, gradients, strict=True)):
            assert_equal(got, want, f"gradient in argument {i}")


def classes_second(tensor):
    # Some of PyTorch's gradients in two dimensions require contiguous tensors.
    return tensor.movedim(-1, min(1, tensor.ndim - 1)).contiguous()


def draw_scores(seed, shape, scale, dtype):
    """Logits, some of which are equal."""
    values = np.random.default_rng(seed).normal(size=shape)
    return (scale * np.round(2 * values) / 2).astype(dtype)


SHAPES = st.sampled_from(
    [(3,), (0, 3), (1, 1), (4, 3), (64, 10), (5, 2, 3), (2, 3, 2, 4), (2, 0, 3), (0, 2, 3)]
)


def of_classes(draw, name):
    """Our and PyTorch's version of a loss of classes, and its outputs."""
    dtype, shape, reduction = draw(EITHER), draw(SHAPES), draw(REDUCTIONS)
    seed = draw(st.integers(0, 9))
    generator = np.random.default_rng(seed)
    scale = draw(st.sampled_from([1, 1e4] if name != "cross_entropy_of_probabilities" else [1]))
    outputs = draw_scores(seed, shape, scale, dtype)
    labels = generator.integers(0, shape[-1], shape[:-1])
    options = {"reduction": reduction}
    options["ignore_index"] = draw(st.sampled_from([-100, -1, 0, 1]))
    labels[generator.random(labels.shape) < draw(st.sampled_from([0, 0.3, 1]))] = options[
        "ignore_index"
    ]
    weight = generator.random(shape[-1]).astype(dtype) if draw(st.booleans()) else None
    if name == "cross_entropy":
        options["label_smoothing"] = draw(st.sampled_from([0.0, 0.1, 0.7]))
    log = {"cross_entropy": lambda x: x, "nll_loss": lambda x: torch.log_softmax(x, -1)}.get(
        name, lambda x: torch.softmax(x, -1).log()
    )
    prepare = {"cross_entropy": lambda x: x, "nll_loss": jax.nn.log_softmax}.get(
        name, jax.nn.softmax
    )
    theirs = F.cross_entropy if name == "cross_entropy" else F.nll_loss
    return (
        lambda x: getattr(losses, name)(prepare(x), labels, weight=weight, **options),
        lambda x: theirs(
            classes_second(log(x)),
            torch.tensor(labels),
            weight=None if weight is None else torch.tensor(weight),
            **options,
        ),
        outputs,
    )


@pytest.mark.parametrize(
    "name", ["cross_entropy", tier.slow("nll_loss"), "cross_entropy_of_probabilities"]
)
@TOGETHER
@given(data=st.data())
def test_losses_of_classes_equal_torch(name, data):
    compare_all([of_classes(data.draw, name) for _ in range(5)])


def of_soft_labels(draw):
    """Our and PyTorch's cross-entropy, its outputs and its labels."""
    dtype, shape, reduction = draw(EITHER), draw(SHAPES), draw(REDUCTIONS)
    seed, scale = draw(st.integers(0, 9)), draw(st.sampled_from([1, 1e4]))
    smoothing, weighted = draw(st.sampled_from([0.0, 0.1, 0.7])), draw(st.booleans())
    generator = np.random.default_rng(seed)
    labels = generator.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(dtype)
    weight = generator.random(shape[-1]).astype(dtype) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing}
    return (
        lambda x, y: losses.cross_entropy(x, y, weight=weight, **options),
        lambda x, y: F.cross_entropy(
            classes_second(x),
            classes_second(y),
            weight=None if weight is None else torch.tensor(weight),
            **options,
        ),
        draw_scores(seed, shape, scale, dtype),
        labels,
    )


@TOGETHER
@given(data=st.data())
def test_cross_entropy_of_soft_labels_equals_torch(data):
    compare_all([of_soft_labels(data.draw) for _ in range(5)])


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def same(values):
    return values


#: By loss: functions from numbers to outputs and to labels, names of weights, further options.
ELEMENTWISE = {
    "mse_loss": (same, same, ["weight"], {}),
    "l1_loss": (same, same, ["weight"], {}),
    "smooth_l1_loss": (same, same, [], {"beta": [0.0, 0.5, 1.0, 2.5]}),
    "huber_loss": (same, same, ["weight"], {"delta": [0.5, 1.0, 2.5]}),
    "binary_cross_entropy": (sigmoid, sigmoid, ["weight"], {}),
    "binary_cross_entropy_with_logits": (same, sigmoid, ["weight", "pos_weight"], {}),
    "kl_div": (lambda x: -np.abs(x), sigmoid, [], {"log_target": [False]}),
    "kl_div of logarithms": (same, lambda x: -np.abs(x), [], {"log_target": [True]}),
}


def elementwise(draw, name):
    """Our and PyTorch's version of a loss, its outputs and its labels."""
    to_outputs, to_labels, weights, options = ELEMENTWISE[name]
    name = name.removesuffix(" of logarithms")
    dtype, seed = draw(EITHER), draw(st.integers(0, 9))
    shape = draw(st.sampled_from([(), (0,), (1,), (7,), (5, 1), (4, 3), (2, 3, 4), (3, 0)]))
    # Multiples of 0.5, so that some distances are at the kinks 0, beta and delta.
    outputs, labels = np.round(2 * np.random.default_rng(seed).normal(size=(2, *shape))) / 2
    if name == "binary_cross_entropy_with_logits":
        outputs = outputs * draw(st.sampled_from([1, 1e4]))
    chosen = {option: draw(st.sampled_from(values)) for option, values in options.items()}
    extra = ["batchmean"] if name == "kl_div" else []
    chosen["reduction"] = draw(st.sampled_from(["mean", "sum", "none", *extra]))
    scales = {}
    for i, weight in enumerate(weights):
        # PyTorch broadcasts the weights of binary losses.
        shapes = [shape, shape[-1:]] if name.startswith("binary") else [shape]
        drawn = draw(st.sampled_from([None, *shapes]))
        if drawn is not None:
            scales[weight] = np.random.default_rng(i).random(drawn).astype(dtype)
    return (
        lambda x, y: getattr(losses, name)(x, y, **chosen, **scales),
        lambda x, y: getattr(F, name)(
            x, y, **chosen, **{weight: torch.tensor(value) for weight, value in scales.items()}
        ),
        to_outputs(outputs).astype(dtype),
        to_labels(labels).astype(dtype),
    )


@pytest.mark.filterwarnings("ignore:.*batchmean:UserWarning")
@pytest.mark.parametrize("name", tier.one_in(2, ELEMENTWISE))
@TOGETHER
@given(data=st.data())
def test_elementwise_losses_equal_torch(name, data):
    compare_all([elementwise(data.draw, name) for _ in range(5)])


inf, nan = np.inf, np.nan
LOGITS = [[-inf, 2, 3], [0, -inf, 5], [1, 2, nan], [inf, 1, 2], [-inf, -inf, -inf], [1e4, -1e4, 0]]
PROBABILITIES = [0, 0, 1, 1, 0.5, 1e-13, 1e-7, 1]
SPECIAL = {
    # The loss, its outputs, its labels and its options.
    "infinite logits, other class": ("cross_entropy", LOGITS, [1, 2, 0, 1, 0, 1], {}),
    "infinite logits, true class": ("cross_entropy", LOGITS, [0, 1, 2, 0, 1, 0], {}),
    "infinite logits, smoothed": ("cross_entropy", LOGITS, [1] * 6, {"label_smoothing": 0.1}),
    "infinite logits, no weight": ("cross_entropy", LOGITS, [0] * 6, {"weight": [0, 1, 2]}),
    "infinite logits, soft": ("cross_entropy", LOGITS, [[0, 0.5, 0.5]] * 6, {}),
    "infinite log-probabilities": ("nll_loss", LOGITS, [0, 0, 0, 0, 0, 0], {}),
    "no weight at all": ("cross_entropy", [[1, 2]], [0], {"weight": [0, 1], "reduction": "mean"}),
    "certain": ("binary_cross_entropy", PROBABILITIES, [0, 1, 0, 1, 0.5, 0, 1, 0.5], {}),
    "infinite logit": ("binary_cross_entropy_with_logits", [inf, -inf, nan], [1, 0, 1], {}),
    "zero targets": ("kl_div", [-1, -2, -inf, -inf], [0.5, 0, 0, 0.5], {}),
    "infinite errors, mse": ("mse_loss", [inf, -inf, nan, 1e4], [0, 0, 0, 0], {}),
    "infinite errors, l1": ("l1_loss", [inf, -inf, 1e4], [0, 0, 0], {}),
    "infinite errors, smooth": ("smooth_l1_loss", [inf, -inf, nan, 1e4], [0, 0, 0, 0], {}),
    "infinite errors, huber": ("huber_loss", [inf, -inf, nan, 1e4], [0, 0, 0, 0], {}),
}


@DTYPES
@pytest.mark.parametrize("case", SPECIAL)
def test_special_values_equal_torch(dtype, case):
    name, outputs, labels, options = SPECIAL[case]
    labels = np.array(labels)
    if np.asarray(outputs).ndim == 1 or labels.ndim == 2:
        labels = labels.astype(dtype)
    options = {"reduction": "none"} | options
    weight = {"weight": np.array(options.pop("weight"), dtype)} if "weight" in options else {}
    compare(
        lambda x: getattr(losses, name)(x, labels, **weight, **options),
        lambda x: getattr(F, name)(
            x, torch.tensor(labels), **{k: torch.tensor(v) for k, v in weight.items()}, **options
        ),
        np.array(outputs, dtype),
    )


@pytest.mark.parametrize(
    "layout", tier.usually(["padded", "concatenated", "unbatched"], ["padded"])
)
@tier.examples(7)  # few, as compilation is slow; each batch has many lengths
@given(
    dtype=EITHER,
    data=st.data(),
    times=st.sampled_from([9, 4, 1]),
    longest=st.sampled_from([3, 4, 1, 0]),
    reduction=REDUCTIONS,
    zero_infinity=st.booleans(),
    seed=st.integers(0, 99),
)
def test_ctc_equals_torch(dtype, layout, data, times, longest, reduction, zero_infinity, seed):
    generator = np.random.default_rng(seed)
    batch, classes = 1 if layout == "unbatched" else 12, 4
    blank = data.draw(st.sampled_from([0, 2, 3]))
    logits = generator.normal(size=(times, batch, classes)).astype(dtype)
    input_lengths = generator.integers(0, times + 1, batch)
    target_lengths = generator.integers(0, longest + 1, batch)
    allowed = np.array([c for c in range(classes) if c != blank])
    targets = allowed[generator.integers(0, classes - 1, (batch, longest))]
    if layout == "concatenated":
        targets = np.concatenate([t[:n] for t, n in zip(targets, target_lengths, strict=True)])
    if layout == "unbatched":
        target_lengths[:] = longest  # PyTorch treats a single target as concatenated
        logits, targets = logits[:, 0], targets[0]
        input_lengths, target_lengths = input_lengths[0], target_lengths[0]
    options = {"blank": blank, "reduction": reduction, "zero_infinity": zero_infinity}
    compare(
        lambda x: losses.ctc_loss(
            jax.nn.log_softmax(x), targets, input_lengths, target_lengths, **options
        ),
        lambda x: F.ctc_loss(
            x.log_softmax(-1),
            torch.tensor(targets),
            torch.tensor(input_lengths),
            torch.tensor(target_lengths),
            **options,
        ),
        logits,
    )


def test_ctc_of_extreme_logits_equals_torch():
    logits = draw_scores(0, (6, 2, 3), 1e4, np.float64)
    lengths = [6, 5], [2, 3]
    targets = np.array([[1, 2, 0], [2, 2, 1]])
    compare(
        lambda x: losses.ctc_loss(jax.nn.log_softmax(x), targets, *lengths),
        lambda x: F.ctc_loss(x.log_softmax(-1), torch.tensor(targets), *lengths),
        logits,
    )
