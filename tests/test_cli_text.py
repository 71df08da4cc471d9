import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from jaxnets.cli import main
from jaxnets.data import text
from tests.test_data_text import write_names, write_polarity

pytestmark = pytest.mark.slow

SMALL = ["--model-option", "hidden_dim=12", "--model-option", "embedding_dim=12", "--quiet"]


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    code = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def trained(factory, recipe, write, *flags):
    """A small run on files that are removed afterwards."""
    folder = factory.mktemp(recipe)
    files = folder / "files"
    files.mkdir()
    write(files)
    out = folder / "run"
    assert main(["train", recipe, "--data-dir", str(files), "--out", str(out), *SMALL, *flags]) == 0
    for path in files.iterdir():
        path.unlink()
    files.rmdir()
    return out


def write_loop(folder):
    (folder / "input.txt").write_text("abcdefgh" * 400)


@pytest.fixture(scope="module")
def sentiment(tmp_path_factory):
    flags = ["--epochs", "15", "--batch-size", "8", "--lr", "0.02", "--model-option", "dropout=0.1"]
    flags += ["--buckets", "2"]
    return trained(tmp_path_factory, "sentiment-lstm", write_polarity, *flags)


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    flags = ["--epochs", "20", "--batch-size", "4", "--lr", "0.02"]
    return trained(tmp_path_factory, "char-lstm", write_loop, *flags)


def test_a_run_on_texts_is_recorded_with_all_that_prediction_needs(sentiment):
    record = json.loads((sentiment / "run.json").read_text())
    encoder = text.TextEncoder.load(sentiment / "text.json")
    assert record["class_names"] == ["negative", "positive"]
    assert record["settings"]["buckets"] == 2
    assert record["settings"]["model_options"]["vocab_size"] == len(encoder.vocabulary)
    assert record["test_total"] == 4
    assert record["test_accuracy"] == 1.0


def test_predict_tells_the_class_of_a_sentence_without_the_data(capsys, sentiment):
    code, out, err = run(capsys, "predict", sentiment, "A lovely film", "a DULL film, no. 3")
    assert (code, err) == (0, "")
    lovely, dull = out.splitlines()
    assert re.fullmatch(r"A lovely film: positive \d\d\.\d\d%  negative \d+\.\d\d%", lovely)
    assert dull.startswith("a DULL film, no. 3: negative ")
    shares = [float(share) for share in re.findall(r"(\d+\.\d+)%", lovely)]
    assert sum(shares) == pytest.approx(100, abs=0.02)


def test_a_language_model_goes_on_after_the_prompt(capsys, writer):
    code, out, err = run(
        capsys, "predict", writer, "--prompt", "abc", "--length", 12, "--temperature", 0
    )
    assert (code, err) == (0, "")
    assert out == "abcdefghabcdefg\n"
    record = json.loads((writer / "run.json").read_text())
    assert record["test_accuracy"] > 0.95
    assert record["test_loss"] < 0.2
    assert record["test_total"] % 64 == 0


def test_the_seed_decides_what_is_written(capsys, writer):
    flags = ["--prompt", "a", "--length", 60, "--temperature", 5]
    written = [run(capsys, "predict", writer, *flags, "--seed", seed)[1] for seed in (0, 0, 1)]
    assert written[0] == written[1] != written[2]
    assert all(len(line) == 62 and set(line) <= set("abcdefgh\n") for line in written)


def test_names_are_told_apart_by_their_letters(capsys, tmp_path):
    write_names(tmp_path)
    flags = ["--epochs", "2", "--batch-size", "4", "--model-option", "output_dim=2", "--json"]
    code, out, _ = run(capsys, "train", "names-gru", "--data-dir", tmp_path, *SMALL, *flags)
    assert code == 0
    result = json.loads(out)
    assert result["test_total"] == 1
    # embedding, gates, fc
    letters = len(text.names(tmp_path).vocabulary)
    assert result["parameters"] == letters * 12 + 36 * (12 + 12 + 2) + 13 * 2


def test_a_language_models_last_line_is_its_loss(capsys, tmp_path):
    write_loop(tmp_path)
    flags = ["--epochs", "1", "--batch-size", "8", "--data-dir", tmp_path / "input.txt"]
    code, out, _ = run(capsys, "train", "char-lstm", *SMALL, *flags)
    assert code == 0
    match = re.fullmatch(r"test loss: (\d\.\d{4}) nats a token, accuracy: (\d+\.\d\d)%\n", out)
    assert 0 < float(match[1]) < np.log(10) + 0.1
    assert 0 <= float(match[2]) <= 100


def test_summary_knows_the_number_of_tokens(capsys, tmp_path):
    write_loop(tmp_path)
    code, out, _ = run(capsys, "summary", "char-lstm", "--data-dir", tmp_path)
    assert code == 0
    assert "float32[32,64,10]" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["{sentiment}"],
            "expected an image file, a WAV file, a text, --index N, --prompt TEXT or",
        ),
        (["{sentiment}", ""], "texts: expected texts of at least one token, got ''"),
        (["{sentiment}", "--prompt", "a"], "prompt: expected none, as TextClassifier classifies"),
        (["{sentiment}", "--index", "0"], "data_dir: expected an existing folder or file"),
        (
            ["{writer}", "a text"],
            "TEXT: expected none, as LanguageModel generates text after --prompt, got",
        ),
        (
            ["{writer}", "--prompt", "a", "--top", "2"],
            "top: expected none, as LanguageModel generates",
        ),
        (
            ["{writer}", "--index", "0"],
            "index: expected none, as LanguageModel generates text afte",
        ),
        (["{writer}", "--prompt", "a", "b"], "TEXT: expected none, as LanguageModel generates"),
        (["{writer}", "--prompt", ""], "texts: expected texts of at least one token"),
        (["{writer}", "--prompt", "a", "--length", "0"], "length: expected a positive integer"),
        (
            ["{writer}", "--prompt", "a", "--temperature", "-1"],
            "temperature: expected a finite number >= 0",
        ),
        (["{writer}", "--prompt", "a", "--seed", "-1"], "seed: expected an integer from 0"),
    ],
)
def test_bad_arguments_of_predict_are_one_sentence(capsys, sentiment, writer, arguments, message):
    given = [argument.format(sentiment=sentiment, writer=writer) for argument in arguments]
    code, out, err = run(capsys, "predict", *given)
    assert (code, out) == (2, "")
    assert err.startswith("jaxnets: ")
    assert re.search(message, err), err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "name: expected rt-polarity.pos and rt-polarity.neg with data_dir or JAXNETS_DATA"),
        (["--data-dir", "{files}", "--normalize", "0", "1"], "normalize: expected None, as tokens"),
        (["--data-dir", "{files}", "--layout", "images"], "x: expected uint8 pixels or floating"),
    ],
)
def test_bad_arguments_of_train_are_one_sentence(capsys, tmp_path, monkeypatch, flags, message):
    monkeypatch.delenv("JAXNETS_DATA", raising=False)
    write_polarity(tmp_path)
    given = [flag.format(files=tmp_path) for flag in flags]
    code, out, err = run(capsys, "train", "sentiment-lstm", *given)
    assert (code, out) == (2, "")
    assert re.search(message, err), err


def test_a_damaged_encoder_is_refused(capsys, sentiment, tmp_path):
    for name in ("run.json", "weights"):
        (tmp_path / name).symlink_to(sentiment / name)
    (tmp_path / "text.json").write_text("{}")
    code, _, err = run(capsys, "predict", tmp_path, "a film")
    assert code == 2
    assert "path: expected a file written by TextEncoder.save, got" in err


@pytest.mark.parametrize(
    ("name", "write", "result"),
    [
        ("sentiment", write_polarity, r"test accuracy: \d+\.\d\d% \(\d/4\)"),
        ("names", write_names, r"test accuracy: \d+\.\d\d% \(\d/1\)"),
        ("shakespeare", write_loop, r"test loss: \d\.\d{4} nats per character, accuracy \S+%"),
    ],
)
def test_the_examples_run(capsys, tmp_path, monkeypatch, name, write, result):
    write(tmp_path)
    script = Path(__file__).parent.parent / "examples" / f"{name}.py"
    arguments = ["--data-dir", str(tmp_path), "--epochs", "1"]
    monkeypatch.setattr("sys.argv", [str(script), *arguments])
    runpy.run_path(str(script), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1/1  train loss")
    assert re.fullmatch(result, lines[1])
    assert len(lines) > 2  # predictions for new texts, or generated text


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("names", ["--seed", "-1"], "--seed: expected an integer from 0"),
        ("names", [""], "texts: expected texts of at least one token, got ''"),
        ("sentiment", ["--seed", "-1"], "--seed: expected an integer from 0"),
        ("shakespeare", ["--prompt", ""], "texts: expected texts of at least one token, got ''"),
        ("shakespeare", ["--temperature", "-1"], "--temperature: expected a finite number >= 0"),
    ],
)
def test_the_examples_refuse_bad_arguments_before_they_train(
    capsys, tmp_path, monkeypatch, name, flags, message
):
    {"names": write_names, "sentiment": write_polarity, "shakespeare": write_loop}[name](tmp_path)
    script = Path(__file__).parent.parent / "examples" / f"{name}.py"
    monkeypatch.setattr("sys.argv", [str(script), "--data-dir", str(tmp_path), *flags])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(script), run_name="__main__")
    out, err = capsys.readouterr()
    assert out == ""
    assert f"error: {message}" in err
