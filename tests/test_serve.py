import asyncio
import base64
import io
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from flax import nnx
from PIL import Image
from starlette.testclient import TestClient

from jaxnets import InputError, data, fit, load, losses, optimizers, serve
from jaxnets.cli import main
from jaxnets.data import Compose, Normalize, Split, TableColumn, TableEncoder, ToFloat
from jaxnets.data.standardization import Standardizer
from jaxnets.data.text import TextDataset, TextEncoder, Tokenizer, Vocabulary
from jaxnets.models import MLP, LanguageModel, TextClassifier
from jaxnets.runs import SavedRun
from jaxnets.serve.batches import Batches, Busy

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 6, 6, 1)).astype(np.uint8)
LIMITS = serve.Limits(batch=4, body=20_000, examples=9, seconds=20)
JSON = {"content-type": "application/json"}
TRAINING = {"optimizer": optimizers.sgd(0.1), "epochs": 1, "progress": "none", "batch_size": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on images with a dark background."""
    folder = tmp_path_factory.mktemp("runs") / "images"
    split = Split(PIXELS // 8, np.arange(6, dtype=np.int32) % 3)
    six = data.Dataset("six", split, split, class_names=("cat", "dog", "bird"))
    transform = Compose(ToFloat(), Normalize(0.5, 0.25))
    model, loss = MLP((36, 8, 3), rngs=nnx.Rngs(0)), losses.cross_entropy
    fit(model, six, loss=loss, transform=transform, **TRAINING).save(folder)
    return folder


@pytest.fixture(scope="module")
def saved(folder):
    return load(folder)


@pytest.fixture(scope="module")
def client(saved):
    """A client of the service, which runs in this process."""
    with TestClient(serve.application(saved, LIMITS)) as client:
        yield client


def text_run(tmp_path):
    words = Vocabulary.from_counts({"good": 3, "bad": 2, "film": 1})
    encoder = TextEncoder(Tokenizer(lowercase=True), words, length=4)
    split = Split(encoder(["good film", "bad film"]), np.array([1, 0], np.int32))
    two = TextDataset("words", split, split, class_names=("no", "yes"), encoder=encoder)
    model = TextClassifier(5, 3, 4, rngs=nnx.Rngs(0))
    fit(model, two, loss=losses.binary_cross_entropy, **TRAINING).save(tmp_path / "text")
    return load(tmp_path / "text")


def table_run():
    encoder = TableEncoder((TableColumn("size"), TableColumn("colour", ("blue", "red"))))
    scaler = Standardizer((2.0, 0.5, 0.5), (1.0, 0.5, 0.5))
    labels = Standardizer(100.0, 10.0)
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    spec = data.Split(np.zeros((1, 3), np.float32), np.zeros(1, np.int32)).spec.inputs
    options = {"labels_scaler": labels, "table": encoder, "inputs_scaler": scaler}
    return SavedRun(None, model, False, None, spec, None, **options)


def ask(client, **question):
    return client.post("/predict", json=question)


def test_inputs_are_answered_as_predict_answers(client, saved):
    reply = ask(client, inputs=PIXELS.tolist())
    assert reply.status_code == 200
    expected = saved.probabilities(np.asarray(saved.predict(PIXELS), np.float64))
    for one, shares in zip(reply.json()["predictions"], expected, strict=True):
        named = {each["name"]: each["probability"] for each in one["classes"]}
        np.testing.assert_allclose([named[n] for n in ("cat", "dog", "bird")], shares, atol=2e-6)
        assert one["class"] == ("cat", "dog", "bird")[shares.argmax()]


def test_an_image_file_is_fitted_inverted_and_explained(client):
    file = io.BytesIO()
    Image.fromarray(np.full((12, 12), 255, np.uint8)).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    (one,) = ask(client, images=[f"data:image/png;base64,{text}"], explain=True).json()[
        "predictions"
    ]
    assert np.array(one["given"]).tolist() == np.zeros((6, 6, 1)).tolist()
    assert np.array(one["explanation"]).shape == (6, 6)
    (one,) = ask(client, images=[text], explain=True, invert=False).json()["predictions"]
    assert np.array(one["given"]).min() == 255
    assert np.abs(one["explanation"]).max() == 1


@pytest.mark.slow
def test_texts_are_encoded_and_their_words_explained(tmp_path):
    saved = text_run(tmp_path)
    with TestClient(serve.application(saved, LIMITS)) as client:
        assert client.get("/about").json()["takes"] == "texts"
        reply = ask(client, texts=["Good good film", "bad"], explain=True)
        first, second = reply.json()["predictions"]
        assert first["given"] == ["good", "good", "film"]
        assert len(first["explanation"]) == 4
        share = float(saved.predict(["bad"])[0, 0])
        named = {each["name"]: each["probability"] for each in second["classes"]}
        assert named["yes"] == pytest.approx(share, abs=1e-6)
        reply = ask(client, texts=[""])
        assert reply.status_code == 400
        assert reply.json()["error"].startswith("texts: expected texts of at least one token")
        assert ask(client, rows=[[1]]).json()["error"].startswith("rows: expected none")


def test_rows_are_standardised_and_values_brought_back():
    saved = table_run()
    with TestClient(serve.application(saved, LIMITS)) as client:
        assert [one["name"] for one in client.get("/about").json()["columns"]] == ["size", "colour"]
        reply = ask(client, rows=[{"size": "3", "colour": "red"}, [1, "blue"]], explain=True)
        one, other = reply.json()["predictions"]
        outputs = saved.predict([{"size": 3, "colour": "red"}, [1, "blue"]])
        expected = saved.labels_scaler.inverse(outputs)
        np.testing.assert_allclose([one["values"], other["values"]], expected, rtol=1e-5)
        assert np.array(one["explanation"]).shape == (3,)
        reply = ask(client, rows=[[1, "green"]])
        assert reply.status_code == 400
        assert "colour" in reply.json()["error"]


WRONG = {
    "body: expected a JSON object with one of inputs, images, texts, rows, got JSOND": b"{",
    "body: expected a JSON object with one of inputs, images, texts, rows, got [1]": b"[1]",
    "body: expected a JSON object with one of inputs, images, texts, rows, got {}": b"{}",
    "got Recursion": b"[" * 10_000,
    "got UnicodeDecodeError": b"\xff\xfe\x00",
    "explain and invert, got 'other'": b'{"inputs": [1], "other": 1}',
    "inputs: expected a list of 1 to 9 examples, got 0": b'{"inputs": []}',
    "inputs: expected a list of 1 to 9 examples, got 10": json.dumps({"inputs": [0] * 10}).encode(),
    "inputs: expected a list of 1 to 9 examples, got 'a'": b'{"inputs": "a"}',
    "inputs: expected examples uint8[6, 6, 1], got int64[2]": b'{"inputs": [[1, 2]]}',
    "inputs: expected finite numbers of uint8": json.dumps(
        {"inputs": np.full((1, 6, 6, 1), 300).tolist()}
    ).encode(),
    "inputs: expected examples uint8[6, 6, 1], got ": b'{"inputs": [[[1], 2]]}',
    "explain: expected true, false or null": b'{"inputs": [1], "explain": 3}',
    "images: expected an image file in base64": b'{"images": ["???"]}',
    "image: expected a readable image": b'{"images": ["aGVsbG8="]}',
    "texts: expected strings, for a text classifier": b'{"texts": ["good"]}',
    "rows: expected none, as the network was not trained on a table": b'{"rows": [[1]]}',
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_question_is_answered_with_400_in_one_sentence(message, client):
    reply = client.post("/predict", content=WRONG[message], headers=JSON)
    assert reply.status_code == 400
    assert message in reply.json()["error"]
    assert len(reply.json()["error"]) < 300


def test_too_much_and_other_addresses_are_refused(client):
    reply = client.post("/predict", content=b" " * 20_001, headers=JSON)
    assert reply.status_code == 413
    assert reply.json() == {"error": "body: expected at most 20,000 bytes"}
    parts = (b" " * 1000 for _ in range(30))  # of unknown length
    assert client.post("/predict", content=parts, headers=JSON).status_code == 413
    assert client.post("/predict", content=b"{}").status_code == 415
    assert client.get("/predict").json() == {"error": "Method Not Allowed"}
    assert client.get("/nothing").json() == {"error": "Not Found"}
    assert client.get("/health").json() == {"status": "ok"}
    assert ask(client, inputs=PIXELS.tolist() * 1, explain=True).status_code == 200
    many = (PIXELS.tolist() * 2)[:9]
    assert ask(client, inputs=many, explain=True).json() == {
        "error": "explain: expected at most 8 examples"
    }


def test_the_page_needs_nothing_from_elsewhere(client):
    reply = client.get("/")
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert not re.findall(r"https?://|//cdn|@import", reply.text)
    assert client.get("/about").json()["classes"] == ["cat", "dog", "bird"]


def test_a_slow_answer_is_503(saved, monkeypatch):
    app = serve.application(saved, serve.Limits(batch=1, seconds=0.05))
    with TestClient(app) as client:
        monkeypatch.setattr("jaxnets.serve.batches.np.stack", lambda _: time.sleep(0.2))
        reply = ask(client, inputs=PIXELS[:1].tolist())
    assert reply.status_code == 503
    assert reply.json() == {"error": "timeout: no prediction within 0.05 seconds"}


def test_no_room_is_503(saved):
    app = serve.application(saved, serve.Limits(batch=1, waiting=2))
    with TestClient(app) as client:
        reply = ask(client, inputs=PIXELS[:3].tolist())
    assert reply.status_code == 503
    assert reply.json()["error"].startswith("busy")


def test_questions_that_come_together_are_computed_together():
    sizes = []

    def compute(inputs):
        sizes.append(len(inputs))
        return inputs * 2.0

    async def run():
        batches = Batches(compute, most=4, wait=0.05, room=8)
        batches.start()
        asked = [batches.ask([np.full(3, k)]) for k in range(5)]
        found = await asyncio.gather(*asked)
        with pytest.raises(Busy):
            await batches.ask([np.zeros(3)] * 9)
        await batches.stop()
        return found

    found = asyncio.run(run())
    assert [float(one[0][0]) for one in found] == [0, 2, 4, 6, 8]
    assert sizes == [4, 1]


def test_an_error_of_one_batch_is_not_the_end():
    async def run():
        batches = Batches(lambda x: 1 / x.sum(dtype=int).item() * x, most=1, wait=0, room=8)
        batches.start()
        with pytest.raises(ZeroDivisionError):
            await batches.ask([np.zeros(1)])
        found = await batches.ask([np.ones(1)])
        await batches.stop()
        return found

    assert asyncio.run(run())[0] == 1


@pytest.mark.slow
def test_the_command_serves_until_it_is_told_to_stop(folder):
    command = [sys.executable, "-m", "jaxnets", "serve", folder, "--port", "0", "--batch", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
        assert line == f"serving MLP at {address} (Ctrl-C stops)\n"
        with urllib.request.urlopen(f"{address}/health") as reply:
            assert json.load(reply) == {"status": "ok"}
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "")


def test_what_cannot_be_served_is_said(saved, folder, capsys):
    model = LanguageModel(3, 2, 2, rngs=nnx.Rngs(0))
    writes = SavedRun(None, model, True, None, saved.inputs, None)
    with pytest.raises(InputError, match="run: expected a classifier or a regression, got a"):
        serve.application(writes)
    with pytest.raises(InputError, match="run: expected a network with one input array of a known"):
        serve.application(SavedRun(None, saved.model, True, None, None, None))
    with pytest.raises(InputError, match="saved: expected a run from jaxnets.load"):
        serve.application(saved.model)
    with pytest.raises(InputError, match="limits: expected Limits, or None, got 3"):
        serve.application(saved, 3)
    with pytest.raises(InputError, match="batch: expected a power of two, got 3"):
        serve.Limits(batch=3)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(folder), "--port", str(port)]) == 2
    assert "an address and a port to listen on, got 127.0.0.1" in capsys.readouterr().err
    assert main(["serve", str(folder), "--host", "no such host"]) == 2
