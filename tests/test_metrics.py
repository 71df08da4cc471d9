import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnets import metrics

SCORES = np.array([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2], [0, 0, 0], [0.3, 0.3, 0.4]], np.float32)
LABELS = np.array([1, 1, 0, 2])


def test_the_largest_score_is_right_and_the_first_of_equals():
    count = jax.jit(metrics.correct)(SCORES, LABELS)
    assert count.dtype == jnp.int32
    assert count == 3
    assert metrics.correct_logits(SCORES, LABELS) == 3
    np.testing.assert_allclose(metrics.accuracy(SCORES, LABELS), 0.75)


@given(st.sampled_from([(1, 2), (5, 2), (4, 5)]), st.integers(0, 99))
def test_correct_equals_numpy(shape, seed):
    rows, classes = shape
    generator = np.random.default_rng(seed)
    scores = np.round(2 * generator.normal(size=(rows, classes))).astype(np.float32)
    labels = generator.integers(0, classes, rows)
    where = generator.random(rows) < 0.7
    expected = ((scores.argmax(-1) == labels) & where).sum()
    assert metrics.correct(scores, labels, where=where) == expected
    assert metrics.top_k_correct(scores, labels, 1, where=where) == expected
    assert metrics.top_k_correct(scores, labels, classes, where=where) == where.sum()
    matrix = metrics.confusion_matrix(scores, labels, classes, where=where)
    assert jnp.trace(matrix) == expected
    assert matrix.sum() == where.sum()


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8, bool])
@pytest.mark.parametrize(
    "shapes", [((4,), (4,)), ((4, 1), (4,)), ((4, 1), (4, 1)), ((2, 2, 1), (2, 2))]
)
def test_a_single_output_is_compared_with_the_threshold(dtype, shapes):
    probabilities = np.array([0.5, 0.49, 0.9, 0.2], np.float32).reshape(shapes[0])
    labels = np.array([1, 0, 0, 0]).astype(dtype).reshape(shapes[1])
    assert jax.jit(metrics.correct)(probabilities, labels) == 3
    assert jax.jit(metrics.correct_logits)(probabilities - 0.5, labels) == 3
    where = np.array([True, True, False, False])[: len(labels)]
    padded = metrics.accuracy(probabilities, labels, where=where)
    assert padded == (1.0 if len(labels) == 4 else 0.75)


def test_padded_examples_count_for_nothing():
    where = np.array([True, True, False, False])
    assert jax.jit(metrics.correct)(SCORES, LABELS, where=where) == 1
    assert metrics.accuracy(SCORES, LABELS, where=where) == 0.5
    assert jnp.isnan(metrics.accuracy(SCORES, LABELS, where=np.zeros(4, bool)))
    # One flag for each sequence.
    sequences = SCORES.reshape(2, 2, 3), LABELS.reshape(2, 2)
    assert metrics.correct(*sequences, where=np.array([True, False])) == 1


def test_probabilities_are_one_label_for_each_example():
    mixed = np.full((4, 3), 0.1, np.float32)
    mixed[np.arange(4), LABELS] = 0.8
    assert metrics.accuracy(SCORES, mixed) == metrics.accuracy(SCORES, LABELS) == 0.75


def test_a_label_is_not_confused_with_another_class_modulo_its_dtype():
    scores = np.zeros((1, 300), np.float32)
    scores[0, 256] = 1
    assert metrics.correct(scores, np.zeros(1, np.uint8)) == 0
    assert metrics.top_k_correct(scores, np.zeros(1, np.uint8), 1) == 0
    matrix = metrics.confusion_matrix(scores, np.zeros(1, np.uint8), 300)
    assert matrix[0, 256] == 1
    assert matrix.sum() == 1


def test_top_k_takes_the_first_of_equals_first():
    tied = np.zeros((3, 3), np.float32)
    assert jax.jit(metrics.top_k_correct, static_argnums=2)(tied, np.arange(3), 2) == 2


def test_the_confusion_matrix_has_a_row_per_label():
    expected = [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    matrix = jax.jit(metrics.confusion_matrix, static_argnums=2)(SCORES, LABELS, 3)
    assert matrix.dtype == jnp.int32
    np.testing.assert_array_equal(matrix, expected)
    predictions = SCORES.argmax(-1)
    np.testing.assert_array_equal(metrics.confusion_matrix(predictions, LABELS, 3), expected)
    np.testing.assert_array_equal(
        metrics.confusion_matrix(predictions, np.array([1, -1, 7, 2]), 3),
        [[0] * 3, [0, 1, 0], [0, 0, 1]],
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.correct(SCORES, LABELS[:3]), r"outputs: expected scores .*\(3,\), got fl"),
        (lambda: metrics.correct(SCORES, np.ones((4, 3), int)), "outputs: expected scores"),
        (lambda: metrics.correct(SCORES, LABELS / 2), "labels: expected integers, got float"),
        (lambda: metrics.correct(SCORES[:, :0], LABELS), "outputs: expected scores"),
        (
            lambda: metrics.correct(SCORES, LABELS, where=LABELS),
            r"where: expected truth values for labels of shape \(4,\), got int",
        ),
        (
            lambda: metrics.accuracy(SCORES, LABELS, where=np.ones(3, bool)),
            r"where: expected truth values for labels of shape \(4,\), got bool\[3\]",
        ),
        (lambda: metrics.top_k_correct(SCORES, LABELS, 4), "k: expected an integer from 1 to 3"),
        (
            lambda: metrics.confusion_matrix(SCORES, LABELS, 0),
            "num_classes: expected a positive integer, got 0",
        ),
        (
            lambda: metrics.confusion_matrix(LABELS[:3], LABELS, 3),
            r"outputs: expected scores, or classes of the labels' shape \(4,\), got int",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
