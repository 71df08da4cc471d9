import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxnets import recipes
from jaxnets.cli import _answer, _Option, main
from jaxnets.data import load


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run of one epoch on MNIST, as the command line leaves it."""
    out = tmp_path_factory.mktemp("runs") / "mlp"
    assert main(["train", "mnist-mlp", "--epochs", "1", "--out", str(out), "--quiet"]) == 0
    return out


def test_training_from_a_shell_ends_with_one_json_object():
    command = [sys.executable, "-m", "jaxnets", "train", "linear-regression", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("epoch 1/50  train loss")
    result = json.loads(lines[-1])
    assert set(result) == {
        "recipe", "seed", "epochs", "test_accuracy", "test_correct", "test_total", "test_loss",
        "train_loss", "parameters", "train_seconds", "compile_seconds", "examples_per_second",
        "device",
    }  # fmt: skip
    assert result["recipe"] == "linear-regression"
    assert result["parameters"] == 2
    assert result["test_accuracy"] is None
    assert result["test_loss"] == pytest.approx(0.01, rel=0.2)  # the variance of the noise
    assert done.stderr == ""


def test_a_run_on_mnist_reaches_its_accuracy_and_leaves_its_record(saved):
    record = json.loads((saved / "run.json").read_text())
    assert record["test_total"] == 10_000
    assert record["test_accuracy"] == record["test_correct"] / 10_000
    assert record["test_accuracy"] > 0.93  # PyTorch's first epoch: 94 to 95 %
    assert record["settings"]["optimizer_options"] == {"lr": 0.01, "momentum": 0.9}
    with open(saved / "history.csv") as file:
        assert float(next(csv.DictReader(file))["test_accuracy"]) == record["test_accuracy"]
    with Image.open(saved / "curves.png") as plot:
        assert plot.width > plot.height > 300
    assert sorted(path.name for path in saved.parent.iterdir()) == ["mlp"]


def test_the_last_line_states_the_accuracy(capsys):
    flags = ["--batch-size", "600", "--epochs", "1", "--model-option", "features=(784,16,10)"]
    code, out, _ = run(capsys, "train", "mnist-mlp", "--quiet", *flags)
    assert code == 0
    words = out.split()
    correct = int(words[-1].strip("()").partition("/")[0])
    assert out == f"test accuracy: {correct / 100:.2f}% ({correct}/10000)\n"


def test_flags_change_the_recipe(capsys):
    flags = ["--optimizer", "adam", "--lr", "0.05", "--batch-size", "100", "--seed", "3"]
    code, out, _ = run(
        capsys, "train", "linear-regression", "--epochs", "3", "--json", "--quiet", *flags
    )
    assert code == 0
    assert len(out.splitlines()) == 1
    result = json.loads(out)
    assert (result["epochs"], result["seed"]) == (3, 3)
    assert result["test_loss"] != pytest.approx(
        recipes.train(recipes.recipe("linear-regression"), progress="none").test.loss, rel=1e-3
    )


def test_augmentation_is_a_flag_and_is_recorded(capsys, tmp_path):
    flags = ["--batch-size", "600", "--epochs", "1", "--model-option", "features=(784,16,10)"]
    flags += ["--augment", "shift", "--augment", "mixup", "--out", str(tmp_path / "run")]
    code, _, _ = run(capsys, "train", "mnist-mlp", "--quiet", *flags)
    assert code == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["augment"] == ["shift", "mixup"]
    assert run(capsys, "predict", str(tmp_path / "run"), "--index", "0")[0] == 0


def test_every_recipe_is_listed_with_its_document(capsys):
    code, out, _ = run(capsys, "recipes")
    assert code == 0
    for recipe in recipes.RECIPES.values():
        assert recipe.name in out
        assert recipe.document in out


@pytest.mark.parametrize(
    ("recipe", "parameters"), [("mnist-lenet", "61,706"), ("mnist-lstm", "214,282")]
)
def test_summary_shows_layers_shapes_and_counts(capsys, recipe, parameters):
    code, out, _ = run(capsys, "summary", recipe)
    assert code == 0
    assert parameters in out
    assert "float32[64,10]" in out


def test_predict_classifies_test_examples_and_image_files(capsys, saved, tmp_path):
    mnist = load("mnist")
    Image.fromarray(mnist.test.inputs[0, :, :, 0]).save(tmp_path / "seven.png")
    Image.fromarray(np.repeat(mnist.test.inputs[1], 3, -1)).save(tmp_path / "two.png")
    files = [str(tmp_path / "seven.png"), str(tmp_path / "two.png")]
    code, out, _ = run(capsys, "predict", str(saved), *files, "--index", "0", "--top", "2")
    assert code == 0
    seven, two, example = (line.split(": ") for line in out.splitlines())
    assert seven[1].startswith("7 ")
    assert two[1].startswith("2 ")
    assert example == ["test example 0 (label 7)", seven[1]]
    assert seven[1].count("%") == 2


def test_predict_refuses_what_is_no_image_of_the_right_size(capsys, saved, tmp_path):
    Image.new("L", (32, 28)).save(tmp_path / "wide.png")
    (tmp_path / "text.png").write_text("not an image")
    for name, message in [
        ("wide.png", "image: expected an image of 28×28 pixels, got"),
        ("text.png", "image: expected a readable image file, got"),
        ("none.png", "image: expected a readable image file, got"),
    ]:
        code, out, err = run(capsys, "predict", str(saved), str(tmp_path / name))
        assert code == 2
        assert out == ""
        assert err.startswith(f"jaxnets: {message}")
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "mnist-mpl"], "recipe: expected one of mnist-mlp, .*did you mean 'mnist-mlp'?"),
        (["train"], "Missing argument 'RECIPE'"),
        (["train", "mnist-mlp", "--epochs", "-1"], "epochs: expected a positive integer, got -1"),
        (["train", "mnist-mlp", "--epochs", "many"], "'many' is not a valid integer"),
        (["train", "mnist-mlp", "--batch-size", "0"], "batch_size: expected a positive integer"),
        (["train", "mnist-mlp", "--seed", "-1"], "seed: expected"),
        (["train", "mnist-mlp", "--lr", "-0.1"], "lr: expected"),
        (["train", "mnist-mlp", "--optimizer", "sdg"], "'sdg' is not one of"),
        (["train", "mnist-mlp", "--optimizer-option", "speed=1"], "optimizer option: expected one"),
        (
            ["train", "mnist-mlp", "--model-option", "features"],
            "expected KEY=VALUE, got 'features'",
        ),
        (
            ["train", "mnist-mlp", "--model", "recurrent-classifier"],
            "model option: expected input_dim, hidden_dim for recurrent-classifier, got no input",
        ),
        (["train", "mnist-mlp", "--model-option", "features=784"], "features: expected at least"),
        (["train", "mnist-mlp", "--model-option", "size=3"], "model option: expected one of feat"),
        (["train", "mnist-mlp", "--model-option", "features=(100,10)"], "inputs: expected a batch"),
        (
            ["train", "mnist-mlp", "--model-option", "features=(784,5)"],
            "train.labels: expected cla",
        ),
        (["train", "mnist-mlp", "--layout", "rows", "--model", "lenet"], "images: expected"),
        (["train", "mnist-mlp", "--augment", "blur"], "'blur' is not one of"),
        (["train", "mnist-mlp", "--augment", "crop-flip"], "inputs: expected a batch of examples"),
        (["train", "mnist-mlp", "--out", "pyproject.toml"], "out: expected a new or empty folder"),
        (["train", "mnist-mlp", "--out", "/proc/run"], "out: expected a folder that can be made"),
        (["train", "mnist-mlp", "--fast"], "No such option '?--fast"),
        (["predict", "tests", "--index", "0"], "run: expected a folder with a run.json"),
        (
            ["predict", "tests"],
            "expected an image file, a text, --index N or --prompt TEXT, got none of them",
        ),
        (["summary", "lenet"], "recipe: expected one of"),
        (["trane"], "No such command 'trane'"),
    ],
)
def test_a_bad_argument_is_one_sentence_and_exit_code_2(capsys, arguments, message):
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("jaxnets: ")
    assert err.count("\n") == 1

    assert re.search(message, err), err


def test_a_test_example_out_of_range_is_refused(capsys, saved):
    code, _, err = run(capsys, "predict", str(saved), "--index", "10000")
    assert code == 2
    assert err == "jaxnets: index: expected a number from 0 to 9999, got 10000\n"


def test_divergence_is_one_sentence_and_leaves_no_folder(capsys, tmp_path):
    flags = ["--lr", "1e30", "--out", str(tmp_path / "run"), "--quiet"]
    code, out, err = run(capsys, "train", "linear-regression", *flags)
    assert code == 1
    assert out == ""
    assert "training has diverged" in err
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_never_overwritten(capsys, saved):
    before = (saved / "run.json").read_bytes()
    code, _, err = run(capsys, "train", "mnist-mlp", "--out", str(saved))
    assert code == 2
    assert "out: expected a new or empty folder" in err
    assert (saved / "run.json").read_bytes() == before


def test_a_damaged_run_is_refused(capsys, tmp_path):
    (tmp_path / "run.json").write_text('{"settings": {"name": ')
    code, _, err = run(capsys, "predict", str(tmp_path), "--index", "0")
    assert code == 2
    assert "run: expected a run.json written by jaxnets" in err


def test_help_and_version(capsys):
    code, out, _ = run(capsys, "train", "--help")
    assert code == 0
    assert "--batch-size" in out
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.startswith("jaxnets, version ")


@pytest.mark.parametrize(("output", "value"), [("sigmoid", 0.8), ("logits", np.log(4.0))])
def test_one_output_tells_two_classes_apart(output, value):
    class Model:
        pass

    model = Model()
    model.output = output
    row = np.array([value], np.float32)
    assert _answer(model, row, ("no", "yes"), 2) == "yes 80.00%  no 20.00%"


@pytest.mark.parametrize(("text", "value"), [("false", False), ("TRUE", True), ("none", None)])
def test_options_know_true_false_and_none_in_any_case(text, value):
    assert _Option().convert(f"maximize={text}", None, None) == ("maximize", value)
