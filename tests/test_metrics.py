import csv
import functools
import json
import pickle
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from jaxnets import load, losses, metrics, optimizers
from jaxnets.data import Dataset, Split
from jaxnets.layers import Linear
from jaxnets.training import (
    EpochRecord,
    Saving,
    compiled,
    evaluate,
    fit,
    initialize,
    minimize,
    predict,
    train_step,
    write_history,
)
from jaxnets.training.monitoring import JsonLines, TensorBoard
from tests.test_monitoring import scalars

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
            r"where: expected booleans for labels of shape \(4,\), got int",
        ),
        (
            lambda: metrics.accuracy(SCORES, LABELS, where=np.ones(3, bool)),
            r"where: expected booleans for labels of shape \(4,\), got bool\[3\]",
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


def batches(*arrays, size=7):
    """Divides arrays into batches of equal size and a smaller one."""
    places = range(size, len(arrays[0]), size)
    return zip(*(np.split(array, places) for array in arrays), strict=True)


def over_batches(measure, outputs, labels):
    """A metric over a split in uneven batches."""
    found = [jax.jit(measure)(*pair) for pair in batches(outputs, labels)]
    return jax.tree.map(lambda *parts: np.stack(parts), *found).over()


GENERATOR = np.random.default_rng(1)
CLASSES = 4
LOGITS = (2 * GENERATOR.normal(size=(31, CLASSES))).astype(np.float32)
TRUE = GENERATOR.integers(0, 3, 31).astype(np.int32)  # class 3 is predicted and never true
TRUE[5] = TRUE[20] = -100
COUNTED = TRUE != -100
CHOSEN, GIVEN = LOGITS.argmax(1)[COUNTED], TRUE[COUNTED]


def by_class(classes=range(CLASSES), chosen=CHOSEN, given=GIVEN):
    """Numbers of correct predictions, predictions and labels of each class, in NumPy."""
    right = np.array([((chosen == c) & (given == c)).sum() for c in classes])
    return right, *(np.array([(x == c).sum() for c in classes]) for x in (chosen, given))


def test_metrics_of_classes_equal_numpy_over_uneven_batches():
    right, predicted, labelled = by_class()
    assert labelled[3] == 0 < predicted[3]
    order = (-LOGITS).argsort(1)[COUNTED, :2]
    top = over_batches(metrics.top_k(2), LOGITS, TRUE)
    assert isinstance(top, float)
    assert top == pytest.approx((order == GIVEN[:, None]).any(1).mean())
    shares = over_batches(metrics.per_class_accuracy(CLASSES), LOGITS, TRUE)
    np.testing.assert_allclose(shares[:3], right[:3] / labelled[:3])
    assert np.isnan(shares[3])
    matrix = over_batches(metrics.confusion(CLASSES), LOGITS, TRUE)
    expected = np.zeros((4, 4))
    np.add.at(expected, (GIVEN, CHOSEN), 1)
    np.testing.assert_array_equal(matrix, expected)
    assert matrix.dtype == np.int64
    precisions = right / predicted
    recalls = np.where(labelled > 0, right / np.maximum(labelled, 1), 0)
    f1s = 2 * right / (predicted + labelled)
    for measure, each in ((metrics.precision, precisions), (metrics.recall, recalls),
                          (metrics.f1, f1s)):  # fmt: skip
        value = over_batches(measure(CLASSES), LOGITS, TRUE)
        assert isinstance(value, float)
        assert value == pytest.approx(each.mean())


def test_macro_scores_leave_out_classes_that_do_not_occur():
    # as scikit-learn: its default is the classes among labels and predictions
    scores = np.eye(4, dtype=np.float32)[[0, 1, 0]]
    labels = np.array([0, 0, 0])
    assert over_batches(metrics.precision(4), scores, labels) == pytest.approx((1 + 0) / 2)
    assert over_batches(metrics.recall(4), scores, labels) == pytest.approx((2 / 3 + 0) / 2)
    assert over_batches(metrics.f1(4), scores, labels) == pytest.approx((0.8 + 0) / 2)


@pytest.mark.parametrize("shape", [(31,), (31, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_scores_of_a_single_output_are_those_of_class_1(shape, dtype):
    logits = LOGITS[:, 0]
    labels = (LOGITS[:, 1] > 0).astype(dtype)
    chosen = (logits >= 0).astype(int)
    (right,), (predicted,), (labelled,) = by_class([1], chosen, labels)
    outputs = logits.reshape(shape)

    def value(measure, **options):
        return over_batches(measure(threshold=0.0, **options), outputs, labels)

    assert value(metrics.precision) == pytest.approx(right / predicted)
    assert value(metrics.recall) == pytest.approx(right / labelled)
    assert value(metrics.f1) == pytest.approx(2 * right / (predicted + labelled))
    two = np.stack([-logits, logits], 1)
    assert value(metrics.precision) == over_batches(
        metrics.precision(), two, labels.astype(np.int32)
    )
    matrix = value(functools.partial(metrics.confusion, 2))
    assert matrix[1, 1] == right
    assert matrix.sum() == 31
    both = by_class([0, 1], chosen, labels)
    np.testing.assert_allclose(
        value(functools.partial(metrics.per_class_accuracy, 2)), both[0] / both[2]
    )


def test_scores_are_zero_where_nothing_is_to_divide_by():
    negative, none = -np.ones(9, np.float32), np.zeros(9, np.int32)
    for measure in (metrics.precision, metrics.recall, metrics.f1):
        assert over_batches(measure(threshold=0.0), negative, none) == 0
    ignored = np.full(9, 7)
    assert over_batches(metrics.f1(3, ignore_index=7), LOGITS[:9, :3], ignored) == 0
    assert np.isnan(over_batches(metrics.top_k(1, ignore_index=7), LOGITS[:9], ignored))


def test_probabilities_for_labels_count_by_the_largest():
    soft = np.full((31, CLASSES), 0.1, np.float32)
    soft[np.arange(31), TRUE * COUNTED] = 0.7
    hard = TRUE * COUNTED
    for measure in (metrics.top_k(2), metrics.f1(CLASSES), metrics.confusion(CLASSES)):
        mixed, plain = (over_batches(measure, LOGITS, labels) for labels in (soft, hard))
        np.testing.assert_array_equal(mixed, plain)
    logs = torch.log_softmax(torch.tensor(LOGITS), 1).numpy()
    entropy = -(soft * logs).sum(1).mean()
    mixed = over_batches(metrics.perplexity(), LOGITS, soft)
    assert mixed == pytest.approx(np.exp(entropy), rel=1e-5)


def test_perplexity_is_of_the_mean_cross_entropy_of_all_labels():
    entropy = torch.nn.functional.cross_entropy(torch.tensor(LOGITS), torch.tensor(TRUE).long())
    value = over_batches(metrics.perplexity(), LOGITS, TRUE)
    assert value == pytest.approx(float(entropy.exp()), rel=1e-5)
    pad = np.where(COUNTED, TRUE, 3)
    value = over_batches(metrics.perplexity(ignore_index=3), LOGITS, pad)
    assert value == pytest.approx(float(entropy.exp()), rel=1e-5)
    assert np.isnan(over_batches(metrics.perplexity(), LOGITS, np.where(COUNTED, TRUE, 9)))


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("shape", [(31,), (31, 1), (31, 4), (31, 2, 2)])
def test_metrics_of_values_equal_numpy_over_uneven_batches(shape, offset):
    width = int(np.prod(shape[1:], dtype=int))
    labels = (LOGITS[:, :width] + offset).reshape(shape)
    outputs = labels + 0.5 * LOGITS[::-1, :width].reshape(shape)
    if shape == (31, 1):
        labels = labels[:, 0]
    value = over_batches(metrics.mean_absolute_error(), outputs, labels)
    x, y = (array.reshape(31, width).astype(np.float64) for array in (outputs, labels))
    assert value == pytest.approx(np.abs(x - y).mean(), rel=1e-5)
    expected = (1 - ((y - x) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)).mean()
    assert over_batches(metrics.r_squared(), outputs, labels) == pytest.approx(expected, rel=1e-4)


def test_r_squared_of_labels_that_are_alike():
    alike, other = np.ones(9, np.float32), np.arange(9, dtype=np.float32)
    assert over_batches(metrics.r_squared(), alike, alike) == 1
    assert over_batches(metrics.r_squared(), other, alike) == 0
    two = np.stack([other, alike], 1)
    assert over_batches(metrics.r_squared(), np.stack([other, other], 1), two) == 0.5
    assert np.isnan(over_batches(metrics.r_squared(), alike[:1], alike[:1]))


def test_equal_metrics_are_equal_and_hash_alike():
    def every(number):
        return (
            metrics.top_k(number), metrics.per_class_accuracy(number), metrics.confusion(number),
            metrics.precision(number), metrics.recall(number), metrics.f1(number),
            metrics.f1(threshold=number), metrics.perplexity(ignore_index=number),
        )  # fmt: skip

    assert every(2) == every(2)
    assert hash(every(2)) == hash(every(2))
    assert len({*every(2), *every(3)}) == 16
    assert metrics.r_squared() == metrics.r_squared() != metrics.mean_absolute_error()
    assert repr(metrics.top_k(5)) == "top_k(k=5, ignore_index=-100)"
    assert pickle.loads(pickle.dumps(metrics.top_k(5))) == metrics.top_k(5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.top_k(0), "k: expected a positive integer, got 0"),
        (lambda: metrics.top_k(9)(LOGITS, TRUE), "k: expected an integer from 1 to 4, got 9"),
        (lambda: metrics.confusion(None), "num_classes: expected a positive integer, got None"),
        (lambda: metrics.f1(2.0), r"num_classes: expected a positive integer, got 2.0"),
        (lambda: metrics.f1(threshold="0"), "threshold: expected a finite number, got 0"),
        (lambda: metrics.f1(ignore_index=0.5), "ignore_index: expected an integer, got 0.5"),
        (lambda: metrics.f1()(LOGITS, TRUE), "num_classes: expected 4, the number .*, got None"),
        (lambda: metrics.f1(3)(LOGITS, TRUE), "num_classes: expected 4, the number .*, got 3"),
        (
            lambda: metrics.f1()(LOGITS[:, 0], TRUE),
            "threshold: expected 0.0 for logits or 0.5 for probabilities, .* got None",
        ),
        (lambda: metrics.perplexity()(LOGITS, TRUE[:3]), "outputs: expected scores .* for labels"),
        (lambda: metrics.top_k(1)(LOGITS, TRUE * 1.0), "labels: expected integers, got float"),
        (
            lambda: metrics.r_squared()(LOGITS, LOGITS[:, :1]),
            r"labels: expected the outputs' shape \(31, 4\), got float32\[31, 1\]",
        ),
        (lambda: metrics.mean_absolute_error()(1.0, 1.0), "labels: expected the outputs' shape"),
    ],
)
def test_measures_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


MEASURES = {
    "top2": metrics.top_k(2),
    "class_accuracy": metrics.per_class_accuracy(CLASSES),
    "confusion": metrics.confusion(CLASSES),
    "f1": metrics.f1(CLASSES),
    "perplexity": metrics.perplexity(),
}
SPLIT = Split(LOGITS, TRUE)


def train(**options):
    """Trains without changing the model: all metrics of an epoch belong to one model."""
    model = Linear(CLASSES, CLASSES, rngs=nnx.Rngs(0))
    settings = {"epochs": 2, "batch_size": 7, "progress": "none", "metrics": MEASURES}
    data = Dataset("drawn", SPLIT, SPLIT.take(17))
    return fit(model, data, loss=losses.cross_entropy, optimizer=STILL, **{**settings, **options})


STILL = optimizers.sgd(0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def run(folder):
    return train(callbacks=[JsonLines(folder / "lines.jsonl"), TensorBoard(folder / "board")])


def expected_of(split, outputs):
    return {
        name: over_batches(measure, outputs, split.labels) for name, measure in MEASURES.items()
    }


@pytest.mark.slow
def test_metrics_are_over_the_whole_split_in_training_and_test(run):
    outputs = predict(run.model, LOGITS)
    for part, split in (("train", SPLIT), ("test", SPLIT.take(17))):
        expected = expected_of(split, outputs[: len(split)])
        for record in run.history:
            found = getattr(record, part)
            assert found.keys() == {"loss", "accuracy", *MEASURES}
            for name, value in expected.items():
                np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    assert run.test.metrics["f1"] == run.history[-1].test["f1"]
    again = evaluate(run.model, SPLIT, loss=losses.cross_entropy, metrics=MEASURES, batch_size=31)
    np.testing.assert_array_equal(again.metrics["confusion"], run.history[0].train["confusion"])


@pytest.mark.slow
def test_metrics_reach_what_a_run_writes(run, folder):
    test = run.history[-1].test
    row = run.history[-1].row()
    assert row["test_confusion"] == test["confusion"].tolist()
    back = EpochRecord.of_row(json.loads(json.dumps(row)), 2)
    np.testing.assert_array_equal(back.test["confusion"], test["confusion"])
    assert back.test["confusion"].dtype == test["confusion"].dtype
    write_history(run.history, folder / "history.csv")
    with (folder / "history.csv").open() as file:
        written = list(csv.DictReader(file))[-1]
    assert float(written["test_f1"]) == test["f1"]
    assert written["test_confusion"] == str(row["test_confusion"])
    line = json.loads((folder / "lines.jsonl").read_text().splitlines()[-1])
    assert line["test_confusion"] == row["test_confusion"]
    assert line["test_class_accuracy"][3] is None  # no example has this class
    shown = tags(folder / "board")
    assert {"f1/test", "top2/train", "perplexity/test"} <= shown
    assert not {tag for tag in shown if tag.startswith(("confusion", "class_accuracy"))}
    titles = {axes.get_ylabel() for axes in run.plot().axes}
    assert titles == {"loss", "accuracy (%)", "f1", "perplexity", "top2"}
    assert "confusion" not in repr(run)
    assert f"class_accuracy {np.nanmean(test['class_accuracy']):.2%}" in repr(run)
    run.save(folder / "saved")
    saved = load(folder / "saved", model=run.model)
    np.testing.assert_array_equal(saved.history[-1].test["confusion"], test["confusion"])


def tags(directory):
    """The tags of all values that TensorBoard would show."""
    return {tag for tag, _ in scalars(directory)}


def test_equal_metrics_find_the_programs_of_another_run(run):
    train(epochs=1)
    known = set(compiled._KNOWN)
    fresh = {**MEASURES, "top2": metrics.top_k(2), "f1": metrics.f1(CLASSES)}
    again = train(metrics=fresh, epochs=1)
    assert set(compiled._KNOWN) == known
    assert again.history[0].test["f1"] == run.history[0].test["f1"]


@pytest.mark.slow
def test_a_program_that_computes_the_same_sums_is_not_taken_for_that_of_another_metric(run):
    outputs = predict(run.model, LOGITS)
    for name, measure in (("a", metrics.f1), ("a", metrics.recall), ("b", metrics.recall)):
        found = train(metrics={name: measure(CLASSES)}, epochs=1).history[0].train
        assert found.keys() == {"loss", "accuracy", name}
        assert found[name] == pytest.approx(over_batches(measure(CLASSES), outputs, TRUE))


@pytest.mark.slow
def test_a_run_goes_on_with_the_metrics_of_half_an_epoch(run, tmp_path):
    class Stop(Exception):
        pass

    def stop(record):
        raise Stop

    saving = Saving(tmp_path, steps=3)
    with pytest.raises(Stop):
        train(epochs=1, save=saving, callbacks=[stop])
    shutil.rmtree(max(tmp_path.glob("step-*"), key=lambda path: int(path.name[5:])))
    resumed = train(save=saving, resume=True)
    for name in MEASURES:
        np.testing.assert_array_equal(resumed.history[0].train[name], run.history[0].train[name])


@pytest.mark.slow
def test_metrics_of_an_objective_of_ones_own_are_put_together_from_parts(run):
    outputs = predict(run.model, LOGITS)
    labels = np.linspace(99, 101, 31).astype(np.float32)[:, None] * np.ones((1, 4), np.float32)
    state = initialize(run.model, STEP)
    batch = {"inputs": LOGITS, "labels": labels}
    _, found = train_step(STEP, state, batch)
    whole = jax.tree.map(lambda x: np.asarray(x)[None], found.metrics)
    expected = over_batches(metrics.r_squared(), outputs, labels)
    assert whole["r2"].over() == pytest.approx(expected, rel=1e-4)
    expected = over_batches(metrics.mean_absolute_error(), outputs, labels)
    assert whole["error"].over() == pytest.approx(expected, rel=1e-5)


def own(model, batch, key):
    outputs, labels = model(batch["inputs"]), batch["labels"]
    measured = {
        "r2": metrics.r_squared()(outputs, labels),
        "error": metrics.mean_absolute_error()(outputs, labels),
    }
    return losses.mse_loss(outputs, labels), measured


STEP = minimize(own, STILL, accumulate=4)
