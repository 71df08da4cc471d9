from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import losses

LOGITS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
LABELS = np.array([0, 2, 1, 1])
ONES = np.ones(4, np.float32)


def arguments_of(name):
    """Valid outputs and labels of a loss."""
    if name in ("cross-entropy", "negative-log-likelihood"):
        return jax.nn.log_softmax(LOGITS), LABELS
    if name == "cross-entropy-of-probabilities":
        return jax.nn.softmax(LOGITS), LABELS
    return jax.nn.sigmoid(LOGITS), jax.nn.sigmoid(LOGITS[::-1])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_is_by_default_a_scalar_of_the_outputs_dtype(name, dtype):
    outputs, labels = arguments_of(name)
    loss, gradient = jax.jit(jax.value_and_grad(losses.LOSSES[name]))(outputs.astype(dtype), labels)
    assert loss.shape == ()
    assert loss.dtype == gradient.dtype == dtype
    assert jnp.isfinite(loss)
    assert jnp.isfinite(gradient).all()
    assert jnp.abs(gradient).max() > 0


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_has_the_same_gradient_in_forward_mode(name):
    outputs, labels = arguments_of(name)

    @jax.jit
    def both(outputs):
        def loss(x):
            return losses.LOSSES[name](x, labels)

        return jax.jacfwd(loss)(outputs), jax.jacrev(loss)(outputs)

    np.testing.assert_allclose(*both(outputs), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.uint32, np.int64])
def test_labels_of_any_integer_dtype_are_the_same_classes(dtype):
    expected = losses.cross_entropy(LOGITS, LABELS.astype(np.int32))
    assert losses.cross_entropy(LOGITS, LABELS.astype(dtype)) == expected
    # Integer labels for losses over two classes.
    binary = losses.binary_cross_entropy_with_logits(LOGITS[:, 0], (LABELS > 0).astype(dtype))
    assert binary == losses.binary_cross_entropy_with_logits(LOGITS[:, 0], LABELS > 0)


CLASS_LOSSES = ["cross-entropy", "cross-entropy-of-probabilities", "negative-log-likelihood"]


@pytest.mark.parametrize("name", CLASS_LOSSES)
@pytest.mark.parametrize("label", [3, -1, 255, 1000])
def test_a_label_that_is_no_class_is_refused_or_makes_the_loss_nan(name, label):
    outputs, labels = arguments_of(name)
    labels = np.array([*labels[:3], label])
    loss = losses.LOSSES[name]
    with pytest.raises(ValueError, match=rf"labels: expected classes from 0 to 2.* got {label}"):
        loss(outputs, labels)
    with pytest.raises(ValueError, match="labels: expected classes from 0 to 2"):
        jax.grad(loss)(outputs, jnp.asarray(labels))
    value, gradient = jax.jit(jax.value_and_grad(partial(loss, reduction="sum")))(outputs, labels)
    assert jnp.isnan(value)
    np.testing.assert_array_equal(jnp.isnan(gradient).all(axis=1), [False, False, False, True])
    assert jnp.isnan(jax.jit(loss)(outputs, labels))


@pytest.mark.parametrize("label", [3, -2])
def test_a_label_that_is_no_class_makes_margin_losses_nan_under_jit(label):
    @jax.jit
    def run(label):
        one = losses.multi_margin_loss(LOGITS[:2], jnp.stack([1, label]), reduction="none")
        several = jnp.stack([jnp.array([1, -1, 5]), jnp.stack([1, label, -1])])
        return one, losses.multilabel_margin_loss(LOGITS[:2], several, reduction="none")

    one, several = run(label)
    np.testing.assert_array_equal(jnp.isnan(one), [False, True])
    np.testing.assert_array_equal(jnp.isnan(several), [True, True])


def test_a_label_too_large_for_32_bits_is_not_ignored():
    labels = np.array([0, 1, 2, 2**32 - 100], np.uint32)  # -100, if it wrapped round
    assert jnp.isnan(jax.jit(losses.cross_entropy)(LOGITS, labels))


def test_the_ignored_label_counts_for_nothing_under_jit():
    some = np.array([0, 7, 1, 7])

    @jax.jit
    def run(outputs, labels):
        return jax.value_and_grad(losses.cross_entropy)(outputs, labels, ignore_index=7)

    value, gradient = run(LOGITS, some)
    np.testing.assert_allclose(value, losses.cross_entropy(LOGITS[::2], some[::2]), rtol=1e-6)
    np.testing.assert_array_equal(gradient[1::2], 0)


def test_cross_entropy_needs_no_gather_and_no_scatter():
    program = str(jax.make_jaxpr(jax.value_and_grad(losses.cross_entropy))(LOGITS, LABELS))
    assert "reduce_sum" in program
    assert "gather" not in program
    assert "scatter" not in program


def test_cross_entropy_of_probabilities_is_that_of_their_logits():
    expected = losses.cross_entropy(LOGITS, LABELS, reduction="none")
    ours = losses.cross_entropy_of_probabilities(jax.nn.softmax(LOGITS), LABELS, reduction="none")
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("name", ["cross-entropy-of-probabilities", "binary-cross-entropy"])
def test_an_impossible_event_has_a_finite_loss_and_gradient(name, dtype):
    outputs = jnp.array([[0, 1], [1, 0]], dtype)
    labels = jnp.array([0, 1]) if name.startswith("cross") else jnp.array([[1, 0], [0, 1]])
    value, gradient = jax.jit(jax.value_and_grad(losses.LOSSES[name]))(outputs, labels)
    assert value == 100
    assert jnp.isfinite(gradient).all()
    assert jnp.diagonal(gradient).max() < -1e3  # increases the probability of the label


ELEMENTWISE = sorted(set(losses.LOSSES) - set(CLASS_LOSSES))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_labels_may_lack_the_trailing_axis_of_one(name):
    outputs, labels = jax.nn.sigmoid(LOGITS[:, :1]), ONES / 2
    loss = losses.LOSSES[name]
    expected = loss(outputs, labels[:, None], reduction="none")
    ours = loss(outputs, labels, reduction="none")
    assert ours.shape == (4, 1)
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 1), (1, 3), (4, 3, 1)])
def test_labels_are_never_broadcast(name, shape):
    with pytest.raises(ValueError, match=r"labels: expected the outputs' shape \(4, 3\), got \("):
        losses.LOSSES[name](jax.nn.sigmoid(LOGITS), np.full(shape, 0.5, np.float32))


def ctc(**changes):
    arguments = {
        "log_probs": np.log(np.full((5, 2, 3), 1 / 3, np.float32)),
        "targets": np.array([[1, 2], [2, 0]]),
        "input_lengths": np.array([5, 4]),
        "target_lengths": np.array([2, 1]),
    }
    return losses.ctc_loss(**arguments | changes)


HALVES = ONES / 2
BAD = {
    "labels of another shape": (
        lambda: losses.cross_entropy(LOGITS, LABELS[:, None]),
        r"labels: expected integers of shape \(4,\) for outputs float32\[4, 3\], got int.*\[4, 1\]",
    ),
    "classes where PyTorch has them": (
        lambda: losses.cross_entropy(np.ones((4, 3, 5), np.float32), np.ones((4, 5), int)),
        r"labels: .* with the classes on the last axis .axis 1 in PyTorch., got int.*\[4, 5\]",
    ),
    "fewer labels": (lambda: losses.nll_loss(LOGITS, LABELS[:3]), r"labels: .* got int.*\[3\]"),
    "labels that are numbers": (
        lambda: losses.nll_loss(LOGITS, ONES),
        r"labels: expected integers of shape \(4,\) .* got float32\[4\]",
    ),
    "integers for probabilities": (
        lambda: losses.cross_entropy(LOGITS, np.ones((4, 3), int)),
        "labels: expected an array of a floating dtype, got int",
    ),
    "integer outputs": (
        lambda: losses.cross_entropy(np.ones((4, 3), np.int32), LABELS),
        r"outputs: expected an array of a floating dtype, got int32\[4, 3\]",
    ),
    "integer regression": (
        lambda: losses.mse_loss(LABELS, ONES),
        "outputs: expected an array of a floating dtype",
    ),
    "complex labels": (
        lambda: losses.mse_loss(ONES, ONES.astype(np.complex64)),
        r"labels: expected real numbers, got complex64\[4\]",
    ),
    "no axis": (
        lambda: losses.cross_entropy(np.float32(1), np.int32(0)),
        "outputs: expected the classes on the last axis",
    ),
    "no classes": (
        lambda: losses.cross_entropy(LOGITS[:, :0], LABELS),
        "outputs: expected the classes on the last axis",
    ),
    "reduction": (
        lambda: losses.cross_entropy(LOGITS, LABELS, reduction="average"),
        "reduction: expected one of mean, sum, none, got average",
    ),
    "reduction of kl_div": (
        lambda: losses.kl_div(ONES, ONES, reduction="average"),
        "reduction: expected one of mean, batchmean, sum, none, got average",
    ),
    "class weights": (
        lambda: losses.cross_entropy(LOGITS, LABELS, weight=ONES),
        r"weight: expected one weight per class, shape \(3,\), got \(4,\)",
    ),
    "element weights": (
        lambda: losses.mse_loss(LOGITS, LOGITS, weight=ONES),
        r"weight: expected the outputs' shape \(4, 3\), got \(4,\)",
    ),
    "binary weights": (
        lambda: losses.binary_cross_entropy_with_logits(LOGITS, LOGITS, weight=ONES),
        r"weight: expected a shape that broadcasts to the outputs' \(4, 3\), got \(4,\)",
    ),
    "pos_weight": (
        lambda: losses.binary_cross_entropy_with_logits(ONES, ONES, pos_weight=LOGITS),
        r"pos_weight: expected a shape that broadcasts",
    ),
    "smoothing": (
        lambda: losses.cross_entropy(LOGITS, LABELS, label_smoothing=1.5),
        r"label_smoothing: expected a number in \[0, 1\], got 1.5",
    ),
    "ignore_index": (
        lambda: losses.cross_entropy(LOGITS, LABELS, ignore_index=2**40),
        "ignore_index: expected an integer of 32 bits",
    ),
    "ignored probabilities": (
        lambda: losses.cross_entropy(LOGITS, jax.nn.softmax(LOGITS), ignore_index=1),
        "ignore_index: expected a negative number with probabilities, got 1",
    ),
    "logits for probabilities": (
        lambda: losses.binary_cross_entropy(3 * ONES, ONES),
        r"outputs: expected probabilities from 0 to 1, got 3\.0",
    ),
    "logits for several probabilities": (
        lambda: losses.cross_entropy_of_probabilities(LOGITS, LABELS),
        "outputs: expected probabilities from 0 to 1, got",
    ),
    "binary labels": (
        lambda: losses.binary_cross_entropy(HALVES, LABELS),
        "labels: expected probabilities from 0 to 1, got 2",
    ),
    "beta": (
        lambda: losses.smooth_l1_loss(ONES, ONES, beta=-1),
        "beta: expected a finite number >= 0, got -1",
    ),
    "delta": (
        lambda: losses.huber_loss(ONES, ONES, delta=0),
        "delta: expected a finite number > 0, got 0",
    ),
    "labels 0 and 1 for signs": (
        lambda: losses.hinge_embedding_loss(ONES, np.array([1, 0, 1, -1])),
        "labels: expected 1 or -1, got 0",
    ),
    "a pair of two shapes": (
        lambda: losses.margin_ranking_loss(ONES, LOGITS, ONES),
        r"input2: expected the shape \(4,\) of input1, got \(4, 3\)",
    ),
    "images for vectors": (
        lambda: losses.cosine_embedding_loss(*[np.ones((2, 3, 4), np.float32)] * 2, ONES),
        r"input1: expected vectors \[N, D\] or \[D\], got float32\[2, 3, 4\]",
    ),
    "a sign for each number": (
        lambda: losses.cosine_embedding_loss(LOGITS, LOGITS, np.ones((4, 3))),
        r"labels: expected the outputs' shape \(4,\), got \(4, 3\)",
    ),
    "exponent of the margin": (
        lambda: losses.multi_margin_loss(LOGITS, LABELS, p=3),
        "p: expected an integer from 1 to 2, got 3",
    ),
    "margin of images": (
        lambda: losses.multi_margin_loss(np.ones((2, 3, 4), np.float32), LABELS),
        r"outputs: expected scores \[N, C\] or \[C\], got float32\[2, 3, 4\]",
    ),
    "margin of no class": (
        lambda: losses.multi_margin_loss(LOGITS, np.array([0, 1, 2, -100])),
        "labels: expected classes from 0 to 2, got -100",
    ),
    "several classes, of another shape": (
        lambda: losses.multilabel_margin_loss(LOGITS, LABELS),
        r"labels: expected integers of shape \(4, 3\), got int.*\[4\]",
    ),
    "several classes, one too large": (
        lambda: losses.multilabel_margin_loss(LOGITS[0], np.array([0, -1, 3])),
        "labels: expected classes from 0 to 2, or -1, got 3",
    ),
    "negative variance": (
        lambda: losses.gaussian_nll_loss(ONES, ONES, -ONES),
        "var: expected numbers >= 0, got -1",
    ),
    "a negative variance": (
        lambda: losses.gaussian_nll_loss(ONES, ONES, -0.5),
        "var: expected a finite number >= 0, got -0.5",
    ),
    "variances of another shape": (
        lambda: losses.gaussian_nll_loss(LOGITS, LOGITS, np.ones((1, 1), np.float32)),
        r"var: expected the outputs' shape \(4, 3\), one axis of 1, or no last axis, got \(1, 1\)",
    ),
    "triplet of two shapes": (
        lambda: losses.triplet_margin_loss(LOGITS, LOGITS, LOGITS[:1]),
        r"negative: expected the shape \(4, 3\) of the anchor, got \(1, 3\)",
    ),
    "margin of triplets": (
        lambda: losses.triplet_margin_loss(LOGITS, LOGITS, LOGITS, margin=0),
        "margin: expected a finite number > 0, got 0",
    ),
    "norm": (
        lambda: losses.triplet_margin_loss(LOGITS, LOGITS, LOGITS, p=0),
        "p: expected a number > 0, got 0",
    ),
    "distance": (
        lambda: losses.triplet_margin_with_distance_loss(*[LOGITS] * 3, distance_function=2),
        "distance_function: expected a function of two arrays that returns distances, got 2",
    ),
    "distances": (
        lambda: losses.triplet_margin_with_distance_loss(
            *[LOGITS] * 3, distance_function=lambda x, y: None
        ),
        "distance_function: expected an array, got None",
    ),
    "ctc log_probs": (
        lambda: ctc(log_probs=ONES),
        r"log_probs: expected \[T, N, C\] or \[T, C\], not empty, got float32\[4\]",
    ),
    "ctc blank": (lambda: ctc(blank=3), "blank: expected an integer from 0 to 2, got 3"),
    "ctc rows": (
        lambda: ctc(targets=np.array([[1, 2]])),
        r"targets: expected \[2, S\], or \[Σ target_lengths\], got int.*\[1, 2\]",
    ),
    "ctc target": (
        lambda: ctc(targets=np.array([[1, 3], [2, 0]])),
        "targets: expected classes from 0 to 2 except for the blank 0, got 3",
    ),
    "ctc blank as target": (
        lambda: ctc(targets=np.array([1, 2, 0])),
        "targets: expected classes from 0 to 2 except for the blank 0, got 0",
    ),
    "ctc floating targets": (lambda: ctc(targets=LOGITS), "targets: expected integers, got float"),
    "ctc number of targets": (
        lambda: ctc(targets=np.array([1, 2])),
        r"targets: expected 3 labels, the sum of target_lengths, got int.*\[2\]",
    ),
    "ctc input length": (
        lambda: ctc(input_lengths=np.array([5, 6])),
        "input_lengths: expected lengths from 0 to 5, got 6",
    ),
    "ctc target length": (
        lambda: ctc(target_lengths=np.array([-1, 1])),
        "target_lengths: expected lengths from 0 to 2, got -1",
    ),
    "ctc lengths": (
        lambda: ctc(input_lengths=np.array([5])),
        "input_lengths: expected one length for each of 2 examples",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_ctc_of_concatenated_targets_under_jit():
    run = jax.jit(lambda targets, lengths: ctc(targets=targets, target_lengths=lengths))
    np.testing.assert_allclose(run(np.array([1, 2, 2]), np.array([2, 1])), ctc(), rtol=1e-6)
    assert jnp.isnan(run(np.array([1, 2, 2]), np.array([1, 1])))


@pytest.mark.parametrize(
    "changes",
    [
        {"targets": np.array([[1, 3], [2, 0]])},
        {"targets": np.array([[1, 0], [2, 0]])},
        {"input_lengths": np.array([6, 4])},
        {"target_lengths": np.array([-1, 1])},
        {"target_lengths": np.array([3, 1])},
    ],
)
def test_impossible_ctc_targets_are_nan_under_jit(changes):
    loss = jax.jit(lambda changes: ctc(**changes, reduction="none", zero_infinity=True))(changes)
    np.testing.assert_array_equal(jnp.isnan(loss), [True, False])


def test_ctc_has_a_finite_gradient_where_a_class_is_impossible():
    logits = jnp.zeros((5, 2, 3)).at[:, :, 0].set(-jnp.inf)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: ctc(log_probs=jax.nn.log_softmax(x))))(
        logits
    )
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()


def test_ctc_sums_over_all_alignments():
    log_probs = jax.nn.log_softmax(np.random.default_rng(0).normal(size=(4, 3)))
    total = 0.0
    for path in np.ndindex(3, 3, 3, 3):
        merged = [c for i, c in enumerate(path) if i == 0 or c != path[i - 1]]
        if [c for c in merged if c != 0] == [1, 1]:
            total += float(jnp.exp(log_probs[np.arange(4), np.array(path)].sum()))
    loss = losses.ctc_loss(log_probs, np.array([1, 1]), 4, 2, reduction="sum")
    np.testing.assert_allclose(loss, -np.log(total), rtol=1e-5)
