"""The examples, at least one for each document: their headers, and a short run of each."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data_files import write_cifar10
from tests.quick_compilation import environment

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "examples"
HEADERS = {path.stem: path.read_text().split('"""')[1] for path in sorted(EXAMPLES.glob("*.py"))}
DOCUMENTED = [name for name, header in HEADERS.items() if "\nDocument:" in header]
ON_MNIST = {"mnist": [], "softmax_mlp": [], "lenet": [], "rnn_classifier": ["--cell", "gru"]}
ON_CIFAR10 = ["cifar10_classifier", "cifar10_lenet", "cifar10_resnet"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs an example; returns its exit code, standard output and standard error."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return run


def train_losses(out):
    return [float(loss) for loss in re.findall(r"train loss (\d+\.\d+)", out)]


def test_each_document_has_an_example():
    documents = {re.search(r"^Document: +(\d{3})", HEADERS[name], re.M)[1] for name in DOCUMENTED}
    assert documents == {"000", "001", "002", "003", "004"}
    assert {*ON_MNIST, *ON_CIFAR10, "linear_regression"} == set(DOCUMENTED)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_headers_and_help_tell_what_to_expect(name, run):
    for entry in ("Data", "Settings", "Time", "Accuracy|Error"):
        assert re.search(rf"^({entry}): +\S", HEADERS[name], re.M), entry
    assert re.search(rf"^Run: +python examples/{name}\.py", HEADERS[name], re.M)
    code, out, _ = run(name, "--help")
    assert code in (0, None)
    assert HEADERS[name].splitlines()[0] in out
    assert "--fast" in out


@pytest.mark.parametrize("name", ON_MNIST)
def test_the_examples_on_mnist_learn(name, run):
    code, out, _ = run(name, *ON_MNIST[name], "--fast")
    assert code == 0
    losses = train_losses(out)
    assert losses[-1] < losses[0]
    share, right, total = re.search(r"^test accuracy: (\S+)% \((\d+)/(\d+)\)$", out, re.M).groups()
    assert total == "640"
    assert float(share) == pytest.approx(int(right) / 6.4, abs=0.005)
    assert float(share) > {"mnist": 60, "softmax_mlp": 20, "lenet": 5, "rnn_classifier": 20}[name]


def test_the_line_is_that_of_least_squares(run):
    code, out, _ = run("linear_regression", "--fast")
    assert code == 0
    trained, best = re.findall(r"y = (\S+) x", out)
    assert trained == best == "0.9143"
    assert "RMSE 98.5 francs on the 47 households" in out


@pytest.mark.parametrize("name", ON_CIFAR10)
def test_the_examples_on_cifar10_train(name, run, tmp_path):
    write_cifar10(tmp_path / "cifar-10-batches-bin", layout="binary", count=100)
    code, out, _ = run(name, "--fast", "--data-dir", tmp_path)
    assert code == 0
    assert train_losses(out)[-1] < train_losses(out)[0]
    assert re.search(r"^test accuracy: \S+% \(\d+/4\)$", out, re.M)


@pytest.mark.parametrize("name", ON_CIFAR10)
def test_without_cifar10_they_say_where_they_looked_and_what_to_do(name, run, tmp_path):
    code, _, err = run(name, "--data-dir", tmp_path)
    assert code == 2
    assert str(tmp_path) in err
    assert err.endswith("; see docs/data.md for how to obtain CIFAR-10\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", DOCUMENTED)
def test_bad_arguments_are_one_sentence(name, run, tmp_path):
    place = []
    if name in ON_CIFAR10:
        write_cifar10(tmp_path / "cifar-10-batches-bin", layout="binary", count=100)
        place = ["--data-dir", tmp_path]
    code, out, err = run(name, "--epochs", "0", *place)
    assert (code, out) == (2, "")
    assert err.endswith("epochs: expected a positive integer, got 0\n")


def test_an_exported_network_answers_as_its_run_does(run):
    code, out, _ = run("export", "--fast", "--epochs", "1")
    assert code == 0
    assert "takes ['batch', 28, 28, 1] uint8, gives logits" in out
    assert float(re.search(r"largest difference: (\S+)", out)[1]) < 1e-4


def test_the_example_of_pruning_keeps_its_zeros(run):
    code, out, _ = run("prune", "--fast", "--epochs", 1)
    assert code in (0, None)
    counts = re.findall(r"([\d,]+) of +([\d,]+) not zero", out)
    assert counts[1] == counts[2] == ("11,120", "109,386")
    assert counts[3] == counts[4]


def test_networks_together_and_small_updates(run):
    code, out, _ = run("ensemble", "--images", 640, "--epochs", 1, "--seeds", 2)
    assert code == 0
    shares = [float(share) for share in re.findall(r"accuracy (\d+\.\d\d)%", out)]
    assert len(shares) == 5
    assert shares[2] == pytest.approx(sum(shares[:2]) / 2, abs=0.01)
    code, out, _ = run("lora", "--images", 640, "--epochs", 1, "--rank", 1)
    assert code == 0
    assert out.startswith("LoRA: 1,557 numbers trained")
    one, _, merged = re.findall(r"accuracy (\d+\.\d\d)%", out)
    assert one == merged
    assert run("lora", "--epochs", 0)[2].endswith("epochs: expected a positive integer, got 0\n")


def test_a_network_in_integers(run):
    code, out, _ = run("quantize", "--images", 320, "--epochs", 1)
    assert code == 0
    sizes = [float(size) for size in re.findall(r"([\d.]+) kB$", out, re.M)]
    assert sizes == [246.8, 70.1, 63.4, 32.6, 63.4]
    assert run("quantize", "--epochs", 0)[2].endswith("expected a positive integer, got 0\n")


ON_FOUR_DEVICES = """
import runpy
import jax

jax.config.update("jax_num_cpu_devices", 4)

import numpy as np
from flax import nnx
from jaxnets import MLP, fit, losses, optimizers
from jaxnets.data import Dataset, Split
from jaxnets.training import supervised

draw = np.random.default_rng(0)
split = Split(draw.normal(size=(40, 5)).astype(np.float32), draw.integers(3, size=40))
objective, sgd = supervised(losses.cross_entropy), optimizers.sgd(0.1, momentum=0.9)
how = {"epochs": 2, "batch_size": 16, "seed": 3}
by_hand = runpy.run_path("examples/pmap.py")["train"]
model, step_losses = by_hand(MLP((5, 4, 3), rngs=nnx.Rngs(0)), split, objective, sgd, **how)
run = fit(
    MLP((5, 4, 3), rngs=nnx.Rngs(0)), split, loss=losses.cross_entropy, optimizer=sgd,
    devices=4, drop_last=True, progress="none", **how
)
assert len(step_losses) == 4
np.testing.assert_allclose(step_losses, run.step_losses, rtol=1e-5)
for ours, theirs in zip(jax.tree.leaves(nnx.state(model)), jax.tree.leaves(nnx.state(run.model))):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
print(run.device)
"""


def test_a_gpt_writes(run, tmp_path):
    (tmp_path / "input.txt").write_text("abcdefgh" * 200)
    code, out, _ = run("gpt", "--data-dir", tmp_path, "--width", 8, "--stride", 90, "--prompt", "a")
    assert code == 0
    assert re.search(r"^test loss: \d\.\d{4} nats a character, accuracy \d+\.\d\d%$", out, re.M)
    assert len(out.splitlines()[-1]) == 401
    assert run("gpt", "--data-dir", tmp_path, "--stride", 0)[0] == 2


def test_dates_are_translated_and_drawn(run, tmp_path):
    picture = tmp_path / "attention.png"
    words = ["--dates", 100, "--hidden", 8, "--epochs", 1, "--picture", picture]
    code, out, _ = run("translate_dates", *words)
    assert code == 0
    assert re.search(r"^test accuracy: 0\.00% \(0/10\)$", out, re.M)
    assert "The third of May 1998: " in out
    assert picture.stat().st_size > 1000


def test_pmap_by_hand_trains_as_fit_does_on_the_same_devices():
    done = subprocess.run(
        [sys.executable, "-c", ON_FOUR_DEVICES],
        cwd=EXAMPLES.parent, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4 × cpu\n"


def test_mistakes_are_drawn_with_what_speaks_for_them(run, tmp_path):
    code, out, _ = run(
        "explain", "--examples", 320, "--epochs", 1, "--mistakes", 1, "--out", tmp_path
    )
    assert code == 0
    assert re.search(r"^test image \d+: label (\d), predicted (?!\1)\d; the sum is off", out, re.M)
    assert [path.name for path in tmp_path.iterdir()] == ["mistake-1.png"]


def test_tones_are_recognized_and_recordings_looked_for(run, tmp_path):
    code, out, _ = run("spoken_digits", "--epochs", 2, "--augment")
    assert code in (0, None)
    assert train_losses(out)[-1] < train_losses(out)[0]
    assert re.search(r"^the first test recording is 0, recognized as \d$", out, re.M)
    _, _, err = run("spoken_digits", "--data", tmp_path)
    assert "expected the WAV files {digit}_{speaker}_{index}.wav" in err


def test_items_are_recommended_by_ratings(run):
    code, out, _ = run("recommend", "--epochs", 2, "--user", 7, "--top", 4)
    assert code in (0, None)
    mean, biases, factors = map(float, re.findall(r"^RMSE .* (\d\.\d{3})$", out, re.M))
    assert factors < mean
    assert biases < mean
    found = re.findall(r"^  item (\d+) +(\d\.\d\d)$", out, re.M)
    assert len(found) == 4
    assert sorted((score for _, score in found), reverse=True) == [score for _, score in found]
    code, _, err = run("recommend", "--user", "nobody")
    assert code == 2
    assert "user: expected one of the 1,000 users of the data, such as 1, 2, 3, got 'nobody'" in err


def test_a_detector_of_scattered_digits_is_measured_and_drawn(run, tmp_path):
    drawn = tmp_path / "digits.png"
    code, out, _ = run("detection", "--images", 128, "--epochs", 2, "--width", 4, "--out", drawn)
    assert code in (0, None)
    assert train_losses(out)[-1] < train_losses(out)[0]
    assert len(re.findall(r"^ +\d  AP 0\.\d{3}$", out, re.M)) == 10
    assert re.search(r"^mAP@\[.50:.95\] 0\.\d{3}, mAP@.50 0\.\d{3}$", out, re.M)
    assert drawn.stat().st_size > 1000
    assert run("detection", "--epochs", 0)[2].endswith(
        "epochs: expected a positive integer, got 0\n"
    )
