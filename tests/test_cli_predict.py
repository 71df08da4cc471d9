import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxnets import recipes, runs
from jaxnets.cli import main
from jaxnets.commands.examples import named
from jaxnets.commands.predictors import _answer
from jaxnets.data import load
from jaxnets.data.survey import background


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    code = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run of one epoch on MNIST, saved by the command line."""
    out = tmp_path_factory.mktemp("runs") / "mlp"
    assert main(["train", "mnist-mlp", "--epochs", "1", "--out", str(out), "--quiet"]) == 0
    return out


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A run without classes."""
    out = tmp_path_factory.mktemp("runs") / "line"
    flags = ["--epochs", "1", "--out", str(out), "--quiet"]
    assert main(["train", "linear-regression", *flags]) == 0
    return out


@pytest.mark.slow
def test_names_of_classes_do_nothing_to_a_terminal(capsys, saved, changed):
    record = json.loads((saved / "run.json").read_text())
    odd = [f"{name}\x1b[31m\n" for name in record["class_names"]]
    code, out, _ = run(capsys, "predict", changed(record | {"class_names": odd}), "--index", "0")
    assert code == 0
    assert r"7\x1b[31m\n " in out
    assert "\x1b" not in out
    assert out.count("\n") == 1


@pytest.fixture
def changed(saved, tmp_path):
    """Copies the run's folder with another record."""

    def change(record):
        shutil.copytree(saved, tmp_path / "changed")
        (tmp_path / "changed" / "run.json").write_text(json.dumps(record))
        return tmp_path / "changed"

    return change


def write_digit(path, number=0):
    Image.fromarray(load("mnist").test.inputs[number, :, :, 0]).save(path)
    return path


def test_predict_classifies_test_examples_and_image_files(capsys, saved, tmp_path):
    write_digit(tmp_path / "seven.png")
    Image.fromarray(np.repeat(load("mnist").test.inputs[1], 3, -1)).save(tmp_path / "two.png")
    files = [tmp_path / "seven.png", tmp_path / "two.png"]
    code, out, _ = run(capsys, "predict", saved, *files, "--index", "0", "--top", "2")
    assert code == 0
    seven, two, example = (line.split(": ") for line in out.splitlines())
    assert seven[1].startswith("7 ")
    assert two[1].startswith("2 ")
    assert example == ["test example 0 (label 7)", seven[1]]
    assert seven[1].count("%") == 2


def test_files_are_classified_without_the_data(capsys, saved, tmp_path, monkeypatch):
    def refuse(recipe):
        raise AssertionError("the data were loaded")

    monkeypatch.setattr(recipes, "load_data", refuse)
    assert run(capsys, "predict", saved, write_digit(tmp_path / "seven.png"))[0] == 0


def test_a_record_without_the_shape_of_an_example_is_read_all_the_same(
    capsys, saved, changed, tmp_path
):
    record = json.loads((saved / "run.json").read_text())
    assert record.pop("inputs") == {"shape": [28, 28, 1], "dtype": "uint8"}
    code, out, _ = run(capsys, "predict", changed(record), write_digit(tmp_path / "seven.png"))
    assert code == 0
    assert ": 7 " in out


def test_classes_without_names_are_numbers_with_their_shares(capsys, saved, changed):
    named = run(capsys, "predict", saved, "--index", "0")[1]
    record = json.loads((saved / "run.json").read_text()) | {"class_names": None}
    assert run(capsys, "predict", changed(record), "--index", "0")[1] == named


def test_without_classes_the_outputs_are_shown(capsys, line):
    code, out, _ = run(capsys, "predict", line, "--index", "0")
    assert code == 0
    (label, output) = out.removeprefix("test example 0 (label [").rstrip().split("]): ")
    assert np.isfinite([float(label), float(output)]).all()


@pytest.fixture
def drawn(tmp_path):
    """The first test digit as if drawn by a person: large, dark on light, in a color file."""
    digit = Image.fromarray(255 - load("mnist").test.inputs[0, :, :, 0])
    path = tmp_path / "drawn.png"
    digit.resize((280, 280), Image.Resampling.BICUBIC).convert("RGBA").save(path)
    return path


RESIZED = "280×280 pixels, resized to 28×28"
INVERTED = "its border is unlike those of the training images, so dark and light are exchanged"


def test_a_drawn_digit_is_resized_and_inverted_and_it_is_said(capsys, saved, drawn):
    code, out, err = run(capsys, "predict", saved, drawn, "--top", "1")
    assert code == 0
    assert out.startswith(f"{drawn}: 7 ")
    assert err == f"{drawn}: {RESIZED}\n{drawn}: {INVERTED} (--no-invert disables this)\n"
    told = run(capsys, "predict", saved, drawn, "--top", "1", "--invert")
    assert told == (0, out, f"{drawn}: {RESIZED}\n")
    left = run(capsys, "predict", saved, drawn, "--top", "1", "--no-invert")
    assert left[1] != out
    assert left[2] == f"{drawn}: {RESIZED}\n"


def test_the_same_in_python(saved, drawn):
    read = runs.read(saved)
    assert read.background == 0.0  # of MNIST's digits
    image = runs.read_image(drawn, read.inputs, background=read.background)
    small = Image.open(drawn).convert("L").resize((28, 28), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(image[..., 0], 255 - np.asarray(small))
    for options in ({}, {"background": 1.0}, {"background": 0.0, "invert": False}):
        pixels = runs.read_image(drawn, read.inputs, **options)
        np.testing.assert_array_equal(pixels[..., 0], np.asarray(small))


def test_the_middle_of_an_image_of_other_proportions_is_taken(capsys, saved, tmp_path):
    digit = load("mnist").test.inputs[0, :, :, 0]
    wide = np.pad(digit, ((0, 0), (10, 10)))
    Image.fromarray(wide).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(
        runs.read_image(tmp_path / "wide.png", runs.read(saved).inputs)[..., 0], digit
    )
    code, out, err = run(capsys, "predict", saved, tmp_path / "wide.png")
    assert code == 0
    assert ": 7 " in out
    assert err == f"{tmp_path / 'wide.png'}: 48×28 pixels, its middle is resized to 28×28\n"


def test_images_without_a_background_in_common_are_never_inverted():
    draw = np.random.default_rng(0)
    light, dark = (np.full((10, 6, 6, 1), value, np.uint8) for value in (250, 5))
    light[:, 1:-1, 1:-1], dark[:, 1:-1, 1:-1] = 0, 255
    assert background(light) == pytest.approx(250 / 255)
    assert background(dark) == pytest.approx(5 / 255)
    assert background(np.concatenate([dark[:9], light[:1]])) == pytest.approx(5 / 255)
    assert background(np.concatenate([dark[:8], light[:2]])) is None
    photos = draw.integers(256, size=(20, 1, 1, 1)) * np.ones((1, 6, 6, 1))
    assert background(photos.astype(np.uint8)) is None
    assert background(load("mnist").train.inputs[:100]) == 0.0


def test_a_label_is_called_by_its_classes_name(capsys, saved, changed):
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    record = json.loads((saved / "run.json").read_text()) | {"class_names": names}
    folder = changed(record)
    out = run(capsys, "predict", folder, "--index", "0", "--top", "1")[1]
    assert re.fullmatch(r"test example 0 \(label seven\): seven \d+\.\d\d%\n", out)
    labels = np.array([2, 0])
    assert [named(("cat", "dog", "emu"), label) for label in labels] == ["emu", "cat"]
    assert named(None, labels[0]) == "2"
    assert named(("cat",), labels) == "[2 0]"


def test_predict_refuses_what_is_no_image(capsys, saved, tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    for name, message in [
        ("text.png", "text.png: expected a readable image, got"),
        ("none.png", "none.png: expected a readable image, got no such file"),
        ("", "jaxnets: image: expected a readable image, got"),
    ]:
        code, out, err = run(capsys, "predict", saved, tmp_path / name if name else "")
        assert code == 2
        assert out == ""
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--index", "10000"], "index: expected a number from 0 to 9999, got 10000"),
        (["--index", "-1"], "index: expected a number from 0 to 9999, got -1"),
        (
            ["--index", "0", "--invert"],
            "invert: expected none, as no image file is given, got True",
        ),
        (["--index", "0", "--no-invert"], "invert: expected none, as no image file is given"),
        (["--prompt", "a"], "prompt: expected none, as MLP classifies, got 'a'"),
        (["--index", "0", "--length", "3"], "length: expected none, as MLP classifies, got 3"),
        (["--index", "0", "--seed", "0"], "seed: expected none, as MLP classifies, got 0"),
        (["--index", "0", "--temperature", "1"], "temperature: expected none, as MLP classifies"),
        (["--index", "0", "--top", "0"], "0 is not in the range x>=1"),
        (["--top", "3"], "expected an image file, a WAV file, a text, --index N,"),
    ],
)
def test_what_predict_cannot_do_is_one_sentence(capsys, saved, flags, message):
    code, out, err = run(capsys, "predict", saved, *flags)
    assert (code, out) == (2, "")
    assert err.startswith("jaxnets: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--index", "0", "--top", "1"], "top: expected none, as the run has no classes, got 1"),
        (["pyproject.toml"], "image: expected a run on images, got a run on examples float32[1]"),
    ],
)
def test_what_a_run_without_classes_cannot_do_is_one_sentence(capsys, line, flags, message):
    code, out, err = run(capsys, "predict", line, *flags)
    assert (code, out, err) == (2, "", f"jaxnets: {message}\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[]", "its top level is of type list, not an object"),
        ("3", "its top level is of type int, not an object"),
        ('{"settings": {"name": ', "Expecting value"),
        ("[" * 100_000, "it is nested too deeply"),
        ("{}", "no 'settings'"),
        ({"settings": None}, "mapping"),
        ({"settings": [1]}, "mapping"),
        ({"settings": {"name": "a"}}, "missing"),
        ({"settings.more": 1}, "unexpected keyword argument 'more'"),
        ({"settings.epochs": "3"}, "epochs: expected a positive integer, got 3"),
        ({"settings.name": 3}, "name: expected a string, got 3"),
        ({"settings.model": "vgg"}, "model: expected one of"),
        ({"settings.model": ["mlp"]}, "model: expected a string"),
        ({"settings.model_options": [1]}, "model_options: expected arguments by name, got"),
        ({"settings.model_options": {"features": "abc"}}, "features: expected"),
        ({"settings.model_options": {"features": [784, None]}}, "features: expected"),
        ({"settings.layout": "cubes"}, "layout: expected 'images', 'rows', 'tokens', 'log-mel'"),
        ({"settings.normalize": 3}, "normalize: expected a mean and a standard deviation, got 3"),
        ({"settings.normalize": ["a", None]}, "mean"),
        ({"settings.augment": 3}, "augment: expected names of AUGMENTATIONS, got 3"),
        ({"test_accuracy": ...}, "no 'test_accuracy'"),
        ({"class_names": "abc"}, "class_names: expected a list of names"),
        ({"class_names": [1, 2]}, "class_names: expected a list of names"),
        ({"background": "dark"}, "background: expected a number in [0, 1], got dark"),
        ({"background": 1.5}, "background: expected a number in [0, 1], got 1.5"),
        ({"inputs": [28, 28]}, "or those of several arrays, got 28"),
        ({"inputs": {"image": 3}}, "or those of several arrays, got 3"),
        ({"inputs": {"shape": "ab", "dtype": "uint8"}}, "shape: expected an integer >= 0, got a"),
        ({"inputs": {"shape": [28, 28, 1], "dtype": "pixels"}}, "data type 'pixels' not"),
    ],
)
def test_a_damaged_record_is_refused(capsys, saved, tmp_path, change, message):
    record = json.loads((saved / "run.json").read_text())
    for key, value in change.items() if isinstance(change, dict) else ():
        *outer, last = key.split(".")
        place = record[outer[0]] if outer else record
        place[last] = value
        if value is ...:
            del place[last]
    text = change if isinstance(change, str) else json.dumps(record)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(
        ValueError, match="run: expected a run.json written by jaxnets, got"
    ) as fault:
        runs.read(tmp_path)
    assert message in str(fault.value)
    code, _, err = run(capsys, "predict", tmp_path, "--index", "0")
    assert code == 2
    assert err.count("\n") == 1


def test_a_record_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "run.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="run: expected a run.json written by jaxnets, got"):
        runs.read(tmp_path)


@pytest.mark.parametrize("weights", [None, "file", "empty"])
def test_a_run_without_its_weights_is_refused_and_no_traceback_is_printed(
    capfd, saved, tmp_path, weights
):
    (tmp_path / "run.json").write_bytes((saved / "run.json").read_bytes())
    if weights == "file":
        (tmp_path / "weights").write_text("none")
    if weights == "empty":
        (tmp_path / "weights").mkdir()
    assert main(["predict", str(tmp_path), "--index", "0"]) == 2
    err = capfd.readouterr().err
    assert err.startswith("jaxnets: directory: expected a folder written by save_weights, got")
    assert err.count("\n") == 1


@pytest.mark.parametrize(("output", "value"), [("sigmoid", 0.8), ("logits", np.log(4.0))])
def test_one_output_tells_two_classes_apart(output, value):
    class Model:
        pass

    model = Model()
    model.output = output
    saved = runs.SavedRun(None, model, True, ("no", "yes"), None, None)
    assert _answer(saved, np.array([value], np.float32), 2) == "yes 80.00%  no 20.00%"
