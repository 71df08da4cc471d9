"""k-means and PCA compared with scikit-learn's, hidden labels, autoencoders and FixMatch."""

import contextlib
import csv
import json
import re
import runpy
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from sklearn import metrics as theirs
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from jaxnets import fit, losses, optimizers, predict, scores
from jaxnets.cli import main
from jaxnets.data import Compose, Dataset, RandomCrop, RandomErasing, Split, ToFloat, keep_labels
from jaxnets.data import load as load_data
from jaxnets.data.survey import class_counts
from jaxnets.layers import flatten
from jaxnets.models import MLP, Autoencoder
from jaxnets.training import Saving, fixmatch, minimize, reconstruction
from jaxnets.unsupervised import kmeans, pca
from tests.pages import blocks

DRAW = np.random.default_rng(0)
POINTS = DRAW.normal(size=(90, 3)) + np.repeat(8 * np.eye(3), 30, axis=0)


@pytest.mark.parametrize(
    ("points", "start", "options"),
    [
        (POINTS, POINTS[:4], {}),  # three of them in one cluster
        (POINTS, POINTS[:4], {"max_iter": 2}),
        (POINTS, POINTS[:4], {"tol": 0.2}),
        (POINTS + 1e4, POINTS[::30] + 1e4, {"tol": 0}),
        (POINTS, np.array([[0.0, 0, 0], [50, 50, 50], [8, 0, 0]]), {}),  # one gets no point
        (np.repeat(POINTS[:2], 3, axis=0), np.zeros((3, 3)), {}),  # fewer points than clusters
        (np.ones((5, 2)), np.ones((3, 2)), {}),
        (np.array([[-1.0], [1.0], [0.0]]), np.array([[-1.0], [1.0]]), {"max_iter": 1}),  # a tie
    ],
)
def test_kmeans_from_given_centers_equals_scikit_learns(points, start, options):
    k = len(start)
    expected = KMeans(k, init=start, n_init=1, **options)
    with pytest.warns() if k > len(np.unique(points, axis=0)) else contextlib.nullcontext():
        expected.fit(points)
    with jax.enable_x64(True):
        found = kmeans(points, k, init=start, **options)
        again = found.predict(points)
    np.testing.assert_allclose(found.centers, expected.cluster_centers_, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(found.labels, expected.labels_)
    assert found.inertia == pytest.approx(expected.inertia_, rel=1e-10, abs=1e-12)
    assert found.n_iter == expected.n_iter_
    np.testing.assert_array_equal(again, expected.predict(points))


def test_several_centers_without_points_take_the_farthest_points_in_order():
    points = np.array([[0.0], [1], [2], [7], [20]])
    start = np.array([[1.0], [100], [200]])
    found = kmeans(points, 3, init=start, max_iter=1)
    np.testing.assert_allclose(found.centers, [[1], [20], [7]])


@pytest.mark.slow
def test_restarts_find_the_clusters_and_a_seed_decides_them():
    groups, draw = np.repeat(np.arange(5), 20), np.random.default_rng(0)
    points = 10 * draw.normal(size=(5, 2))[groups] + draw.normal(size=(100, 2)) / 50
    first, second = kmeans(points, 5, seed=3), kmeans(points, 5, seed=3)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert scores.clustering_accuracy(groups, first.labels) == 1
    assert first.centers.dtype == np.float32
    one = kmeans(points, 5, n_init=1, seed=3).inertia
    assert first.inertia <= one
    assert kmeans(np.ones((4, 2)), 3).inertia == 0


@pytest.mark.parametrize("shape", [(90, 3), (40, 30), (5, 9)])
def test_principal_components_equal_scikit_learns(shape):
    points = np.random.default_rng(0).normal(size=shape) * np.arange(1, shape[1] + 1) + 5
    expected = PCA(2, svd_solver="full").fit(points)
    found = pca(points, 2)
    names = ("mean", "components", "explained_variance", "explained_variance_ratio")
    for name in names:
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, f"{name}_"), rtol=1e-10, atol=1e-12
        )
    codes = found.transform(points)
    np.testing.assert_allclose(codes, expected.transform(points), rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(
        found.inverse_transform(codes), expected.inverse_transform(codes), rtol=1e-10
    )
    assert len(pca(points).components) == min(shape)


PARTITIONS = [
    (DRAW.integers(4, size=60), DRAW.integers(6, size=60)),
    (np.repeat([5, 2], 8), np.repeat([0, 1], 8)),
    (np.zeros(5, int), np.zeros(5, int)),
    (np.arange(5), np.zeros(5, int)),
    (np.arange(5), np.arange(5)[::-1]),
    (np.tile([0, 0, 1, 1], 5), np.tile([0, 1], 10)),
]


@pytest.mark.parametrize(("labels", "clusters"), PARTITIONS)
def test_scores_of_clusters_equal_scikit_learns(labels, clusters):
    for name in ("adjusted_rand_score", "normalized_mutual_info_score"):
        expected = getattr(theirs, name)(labels, clusters)
        assert getattr(scores, name)(labels, clusters) == pytest.approx(expected, rel=1e-12)
    many = np.tile(labels, 20_000), np.tile(clusters, 20_000)  # whose pairs exceed 32 bits
    assert scores.adjusted_rand_score(*many) == pytest.approx(theirs.adjusted_rand_score(*many))


def test_the_accuracy_of_clusters_is_that_of_the_best_assignment():
    assert scores.clustering_accuracy([0, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 2]) == 4 / 6
    assert scores.clustering_accuracy([0, 1, 2], [0, 0, 0]) == 1 / 3


def digits(count=40, classes=4):
    labels = (np.arange(count) % classes).astype(np.int32)
    images = np.random.default_rng(0).integers(128, size=(count, 6, 6, 1)).astype(np.uint8)
    images[np.arange(count), :, labels] = 255
    return Split(images, labels)


def test_labels_are_hidden_or_left_out():
    split = digits()
    kept = keep_labels(split, 8, seed=1)
    known = kept.labels >= 0
    np.testing.assert_array_equal(kept.labels[known], split.labels[known])
    assert np.bincount(kept.labels[known]).tolist() == [2, 2, 2, 2]
    np.testing.assert_array_equal(kept.inputs, split.inputs)
    alone = keep_labels(split, 8, seed=1, unlabelled=False)
    np.testing.assert_array_equal(alone.labels, split.labels[known])
    assert not np.array_equal(keep_labels(split, 8, seed=2).labels, kept.labels)


def test_labels_is_an_option_of_any_data_with_classes(tmp_path):
    whole, few = load_data("mnist"), load_data("mnist", labels=100)
    assert np.bincount(few.train.labels[few.train.labels >= 0]).tolist() == [10] * 10
    assert few.num_classes == 10
    assert class_counts(few.train, 10).tolist() == [10] * 10
    np.testing.assert_array_equal(few.test.labels, whole.test.labels)
    rows = "\n".join(f"{k},{'ab'[k % 2]}" for k in range(40))
    (tmp_path / "table.csv").write_text(f"x,kind\n{rows}\n")
    table = load_data(tmp_path / "table.csv", label="kind", labels=4, unlabelled=False)
    assert sorted(table.train.labels.tolist()) == [0, 0, 1, 1]
    for options, message in [
        ({"name": "linear", "labels": 4}, r"split: expected examples in memory with class numbers"),
        (
            {"name": "mnist", "labels": 101},
            "labels: expected a multiple of the 10 classes, got",
        ),
        ({"name": "mnist", "labels": 5}, "labels: expected an integer .*, got 5"),
        ({"name": "mnist", "unlabelled": False}, "unlabelled: expected True, unless labels is giv"),
        ({"name": "ratings", "labels": 10}, "labels: expected None, as ratings is ratings, got 10"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_data(**options)


def test_an_autoencoder_without_labels_learns_and_one_without_hidden_layers_is_a_pca():
    draw = np.random.default_rng(0)
    points = (draw.normal(size=(200, 2)) @ draw.normal(size=(2, 6))).astype(np.float32)
    points += draw.normal(size=points.shape).astype(np.float32) / 10
    model = Autoencoder(6, (), 2, rngs=nnx.Rngs(0))
    data = Dataset("points", Split(points), Split(points))
    step = minimize(reconstruction(losses.mse_loss), optimizers.adam(0.02))
    run = fit(model, data, step, epochs=200, batch_size=50, progress="none")
    found = pca(points, 2)
    best = np.mean((found.inverse_transform(found.transform(points)) - points) ** 2)
    assert best <= run.test.loss < 1.02 * best
    codes = predict(run.model.encoder, points)
    np.testing.assert_allclose(run.model.encode(jnp.asarray(points)), codes, rtol=1e-4, atol=1e-5)
    outputs = predict(run.model, points)
    np.testing.assert_allclose(predict(run.model.decoder, codes), outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_denoising_autoencoder_is_compared_with_its_inputs_before_the_noise():
    split = digits()
    erase = RandomErasing(1, (0.3, 0.3))
    objective = reconstruction(losses.mse_loss, transform=ToFloat(), augment=erase)
    model, batch = Autoencoder(36, (8,), 2, rngs=nnx.Rngs(0)), {"inputs": split.inputs}
    key = jax.random.key(0)
    clean = flatten(ToFloat()(split.inputs))
    expected = losses.mse_loss(model(ToFloat()(erase(split.inputs, key))), clean)
    np.testing.assert_allclose(objective(model, batch, key)[0], expected, rtol=1e-6)
    tested = objective.evaluation(model, batch, key)[0]
    np.testing.assert_allclose(tested, losses.mse_loss(model(clean), clean), rtol=1e-6)


def few_labels():
    whole = digits(400)
    return Dataset("few", keep_labels(whole, 8), whole)


def matching(data):
    weak = RandomCrop(6, padding=(0, 1))  # the class is a column
    strong = Compose(weak, RandomErasing(1))
    how = {"weak": weak, "strong": strong, "transform": ToFloat(), "labelled": 16, "threshold": 0.8}
    return minimize(fixmatch(data.train, **how), optimizers.sgd(0.1, momentum=0.9))


@pytest.mark.slow
def test_fixmatch_learns_from_examples_without_labels_and_resumes(tmp_path):
    data = few_labels()
    options = {"batch_size": 80, "seed": 2, "progress": "none"}

    def trained(epochs, **saving):
        model = MLP((36, 32, 4), rngs=nnx.Rngs(0))
        return fit(model, data, matching(data), epochs=epochs, **options, **saving)

    run = trained(8)
    first, last = run.history[0].train, run.history[-1].train
    assert first["confident"] < last["confident"]
    assert run.test.accuracy > 0.9
    saving = Saving(tmp_path, steps=3)
    trained(2, save=saving)
    again = trained(8, save=saving, resume=True)
    np.testing.assert_array_equal(again.step_losses, run.step_losses)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": Split(np.zeros((2, 3)), np.array([-1, -1]))}, "train: expected at least one ex"),
        ({"train": Split(np.zeros((2, 3)))}, r"train: expected examples with class numbers \[N\]"),
        ({"train": Split(np.zeros((2, 3)), np.ones(2))}, r"got labels float64\[2\]"),
        ({"labelled": 0}, "labelled: expected a positive integer, got 0"),
        ({"threshold": 1.5}, "threshold: expected a number in .0, 1., got 1.5"),
        ({"weight": -1}, "weight: expected .*, got -1"),
        ({"strong": None}, "strong: expected callables, got NoneType"),
    ],
)
def test_what_fixmatch_refuses(change, message):
    given = {"train": few_labels().train, "weak": ToFloat(), "strong": ToFloat(), **change}
    with pytest.raises(ValueError, match=message):
        fixmatch(given.pop("train"), **given)


def run_command(capsys, *words):
    code = main(list(map(str, words)))
    return code, *capsys.readouterr()


@pytest.mark.slow
def test_the_commands_on_an_autoencoder(tmp_path, capsys):
    out = tmp_path / "run"
    short = ["--data-option", "train=train[:256]", "--data-option", "test=test[:30]"]
    small = ["--model-option", "hidden_features=[16]", "--model-option", "code_features=3"]
    words = ["train", "mnist-autoencoder", *short, *small, "--epochs", 1, "--out", out]
    code, printed, _ = run_command(capsys, *words, "--loss", "binary-cross-entropy")
    assert code == 0
    assert printed.endswith(f"use it with: jaxnets predict {out} --index 0\n")
    code, printed, _ = run_command(capsys, "predict", out, "--index", 0)
    number = r"-?\d[\d.e+-]*"
    line = rf"test example 0 \(label 7\): code {number} {number} {number}; mean squared error "
    assert re.fullmatch(rf"{line}0\.\d+\n", printed)
    table, picture = tmp_path / "codes.csv", tmp_path / "digits.png"
    code, printed, _ = run_command(capsys, "predict", out, "--csv", table, "--out", picture)
    assert (code, printed) == (0, f"wrote 30 codes to {table}\nwrote {picture}\n")
    rows = list(csv.reader(table.read_text().splitlines()))
    assert rows[0] == ["index", "label", "code_1", "code_2", "code_3", "error"]
    assert rows[1][:2] == ["0", "7"]
    assert len(rows) == 31
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 1000
    code, _, error = run_command(capsys, "predict", out, "--index", 0, "--top", 2)
    assert (code, error) == (
        2,
        "jaxnets: top: expected none, as Autoencoder encodes examples, got 2\n",
    )
    code, printed, _ = run_command(capsys, "evaluate", out, "--json")
    found = json.loads(printed)["scores"]
    errors = [float(row[-1]) for row in rows[1:]]
    assert found["mse"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert found["loss"] > found["mse"]
    embedding = ["visualize", out, "--what", "embedding", "--out", tmp_path / "codes.png"]
    assert run_command(capsys, *embedding)[0] == 0


@pytest.mark.slow
def test_the_recipes_of_few_labels_train(capsys):
    short = ["--data-option", "train=train[:1920]", "--data-option", "test=test[:200]"]
    short += ["--data-option", "labels=20", "--epochs", 1, "--quiet", "--json"]
    found = {}
    for name in ("mnist-fixmatch", "mnist-100-labels"):
        code, printed, _ = run_command(capsys, "train", name, *short)
        assert code == 0
        found[name] = json.loads(printed)["test_accuracy"]
    assert all(0 <= accuracy <= 1 for accuracy in found.values())
    code, _, error = run_command(capsys, "train", "mnist-fixmatch", "--data-option", "labels=7")
    assert (code, error.count("\n")) == (2, 1)


EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
def test_the_examples(tmp_path, monkeypatch, capsys):
    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    picture = tmp_path / "codes.png"
    out = run("clustering", "--images", 256, "--epochs", 1, "--picture", picture)
    assert (
        len(
            re.findall(r"^k-means on \w+ +accuracy \d\d\.\d\d% ARI 0\.\d\d NMI 0\.\d\d$", out, re.M)
        )
        == 3
    )
    assert picture.stat().st_size > 1000
    out = run("fixmatch", "--images", 256, "--epochs", 1, "--labels", 10)
    assert len(re.findall(r"accuracy: \d+\.\d\d%", out)) == 2


@pytest.mark.slow
def test_the_python_of_the_guide_prints_what_it_says(capsys):
    page = (EXAMPLES.parent / "docs" / "unsupervised.md").read_text()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec("\n".join(blocks(page, "python")), {"__name__": "__main__"})
    accuracy, *others = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"accuracy \d\d%", accuracy)
    assert others == blocks(page, "text")[0].splitlines()
