"""Documented recipes on other data than their own."""

import dataclasses
import json
import re

import numpy as np
import pytest

from jaxnets import recipes, runs
from jaxnets.cli import main
from jaxnets.commands.predictors import _answer
from jaxnets.data import AudioDataset, AudioFormat, Dataset, Split, load
from jaxnets.data.text import TextDataset, TextEncoder, Tokenizer, Vocabulary
from jaxnets.recipes import measured
from tests import tier
from tests.data_files import write_images
from tests.test_data_text import write_names

OWN = {"mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


def images(shape, classes, names=None, dtype=np.int32):
    labels = (np.arange(12) % classes).astype(dtype)
    split = Split(np.zeros((12, *shape), np.uint8), labels)
    return Dataset("pictures", split, split, names)


def texts(classes, labels=(), width=3):
    words = Vocabulary(("<pad>", "<unk>", "a"))
    drawn = np.random.default_rng(0).integers(0, classes, (12, *labels)).astype(np.int32)
    drawn.flat[0] = classes - 1
    split = Split(np.full((12, width), 2, np.int32), drawn)
    return TextDataset("words", split, split, encoder=TextEncoder(Tokenizer(), words))


def digits(options):
    form = AudioFormat(options["sample_rate"], 800, options.get("lengths", False))
    inputs = form.batch([np.zeros(n, np.float32) for n in (700, 800)])
    labels = np.array([[3, -1], [9, 0]] if "join" in options else [3, 9], np.int32)
    split = Split(inputs, labels)
    return AudioDataset("fsdd", split, split, tuple("0123456789"), audio=form)


def sizes(name, data, **changes):
    return recipes.sized(dataclasses.replace(recipes.recipe(name), **changes), data).model_options


@pytest.mark.parametrize("name", tier.one_in(3, recipes.RECIPES))
def test_on_its_own_data_a_recipe_stays_as_it_is(name):
    recipe = recipes.recipe(name)
    if recipe.data in OWN:
        data = images(OWN[recipe.data], 10)
    elif recipe.data in ("names", "rt-polarity", "text"):
        width = 64 if recipe.data == "text" else 3  # the block of a GPT
        data = texts(18 if recipe.data == "names" else 2, width=width)
    elif recipe.data == "fsdd":
        data = digits(recipe.data_options)
    else:
        data = load(recipe.data, **recipe.data_options)
    found = recipes.sized(recipe, data).model_options
    assert {key: found[key] for key in recipe.model_options} == recipe.model_options
    added = found.keys() - recipe.model_options.keys()
    of_ratings = {"num_users", "num_items", "mean"}
    assert added - of_ratings <= {
        *("vocab_size", "output_dim", "in_features", "out_features", "input_dim"),
        *("num_classes", "bands", "in_channels"),
    }


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("mnist-mlp", (10, 12, 3), {"features": (360, 128, 64, 2)}),
        ("mnist-softmax-mlp", (8, 8, 1), {"features": (64, 128, 2), "output": "softmax"}),
        ("mnist-lenet", (32, 32, 3), {"image_size": 32, "in_channels": 3, "num_classes": 2}),
        ("cifar10-lenet", (32, 32, 3), {"image_size": 32, "in_channels": 3, "num_classes": 2}),
        ("cifar10-image-classifier", (9, 7, 1), {"input_size": 63, "num_classes": 2}),
        ("mnist-gru", (14, 20, 3), {"input_dim": 60, "output_dim": 2}),
    ],
)
def test_sizes_follow_the_images(name, shape, expected):
    found = sizes(name, images(shape, 2))
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("lenet", {}, {"image_size": 28, "in_channels": 1, "num_classes": 3}),
        ("mlp", {}, {"features": (784, 128, 64, 3)}),
        ("mlp", {"features": (784, 9, 5)}, {"features": (784, 9, 5)}),
        ("mlp", {"features": (None, 9, 5)}, {"features": (784, 9, 5)}),
        ("image-classifier", {"num_classes": 7}, {"input_size": 784, "num_classes": 7}),
    ],
)
def test_another_network_is_sized_too_and_what_is_said_stays(model, given, expected):
    assert sizes("mnist-mlp", images((28, 28, 1), 3), model=model, model_options=given) == expected


@pytest.mark.parametrize(
    ("loss", "labels", "classes", "outputs"),
    [
        ("cross-entropy", (), 3, 3),
        ("binary-cross-entropy", (), 2, 1),
        ("binary-cross-entropy-with-logits", (1,), 2, 1),
        ("binary-cross-entropy-with-logits", (4,), 2, 4),
    ],
)
def test_outputs_follow_the_labels_and_the_loss(loss, labels, classes, outputs):
    found = sizes("sentiment-lstm", texts(classes, labels), loss=loss)
    assert (found["output_dim"], found["vocab_size"]) == (outputs, 3)


def test_two_classes_are_not_made_of_three():
    message = "labels of words: expected two classes, for the loss binary-cross-entropy .*, got 3 c"
    with pytest.raises(ValueError, match=message):
        sizes("sentiment-lstm", texts(3))


def test_lenet_takes_squares():
    with pytest.raises(ValueError, match=r"data: expected square images .*, got examples \[32, 28"):
        sizes("cifar10-lenet", images((32, 28, 3), 2))


def test_another_number_of_channels_needs_other_means():
    message = r"normalize: expected one mean .* each channel of uint8\[32, 32, 1\], got \(\(0.4914"
    with pytest.raises(ValueError, match=message):
        sizes("cifar10-lenet", images((32, 32, 1), 2))
    found = sizes("cifar10-lenet", images((32, 32, 1), 2), normalize=(0.5, 0.5))
    assert found == {"in_channels": 1, "num_classes": 2, "image_size": 32}


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_follows_the_classes(name):
    recipe = dataclasses.replace(recipes.recipe("cifar10-image-classifier"), augment=name)
    made = recipes.build_augmentation(recipe, images((20, 24, 3), 3))
    assert "num_classes=3" in repr(made)
    own = recipes.build_augmentation(recipe, images((32, 32, 3), 10))
    assert repr(own) == repr(recipes.build_augmentation(recipe))


def command(*arguments):
    return main(list(map(str, arguments)))


@pytest.mark.slow
def test_a_class_that_does_not_exist_is_never_predicted(tmp_path, capsys):
    write_images(tmp_path / "pets", {"cat": 8, "dog": 8}, size=(9, 9))
    flags = ["--data", "pets", "--data-dir", tmp_path, "--epochs", 1, "--quiet"]
    out = tmp_path / "run"
    assert command("train", "cifar10-image-classifier", *flags, "--out", out) == 0
    options = json.loads((out / "run.json").read_text())["settings"]["model_options"]
    assert options == {"input_size": 243, "hidden_size": 64, "num_classes": 2}
    picture = next((tmp_path / "pets").rglob("*.png"))
    capsys.readouterr()
    assert command("predict", out, picture) == 0
    assert sorted(re.findall(r"(cat|dog) ", capsys.readouterr().out.partition(": ")[2])) == [
        "cat",
        "dog",
    ]
    wrong = ["--model-option", "num_classes=3"]
    assert command("train", "cifar10-image-classifier", *flags, *wrong) == 2
    error = capsys.readouterr().err
    assert error == (
        "jaxnets: model: expected outputs for the 2 classes cat, dog, got outputs for 3\n"
    )


@pytest.mark.slow
def test_languages_of_ones_own(tmp_path, capsys):
    write_names(tmp_path)
    small = ["--model-option", "hidden_dim=4", "--model-option", "embedding_dim=4", "--quiet"]
    flags = ["--data-dir", tmp_path, "--epochs", 1, "--out", tmp_path / "run"]
    assert command("train", "names-gru", *flags, *small) == 0
    capsys.readouterr()
    assert command("predict", tmp_path / "run", "Novák", "--top", 5) == 0
    assert re.fullmatch(
        r"Novák: (Greek \S+%  Czech|Czech \S+%  Greek) \S+%\n", capsys.readouterr().out
    )


def test_outputs_without_a_class_are_not_shown():
    model = recipes.build_model(
        recipes.sized(recipes.recipe("mnist-mlp"), images((2, 2, 1), 4)), seed=0
    )
    saved = runs.SavedRun(None, model, True, ("cat", "dog"), None, None)
    row = np.array([0.0, 1.0, 9.0, 2.0], np.float32)
    assert _answer(saved, row, 3).split()[::2] == ["dog", "cat"]
    nameless = dataclasses.replace(saved, class_names=None)
    assert _answer(nameless, row, 9).split()[::2] == ["2", "3", "1", "0"]


def test_a_regression_takes_no_loss_of_classes(capsys):
    assert command("train", "engel-linear", "--loss", "cross-entropy", "--quiet") == 2
    error = capsys.readouterr().err
    assert "loss: expected another one for a single output (mse_loss for numbers" in error
    assert error.count("\n") == 1


def test_an_objective_has_a_name_in_the_table():
    recipe = dataclasses.replace(recipes.recipe("linear-regression"), objective="boosting")
    with pytest.raises(ValueError, match="objective: expected one of supervised.*, got 'boosting'"):
        recipes.train(recipe)


def test_the_score_to_expect_is_the_recorded_one():
    for name, record in measured.records().items():
        assert recipes.RECIPES[name].expect.partition(";")[0] == measured.expectation(record)
        assert len(record["seconds"]) == len(next(iter(record["scores"].values()))) >= 3


def test_a_score_is_the_name_of_a_metric():
    with pytest.raises(ValueError, match="score: expected the name of a metric or None, got 1"):
        dataclasses.replace(recipes.recipe("mnist-mlp"), score=1)
