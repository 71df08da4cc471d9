"""The same steps in PyTorch and JAX: correct pairs agree, and injected faults are found."""

import dataclasses
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import compare, fit, layers, losses, optimizers
from jaxnets.arrays import InputError
from jaxnets.compare import report
from jaxnets.compare.step_findings import FirstStep, findings
from jaxnets.data import Dataset, Draws, Split
from jaxnets.models import MLP
from jaxnets.training import in_turn, minimize

DRAW = np.random.default_rng(0)
PAIRED = {
    "real": DRAW.normal(1, 0.5, (40, 3)).astype(np.float32),
    "noise": DRAW.normal(size=(40, 2)).astype(np.float32),
}
DATA = Dataset("points", Split(PAIRED))


class GAN(nnx.Module):
    def __init__(self, rngs):
        self.generator = MLP((2, 4, 3), rngs=rngs)
        self.critic = MLP((3, 4, 1), rngs=rngs)


class TorchGAN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = compare.twin(MLP((2, 4, 3), rngs=nnx.Rngs(0)))
        self.critic = compare.twin(MLP((3, 4, 1), rngs=nnx.Rngs(0)))


def critic_loss(model, batch, key):
    fake = jax.lax.stop_gradient(model.generator(batch["inputs"]["noise"]))
    real = jax.nn.softplus(-model.critic(batch["inputs"]["real"])).mean()
    return real + jax.nn.softplus(model.critic(fake)).mean()


def generator_loss(model, batch, key):
    return jax.nn.softplus(-model.critic(model.generator(batch["inputs"]["noise"]))).mean()


STEP = in_turn(
    minimize(critic_loss, optimizers.adam(1e-2), wrt="critic"),
    minimize(generator_loss, optimizers.adam(1e-2), wrt="generator"),
)


def two_adams(model, critic_rate=1e-2):
    return {
        "critic": torch.optim.Adam(model.critic.parameters(), critic_rate),
        "generator": torch.optim.Adam(model.generator.parameters(), 1e-2),
    }


def torch_step(model, optimizers, batch, *, detach=True, generator=True):
    softplus = torch.nn.functional.softplus
    for optimizer in optimizers.values():
        optimizer.zero_grad()
    fake = model.generator(batch["inputs"]["noise"])
    critic = softplus(-model.critic(batch["inputs"]["real"])).mean()
    critic = critic + softplus(model.critic(fake.detach() if detach else fake)).mean()
    critic.backward(retain_graph=True)
    optimizers["critic"].step()
    if not generator:
        return {"loss": critic, "critic_loss": critic}
    second = softplus(-model.critic(fake)).mean()
    second.backward()
    optimizers["generator"].step()
    total = critic.item() + second.item()
    return {"loss": total, "critic_loss": critic, "generator_loss": second}


def run(jax_model=GAN, torch_model=TorchGAN, data=DATA, **options):
    given = {"step": STEP, "torch_step": torch_step, "torch_optimizers": two_adams}
    given |= {"epochs": 2, "batch_size": 16, "seeds": [3], "progress": "none"}
    return compare.run(jax_model, torch_model, data, **given | options)


@pytest.fixture(scope="module")
def honest():
    return run(seeds=[3, 5])


@pytest.mark.slow
def test_a_gan_is_the_same_in_both_step_by_step(honest):
    assert honest.findings == ()
    assert honest.metrics == ("loss", "critic_loss", "generator_loss")
    for ours, theirs in zip(honest.ours, honest.theirs, strict=True):
        assert (ours.seed, ours.framework, theirs.framework) == (theirs.seed, "jaxnets", "torch")
        for name in honest.metrics:
            assert ours.steps[name].shape == (6,)
            np.testing.assert_allclose(ours.steps[name], theirs.steps[name], rtol=1e-4)
            weighted = np.average(ours.steps[name].reshape(2, 3), axis=1, weights=[16, 16, 8])
            np.testing.assert_allclose(ours.epochs[name], weighted, rtol=1e-6)
    mean = honest.equivalence("critic_loss")
    assert mean.equivalent
    assert mean.interval[0] <= mean.difference <= mean.interval[1]


@pytest.mark.slow
def test_what_is_compared_is_what_fit_trains(honest):
    trained = fit(GAN(nnx.Rngs(3)), DATA, STEP, epochs=2, batch_size=16, seed=3, progress="none")
    np.testing.assert_allclose(trained.step_losses, honest.ours[0].steps["loss"], rtol=1e-5)
    for name in honest.metrics:
        means = [record.train[name] for record in trained.history]
        np.testing.assert_allclose(means, honest.ours[0].epochs[name], rtol=1e-5)


def test_a_comparison_says_of_each_metric_how_it_ends(honest):
    first, *lines = repr(honest).splitlines()
    assert first == "StepComparison of jaxnets and torch by GAN, 2 seeds:"
    assert [line.split(":")[0].strip() for line in lines] == list(honest.metrics)
    number = r"\d\.\d+"
    assert re.fullmatch(
        rf"  loss: {number} and {number} in the last epoch; "
        r"differs by at most \d\.\de-\d\d, which rounding explains",
        lines[0],
    )
    assert repr(honest.ours[0]).startswith("Course: jaxnets, seed 3, last epoch loss ")


def test_the_control_shows_what_rounding_does(honest):
    apart = np.abs(honest.control.steps["loss"] - honest.theirs[0].steps["loss"])
    assert 0 < apart.max() < 1e-4
    assert (honest.explained("loss") >= 1e-4).all()
    assert not np.isfinite(dataclasses.replace(honest, control=None).explained("loss")[3:]).any()


def test_another_learning_rate_is_found_by_the_metrics_that_follow_it():
    (found,) = run(torch_optimizers=functools.partial(two_adams, critic_rate=0.02)).findings
    assert (found.statistic, found.step, found.layer) == ("generator_loss", 0, "critic.fc1")
    assert "to diverge is generator_loss, together with loss, at step 0 (seed 3)" in found.text
    assert "Other metrics diverge later: critic_loss at step 1." in found.text
    assert "The first updates of 4 of 8 weights differ, most in critic.fc" in found.text
    assert "PyTorch's update is 2 times that of jaxnets. The learning rate" in found.text


def test_a_forgotten_detach_is_found_by_what_it_does_to_the_generator():
    comparison = run(torch_step=functools.partial(torch_step, detach=False))
    (found,) = comparison.findings
    assert (found.step, found.layer.split(".")[0]) == (1, "generator")
    assert re.search("4 of 8 weights differ, most in generator.*directions", found.text)
    assert comparison.divergence("critic_loss").step == 1
    assert comparison.divergence("critic_loss").relative_difference > 1e-3
    assert repr(comparison).splitlines()[-1] == f"  {found.text}"


class VAE(nnx.Module):
    def __init__(self, rngs):
        self.encoder = layers.Linear(3, 4, rngs=rngs)
        self.dropout = layers.Dropout(0.5, rngs=rngs)
        self.decoder = layers.Linear(2, 3, rngs=rngs)


class TorchVAE(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = torch.nn.Linear(3, 4), torch.nn.Linear(2, 3)
        self.dropout = torch.nn.Dropout(0.5)


def elbo(model, batch, key):
    x = batch["inputs"]["real"]
    mean, log_variance = jnp.split(model.dropout(model.encoder(x)), 2, axis=-1)
    code = mean + jnp.exp(log_variance / 2) * batch["inputs"]["noise"]
    reconstruction = losses.mse_loss(model.decoder(code), x)
    kl = (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum(-1).mean() / 2
    return reconstruction + 0.1 * kl, {"reconstruction": reconstruction, "kl": kl}


def torch_elbo(model, optimizer, batch, noise=None):
    x = batch["inputs"]["real"]
    mean, log_variance = model.dropout(model.encoder(x)).chunk(2, dim=-1)
    noise = batch["inputs"]["noise"] if noise is None else noise(*mean.shape)
    code = mean + torch.exp(log_variance / 2) * noise
    reconstruction = torch.nn.functional.mse_loss(model.decoder(code), x)
    kl = (log_variance.exp() + mean**2 - 1 - log_variance).sum(-1).mean() / 2
    loss = reconstruction + 0.1 * kl
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {"loss": loss, "reconstruction": reconstruction, "kl": kl}


VAE_STEP = minimize(elbo, optimizers.sgd(0.1, momentum=0.9))


def run_vae(**options):
    def sgd(model, momentum=0.9):
        return torch.optim.SGD(model.parameters(), 0.1, momentum=momentum)

    given = {"step": VAE_STEP, "torch_step": torch_elbo, "torch_optimizers": sgd}
    if momentum := options.pop("momentum", None):
        given["torch_optimizers"] = functools.partial(sgd, momentum=momentum)
    return run(VAE, TorchVAE, **given | options)


def test_an_autoencoder_with_noise_from_the_data_is_the_same_without_dropout():
    found = run_vae(weights_from="torch", seeds=[3, 4])
    assert found.findings == ()
    assert (found.weights_from, found.metrics) == ("torch", ("loss", "kl", "reconstruction"))
    assert found.settings["dropout"] == "off on both sides"
    assert found.theirs[0].steps["kl"][0] != found.theirs[1].steps["kl"][0]


def test_what_is_carried_from_step_to_step_is_found_where_it_shows():
    (found,) = run_vae(momentum=0.5).findings
    assert (found.step, found.layer) == (2, None)
    assert "first updates of the weights agree" in found.text


def test_a_step_that_draws_its_own_noise_is_found():
    (found,) = run_vae(torch_step=functools.partial(torch_elbo, noise=torch.randn)).findings
    assert found.step == 0
    assert "The step draws random numbers in PyTorch: make them a column" in found.text

    def drawn(model, batch, key):
        noise = jax.random.normal(key, batch["inputs"]["noise"].shape)
        return elbo(model, {"inputs": {**batch["inputs"], "noise": noise}}, key)

    ours = minimize(drawn, optimizers.sgd(0.1, momentum=0.9))
    (found,) = run_vae(step=ours, control=False, epochs=1).findings
    assert "The step draws random numbers in jaxnets: make them a column" in found.text


def test_metrics_that_not_every_step_has_are_compared_where_they_are():
    def every_second(model, optimizers, batch):
        return torch_step(model, optimizers, batch, generator=next(turns) % 2 == 1)

    turns = itertools.count()
    step = in_turn(*STEP.steps, every=(1, 2))
    found = run(step=step, torch_step=every_second, epochs=1, batch_size=10, control=False)
    assert found.findings == ()
    for course in (*found.ours, *found.theirs):
        assert np.isnan(course.steps["generator_loss"]).tolist() == [True, False, True, False]
        measured = course.steps["generator_loss"][1::2]
        np.testing.assert_allclose(course.epochs["generator_loss"], measured.mean(), rtol=1e-6)


class Normed(nnx.Module):
    def __init__(self, rngs):
        self.bn = layers.BatchNorm1d(3, rngs=rngs)


class TorchNormed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = torch.nn.BatchNorm1d(3, momentum=0.01)


def squares(model, batch, key):
    pixels, labels = (batch[name].astype(jnp.float32) for name in ("inputs", "labels"))
    return ((model.bn(pixels) - labels[:, None]) ** 2).mean()


def torch_squares(model, optimizers, batch):
    (optimizer,) = optimizers
    assert batch["labels"].dtype == torch.int64
    loss = ((model.bn(batch["inputs"]) - batch["labels"][:, None]) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {"loss": loss}


def test_averages_that_no_metric_shows_are_found_by_the_weights():
    pixels = DRAW.integers(0, 9, (32, 3), np.uint8)
    found = run(
        Normed, TorchNormed, Dataset("pixels", Split(pixels, pixels[:, 0])),
        step=minimize(squares, optimizers.sgd(0.1)),
        torch_step=torch_squares,
        torch_optimizers=lambda model: (torch.optim.SGD(model.parameters(), 0.1),),
        torch_inputs=lambda inputs: inputs.astype(np.float32),
    ).findings  # fmt: skip
    assert [one.statistic for one in found] == ["weights after the first step"]
    assert found[0].layer == "bn"
    assert re.search("2 of 5 weights .*bn.running_.*0.1 times that of", found[0].text)


def test_a_loss_that_is_not_finite_is_found():
    def sunk(model, optimizers, batch):
        return {**torch_step(model, optimizers, batch), "loss": np.nan}

    found = run(torch_step=sunk, epochs=1, control=False).findings
    assert found[0].text == "The loss of PyTorch is not finite from step 0 on, seed 3."
    assert (found[1].statistic, found[1].step) == ("loss", 0)


def test_one_step_that_differs_by_chance_is_no_divergence(honest):
    steps = {**honest.ours[0].steps, "loss": honest.ours[0].steps["loss"].copy()}
    steps["loss"][2] *= 1.1
    changed = dataclasses.replace(honest.ours[0], steps=steps)
    assert dataclasses.replace(honest, ours=(changed, honest.ours[1])).divergence("loss") is None
    steps["loss"][3:5] *= 1.1
    divergence = dataclasses.replace(honest, ours=(changed, honest.ours[1])).divergence("loss")
    assert (divergence.step, divergence.seed) == (2, 3)
    assert divergence.relative_difference == pytest.approx(0.1, rel=0.1)


def test_a_difference_of_means_is_found(honest):
    def raised(course, by):
        epochs = {**course.epochs, "loss": course.epochs["loss"] * by}
        return dataclasses.replace(course, epochs=epochs)

    ours = raised(honest.ours[0], 1.1), raised(honest.ours[1], 1.101)
    first = FirstStep(ours={}, theirs={}, control=None)
    (found,) = findings(dataclasses.replace(honest, ours=ours), first)
    assert (found.statistic, found.step) == ("loss", None)
    assert re.search("mean loss of the last epoch differs by .* over 2 seeds .95 %", found.text)


def test_updates_are_judged_by_what_rounding_does_to_them():
    theirs = {"fc.weight": np.ones(20), "fc.bias": np.ones(2)}
    noisy = {"fc.weight": np.ones(20), "fc.bias": np.array([1.0, -1.0])}
    step = FirstStep(ours=noisy, theirs=theirs, control=theirs)
    assert step.worst() == ("fc.bias", 1)
    assert dataclasses.replace(step, control=noisy).worst() is None  # rounding decides its sign
    assert dataclasses.replace(step, control=None).worst() is None
    flipped = {**theirs, "fc.weight": np.array([-1.0, 1.0] + [1.0] * 18)}
    assert FirstStep(ours=flipped, theirs=theirs, control=theirs).worst() is None
    unmoved = FirstStep(
        ours={"fc.weight": np.zeros(3)},
        theirs={"fc.weight": np.ones(3)},
        control={"fc.weight": np.ones(3)},
    )
    assert unmoved.in_words().endswith("most in fc.weight: jaxnets does not change it.")


@pytest.mark.slow
def test_a_report_holds_everything_and_is_read_again(tmp_path, honest):
    worse = run(torch_optimizers=functools.partial(two_adams, critic_rate=0.02), epochs=1)
    for number, comparison in enumerate((honest, worse)):
        folder = tmp_path / str(number)
        report.write(comparison, folder)
        assert repr(report.read(folder / "report.json")) == repr(comparison)
        page = (folder / "report.md").read_text()
        assert ("The steps agree." in page) == (comparison is honest)
        assert "| critic\\_loss | " in page
        names = {f"metric-{name}.png" for name in comparison.metrics}
        pages = {"report.md", "report.html", "report.json"}
        assert {path.name for path in folder.iterdir()} == names | pages
    text = (tmp_path / "1" / "report.md").read_text()
    assert "Finding: generator\\_loss, step 0, layer critic.fc1." in text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"step": None}, "step: expected a step, as torch_step or torch_optimizers is given"),
        ({"step": critic_loss}, "step: expected a step, such as jaxnets.training.minimize makes"),
        ({"jax_model": None}, "jax_model: expected a network, as step or torch_inputs"),
        ({"torch_step": None}, r"torch_step: expected a function of \(model, optimizers, batch\)"),
        ({"torch_optimizers": 3}, "torch_optimizers: expected a function of a model that makes"),
        (
            {"torch_optimizers": lambda model: {"critic": 3}},
            r"torch_optimizers: .* got a function that makes {'critic': 3}",
        ),
        ({"torch_optimizers": lambda model: []}, r"torch_optimizers: .* that makes \[\]"),
        ({"torch_optimizers": lambda model: model.x}, "torch_optimizers: .*AttributeError"),
        ({"loss": losses.mse_loss}, "loss: expected the default with step"),
        ({"paired": False}, "paired: expected the default with step, got False"),
        ({"margin": 0.1}, "margin: expected the default with step, got 0.1"),
        ({"directory": "kept"}, "directory: expected the default with step, got 'kept'"),
        ({"data": Dataset("none", Draws(3))}, "data.train: expected a Split in memory, so that"),
        ({"torch_step": lambda *given: 3}, "torch_step: .*'loss' among them, got one that ret"),
        ({"torch_step": lambda *given: {"x": 3}}, "torch_step: .* that returns {'x': 3}"),
        (
            {"torch_step": lambda *given: {"loss": 1, "critic": 2}},
            "torch_step: expected .* of step, critic_loss, generator_loss, loss, got critic",
        ),
        (
            {"torch_step": lambda *given: {"loss": torch.ones(2)}},
            "torch_step: .* got one that returns loss=",
        ),
        ({"torch_inputs": lambda inputs: inputs + 1}, "torch_inputs: expected .*TypeError"),
        ({"torch_model": torch.nn.Linear(2, 2)}, "torch_model: expected the weights of jax_model"),
        ({"weights_from": "keras"}, "weights_from: expected one of jaxnets, torch"),
        ({"seeds": []}, "seeds: expected a number of seeds"),
        ({"epochs": 0}, "epochs: expected a positive integer"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_cannot_be_compared_is_said_in_a_sentence(wrong, message):
    with pytest.raises(InputError, match=message):
        run(**{"control": False, "epochs": 1} | wrong)
