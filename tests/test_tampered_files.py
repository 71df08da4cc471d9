"""Reads every record with values that jaxnets did not write, in each of its fields."""

import copy
import dataclasses
import hashlib
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from jaxnets import recipes, runs
from jaxnets.arrays import InputError
from jaxnets.commands.train import _begun
from jaxnets.data import Split
from jaxnets.data.text import TextDataset, TextEncoder, Tokenizer, Vocabulary
from jaxnets.metrics import Mean
from jaxnets.runs import reading
from jaxnets.training import (
    EpochRecord,
    Evaluation,
    Timings,
    TrainingRun,
    checkpoints,
    records,
    saving,
)
from jaxnets.training.weights import load_weights

DEEP = json.loads("[" * 200 + "]" * 200)
NAN = float("nan")
VALUES = (
    *(None, True, -1, 0, 7, 2**31 - 1, 10**30, 1.5, 1e308, NAN, float("-inf"), "", "x", "\0"),
    *([], [None], [-1, "x"], {}, {"x": None}, DEEP),
)
#: Fields of a record that no program reads.
_FOR_PEOPLE = ("history", "timings", "versions")
TEXTS = (b"", b"{", b"null", b"[]", b"3", b'"x"', b"\xff\xfe\x00", b"[" * 100_000, b"9" * 5000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that saved three times, as the command line leaves it."""
    words = Vocabulary(("<pad>", "<unk>", "a", "b"))
    split = Split(np.array([[2, 0], [3, 2]] * 2, np.int32), np.array([0, 1] * 2, np.int32))
    encoder = TextEncoder(Tokenizer(), words, length=2)
    data = TextDataset("words", split, split, ("one", "other"), encoder=encoder)
    recipe = dataclasses.replace(
        recipes.recipe("names-gru"),
        data="words",
        data_options={"data_dir": "/nowhere"},
        model_options={"embedding_dim": 2, "hidden_dim": 2, "output_dim": 18, "cell": "gru"},
        optimizer_options={"lr": 0.1},
        normalize=None,
        epochs=1,
        batch_size=2,
    )
    recipe = recipes.sized(recipe, data)
    computing = {"devices": 1, "model_devices": 1, "fsdp": False}
    computing |= {"accumulate": 1, "compute_dtype": None}
    monitoring = {"jsonl": "log.jsonl", "log_every": 3, "early_stopping": 2, "non_finite": "stop"}
    place = tmp_path_factory.mktemp("tampered") / "run"
    begun = runs.begin(place, recipe, 0, monitoring, computing, steps=1)
    run = finished(recipe)
    about = {"network": {"is": "7 parameters", "computes": "0a"}, "versions": {"jax": "1"}}
    with saving.keeper(begun.saving, about, 1, 0, "test_loss") as keep:
        for step in (1, 2):
            measured = {"loss": Mean(np.ones(1, np.float32), np.ones(1, np.int32))}
            losses = [np.ones(step, np.float32)]
            journal = saving.Journal({"a": np.ones(3)}, losses, [measured], [0])
            journal.history = list(run.history)
            keep.after_epoch(journal)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(records, "plot_history", lambda *given, **options: None)
        runs.finish(place, recipe, 0, run, data, computing)
    scaler = {"inputs": None, "labels": {"mean": [1.0], "std": [2.0]}}
    record = json.loads((place / "run.json").read_text()) | {"standardized": scaler}
    (place / "run.json").write_text(json.dumps(record))
    return place


def finished(recipe):
    """A run that was never trained."""
    return TrainingRun(
        model=recipes.build_model(recipe),
        state=None,
        history=(EpochRecord(1, {"loss": 0.7}, {"loss": 0.6, "accuracy": 0.5}, 0.1),),
        step_losses=np.ones(2, np.float32),
        test=Evaluation(0.6, 2, 4),
        timings=Timings(1.0, 1.0, 1.0),
        examples_per_second=4.0,
        device="cpu",
    )


@pytest.fixture
def own(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "run"))


def places(value, way=()):
    """Yields the paths to all values within a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for name, part in inner:
        yield (*way, name)
        if isinstance(part, dict | list):
            yield from places(part, (*way, name))


def variants(path):
    """Yields variants of a file: each value replaced or removed, and texts that are no record."""
    whole = json.loads(path.read_text())
    alike = list(whole.get("files", ()))[2:]
    for way in places(whole):
        if way[0] in _FOR_PEOPLE or not {*alike}.isdisjoint(way):
            continue
        *outer, last = way
        for value in (*VALUES, ...):
            changed = copy.deepcopy(whole)
            place = changed
            for name in outer:
                place = place[name]
            if value is ...:
                del place[last]
            else:
                place[last] = value
            yield way, json.dumps(changed).encode()
    for text in TEXTS:
        yield (), text


def refusal(read):
    """The error message; empty if there is no error."""
    try:
        read()
    except InputError as error:
        return str(error)
    return ""


def refusals(path, read, named=None):
    """Reads each variant of a file, checks the error messages, and returns their number."""
    refused = 0
    whole = path.read_bytes()
    for way, text in variants(path):
        path.write_bytes(text)
        message = refusal(read)
        if message:
            assert (named or path.name) in message, (way, text[:80])
            assert len(message) < 700, (way, message)
            assert "\n" not in message, way
            refused += 1
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=named or path.name):
        read()
    path.rmdir()
    path.write_bytes(whole)
    return refused


@pytest.mark.slow
def test_a_tampered_record_of_a_run_is_refused(own, monkeypatch):
    model = runs.read(own).model
    with monkeypatch.context() as patched:  # the network takes long; see the next test
        patched.setattr(reading, "_trained", lambda *given: model)
        assert refusals(own / "run.json", lambda: runs.read(own)) > 300


@pytest.mark.slow
def test_sizes_that_the_weights_do_not_have_are_refused_before_memory_is_taken(own):
    path = own / "run.json"
    record = json.loads(path.read_text())
    for name in record["settings"]["model_options"]:
        for value in VALUES:
            changed = copy.deepcopy(record)
            changed["settings"]["model_options"][name] = value
            path.write_text(json.dumps(changed))
            assert len(refusal(lambda: runs.read(own))) < 700
    for name in ("hidden_dim", "n_layers"):
        changed = copy.deepcopy(record)
        changed["settings"]["model_options"][name] = 10**6
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=rf"{name}: expected at most \d+, which the weights"):
            runs.read(own)


def test_an_encoder_of_another_vocabulary_is_refused(own):
    text = json.loads((own / "text.json").read_text())
    text["vocabulary"]["tokens"].append("more")
    (own / "text.json").write_text(json.dumps(text))
    with pytest.raises(
        InputError, match=r"vocab_size: expected the 5 tokens of .*text.json, got 4"
    ):
        runs.read(own)
    text["vocabulary"]["tokens"].pop()
    (own / "text.json").write_text(json.dumps(text | {"length": 2**31 - 1}))
    with pytest.raises(
        InputError, match=r"inputs: expected rows of 2147483647 tokens, .*int32\[2\]"
    ):
        runs.read(own)


def test_a_tampered_encoder_is_refused(own):
    read = lambda: TextEncoder.load(own / "text.json")  # noqa: E731
    assert refusals(own / "text.json", read) > 80


def test_a_tampered_beginning_is_refused(own):
    assert refusals(own / "begun.json", lambda: _begun(own, False)) > 500


def signed(folder):
    """Rewrites the manifest of a folder so that it matches the files."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        text = (folder / name).read_bytes() if (folder / name).is_file() else b""
        manifest["files"][name] = [len(text), hashlib.sha256(text).hexdigest()]
    digest = hashlib.sha256(json.dumps(manifest["files"], sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256": digest}))


def test_a_tampered_manifest_is_refused(own):
    model = runs.read(own).model
    weights = own / "weights"

    def read():
        load_weights(model, weights)

    assert refusals(weights / "manifest.json", read, "weights") > 50

    def resigned():
        path = weights / "manifest.json"
        try:
            held = json.loads(path.read_bytes())
            text = json.dumps(held["files"], sort_keys=True)
            held["sha256"] = hashlib.sha256(text.encode()).hexdigest()
            path.write_text(json.dumps(held))
        except (ValueError, LookupError, TypeError, OSError, RecursionError):
            pass
        load_weights(model, weights)

    assert refusals(weights / "manifest.json", resigned, "weights") > 50


def test_a_tampered_list_of_arrays_is_refused(own):
    model = runs.read(own).model
    (own / "weights" / "manifest.json").unlink()  # as in folders of earlier versions
    read = lambda: load_weights(model, own / "weights")  # noqa: E731
    assert refusals(own / "weights" / "arrays.json", read, "weights") > 100


@pytest.mark.slow
def test_a_tampered_checkpoint_is_passed_over(own):
    newest = sorted((own / "checkpoints").glob("step-*"))[-1]
    path, passed = newest / "checkpoint.json", 0
    for way, text in variants(path):
        path.write_bytes(text)
        signed(newest)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            saved = checkpoints.read(own / "checkpoints", fault=saving.unusable)
        assert saved is not None, way
        if saved.directory != newest:
            assert f"{newest.name} is damaged" in str(heard[0].message), way
            assert len(str(heard[0].message)) < 700
            passed += 1
    assert passed > 200
