import dataclasses
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from flax import nnx
from jax import export

from jaxnets import InputError, data, fit, load, losses, optimizers, runs
from jaxnets.cli import main
from jaxnets.data import Compose, Normalize, Split, Standardizer, ToFloat
from jaxnets.data.text import TextEncoder, Tokenizer, Vocabulary
from jaxnets.export import Program, save_onnx, save_stablehlo
from jaxnets.models import MLP
from tests.networks import CASES
from tests.pages import blocks

PAGE = (Path(__file__).parent.parent / "docs" / "deploy.md").read_text()
READER, BY_ONNXRUNTIME, ENCODE, FROM_PYTHON = blocks(PAGE, "python")[:4]
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 6, 6, 1)).astype(np.uint8)
ROW = jax.ShapeDtypeStruct((4,), np.float32)


class Computes(nnx.Module):
    """A network that applies one function."""

    def __init__(self, function):
        self.function, self.idle = function, nnx.Param(jnp.zeros(1))

    def __call__(self, x):
        return self.function(x)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run on images, of a few steps."""
    folder = tmp_path_factory.mktemp("run") / "mlp"
    train = Split(PIXELS, np.arange(6, dtype=np.int32) % 3)
    model = MLP((36, 8, 3), rngs=nnx.Rngs(0))
    split = data.Dataset("six", train, train, class_names=("cat", "dog", "bird"))
    transform = Compose(ToFloat(), Normalize(0.5, 0.25))
    options = {"loss": losses.cross_entropy, "optimizer": optimizers.sgd(0.1), "progress": "none"}
    done = fit(model, split, epochs=1, batch_size=3, transform=transform, **options)
    done.save(folder)
    return folder


def call(path, inputs):
    """The outputs of a StableHLO file."""
    with zipfile.ZipFile(path) as file:
        network = export.deserialize(bytearray(file.read("network.bin")))
    assert network.platforms == ("cpu", "cuda", "tpu")
    return network.call(inputs)


def ask(path, *inputs):
    """The outputs of an ONNX file."""
    session = onnxruntime.InferenceSession(path)
    names = [one.name for one in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


@pytest.mark.slow
def test_the_reader_on_the_page_needs_no_jaxnets(run, tmp_path, capsys):
    assert main(["export", str(run), "--out", str(tmp_path / "mlp.zip")]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {tmp_path / 'mlp.zip'} (")
    np.save(tmp_path / "pixels.npy", PIXELS[:4])
    code = f"import sys; sys.modules['jaxnets'] = sys.modules['flax'] = None\n{READER}"
    assert len([line for line in READER.splitlines() if line]) <= 11
    command = [sys.executable, "-c", code, tmp_path / "mlp.zip", tmp_path / "pixels.npy"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    expected = load(run).predict(PIXELS[:4])
    rows = re.findall(r"(cat|dog|bird) \[(.*?)\]", done.stdout, flags=re.DOTALL)
    made = np.array([[float(word) for word in row.split()] for _, row in rows])
    np.testing.assert_allclose(made, expected, atol=1e-6)
    assert [name for name, _ in rows] == [("cat", "dog", "bird")[k] for k in expected.argmax(-1)]


@pytest.mark.parametrize("name", ["lenet-28", "lstm", "text-gru-bidirectional"])
def test_stablehlo_gives_the_models_outputs_for_any_batch(name, tmp_path):
    case = CASES[name]
    model = case.build(nnx.Rngs(0))
    spec = jax.ShapeDtypeStruct(case.example, case.inputs(1).dtype)
    save_stablehlo(Program(model, spec), tmp_path / "network.zip")
    model.eval()
    compute = jax.jit(lambda x: model(x))
    for size in (1, 3):
        made = call(tmp_path / "network.zip", case.inputs(size))
        np.testing.assert_allclose(made, compute(case.inputs(size)), rtol=1e-5, atol=1e-6)


def test_onnx_gives_the_outputs_of_a_run_and_describes_it(run, tmp_path):
    file = tmp_path / "mlp.onnx"
    assert main(["export", str(run), "--out", str(file)]) == 0
    (made,) = ask(file, PIXELS)
    np.testing.assert_allclose(made, load(run).predict(PIXELS), atol=1e-5)
    session = onnxruntime.InferenceSession(file)
    about = json.loads(session.get_modelmeta().custom_metadata_map["about"])
    assert about["classes"] == ["cat", "dog", "bird"]
    assert about["gives"] == "logits"
    assert about["inputs"] == [
        {"name": "inputs", "shape": ["batch", 6, 6, 1], "dtype": "uint8"},
    ]
    assert main(["export", str(run), "--to", "onnx", "--batch", "2", "--out", f"{file}2"]) == 0
    assert ask(f"{file}2", PIXELS[:2])[0].shape == (2, 3)


def test_scalers_of_a_table_are_in_the_file(tmp_path):
    scaler, labels = (
        Standardizer((1.0, 2.0, 3.0, 4.0), (2.0, 2.0, 1.0, 4.0)),
        Standardizer(7.0, 3.0),
    )
    model = nnx.Linear(4, 1, rngs=nnx.Rngs(0))
    program = Program(model, ROW, inputs_scaler=scaler, labels_scaler=labels)
    save_onnx(program, tmp_path / "rows.onnx")
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    expected = labels.inverse(np.asarray(model(scaler(rows))))
    np.testing.assert_allclose(ask(tmp_path / "rows.onnx", rows)[0], expected, rtol=1e-5)


def test_several_inputs_and_outputs_have_names(tmp_path):
    class Both(nnx.Module):
        def __init__(self):
            self.fc = nnx.Linear(4, 2, rngs=nnx.Rngs(0))

        def __call__(self, left, right):
            return {"sum": self.fc(left) + right, "right": right}

    pair = {"left": ROW, "right": jax.ShapeDtypeStruct((2,), np.float32)}
    save_onnx(Program(Both(), pair), tmp_path / "both.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "both.onnx")
    assert [one.name for one in session.get_inputs()] == ["inputs.left", "inputs.right"]
    assert [one.name for one in session.get_outputs()] == ["outputs['right']", "outputs['sum']"]
    left, right = np.ones((3, 4), np.float32), np.ones((3, 2), np.float32)
    np.testing.assert_allclose(ask(tmp_path / "both.onnx", left, right)[0], right)


def loops(x):
    """Loops, conditionals, indexing, sorting and other operations that are rare in layers."""
    counted = jax.lax.fori_loop(0, 3, lambda i, y: y + 0.5 * i, x)
    chosen = jax.lax.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, x)
    rows = jnp.take(x, jnp.array([2, 0]), axis=1)
    ends = jax.lax.dynamic_slice_in_dim(x, (x[0, 0] > 0).astype(int), 2, axis=1)
    order = jnp.argsort(x, axis=1)
    values, places = jax.lax.top_k(x, 2)
    sums = jnp.cumsum(x, axis=1) + jnp.cumsum(x, axis=1)[:, ::-1]
    small = jnp.expm1(x * 1e-4) + jnp.log1p(jnp.abs(x)) + jnp.cbrt(x) + jnp.exp2(x)
    whole = jnp.round(x * 3) + jax.lax.round(x * 3, jax.lax.RoundingMethod.AWAY_FROM_ZERO)
    put = x.at[:, 1:3].set(rows).at[:, 3].add(x[:, 0])
    tiled = jnp.tile(x, (1, 2))
    far = jnp.take(x, (x[0] * 9).astype(int), axis=1)  # many indices are out of range
    logic = ~((x > 0) & jnp.isfinite(x)) ^ (x < 1)
    numbers = [order[:, 0].astype(x.dtype), places[:, 0].astype(x.dtype), values[:, 1]]
    parts = jnp.stack([rows.sum(1), ends.prod(1), *numbers], 1)
    return [
        counted,
        chosen,
        sums,
        small,
        whole,
        logic,
        parts,
        put,
        tiled,
        far,
        jnp.where(logic, x, x[:1]),
    ]


@pytest.mark.slow
def test_operations_that_layers_rarely_have_are_translated(tmp_path):
    save_onnx(Program(Computes(loops), ROW), tmp_path / "loops.onnx")
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    for made, expected in zip(
        ask(tmp_path / "loops.onnx", rows), jax.jit(loops)(rows), strict=True
    ):
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)


def test_the_encoder_on_the_page_encodes_as_ours_does():
    space = {}
    exec(ENCODE, space)
    for tokenizer in (Tokenizer(), Tokenizer("characters"), Tokenizer("words", True, True)):
        words = Vocabulary(("<pad>", "<unk>", "it's", "good", ",", "g", "It's"))
        for length in (None, 3):
            encoder = TextEncoder(tokenizer, words, length)
            about = json.loads(json.dumps({"text": dataclasses.asdict(encoder)}))
            for text in ("It's good, good , it’s", "g"):
                assert space["encode"](text, about) == encoder([text])[0].tolist()


def test_the_python_on_the_page_runs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(FROM_PYTHON, {})
    program = Program(
        CASES["lenet-28"].build(nnx.Rngs(0)),
        jax.ShapeDtypeStruct((28, 28, 1), "uint8"),
        transform=ToFloat(),
        about={"classes": list("0123456789")},
    )
    save_onnx(program, "lenet.onnx")
    exec(BY_ONNXRUNTIME, {})


REFUSED = {
    "needs one size": (
        lambda: Program(Computes(lambda x: x * len(x)), ROW).traced,
        r"model: expected a network for any number of examples \(or batch=N for a fixed one\), "
        "got Computes",
    ),
    "not traced": (
        lambda: Program(Computes(lambda x: x if x.sum() > 0 else -x), ROW).traced,
        "model: expected a network that JAX traces with these inputs, got Computes",
    ),
    "operation": (
        lambda: save_onnx(Program(Computes(lambda x: jnp.fft.fft(x).real), ROW), "x.onnx"),
        "model: expected operations that can be translated to ONNX, got fft",
    ),
    "size": (
        lambda: save_onnx(
            Program(Computes(lambda x: jnp.concatenate([jnp.zeros((x.shape[0] + 1, 4)), x])), ROW),
            "x",
        ),
        "model: expected .* multiples of the batch size, got the size batch \\+ 1",
    ),
    "spec": (lambda: Program(Computes(abs), (4,)), "inputs.*: expected the shape and dtype of one"),
    "batch": (lambda: Program(Computes(abs), ROW, batch=0), "batch: expected a positive integer"),
    "path": (lambda: save_onnx(Program(Computes(abs), ROW), 3), "path: expected a file to write"),
    "model": (lambda: Program(abs, ROW), "model: expected"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_said(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        refused()
    assert not any(tmp_path.iterdir())


WRONG_WORDS = {
    "out: expected a name that ends in .zip, .onnx or .pt, or the flag --to": ["--out", "mlp.bin"],
    "out: expected a new file in a folder that exists": ["--out", "no-folder/mlp.onnx"],
    "batch: expected none, as a state_dict has no batch size": ["--out", "mlp.pt", "--batch", "3"],
    "Missing option '--out'": [],
}


@pytest.mark.parametrize("message", WRONG_WORDS)
def test_the_command_refuses_in_one_sentence(message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), *WRONG_WORDS[message]]) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_torch_has_its_class_beside_it(run, tmp_path, capsys):
    assert main(["export", str(run), "--out", str(tmp_path / "mlp.pt")]) == 0
    assert 'torch.load("mlp.pt")' in (tmp_path / "mlp.py").read_text()
    assert main(["export", str(run), "--out", str(tmp_path / "mlp.pth"), "--to", "torch"]) == 2
    assert "path: expected a folder without a file mlp.py" in capsys.readouterr().err


def test_a_record_that_tells_no_shape_is_refused(run):
    saved = dataclasses.replace(load(run), inputs=None)
    with pytest.raises(InputError, match="run: expected a record with the shape"):
        saved.program()


@pytest.mark.parametrize("logits", [True, False])
def test_one_output_tells_two_classes_apart(logits):
    model = CASES["lstm-sigmoid"].build(nnx.Rngs(0))
    model.output = "logits" if logits else "sigmoid"
    saved = runs.SavedRun(None, model, True, ("no", "yes"), None, None)
    value = np.log(4.0) if logits else 0.8
    np.testing.assert_allclose(saved.probabilities(np.array([[value]])), [[0.2, 0.8]])
