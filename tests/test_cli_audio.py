"""Recipes for sound on the command line: train, predict, data."""

import re

import pytest
from click.testing import CliRunner

from jaxnets import runs
from jaxnets.cli import cli
from jaxnets.data import write_wav
from tests.recordings import tone, write_digits

pytestmark = pytest.mark.slow


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(word) for word in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("digits")
    write_digits(place / "recordings", digits=3, indices=9, speakers=("ann", "bob"))
    write_wav(place.parent / "one.wav", 0.3 * tone(600, 0.12, 16000), 16000)
    return place


SHORT = ("--data-option", "seconds=0.15", "--epochs", "3", "--batch-size", "8")


@pytest.fixture(scope="module")
def trained(folder):
    out = folder.parent / "run"
    small = ("--model-option", "channels=4", "--augment", "spec-augment", "--lr", "0.02")
    done = invoke("train", "fsdd-cnn", "--data", folder, *SHORT, *small, "--out", out)
    assert done.exit_code == 0, done.output
    return out


def test_a_wav_file_is_classified_at_whatever_rate(trained, folder):
    done = invoke("predict", trained, folder.parent / "one.wav")
    assert done.exit_code == 0, done.output
    assert re.fullmatch(r".*one\.wav: \d \d+\.\d+%(  \d \d+\.\d+%){2}\n", done.output)
    saved = runs.read(trained)
    assert (saved.audio.sample_rate, saved.audio.samples) == (8000, 1200)
    assert invoke("predict", trained, "--index", 0).exit_code == 0
    table = folder.parent / "predictions.csv"
    done = invoke("predict", trained, folder / "recordings", "--csv", table)
    assert done.output == f"wrote 54 predictions to {table}\n"
    refused = invoke("predict", trained, folder.parent / "none.wav")
    assert refused.exit_code != 0
    assert "none.wav: expected a readable WAV file, got no such file" in str(refused.exception)
    refused = invoke("predict", trained, folder.parent / "one.wav", "--invert")
    assert "invert: expected none, as no image file is given" in str(refused.exception)


def test_a_sequence_is_recognized(folder):
    out = folder.parent / "sequences"
    small = ("--model-option", "channels=2", "--model-option", "hidden_dim=8")
    done = invoke("train", "fsdd-ctc", "--data", folder, *SHORT, *small, "--out", out)
    assert done.exit_code == 0, done.output
    assert "error_rate" in done.output or "error rate" in done.output
    done = invoke("predict", out, folder.parent / "one.wav")
    assert re.fullmatch(r".*one\.wav: [012]*\n", done.output), done.output
    refused = invoke("predict", out, folder.parent / "one.wav", "--csv", folder / "a.csv")
    assert "csv: expected none, as the run recognizes sequences" in str(refused.exception)


def test_data_of_recordings_are_shown(folder):
    done = invoke("data", "info", folder)
    assert done.exit_code == 0, done.output
    assert "at 8,000 Hz" in done.output
    assert re.search(r"^2 +8 +10$", done.output, re.M)
    done = invoke("data", "head", folder, "-n", 2)
    assert re.search(r"^0: 0\.1\d+ s, loudest 0\.\d+ → [012]$", done.output, re.M), done.output
    done = invoke("data", "check", folder)
    assert done.output.endswith("train 24, test 30, all readable\n")
    done = invoke("data", "head", folder, "-n", 2, "--out", folder.parent / "sheet.png")
    assert done.output.endswith("sheet.png\n")
    assert (
        "seconds of a training recording: 50 % up to 0.1" in invoke("data", "info", folder).output
    )
    done = invoke("data", "info", folder, "--data-option", "lengths=True")
    assert "lengths: int32[]" in done.output
