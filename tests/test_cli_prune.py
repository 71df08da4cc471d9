"""The command that prunes a run."""

import json
import re
import shutil

import numpy as np
import pytest

from jaxnets import pruning, runs
from jaxnets.cli import main
from tests.data_files import write_images

pytestmark = pytest.mark.slow

TABLE = "length,width,kind\n" + "".join(
    f"{k % 7},{k * k % 11},{('apple', 'plum')[k % 2]}\n" for k in range(40)
)


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    code = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table of classes, and a run on it."""
    top = tmp_path_factory.mktemp("prune")
    (top / "fruit.csv").write_text(TABLE)
    words = ["train", "linear-regression", "--data", str(top / "fruit.csv")]
    words += ["--loss", "cross-entropy", "--model", "mlp", "--model-option"]
    words += ["features=(None,8,None)", "--epochs", "1", "--quiet", "--out", str(top / "run")]
    assert main(words) == 0
    return top


def test_zeros_stay_while_the_run_is_trained_on_and_are_pruned_once_more(capsys, folder):
    words = ["--amount", 0.5, "--epochs", 2, "--json"]
    code, out, _ = run(capsys, "prune", folder / "run", *words, "--out", folder / "half")
    assert code == 0
    found = json.loads(out)
    assert found["after"]["nonzero"] == (16 + 10) / 42
    assert found["after"]["parameters"] == found["before"]["parameters"] == 42
    assert found["before"]["bytes"] == 4 * 42
    half = runs.read(folder / "half").model
    assert pruning.sparsity(half).nonzero == 26
    words = ["--amount", 0.5, "--method", "l1", "--epochs", 1, "--quiet"]
    code, out, _ = run(capsys, "prune", folder / "half", *words, "--out", folder / "quarter")
    assert code == 0
    assert "test accuracy" in out
    assert "seconds for" in out
    quarter = runs.read(folder / "quarter").model
    assert pruning.sparsity(quarter).nonzero == 18
    for name in ("fc1", "fc2"):
        some, other = (getattr(model, name).kernel[...] for model in (half, quarter))
        assert np.all((np.asarray(some) != 0) | (np.asarray(other) == 0))
    assert [change.name for change in runs.read(folder / "quarter").changes] == ["pruning"] * 2


@pytest.mark.parametrize(
    ("method", "features", "zeros"),
    [("channels", (2, 4, 2), 0), ("ln-structured", (2, 8, 2), 8), ("random", (2, 8, 2), 16)],
)
def test_units_and_random_weights(capsys, folder, method, features, zeros):
    words = ["--amount", "0.5", "--method", method, "--out", folder / method]
    code, out, _ = run(capsys, "prune", folder / "run", *words)
    assert code == 0
    assert "use it with: jaxnets predict" in out
    model = runs.read(folder / method).model
    assert model.features == features
    found = pruning.sparsity(model)
    assert found.total - found.nonzero == zeros
    assert run(capsys, "predict", folder / method, "--row", "length=3,width=1")[0] == 0


def test_bad_words_are_refused_in_a_sentence_and_nothing_is_written(capsys, folder, tmp_path):
    empty = tmp_path / "empty"
    shutil.copytree(folder / "run", empty)
    shutil.rmtree(empty / "weights")
    half = ["--amount", "0.5"]
    for words, message in (
        ([folder / "run", "--amount", "1.2"], "amount: expected a fraction in [0, 1], or a count"),
        ([folder / "run", "--amount", "99"], "amount: expected a count of at most the 32 rem"),
        ([folder / "run", "--amount", "few"], "expected a fraction or a count, got 'few'"),
        ([folder / "run", *half, "--layers", "conv*"], "layers: expected names of layers with wei"),
        ([empty, *half], "directory: expected a folder written by save_weights"),
        ([tmp_path, *half], "run: expected a folder with a run.json in it"),
    ):
        code, out, error = run(capsys, "prune", *words, "--out", tmp_path / "new")
        assert (code, out) == (2, "")
        assert message in error
        assert error.count("\n") == 1
        assert not (tmp_path / "new").exists()
    code, _, error = run(capsys, "prune", folder / "run", *half, "--out", empty)
    assert code == 2
    assert "out: expected a new or empty folder" in error


def test_a_run_from_python_is_refused_as_it_does_not_name_its_data(capsys, folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    del record["settings"]
    record["model"] = {
        "class": "jaxnets.models.mlp.MLP",
        "options": {"features": [2, 8, 2]},
        "dtype": "float32",
    }
    path.write_text(json.dumps({**record, "transform": None}))
    words = ["prune", tmp_path / "run", "--amount", "0.5", "--out", tmp_path / "new"]
    code, _, error = run(capsys, *words)
    assert code == 2
    assert "run: expected a run of jaxnets train" in error


def test_a_run_that_minimizes_another_loss_is_pruned_and_trained(capsys, tmp_path):
    write_images(tmp_path / "pets", {"cat": 6, "dog": 6}, size=(8, 8))
    words = ["--data", "pets", "--data-dir", tmp_path, "--epochs", 1, "--out", tmp_path / "run"]
    code, out, _ = run(capsys, "train", "mnist-autoencoder", *words, "--quiet")
    assert code == 0
    loss = float(re.search(r"test loss: (\S+)", out)[1])
    words = ["--amount", 0.5, "--epochs", 1, "--json", "--out", tmp_path / "half"]
    code, out, _ = run(capsys, "prune", tmp_path / "run", *words)
    assert code == 0
    found = json.loads(out)
    assert found["before"]["test_loss"] == pytest.approx(loss, rel=1e-3)
    assert found["after"]["test_loss"] != found["before"]["test_loss"]
    assert 0.4 < found["after"]["nonzero"] < 0.6
