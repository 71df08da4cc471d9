"""``jaxnets explain``: lines, pictures and refusals, on images, texts and tables."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from jaxnets.arrays import InputError
from jaxnets.cli import main
from tests.test_data_text import write_polarity

pytestmark = pytest.mark.slow

NET = """
import jax
from flax import nnx
from jaxnets import layers


class Net(nnx.Module):
    def __init__(self, *, rngs):
        self.conv = layers.Conv2d(1, 2, 3, rngs=rngs)
        self.fc = layers.Linear(2, 3, rngs=rngs)

    def __call__(self, x):
        return self.fc(jax.nn.relu(self.conv(x)).mean((1, 2)))
"""
TRAIN = ["--epochs", "1", "--quiet", "--out"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield tmp_path


def explained(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    code = main(["explain", *map(str, arguments)])
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A run of a user-defined network on small images."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "nets.py").write_text(NET)
    draw = np.random.default_rng(0)
    pixels, labels = draw.integers(256, size=(48, 7, 6, 1), dtype=np.uint8), np.arange(48) % 3
    parts = {"x_train": pixels[:32], "x_test": pixels[32:]}
    np.savez(folder / "images.npz", **parts, y_train=labels[:32], y_test=labels[32:])
    network = ["--model", f"{folder}/nets.py:Net", "--data", str(folder / "images.npz")]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert main(["train", *network, *TRAIN, str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def sentiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentiment")
    write_polarity(folder)
    small = ["--model-option", "hidden_dim=4", "--model-option", "embedding_dim=4"]
    command = ["train", "sentiment-lstm", "--data-dir", str(folder), *small]
    assert main([*command, *TRAIN, str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def fruit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fruit")
    rows = [f"{k},{('red', 'blue')[k % 2]},{('apple', 'plum')[k // 15]}" for k in range(30)]
    (folder / "fruit.csv").write_text("\n".join(["weight,colour,kind", *rows]) + "\n")
    data = ["--data", str(folder / "fruit.csv"), "--data-option", "standardize=True"]
    mlp = ["--model", "mlp", "--model-option", "features=(None,4,None)", "--loss", "cross-entropy"]
    command = ["train", "linear-regression", *data, *mlp]
    assert main([*command, *TRAIN, str(folder / "run")]) == 0
    return folder / "run"


METHODS = ["saliency", "input-x-gradient", "smooth-grad", "grad-cam", "occlusion"]


def test_an_image_is_explained_by_each_method(capsys, images, place):
    line = r"test example 3 \(label (\d)\): (\d) \(\d\d\.\d\d%\); explained: class \2"
    code, out, err = explained(capsys, images, "--index", "3")
    assert code == 0, err
    pattern = rf"{line}; relative error of the sum: (\S+)%\nwrote explanation.png\n"
    error = re.fullmatch(pattern, out)[3]
    assert float(error) < 1
    with Image.open("explanation.png") as picture:
        assert picture.width > 600
    for method in METHODS:
        code, out, err = explained(capsys, images, "--index", "3", "--method", method, "--json")
        assert code == 0, err
        (found,) = json.loads(out)
        assert found["method"] == method
        assert np.shape(found["attributions"]) == (7, 6, 1)
        assert found["completeness_error"] is None
    assert len(list(place.glob("*.png"))) == 1


def test_a_file_of_another_size_is_resized_and_several_have_numbers(capsys, images, place):
    Image.fromarray(np.full((20, 18), 90, np.uint8)).save("grey.png")
    given = ["grey.png", "--index", "0", "--target", "2", "--n-steps", "5"]
    code, out, err = explained(capsys, images, *given, "--json")
    assert code == 0
    assert "grey.png: 18×20 pixels, its middle is resized to 6×7\n" in err
    found = json.loads(out)
    assert [each["example"][:8] for each in found] == ["grey.png", "test exa"]
    assert all(each["target"].startswith("class 2") for each in found)
    assert np.shape(found[0]["attributions"]) == (7, 6, 1)
    assert explained(capsys, images, *given)[0] == 0
    assert {path.name for path in place.glob("*.png")} == {
        "grey.png", "explanation-1.png", "explanation-2.png",
    }  # fmt: skip


def test_the_words_of_a_text_are_weighed_for_either_class(capsys, sentiment):
    text = "a lovely film"
    code, out, err = explained(capsys, sentiment, text, "--n-steps", "8")
    assert code == 0, err
    head, shown, most, wrote = out.splitlines()
    assert re.match(rf"{text}: (posi|nega)tive \(\d\d\.\d\d%\); explained: class", head)
    assert shown.split() == text.split()
    assert re.fullmatch(r"largest: (\w+ [+-]0\.\d{3}(, )?){3}", most)
    assert wrote == "wrote explanation.png"
    classes = [["--target", name, "--json"] for name in ("positive", "negative")]
    given = [json.loads(explained(capsys, sentiment, text, *target)[1])[0] for target in classes]
    attributions = [np.array(each["attributions"]) for each in given]
    np.testing.assert_array_equal(attributions[0], -attributions[1])
    assert (attributions[0][3:] == 0).all()


def test_the_columns_of_a_table_have_importances(capsys, fruit):
    code, out, err = explained(capsys, fruit, "--repeats", "2")
    assert code == 0, err
    head, *rows, wrote = out.splitlines()
    assert re.fullmatch(r"accuracy \d\.\d{4} on 6 test rows; permuted, it falls by", head)
    assert sorted(row.split()[0] for row in rows) == ["colour", "weight"]
    assert all(re.search(r"  -?\d\.\d{4} ± \d\.\d{4}$", row) for row in rows)
    assert wrote == "wrote explanation.png"
    found = json.loads(explained(capsys, fruit, "--repeats", "2", "--json")[1])
    assert found["metric"] == "accuracy"
    means = [each["mean"] for each in found["columns"]]
    assert means == sorted(means, reverse=True)


def test_a_row_of_a_table_is_explained_by_its_columns(capsys, fruit):
    code, out, err = explained(capsys, fruit, "--row", "weight=3,colour=red", "--target", "plum")
    assert code == 0, err
    assert re.match(r"weight=3,colour=red: \w+ \(\d\d\.\d\d%\); explained: class plum", out)


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        ("images", [], "expected an image file, a text or --index N, got none"),
        ("images", ["--index", "99"], "index: expected a number from 0 to 15, got 99"),
        ("images", ["--index", "0", "--target", "3"], "target: expected one of 0, 1, 2, got 3"),
        (
            "images",
            ["--index", "0", "--method", "grad-cam", "--layer", "conv7"],
            "layer: expected a layer that the model calls: conv, fc, got conv7",
        ),
        ("images", ["--index", "0", "--layer", "conv"], "layer: expected none, as it has no effe"),
        ("images", ["--index", "0", "--repeats", "2"], "repeats: expected none, as it has no ef"),
        ("images", ["--index", "0", "--out", "no/a.png"], "out: expected a file in a folder that"),
        ("sentiment", ["a film", "--method", "saliency"], "method: expected none, as it has no"),
        ("fruit", ["--index", "0", "--method", "grad-cam"], "layer: expected a name, as"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(capsys, request, kind, words, message, place):
    run = request.getfixturevalue(kind)
    capsys.readouterr()  # discards the output of training
    code, out, err = explained(capsys, run, *words)
    assert (code, out) == (2, "")
    assert re.search(rf"^jaxnets: {re.escape(message)}.*\n\Z", err, re.M)
    assert not list(place.iterdir())


def test_a_run_without_weights_is_refused_in_a_sentence(capsys, fruit, place):
    shutil.copytree(fruit, "run")
    shutil.rmtree("run/weights")
    code, out, err = explained(capsys, "run")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "weights" in err


def visualized(capsys, *arguments):
    code = main(["visualize", *map(str, arguments)])
    return code, *capsys.readouterr()


KINDS = ["kernels", "activations", "histograms", "embedding", "graph"]


def test_one_picture_may_be_a_file(capsys, images, place):
    code, out, _ = visualized(capsys, images, "--what", "kernels", "--out", "new/first.png")
    assert (code, out) == (0, "wrote new/first.png\n")
    assert (place / "new" / "first.png").read_bytes().startswith(b"\x89PNG")


def test_the_inside_of_a_run_is_drawn(capsys, images, place):
    code, out, err = visualized(capsys, images, "--out", "pictures", "--index", "2")
    assert code == 0, err
    assert out == "".join(f"wrote pictures/{kind}.png\n" for kind in KINDS)
    assert {path.name for path in (place / "pictures").iterdir()} == {f"{k}.png" for k in KINDS}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--what", "graph", "--index", "2"],
            "index: expected none without activations or attention, got 2",
        ),
        (["--what", "graph", "--projection", "tsne"], "projection: expected none without embeddi"),
        (["--what", "kernels", "--layer", "no"], "layer: expected a layer that the model"),
        (["--what", "activations", "--index", "99"], "index: expected a number from 0 to 15, got"),
        (["--out", "file"], "out: expected a folder, or a .png file for one picture, got file"),
        (["--out", "all.png"], "out: expected a folder for 5 pictures, got all.png"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(capsys, images, words, message, place):
    (place / "file").write_text("")
    code, out, err = visualized(capsys, images, *words)
    assert (code, out) == (2, "")
    assert re.search(rf"^jaxnets: {re.escape(message)}.*\n\Z", err, re.M)
    assert [path.name for path in place.iterdir()] == ["file"]


def test_what_a_network_lacks_is_left_out_unless_it_is_asked_for(capsys, images, monkeypatch):
    def refuse(*given, **named):
        raise InputError("layer", "a layer with a weight of at least two axes", "none")

    monkeypatch.setattr("jaxnets.explain.draw_kernels", refuse)
    monkeypatch.setattr("jaxnets.commands.visualize._possible", lambda saved: ("kernels", "graph"))
    code, out, err = visualized(capsys, images)
    assert (code, out) == (0, "wrote graph.png\n")
    assert (
        "skipped kernels: layer: expected a layer with a weight of at least two axes, got none\n"
        in err
    )
    assert visualized(capsys, images, "--what", "kernels")[0] == 2
