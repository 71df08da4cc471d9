"""Ensembles compared with the same formulas in PyTorch, and their error messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import MLP, evaluate, fit, interop, layers, losses, optimizers, predict, predictor
from jaxnets.arrays import InputError
from jaxnets.data import Dataset, Normalize, Split
from jaxnets.ensembles import Ensemble, ensemble
from tests.parity.oracle import assert_equal

INPUTS = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
SPLIT = Split(INPUTS, (INPUTS[:, 0] > 0).astype(np.int32))


def networks(**options):
    return [MLP((4, 5, 3), rngs=nnx.Rngs(seed), **options) for seed in range(3)]


def torch_outputs(models):
    """The outputs of the same layers in PyTorch, stacked."""
    found = []
    for model in models:
        weights = interop.to_torch(model)
        hidden = torch.tensor(INPUTS) @ weights["fc1.weight"].T + weights["fc1.bias"]
        found.append(hidden.relu() @ weights["fc2.weight"].T + weights["fc2.bias"])
    return torch.stack(found)


@pytest.mark.parametrize("how", ["probabilities", "outputs", "votes"])
def test_an_ensemble_is_its_formula(how):
    models = networks()
    logits = torch_outputs(models)
    votes = torch.nn.functional.one_hot(logits.argmax(-1), 3).float()
    expected = {
        "probabilities": logits.softmax(-1).mean(0).log(),
        "outputs": logits.mean(0),
        "votes": votes.mean(0),
    }[how]
    together = Ensemble(models, how)
    assert_equal(predict(together, INPUTS), expected, how)
    assert_equal(predictor(together)(INPUTS), expected, how)
    labels = expected.argmax(-1).numpy().astype(np.int32)
    tested = evaluate(together, Split(INPUTS, labels), loss=losses.cross_entropy)
    assert tested.accuracy == 1
    assert tested.loss == pytest.approx(
        float(torch.nn.functional.cross_entropy(expected, torch.tensor(labels).long())), rel=1e-5
    )


def test_networks_that_end_in_a_softmax_give_probabilities_already():
    logits, soft = networks(), networks(output="softmax")
    one, other = (predict(Ensemble(models), INPUTS) for models in (logits, soft))
    np.testing.assert_allclose(other, one, rtol=1e-5)
    assert Ensemble(soft, "outputs").output == "softmax"


@pytest.mark.slow
def test_runs_bring_their_transforms_and_seeds_those_that_did_not_diverge():
    with jax.enable_x64(False):
        train = {"loss": losses.cross_entropy, "optimizer": optimizers.sgd(0.1), "epochs": 1}
        data, scaled = Dataset("drawn", SPLIT, SPLIT), Normalize(0.5, 2.0)
        options = {**train, "progress": "none", "transform": scaled, "batch_size": 3}
        run = fit(networks()[0], data, **options)
        runs = fit(
            lambda rngs: MLP((4, 5, 5, 3), rngs=rngs),
            data,
            seeds=2,
            learning_rates=[0.1, 1e38],
            **options,
        )
        assert runs.diverged
        assert len(ensemble(runs).models) == 4 - len(runs.diverged)
        mixed = ensemble([run, *runs.members[:1], networks()[1]], "outputs")
        parts = [predict(m.model, INPUTS, transform=scaled) for m in (run, runs.members[0])]
        parts.append(predict(networks()[1], INPUTS))
        np.testing.assert_allclose(predict(mixed, INPUTS), np.mean(parts, 0), rtol=1e-5)


def test_several_outputs_have_means_each():
    class Two(nnx.Module):
        def __init__(self, seed):
            self.fc = layers.Linear(4, 2, rngs=nnx.Rngs(seed))

        def __call__(self, a, b):
            return {"sum": self.fc(a + b), "product": self.fc(a * b)}

    models = [Two(0), Two(1)]
    found = Ensemble(models, "outputs")(a=INPUTS, b=INPUTS)
    for name in found:
        each = [model(INPUTS, INPUTS)[name] for model in models]
        np.testing.assert_allclose(found[name], np.mean(each, 0), rtol=1e-6)


def called(models, how="probabilities"):
    return Ensemble(models, how)(jnp.asarray(INPUTS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Ensemble([]), r"models: expected a list of networks, got \[\]"),
        (lambda: Ensemble([3]), "model: expected an nnx.Module, got a int"),
        (lambda: Ensemble(networks(), "median"), "how: expected one of probabilities, outputs, v"),
        (lambda: Ensemble(networks(), transforms=[None]), "transforms: expected None, or one for"),
        (
            lambda: Ensemble(networks(), transforms=[None, None, 3]),
            "transform: expected callables, got int",
        ),
        (lambda: ensemble(networks()[0]), "members: expected a list of runs or networks, got"),
        (
            lambda: called([*networks(), MLP((4, 2), rngs=nnx.Rngs(0))]),
            r"models\[3\]: expected outputs \(9, 3\) like models\[0\], got \(9, 2\)",
        ),
        (
            lambda: called([MLP((4, 1), rngs=nnx.Rngs(0))], "votes"),
            r"models: expected networks with outputs \[batch, classes\] for how='votes', got float",
        ),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
