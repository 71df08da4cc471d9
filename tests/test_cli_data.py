import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image

from jaxnets import cli, recipes, runs
from jaxnets.cli import main
from jaxnets.data import Split, files, from_tfds, load
from jaxnets.data.contact_sheet import contact_sheet
from jaxnets.data.survey import channel_statistics, class_counts
from tests.data_files import images, write_cifar10, write_idx, write_images


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    code = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(autouse=True)
def _only_these_places(monkeypatch, tmp_path):
    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    monkeypatch.setattr(files, "system_root", lambda name: None)


def test_list_says_where_each_set_lies(capsys, tmp_path, monkeypatch):
    folder = write_idx(tmp_path / "KMNIST" / "raw")
    monkeypatch.setenv(files.VARIABLE, str(tmp_path))
    for version in ("1.0.2", "1.0.10"):
        (tmp_path / "prepared" / "emnist" / "letters" / version).mkdir(parents=True)
        (tmp_path / "prepared" / "emnist" / "letters" / version / "dataset_info.json").touch()
    code, out, _ = run(capsys, "data", "list")
    assert code == 0
    assert re.search(r"^mnist +bundled with jaxnets$", out, re.M)
    assert re.search(r"^cifar100 +not here$", out, re.M)
    assert re.search(rf"^kmnist +files in {folder}$", out, re.M)
    prepared = tmp_path / "prepared" / "emnist" / "letters" / "1.0.10"
    assert re.search(rf"^emnist/letters +TensorFlow Datasets, {prepared}$", out, re.M)
    assert out.count("emnist/letters") == 2
    assert f"can prepare {len(from_tfds.names())} more" in out


def test_list_has_the_sets_of_texts(capsys, tmp_path, monkeypatch):
    code, out, _ = run(capsys, "data", "list")
    for name in ("rt-polarity", "names", "text", "imdb_reviews"):
        assert re.search(rf"^{name} +not here$", out, re.M)
    (tmp_path / "rt-polaritydata").mkdir()
    (tmp_path / "rt-polaritydata" / "rt-polarity.pos").touch()
    monkeypatch.setenv(files.VARIABLE, str(tmp_path))
    code, out, _ = run(capsys, "data", "list")
    assert code == 0
    assert re.search(rf"^rt-polarity +texts in {tmp_path / 'rt-polaritydata'}$", out, re.M)


def test_names_of_files_do_nothing_to_a_terminal(capsys, tmp_path):
    """Also if the output is a terminal, where Click does not remove escape sequences."""
    names = {"a\x1b[31m": 4, "b\x1b]0;title\x07\nc": 4}
    folder = write_images(tmp_path / "pets\x1b[2J\r", names)
    for command in ("info", "head"):
        code, out, err = run(capsys, "data", command, "pets", "--data-dir", folder)
        assert (code, err) == (0, "")
        assert r"a\x1b[31m" in out
        assert r"b\x1b]0;title\x07\nc" in out
        assert not set(out) & set("\x1b\x07\r")
    (folder / next(iter(names)) / "0.png").write_bytes(b"")
    code, out, err = run(capsys, "data", "check", folder)
    assert code == 2
    assert not set(out + err) & set("\x1b\x07\r")
    assert r"pets\x1b[2J" in err


def test_info_describes_a_set(capsys, tmp_path):
    folder = write_images(tmp_path / "pets", {"cat": 10, "dog": 20})
    code, out, _ = run(capsys, "data", "info", "pets", "--data-dir", tmp_path)
    assert code == 0
    lines = out.splitlines()
    assert lines[:3] == [
        f"pets: images in {folder}",
        "inputs uint8[6, 8, 3], labels int32[]",
        "train 24, test 6",
    ]
    assert re.fullmatch(r"mean of the training inputs in \[0, 1\]:( \d\.\d{4}){3}", lines[3])
    assert lines[3].endswith(f" {7 / 255:.4f}")
    assert [line.split() for line in lines[5:]] == [
        ["class", "train", "test"],
        ["cat", "8", "2"],
        ["dog", "16", "4"],
    ]


def test_info_of_values_to_predict(capsys):
    code, out, _ = run(capsys, "data", "info", "linear")
    assert code == 0
    assert "linear: bundled with jaxnets\ninputs float32[1], labels float32[1]" in out
    assert "class" not in out


def test_head_shows_examples(capsys):
    code, out, _ = run(capsys, "data", "head", "mnist", "-n", "3")
    assert code == 0
    assert [line.split(" → ")[1] for line in out.splitlines()] == ["5", "0", "4"]
    code, out, _ = run(capsys, "data", "head", "linear", "--split", "test", "-n", "2")
    (x, y) = (float(value) for value in out.splitlines()[0].removeprefix("0: ").split(" → "))
    test = load("linear").test
    assert (x, y) == pytest.approx((test.inputs[0, 0], test.labels[0, 0]), rel=1e-4)


def test_texts_are_shown_as_texts(capsys, tmp_path):
    for language, start in (("Irish", "Ao"), ("Czech", "Ce")):
        lines = [start + end for end in "bcdfghjklmnpqrst"]
        (tmp_path / f"{language}.txt").write_text("\n".join(lines))
    code, out, _ = run(capsys, "data", "info", "names", "--data-dir", tmp_path)
    assert code == 0
    assert re.search(r"^vocabulary \d+ tokens$", out, re.M)
    lengths = "50 % up to 3, 90 % up to 3, 100 % up to 3"
    assert f"\ntokens of a training text: {lengths}\n" in out
    assert "mean" not in out
    assert re.search(r"^Irish +\d+ +\d+$", out, re.M)
    code, out, _ = run(capsys, "data", "head", "names", "--data-dir", tmp_path, "-n", "40")
    assert code == 0
    assert re.search(r"^\d+: 'Ao\w' → Irish$", out, re.M)
    assert re.search(r"^\d+: 'Ce\w' → Czech$", out, re.M)


def test_head_draws_samples_of_every_class(capsys, tmp_path):
    write_images(tmp_path / "pets", {"cat": 10, "dog": 20})
    out = tmp_path / "pets.png"
    flags = ["--data-dir", tmp_path, "--out", out, "-n", "4", "--split", "train"]
    code, _, _ = run(capsys, "data", "head", "pets", *flags)
    assert code == 0
    with Image.open(out) as sheet:
        colours = {colour for _, colour in sheet.getcolors(100_000)}
    # red is the class, green the image
    drawn = [colour for colour in colours if colour[2] == 7]
    assert sorted(colour[0] for colour in drawn) == [0] * 4 + [1] * 4
    code, _, err = run(capsys, "data", "head", "pets", *flags)
    expected = "a new file that ends in .png, in a folder that exists"
    assert (code, err) == (2, f"jaxnets: out: expected {expected}, got {out}\n")


def test_a_contact_sheet_holds_the_pixels(capsys):
    pixels = images(3, (24, 24, 1))
    sheet = contact_sheet(Split(pixels, np.array([0, 1, 1], np.int32)), columns=2)
    drawn = np.asarray(sheet)
    for image in pixels:
        twice = image[..., 0].repeat(2, 0).repeat(2, 1)
        windows = np.lib.stride_tricks.sliding_window_view(drawn[..., 0], twice.shape)
        assert (windows == twice).all((2, 3)).sum() == 1


def test_a_contact_sheet_takes_any_names(capsys):
    split = Split(images(2, (4, 4, 1)), np.arange(2))
    assert contact_sheet(split, ("two\nlines", "\x1b[31m猫\udcff"), columns=1).size[1] > 0


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (np.zeros((2, 3)), np.zeros(2, int), r"split: expected images, uint8 .* got float64\[2, 3"),
        (images(2, (4, 4, 3)), np.zeros(2), "split: expected a class number for each image"),
    ],
)
def test_what_is_no_image_is_not_drawn(inputs, labels, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(Split(inputs, labels))


def test_check_reads_a_few_examples_at_a_time_and_the_last_one_too(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnets.commands.data._PIECE", 7)
    folder = write_cifar10(tmp_path / "cifar-10-batches-bin", layout="binary")
    assert run(capsys, "data", "check", folder)[0] == 0
    path = folder / "test_batch.bin"
    content = bytearray(path.read_bytes())
    content[9 * 3073] = 10
    path.write_bytes(content)
    code, _, err = run(capsys, "data", "check", folder)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{path}: expected labels from 0 to 9, got 10 for image 9" in err


def test_check_takes_a_table_of_dates_for_a_series(capsys, tmp_path):
    path = tmp_path / "sales.csv"
    path.write_text("date,sold\n2024-01-01,10\n2024-01-02,12\n")
    assert run(capsys, "data", "check", path)[1] == f"the series {path}: train 2, all readable\n"
    path.write_text("date,sold\n2024-01-01,10\n2024-01-02,many\n")
    code, _, err = run(capsys, "data", "check", path)
    assert code == 2
    assert "row 3, column 'sold': expected a number, got 'many'" in err
    path.write_text("year,sold\n2023,10\n2024,12\n")
    assert run(capsys, "data", "check", path)[1].startswith(f"the table {path}")


def test_check_reads_everything(capsys, tmp_path):
    write_idx(tmp_path / "MNIST" / "raw")
    write_cifar10(tmp_path / "cifar-10-batches-py", layout="pickle")
    folder = write_images(tmp_path / "pets", {"cat": 2, "dog": 2})
    code, out, _ = run(capsys, "data", "check", tmp_path)
    assert code == 0
    assert out.splitlines() == [
        f"IDX files in {tmp_path / 'MNIST' / 'raw'}: train 20, test 10, all readable",
        f"pickles in {tmp_path / 'cifar-10-batches-py'}: train 50, test 10, all readable",
        f"images in {folder}: train 4, all readable",
    ]
    assert run(capsys, "data", "check", folder)[1].startswith("images in")
    image = folder / "dog" / "1.png"
    image.write_bytes(image.read_bytes()[:50])
    code, _, err = run(capsys, "data", "check", tmp_path)
    assert code == 2
    assert err.startswith(f"jaxnets: {image}: expected a readable image")
    assert err.count("\n") == 1


def test_a_warning_is_a_line_without_code(capsys):
    cli._show_warning(
        "pets: left out \x1b[2Ja.heic", UserWarning, "loading.py", 100, file=None, line=None
    )
    cli._show_warning("old", DeprecationWarning, "other.py", 1)
    expected = "jaxnets: pets: left out \\x1b[2Ja.heic\njaxnets: DeprecationWarning: old\n"
    assert capsys.readouterr().err == expected


def test_check_reads_the_sets_in_a_folder_and_says_what_is_left_out(capsys, tmp_path):
    pets = write_images(tmp_path / "pets", {"cat": 2, "dog": 2})
    shapes = write_images(tmp_path / "shapes", {"round": 2, "square": 2}, size=(5, 5))
    (pets / "cat" / "a.heic").write_text("")
    assert run(capsys, "data", "check", tmp_path)[1].splitlines() == [
        f"images in {pets}: train 4, all readable",
        "  left out: cat/a.heic, of unknown format",
        f"images in {shapes}: train 4, all readable",
    ]


def test_check_takes_a_folder_for_one_of_images_or_of_sets(capsys, tmp_path):
    digits = write_idx(tmp_path / "MNIST" / "raw")
    write_images(tmp_path, {"figures": 1})
    assert run(capsys, "data", "check", tmp_path)[1].startswith(f"IDX files in {digits}: train 20")
    write_images(tmp_path / "pets", {"cat": 1})
    (tmp_path / "pets" / "dog").mkdir()
    code, _, err = run(capsys, "data", "check", tmp_path / "pets")
    assert code == 2
    assert "dog: expected images of the class dog, got none" in err


@pytest.mark.parametrize(("size", "shape"), [("4", "4, 4"), ("4x6", "4, 6"), ("9×3", "9, 3")])
def test_images_of_several_sizes_are_brought_to_one(capsys, tmp_path, size, shape):
    write_images(tmp_path / "pets" / "train", {"cat": 2, "dog": 2})
    write_images(tmp_path / "pets" / "test", {"cat": 2, "dog": 2}, size=(20, 10))
    flags = ("--data-dir", tmp_path / "pets", "--size", size)
    code, out, _ = run(capsys, "data", "info", "pets", *flags)
    assert code == 0
    assert f"inputs uint8[{shape}, 3], labels int32[]" in out
    assert f"uint8[{shape}, 3]" in run(capsys, "data", "head", "pets", *flags)[1]
    assert run(capsys, "data", "check", tmp_path / "pets", "--size", size)[0] == 0
    code, _, err = run(capsys, "data", "info", "pets", *flags[:2])
    assert code == 2
    assert "got 20×10; size= resizes all of them" in err


@pytest.mark.slow
def test_a_network_is_trained_on_images_of_several_sizes(capsys, tmp_path):
    write_images(tmp_path / "pets" / "train", {"cat": 2, "dog": 2})
    write_images(tmp_path / "pets" / "test", {"cat": 2, "dog": 2}, size=(20, 10))
    flags = ("--data", "pets", "--data-dir", tmp_path / "pets", "--size", "4", "--quiet")
    network = ("--model-option", "features=(48,4,2)", "--normalize", "0", "1", "--epochs", "1")
    out = tmp_path / "run"
    assert run(capsys, "train", "mnist-mlp", *flags, *network, "--out", out)[0] == 0
    assert runs.read(out).recipe.data_options["size"] == 4
    code, out, err = run(capsys, "predict", out, tmp_path / "pets/test/cat/0.png", "--index", "0")
    assert code == 0
    assert "its middle is resized to 4×4" in err
    assert "(label cat)" in out or "(label dog)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "mnist", "--size", "big"], "expected PIXELS or HEIGHTxWIDTH, got 'big'"),
        (["info", "mnist", "--size", "4x"], "expected PIXELS or HEIGHTxWIDTH, got '4x'"),
        (["info", "mnist", "--size", "0"], "size: expected a positive integer, got 0"),
        (["info", "mnist", "--size", "4"], "size: expected None, as mnist .* not a folder of im"),
        (["info", "names", "--size", "4"], "size: expected None, as names is a data set of texts"),
        (["info", "minst"], "name: expected one of .*mnist, .*; did you mean 'mnist'"),
        (["info", "mnist", "--source", "web"], "'web' is not one of"),
        (
            ["info", "mnist", "--data-dir", "nowhere"],
            "data_dir: expected an existing folder or fil",
        ),
        (["head", "mnist", "-n", "0"], "0 is not in the range"),
        (["head", "mnist", "--split", "all"], "train: expected a split of train, test, got 'all'"),
        (
            ["head", "mnist", "--out", "a.jpg"],
            "out: expected a new file that ends in .png, in a folder that exists, got a.j",
        ),
        (["head", "mnist", "--out", "no/a.png"], "in a folder that exists, got no/a.png"),
        (["head", "mnist", "--split", ""], "train: expected a split such as 'train', .* got ''"),
        (["info", ""], "name: expected the name of a data set, or a path, got ''"),
        (["info", "linear", "--source", "files"], "got 'linear'$"),
        (
            ["check", "/dev/null"],
            "DIR: expected a folder with IDX files, .* got /dev/null, without any",
        ),
        (["head", "linear", "--out", "a.png"], "split: expected images"),
        (["check", "nowhere"], "DIR: expected an existing folder or file, got nowhere"),
        (
            ["check", "scripts"],
            "DIR: expected a folder with IDX files, .* got scripts, without any",
        ),
    ],
)
def test_a_bad_argument_is_one_sentence_and_exit_code_2(capsys, arguments, message):
    code, out, err = run(capsys, "data", *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(message, err), err


# Recipes


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["fashion-mnist-lenet", "cifar10-lenet", "cifar10-image-classifier"]
)
def test_a_recipe_trains_on_files_of_the_users(capsys, tmp_path, name):
    recipe = recipes.recipe(name)
    if recipe.data == "cifar10":
        write_cifar10(tmp_path / "cifar-10-batches-bin", layout="binary")
    else:
        write_idx(tmp_path / "FashionMNIST" / "raw")
    out = tmp_path / "run"
    flags = ["--data-dir", tmp_path, "--epochs", "1", "--quiet", "--out", out]
    flags += ["--data-option", "test=train[:20%]+test"]
    code, text, _ = run(capsys, "train", name, *flags)
    assert code == 0
    total = {"cifar10": 20, "fashion_mnist": 14}[recipe.data]
    assert text.endswith(f"/{total})\n")
    record = json.loads((out / "run.json").read_text())
    options = {"data_dir": str(tmp_path), "test": "train[:20%]+test"}
    assert record["settings"]["data_options"] == options
    code, text, _ = run(capsys, "predict", out, "--index", "0", "--top", "1")
    assert code == 0
    names = load(recipe.data, data_dir=tmp_path).class_names
    assert any(name in text for name in names)


def test_mirrored_images_still_have_classes(capsys, tmp_path):
    write_cifar10(tmp_path / "cifar-10-batches-bin", layout="binary")
    flags = ["--data-dir", tmp_path, "--loss", "mse"]
    code, _, err = run(capsys, "train", "cifar10-lenet", *flags)
    assert code == 2
    assert "labels of cifar10: expected values to predict" in err


def test_the_normalisations_are_those_of_the_data():
    fashion, cifar = (recipes.recipe(f"{name}-lenet") for name in ("fashion-mnist", "cifar10"))
    assert fashion.normalize == (0.2860, 0.3530)
    assert cifar.normalize == ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def test_a_data_option_that_load_does_not_take_is_named():
    recipe = dataclasses.replace(recipes.recipe("mnist-mlp"), data_options={"folder": "here"})
    message = "data option: expected one of source, data_dir, train, .* got folder"
    with pytest.raises(ValueError, match=message):
        recipes.load_data(recipe)


# Figures of a set


def test_channel_statistics_are_numpys():
    split = Split(images(7, (5, 4, 3)), np.zeros(7, np.int32))
    mean, std = channel_statistics(split)
    scaled = split.inputs / 255
    np.testing.assert_allclose(mean, scaled.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std((0, 1, 2)), rtol=1e-10)
    table = Split(np.arange(8, dtype=np.float32).reshape(4, 2), np.zeros(4))
    assert channel_statistics(table)[0] == (3.0, 4.0)


def test_class_counts():
    split = Split(np.zeros(5), np.array([0, 2, 2, 0, 2], np.int32))
    assert class_counts(split, 4).tolist() == [2, 0, 3, 0]
    with pytest.raises(ValueError, match="split: expected labels below 2, got 2"):
        class_counts(split, 2)
    with pytest.raises(ValueError, match="split: expected class numbers for labels, got float64"):
        class_counts(Split(np.zeros(5), np.zeros(5)), 2)
