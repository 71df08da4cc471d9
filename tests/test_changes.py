import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import MLP, changes, fit, losses, optimizers, runs
from jaxnets.changes import Change
from jaxnets.data import Dataset, Split
from jaxnets.layers import Linear
from jaxnets.training import evaluate


def narrowed(model, settings):
    """Reduces the outputs of the first layer and the inputs of the second."""
    keep = settings["keep"]
    model.fc1 = Linear(model.fc1.in_features, keep, rngs=nnx.Rngs(0))
    model.fc2 = Linear(keep, model.fc2.out_features, rngs=nnx.Rngs(0))
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rng = np.random.default_rng(0)
    split = Split(rng.normal(size=(12, 3)).astype(np.float32), np.arange(12, dtype=np.int32) % 2)
    network = MLP((3, 4, 2), rngs=nnx.Rngs(0))
    step = {"loss": losses.cross_entropy, "optimizer": optimizers.sgd(0.1)}
    trained = fit(network, Dataset("points", split, split), epochs=1, **step)
    place = tmp_path_factory.mktemp("runs") / "run"
    trained.save(place)
    return place, trained.model, split


@pytest.mark.slow
def test_a_changed_run_has_its_structure_weights_and_accuracy(run, tmp_path, monkeypatch):
    folder, model, split = run
    monkeypatch.setitem(changes.CHANGES, "narrow", narrowed)
    change = Change("narrow", {"keep": 2})
    smaller = narrowed(nnx.clone(model), change.settings)
    test = evaluate(smaller, split, loss=losses.cross_entropy)
    runs.write_changed(tmp_path / "smaller", folder, smaller, change, test)
    saved = runs.read(tmp_path / "smaller")
    assert saved.changes == (change,)
    assert saved.model.fc1.kernel.shape == (3, 2)
    assert jnp.array_equal(saved.predict(split.inputs), smaller(split.inputs))
    record = (tmp_path / "smaller" / "run.json").read_text()
    assert f'"test_accuracy": {test.accuracy}' in record
    assert '"parameters": 14' in record


def test_a_change_of_values_needs_no_structure(run, tmp_path):
    folder, model, _ = run
    runs.write_changed(tmp_path / "same", folder, model, Change("averaged", {}))
    saved = runs.read(tmp_path / "same")
    assert saved.changes == (Change("averaged", {}),)
    record = json.loads((tmp_path / "same" / "run.json").read_text())
    assert not {"test_loss", "test_accuracy", "test_correct"} & set(record)
    assert saved.classifies


def test_a_folder_without_a_run_is_refused_and_nothing_is_written(tmp_path):
    model = MLP((3, 2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"run: expected a folder with a run\.json in it"):
        runs.write_changed(tmp_path / "new", tmp_path, model, Change("averaged", {}))
    assert not (tmp_path / "new").exists()


def test_an_unknown_change_of_structure_is_refused(monkeypatch):
    monkeypatch.setattr(changes, "CHANGES", {"narrow": narrowed})
    with pytest.raises(ValueError, match="changes: expected one of narrow, got folded"):
        Change.of_record({"name": "folded", "settings": {"times": 2}})
