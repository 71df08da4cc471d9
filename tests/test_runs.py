import dataclasses
import json
import os
import re
import types
from unittest import mock

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import jaxnets
from jaxnets import MLP, TextClassifier, fit, losses, optimizers, predict, recipes, runs
from jaxnets.cli import main
from jaxnets.data import Dataset, Normalize, Split
from jaxnets.data.text import TextDataset, TextEncoder, Tokenizer, Vocabulary
from jaxnets.disk import new_folder
from jaxnets.layers import Linear
from jaxnets.training import Callback, EarlyStopping, checkpoints
from jaxnets.training.progress import describe

PIXELS = jax.ShapeDtypeStruct((4, 6, 1), np.dtype("uint8"))
COLOURS = jax.ShapeDtypeStruct((4, 6, 3), np.dtype("uint8"))
LEVELS = np.arange(24, dtype=np.uint8).reshape(4, 6) * 11


# Folders


def test_a_folder_appears_with_what_was_written(tmp_path):
    with new_folder(tmp_path / "a" / "b" / "run") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "a" / "b" / "run").exists()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "a", "a/b", "a/b/run", "a/b/run/x",
    ]  # fmt: skip


def test_an_error_before_anything_is_written_leaves_no_trace(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "a" / "b" / "run"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def written(folder):
    (folder / "x").write_text("1")


def write_and(out, then):
    with new_folder(out) as folder:
        written(folder)
        then()


def kept(error):
    (note,) = error.value.__notes__
    (place,) = re.fullmatch("what was written is kept in (.*)", note).groups()
    return place


def test_an_error_while_writing_keeps_what_there_is_and_says_where(tmp_path):
    full = OSError("No space left on device")
    with pytest.raises(OSError, match="No space") as error:
        write_and(tmp_path / "a" / "run", mock.Mock(side_effect=full))
    assert os.listdir(kept(error)) == ["x"]
    assert not (tmp_path / "a" / "run").exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_place_that_was_taken_meanwhile_loses_nothing(tmp_path, kind):
    out = tmp_path / "run"
    theirs = out if kind == "file" else out / "y"

    def take():
        theirs.parent.mkdir(exist_ok=True)
        theirs.write_text("another's")

    with pytest.raises(OSError, match="run") as error:
        write_and(out, take)
    assert os.listdir(kept(error)) == ["x"]
    assert theirs.read_text() == "another's"


@pytest.mark.parametrize("target", ["there", "not there"])
def test_a_link_stands_for_what_it_points_to(tmp_path, target):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(target)
    with new_folder(tmp_path / "link") as folder:
        written(folder)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / target / "x").read_text() == "1"


def test_the_longest_names_are_names_too(tmp_path):
    for name in ("n" * 255, "名" * 85):
        with new_folder(tmp_path / name) as folder:
            written(folder)
        assert (tmp_path / name / "x").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (
            "x" * 300,
            "out: expected a folder that can be made, got 'x*\\.\\.\\.x*': File name too long",
        ),
        ("file/run", "out: expected a folder that can be made, got .*: Not a directory"),
        ("file", "out: expected a new or empty folder, got 'file', which exists and is not empty"),
        ("full", "out: expected a new or empty folder, got 'full', which exists and is not empty"),
        ("circle", "out: expected a folder that can be made, got 'circle'"),
        ("new/" + "x" * 300, "out: expected a folder that can be made, got 'new/x"),
    ],
)
def test_what_cannot_be_a_new_folder_is_refused(tmp_path, monkeypatch, out, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "full" / "inside").mkdir(parents=True)
    (tmp_path / "circle").symlink_to("circle")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=message), new_folder(out):
        raise AssertionError("there is none")
    assert sorted(tmp_path.rglob("*")) == before


# Settings


def recipe(**changes):
    return dataclasses.replace(recipes.recipe("mnist-mlp"), **changes)


def test_settings_are_ready_for_json_and_their_folder_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = types.MappingProxyType({"data_dir": tmp_path.relative_to(tmp_path.parent) / ".."})
    settings = runs.settings(recipe(data_options=options))
    found = json.loads(json.dumps(settings))["data_options"]["data_dir"]
    assert os.path.isabs(found)
    assert runs.settings(recipe(data_options={"data_dir": "~"}))["data_options"] == {
        "data_dir": os.path.expanduser("~")
    }
    assert recipes.Recipe(**settings).model_options == recipe().model_options


@pytest.mark.parametrize("value", [{1, 2}, 1j, b"bytes", np.float32(1)])
def test_settings_that_json_cannot_hold_are_refused(value):
    changed = recipe(optimizer_options={"lr": value})
    with pytest.raises(ValueError, match="recipe: expected settings of JSON values, got"):
        runs.settings(changed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs: expected a positive integer, got 0"),
        ({"batch_size": 2.0}, "batch_size: expected a positive integer, got 2.0"),
        ({"name": None}, "name: expected a string, got None"),
        ({"data_options": [1]}, r"data_options: expected arguments by name, got \[1\]"),
        ({"model_options": {1: 2}}, "model_options: expected arguments by name, got {1: 2}"),
        ({"normalize": (0.5,)}, r"normalize: expected a mean and a standard deviation, got \(0.5"),
        ({"buckets": 0}, "buckets: expected a positive integer, got 0"),
        ({"augment": [3]}, r"augment: expected names of AUGMENTATIONS, got \[3\]"),
        ({"scheduler": 3}, "scheduler: expected a name of SCHEDULERS or None, got 3"),
        ({"scheduler_options": {1: 2}}, "scheduler_options: expected arguments by name, got {1: 2"),
    ],
)
def test_a_recipe_checks_its_values(changes, message):
    with pytest.raises(ValueError, match=message):
        recipe(**changes)


@pytest.mark.parametrize("name", [3, None, ["mnist-mlp"], "", "nmist-mlp"])
def test_a_recipe_that_is_not_there_is_refused(name):
    with pytest.raises(
        ValueError, match=f"recipe: expected one of .*, got {re.escape(repr(name))}"
    ):
        recipes.recipe(name)


# Images


def read(tmp_path, image, spec=PIXELS, ending="png", **options):
    path = tmp_path / f"image.{ending}"
    image.save(path, **options)
    return runs.read_image(path, spec)


def test_grey_and_coloured_images_are_read_as_they_are(tmp_path):
    assert read(tmp_path, Image.fromarray(LEVELS)).tobytes() == LEVELS.tobytes()
    colours = np.stack([LEVELS, 255 - LEVELS, LEVELS // 2], -1)
    assert (read(tmp_path, Image.fromarray(colours), COLOURS) == colours).all()
    palette = Image.fromarray(colours).quantize(24)
    assert (read(tmp_path, palette, COLOURS) == np.asarray(palette.convert("RGB"))).all()
    assert (read(tmp_path, Image.fromarray(LEVELS > 99))[..., 0] == (LEVELS > 99) * 255).all()


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_16_bits_a_value_are_brought_to_8(tmp_path, ending):
    image = Image.fromarray(LEVELS.astype(np.uint16) * 257)
    assert (read(tmp_path, image, ending=ending)[..., 0] == LEVELS).all()
    assert (read(tmp_path, image, COLOURS, ending) == LEVELS[..., None]).all()
    between = Image.fromarray(np.full((4, 6), 128, np.uint16))  # 128 / 257 is less than a half
    assert (read(tmp_path, between, ending=ending) == 0).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "P"])
def test_what_is_transparent_is_white(tmp_path, mode):
    black = Image.new("RGBA", (6, 4), (0, 0, 0, 255))
    black.paste((0, 0, 0, 0), (0, 0, 3, 4))
    black.paste((0, 0, 0, 51), (5, 0, 6, 4))
    image = black.convert("LA") if mode == "LA" else black
    if mode in ("P", "PA"):
        image = black.quantize(3)
    pixels = read(tmp_path, image)[..., 0]
    assert (pixels[:, :3] == 255).all()
    assert (pixels[:, 3:5] == 0).all()
    assert (pixels[:, 5] == 204).all()


def test_an_image_is_turned_as_its_exif_entry_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90° clockwise for display
    lying = Image.fromarray(np.ascontiguousarray(np.rot90(LEVELS)))
    assert (read(tmp_path, lying, exif=exif)[..., 0] == LEVELS).all()


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_values_without_a_known_range_are_refused(tmp_path, kind):
    image = Image.fromarray(LEVELS.astype(kind))
    message = "image.tiff: expected a readable image, got 32-bit values, whose range"
    with pytest.raises(ValueError, match=message):
        read(tmp_path, image, ending="tiff")


@pytest.mark.parametrize(
    "spec", [((4, 6, 1), "float32"), ((4, 6), "uint8"), ((4, 6, 2), "uint8"), ((3,), "int32")]
)
def test_a_run_on_other_examples_takes_no_image(tmp_path, spec):
    with pytest.raises(ValueError, match="image: expected a run on images, got a run on examples"):
        read(tmp_path, Image.fromarray(LEVELS), jax.ShapeDtypeStruct(spec[0], np.dtype(spec[1])))


# Runs from Python


class Own(nnx.Module):
    """A network that is not one of the documented ones."""

    def __init__(self, rngs):
        self.fc = Linear(4, 3, rngs=rngs)
        self.options = (print,)

    def __call__(self, x):
        return self.fc(x)


def doubled(x):
    return 2 * x


def trained(model, transform=None, **options):
    draw = np.random.default_rng(0)
    split = Split(draw.normal(size=(12, 4)).astype(np.float32), np.arange(12, dtype=np.int32) % 3)
    data = Dataset("drawn", split, split.take(6), ("red", "green", "blue"))
    settings = {"loss": losses.cross_entropy, "optimizer": optimizers.sgd(0.1), "batch_size": 4}
    settings |= {"epochs": 3, "progress": "none", "transform": transform}
    return fit(model, data, **{**settings, **options}), split.inputs


def test_a_run_is_saved_and_loaded_in_a_line_each(tmp_path):
    early = EarlyStopping(None, metric="train_loss", restore_best=True)
    run, inputs = trained(MLP((4, 8, 3), rngs=nnx.Rngs(0)), Normalize(1, 2), callbacks=[early])
    run.save(tmp_path / "a" / "run")
    files = sorted(path.name for path in (tmp_path / "a" / "run").iterdir())
    assert files == ["curves.png", "history.csv", "run.json", "weights"]
    saved = jaxnets.load(tmp_path / "a" / "run")
    assert (saved.history, saved.restored) == (run.history, run.restored)
    assert (saved.class_names, saved.classifies) == (("red", "green", "blue"), True)
    assert (saved.inputs, saved.recipe) == (jax.ShapeDtypeStruct((4,), np.dtype("float32")), None)
    expected = predict(run.model, inputs, transform=Normalize(1, 2))
    np.testing.assert_array_equal(saved.predict(inputs), expected)
    np.testing.assert_allclose(saved.predictor()(inputs), expected, rtol=1e-5)
    assert repr(saved).splitlines() == [
        "SavedRun of MLP, 67 parameters",
        "  inputs float32[4]",
        "  3 classes: red, green, blue",
        f"  {describe(run.epoch, 3)}",
    ]
    with pytest.raises(ValueError, match="directory: expected a new or empty folder, got .*run'"):
        run.save(tmp_path / "a" / "run")


def test_a_network_and_a_transform_of_ones_own_are_handed_over(tmp_path):
    run, inputs = trained(Own(nnx.Rngs(0)), doubled)
    run.save(tmp_path / "run")
    with pytest.raises(ValueError, match="model: expected an instance of .*Own"):
        jaxnets.load(tmp_path / "run")
    other = Own(nnx.Rngs(1))
    before = np.array(other.fc.kernel[...])
    saved = jaxnets.load(tmp_path / "run", model=other)
    with pytest.raises(ValueError, match="with the function doubled of the saved run, got none"):
        saved.predict(inputs)
    saved = jaxnets.load(tmp_path / "run", model=other, transform=doubled)
    np.testing.assert_array_equal(
        saved.predict(inputs), predict(run.model, inputs, transform=doubled)
    )
    np.testing.assert_array_equal(other.fc.kernel[...], before)
    with pytest.raises(ValueError, match="expected weights of this network, got fc.bias is flo"):
        jaxnets.load(tmp_path / "run", model=MLP((4, 8, 3), rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="model: expected an nnx.Module, got the class Own"):
        jaxnets.load(tmp_path / "run", model=Own)


@pytest.mark.slow
def test_a_text_run_keeps_its_encoder(tmp_path):
    encoder = TextEncoder(Tokenizer(), Vocabulary.from_counts({"good": 2, "bad": 1}), length=3)
    split = Split(encoder(["good", "bad bad"]), np.array([1, 0], np.int32))
    data = TextDataset("words", split, split, encoder=encoder)
    model = TextClassifier(4, 3, 5, rngs=nnx.Rngs(0))
    loss, optimizer = losses.binary_cross_entropy, optimizers.sgd(0.1)
    run = fit(model, data, loss=loss, optimizer=optimizer, epochs=1, progress="none")
    run.save(tmp_path / "run")
    saved = jaxnets.load(tmp_path / "run")
    assert saved.encoder == encoder
    np.testing.assert_array_equal(
        saved.predict(["good", "bad bad"]), predict(run.model, split.inputs)
    )
    with pytest.raises(ValueError, match="texts: expected a sequence of at least one text, got go"):
        saved.predict("good")


def test_a_folder_of_the_command_line_is_loaded_too(tmp_path, capsys):
    flags = ["--epochs", "1", "--quiet", "--out", str(tmp_path / "run")]
    assert main(["train", "linear-regression", *flags]) == 0
    saved = jaxnets.load(tmp_path / "run")
    assert (saved.recipe.name, saved.classifies, len(saved.history)) == (
        "linear-regression", False, 1,
    )  # fmt: skip
    assert saved.predict(np.zeros((2, 1), np.float32)).shape == (2, 1)


@pytest.mark.slow
def test_predict_on_a_run_from_python_needs_no_data_set(tmp_path, capsys):
    run, _ = trained(MLP((4, 8, 3), rngs=nnx.Rngs(0)))
    run.save(tmp_path / "run")
    assert main(["predict", str(tmp_path / "run"), "--index", "0"]) == 2
    message = "index: expected none, as a run that was written from Python does not record its data"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "run: expected a run.json written by jaxnets, got "),
        ({"model": {"class": "jaxnets.models.mlp.MLP", "options": {"size": 3}}}, "run: expected a"),
        ({"transform": 3}, "run: expected a .*transform: expected a list of steps, .*, got 3"),
        ({"history": [{"epoch": 1}]}, "run: expected a run.json written by jaxnets, got "),
    ],
)
def test_a_damaged_record_is_named(tmp_path, change, message):
    trained(MLP((4, 8, 3), rngs=nnx.Rngs(0)), epochs=1)[0].save(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        jaxnets.load(tmp_path / "run")


def test_what_is_no_path_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, _ = trained(MLP((4, 3), rngs=nnx.Rngs(0)), epochs=1)
    for path in (None, 3, ["x"], b"x", np.zeros(2)):
        got = f"expected {'(a path|.*folder.*|a file)'}, got "
        for use in (jaxnets.load, run.save, checkpoints.read):
            with pytest.raises(ValueError, match=f"^directory: {got}"):
                use(path)
        if path is not None:
            with pytest.raises(ValueError, match=f"^path: {got}"):
                run.plot(path)
    assert not os.listdir(tmp_path)


# What a person sees


def test_a_run_is_shown_in_a_few_lines_without_arrays():
    run, _ = trained(MLP((4, 8, 3), rngs=nnx.Rngs(0)), epochs=2)
    lines = repr(run).splitlines()
    assert lines[0] == "TrainingRun of MLP, 67 parameters, 2 epochs on cpu"
    test, right = run.test, f"({run.test.correct}/6)"
    assert lines[2] == f"  test   loss {test.loss:.4f}  accuracy {test.accuracy:.2%} {right}"
    stopped = dataclasses.replace(run, stopped="enough", restored=1)
    assert repr(stopped).splitlines()[-2:] == ["  restored: epoch 1", "  stopped: enough"]
    assert f"train  loss {run.history[0].train_loss:.4f}" in repr(stopped)


def test_what_a_run_is_made_of_is_shown_in_a_line():
    seen = []

    class Look(Callback):
        def end(self):
            seen.append(repr(self.run))

    run, _ = trained(MLP((4, 8, 3), rngs=nnx.Rngs(0)), epochs=1, callbacks=[Look()])
    assert seen == ["RunSoFar: step 3, 1 of 1 epochs done"]
    assert repr(run.state) == (
        "TrainState of 67 parameters, 0 other numbers of the model, 2 of the optimizer"
    )


@pytest.mark.slow
def test_many_runs_are_shown_with_their_summaries():
    rates = [0.1 * n for n in range(1, 9)]
    runs, _ = trained(lambda rngs: MLP((4, 3), rngs=rngs), epochs=1, seeds=2, learning_rates=rates)
    lines = repr(runs).splitlines()
    assert lines[0] == "TrainingRuns: 16 of MLP on cpu"
    accuracy = runs.by_learning_rate[0.1].accuracy.in_words(".2%")
    assert lines[1] == f"  learning rate 0.1: test accuracy {accuracy}"
    assert lines[-1] == "  and 2 more learning rates"
    member = repr(runs.members[1]).splitlines()
    assert member[:2] == [
        "MemberRun of MLP, 15 parameters, 1 epoch on cpu",
        "  seed 1, learning rate 0.1",
    ]


def test_the_curves_are_a_figure_that_a_notebook_shows(tmp_path):
    run, _ = trained(MLP((4, 8, 3), rngs=nnx.Rngs(0)), epochs=2)
    figure = run.plot(tmp_path / "curves.png", title="red, green and blue")
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy (%)"]
    drawn = figure.axes[0].lines[1].get_ydata()
    assert list(drawn) == [record.test_loss for record in run.history]
    with Image.open(tmp_path / "curves.png") as image:
        assert image.width > image.height > 300
    assert run.plot()._repr_png_().startswith(b"\x89PNG")
    run.plot(tmp_path / "curves.svg")
    assert "<svg" in (tmp_path / "curves.svg").read_text()


def test_probabilities_of_a_network_are_not_taken_for_logits():
    saved = runs.SavedRun(None, MLP((2, 3), rngs=nnx.Rngs(0)), True, None, None, None)
    logits = np.array([[1.0, 2.0, 3.0]])
    shares = np.exp(logits) / np.exp(logits).sum()
    del saved.model.output  # as for a user-defined network
    np.testing.assert_allclose(saved.probabilities(logits), shares)
    np.testing.assert_allclose(saved.probabilities(shares), shares)
