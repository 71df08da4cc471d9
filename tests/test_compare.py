"""The same training in PyTorch and JAX: correct pairs agree, and injected faults are found."""

import dataclasses
import functools
import re
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import compare, layers, losses, optimizers, recipes
from jaxnets.arrays import InputError
from jaxnets.compare import engine, torch_side
from jaxnets.compare.engine import Terms, compared
from jaxnets.compare.findings import findings, of_one_alone
from jaxnets.compare.from_recipe import from_recipe
from jaxnets.compare.peers.networks import sizes_of
from jaxnets.compare.records import Pair
from jaxnets.data import Compose, Dataset, Normalize, RandomHorizontalFlip, Split, ToFloat
from jaxnets.models import MLP, LeNet, RecurrentClassifier
from jaxnets.training import Interrupted

CLASSES = 3
NORMALIZE = Compose(ToFloat(), Normalize(0.3, 0.2))
SGD = optimizers.sgd(0.1, momentum=0.9)


def examples(count, shape, seed):
    """Images in which the brighter row is the class."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(CLASSES, size=count)
    inputs = draw.integers(0, 120, size=(count, *shape), dtype=np.uint8)
    inputs[np.arange(count), labels] += 100
    return Split(inputs, labels)


def data_of(shape):
    splits = examples(48, shape, 0), examples(40, shape, 1)
    return Dataset("rows", *splits, class_names=("a", "b", "c"))


DATA = data_of((4, 4, 1))


def build(rngs):
    return MLP((16, 8, CLASSES), rngs=rngs)


def sgd(parameters, **options):
    return torch.optim.SGD(parameters, **{"lr": 0.1, "momentum": 0.9, **options})


def run(jax_model=build, torch_model=None, data=DATA, **options):
    given = {"torch_optimizer": sgd, "optimizer": SGD, "epochs": 2, "batch_size": 16}
    given |= {"seeds": [3], "loss": losses.cross_entropy, "transform": NORMALIZE}
    given |= {"control": False, "timing": False, "progress": "none"}
    torch_model = torch_model or (lambda: compare.twin(jax_model(nnx.Rngs(0))))
    return compare.run(jax_model, torch_model, data, **given | options)


@pytest.fixture(scope="module")
def honest():
    return run(seeds=[3, 5], control=True, timing=True, optimizer=None)


@pytest.mark.slow
def test_pairs_begin_alike_and_end_alike(honest):
    assert honest.findings == ()
    assert [pair.seed for pair in honest.pairs] == [3, 5]
    for pair in honest.pairs:
        assert pair.ours.step_losses.shape == pair.theirs.step_losses.shape == (6,)
        np.testing.assert_allclose(pair.ours.step_losses, pair.theirs.step_losses, rtol=1e-4)
        np.testing.assert_allclose(pair.ours.train_loss, pair.theirs.train_loss, rtol=1e-4)
        np.testing.assert_allclose(pair.ours.test_loss, pair.theirs.test_loss, rtol=1e-4)
        assert pair.ours.test_accuracy[-1] == np.mean(pair.ours.predictions == DATA.test.labels)
    assert honest.pairs[0].ours.step_losses[0] != honest.pairs[1].ours.step_losses[0]
    assert (honest.margin, honest.paired, honest.weights_from) == (0.003, True, "jaxnets")


@pytest.mark.slow
def test_the_control_is_torch_beside_itself_and_each_side_is_timed(honest):
    control = honest.control
    assert control.threads[0] != control.threads[1]
    assert control.run.seed == 3
    theirs = honest.pairs[0].theirs
    np.testing.assert_allclose(control.run.step_losses, theirs.step_losses, rtol=1e-4)
    ours, other = honest.timings
    assert (ours.framework, other.framework) == ("jaxnets", "torch")
    assert len(ours.epoch_seconds) == len(other.epoch_seconds) == 2
    assert ours.compile_seconds > 0 == other.compile_seconds


@pytest.fixture
def trained_before(honest, monkeypatch):
    """Replaces our training by that of the correct pair."""
    ours = honest.pairs[0].ours
    monkeypatch.setattr(engine, "train_together", lambda this, seeds, models, progress: [ours])


class Faulty(torch.nn.Module):
    """PyTorch's network with an error in its forward pass."""

    def __init__(self, forward):
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(16, 8), torch.nn.Linear(8, CLASSES)
        self._wrong = forward

    def forward(self, x):
        return self._wrong(self, torch.flatten(x, 1))


def faulty(forward):
    return {"torch_model": lambda: Faulty(forward)}


def no_bias(net, x):
    return torch.nn.functional.linear(torch.relu(net.fc1(x)), net.fc2.weight)


def dropping_in_evaluation(net, x):
    kept = torch.nn.functional.dropout(x, 0.5, training=not net.training)
    return net.fc2(torch.relu(net.fc1(kept)))


def dropping_always(net, x):
    return net.fc2(torch.nn.functional.dropout(torch.relu(net.fc1(x)), 0.5))


def stopping_gradients(net, x):
    return net.fc2(torch.relu(net.fc1(x) * 0.5 + net.fc1(x).detach() * 0.5))


def summed(outputs, labels):
    return torch.nn.functional.cross_entropy(outputs, labels, reduction="sum")


def not_normalized(raw):
    return np.moveaxis(raw, -1, 1).astype(np.float32) / 255


def with_sgd(**options):
    return {"torch_optimizer": lambda parameters: sgd(parameters, **options)}


@pytest.mark.parametrize(
    ("fault", "statistic", "layer", "words"),
    [
        (with_sgd(momentum=0.8), "loss of step 2", None, "second updates.*such as its momentum"),
        (with_sgd(lr=0.12), "loss of step 1", None, "1.2 times that of jaxnets. The lear"),
        (with_sgd(weight_decay=0.1), "loss of step 1", None, "The optimizer or its weight decay"),
        (
            faulty(stopping_gradients),
            "loss of step 1",
            "fc1",
            "gradients of step 0 differ, most",
        ),
        (faulty(no_bias), "loss of step 0", "fc2", "fc2 did not run in both"),
        (faulty(dropping_always), "loss of step 0", None, "changes from call to call"),
        ({"torch_loss": summed}, "loss of step 0", None, "loss is a sum, that of jaxnets a mean"),
        ({"torch_inputs": not_normalized}, "loss of step 0", None, "The normalization may differ"),
        (
            faulty(dropping_in_evaluation),
            "loss of the first test examples",
            "fc1",
            "evaluation is random, such as by dropout.*fc1",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_planted_fault_is_found_and_placed(fault, statistic, layer, words, trained_before):
    found = run(**fault).findings[0]
    assert found.statistic == statistic
    assert found.step == (int(statistic[-1]) if "step" in statistic else None)
    assert found.layer == layer
    assert re.search(words, found.text)


def test_another_shuffle_is_found(trained_before, monkeypatch):
    plan = torch_side.Torch.plan
    monkeypatch.setattr(torch_side.Torch, "plan", lambda self, seed, e: plan(self, seed + 1, e))
    found = run().findings[0]
    assert (found.statistic, found.step) == ("loss of step 0", 0)
    assert "another shuffle" in found.text


def test_losses_that_are_not_finite_are_found(trained_before):
    found = run(**with_sgd(lr=1e30)).findings
    assert re.search("loss of PyTorch is not finite from step 1 on", found[0].text)


class SwappedGates(torch.nn.LSTM):
    """An LSTM whose input and forget gates are swapped."""

    def forward(self, x):
        plain = torch.nn.LSTM(self.input_size, self.hidden_size, batch_first=True)
        swapped = {}
        for name, weight in self.named_parameters():
            first, second, *others = weight.chunk(4)
            swapped[name] = torch.cat([second, first, *others])
        return torch.func.functional_call(plain, swapped, (x,))


@pytest.mark.slow
def test_an_lstm_agrees_and_swapped_gates_are_found():
    def lstm(rngs):
        return RecurrentClassifier(4, 6, output_dim=CLASSES, output="logits", rngs=rngs)

    def swapped():
        network = compare.twin(lstm(nnx.Rngs(0)))
        network.lstm = SwappedGates(4, 6, batch_first=True)
        return network

    data, options = data_of((4, 4)), {"epochs": 1, "transform": ToFloat()}
    assert run(lstm, data=data, **options).findings == ()
    found = run(lstm, swapped, data, **options).findings[0]
    assert (found.statistic, found.layer) == ("loss of step 0", "lstm")
    assert "The first layer with another output is lstm" in found.text


class Own(torch.nn.Module):
    """A network as users write it, with functional dropout and a view that depends on strides."""

    def __init__(self, width=4):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, width, 3, padding=1)
        self.fc = torch.nn.Linear(width * 16, CLASSES)

    def forward(self, x):
        x = torch.nn.functional.dropout(torch.relu(self.conv(x)), 0.3, self.training)
        return self.fc(x.view(x.size(0), -1))


@pytest.mark.slow
def test_a_network_is_compared_with_its_port():
    for theirs in (Own, lambda: Own(width=3)):
        found = run(None, theirs, seeds=[3, 5])
        assert (found.findings, found.weights_from, found.name) == ((), "torch", "Own")
        for pair in found.pairs:
            np.testing.assert_allclose(pair.ours.step_losses, pair.theirs.step_losses, rtol=1e-4)


@pytest.mark.slow
def test_lenet_agrees():
    def lenet(rngs):
        return LeNet(num_classes=CLASSES, rngs=rngs)

    lenets = run(lenet, data=data_of((28, 28, 1)), epochs=1, weights_from="torch")
    assert lenets.findings == ()
    assert lenets.weights_from == "torch"


def test_evaluation_that_differs_where_the_steps_agree_is_found(honest):
    def evaluated(factor, chance=1.0):
        theirs = [
            dataclasses.replace(pair.theirs, test_loss=factor * pair.ours.test_loss)
            for pair in honest.pairs
        ]
        pairs = tuple(map(Pair, (pair.ours for pair in honest.pairs), theirs))
        beside = dataclasses.replace(honest.control.run, test_loss=chance * theirs[0].test_loss)
        control = dataclasses.replace(honest.control, run=beside)
        comparison = dataclasses.replace(honest, pairs=pairs, control=control)
        return findings(comparison, lambda pair: None)

    assert evaluated(1.0001) == ()
    assert evaluated(1.1, chance=1.01) == ()  # PyTorch's control run differs, too
    (found,) = evaluated(1.1)
    assert found.statistic == "test loss of epoch 1"
    assert "(within" in found.text
    assert "batch normalization (its momentum)" in found.text


def test_runs_that_both_diverge_agree_in_that(honest):
    def diverged(side):
        return dataclasses.replace(
            side,
            step_losses=np.full_like(side.step_losses, np.nan),
            test_accuracy=np.full_like(side.test_accuracy, np.nan),
        )

    first, second = honest.pairs
    pairs = (Pair(diverged(first.ours), diverged(first.theirs)), second)
    comparison = dataclasses.replace(honest, pairs=pairs)
    found = findings(comparison, lambda pair: None)
    assert [finding.text[:38] for finding in found] == [
        "The loss of jaxnets is not finite from",
        "The loss of PyTorch is not finite from",
    ]
    assert (comparison.equivalence.equivalent, comparison.equivalence.different) == (None, None)


def test_examples_in_float64_are_float32_to_both():
    side = torch_side.Torch(None, paired=True, device="cpu")
    inputs, labels = side.tensors(np.zeros((2, 3)), np.zeros((2, 1)))
    assert (inputs.dtype, labels.dtype) == (torch.float32, torch.float32)


def test_no_time_includes_drawing_the_order_of_examples(monkeypatch):
    def drawn(side, seed, epoch):
        raise LookupError

    monkeypatch.setattr(torch_side.Torch, "plan", drawn)
    side = torch_side.Torch(None, paired=True, device="cpu")
    with pytest.raises(LookupError):
        side.batches(0, 0)  # before any batch is requested


def test_a_difference_of_scores_is_found(honest):
    worse = [
        dataclasses.replace(pair.theirs, test_accuracy=pair.theirs.test_accuracy - 0.1 - 0.001 * i)
        for i, pair in enumerate(honest.pairs)
    ]
    pairs = tuple(
        compare.Pair(pair.ours, side) for pair, side in zip(honest.pairs, worse, strict=True)
    )
    changed = dataclasses.replace(honest, pairs=pairs)
    (found,) = engine.findings(changed, lambda pair: None)
    assert found.statistic == "accuracy"
    assert re.search("differs by 10.*percentage points over 2 seeds.*is not shown", found.text)


def test_finished_trainings_are_kept_and_gone_on_with(tmp_path, monkeypatch, honest):
    trained, train = [], engine.train

    def interrupted(other, training, this, seed, report):
        if trained:
            raise KeyboardInterrupt
        trained.append(seed)
        return train(other, training, this, seed, report)

    both = [pair.ours for pair in honest.pairs]
    monkeypatch.setattr(engine, "train_together", lambda *_: both)
    monkeypatch.setattr(engine, "train", interrupted)
    with pytest.raises(Interrupted, match="stopped by SIGINT, with 3 finished trainings kept in"):
        run(seeds=[3, 5], directory=tmp_path)
    monkeypatch.setattr(engine, "train_together", None)  # is not called again
    monkeypatch.setattr(engine, "train", lambda *given: trained.append(given[3]) or train(*given))
    for one, other in zip(run(seeds=[3, 5], directory=tmp_path).pairs, honest.pairs, strict=True):
        np.testing.assert_allclose(one.theirs.step_losses, other.theirs.step_losses, rtol=1e-4)
        np.testing.assert_array_equal(one.ours.predictions, other.ours.predictions)
    assert trained == [3, 5]
    wrong = "resume: expected the comparison in .*, got another: epochs is 3, was 2; margin is 0.1"
    with pytest.raises(InputError, match=wrong):
        run(seeds=[3], directory=tmp_path, epochs=3, margin=0.1)


@pytest.mark.parametrize(
    ("name", "held"),
    [
        *(("jaxnets-3.npz", held) for held in (b"PK?", b"")),
        *(("alone.json", held) for held in (b"{", b"3", b"[" * 100_000, b"\xff\xfe")),
        ("alone.json", b'{"threads": -1, "timings": []}'),
        ("alone.json", b'{"threads": 1, "timings": {"x": null}}'),
        (
            "alone.json",
            b'{"threads": 1, "timings": [{"framework": "torch", "epoch_seconds": [NaN], '
            b'"compile_seconds": 0, "peak_memory": null}]}',
        ),
    ],
)
def test_what_is_kept_and_damaged_is_refused(tmp_path, name, held):
    (tmp_path / "trainings").mkdir()
    (tmp_path / "trainings" / name).write_bytes(held)
    with pytest.raises(InputError, match=f"a file written by jaxnets, got .*{name}"):
        run(directory=tmp_path)


def test_independent_runs_draw_their_own(honest):
    apart = run(paired=False, epochs=1)
    assert (apart.paired, apart.weights_from, apart.control) == (False, None, None)
    ours, theirs = apart.pairs[0].ours, apart.pairs[0].theirs
    assert abs(ours.step_losses[0] - theirs.step_losses[0]) > 1e-3
    assert apart.findings == ()
    np.testing.assert_allclose(
        ours.step_losses, honest.pairs[0].ours.step_losses[: len(ours.step_losses)], rtol=1e-4
    )


def test_sums_and_ignored_labels_mean_the_same_on_both_sides():
    splits = (
        Split(split.inputs, np.where(np.arange(len(split)) % 3, split.labels, -100))
        for split in (DATA.train, DATA.test)
    )
    found = run(
        data=Dataset("some", *splits),
        loss=functools.partial(losses.cross_entropy, reduction="sum"),
        optimizer=optimizers.sgd(0.001),
        torch_optimizer=lambda parameters: sgd(parameters, lr=0.001, momentum=0),
        epochs=1,
    )
    (pair,) = found.pairs
    assert pair.ours.step_losses[0] > 10 > 2 > pair.ours.train_loss[0]  # of 16 examples, and of one
    for name in ("step_losses", "train_loss", "test_loss"):
        ours, theirs = getattr(pair.ours, name), getattr(pair.theirs, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    np.testing.assert_array_equal(pair.ours.test_accuracy, pair.theirs.test_accuracy)
    counted = DATA.test.labels[np.arange(40) % 3 > 0]
    right = pair.ours.predictions[np.arange(40) % 3 > 0] == counted
    assert pair.ours.test_accuracy[0] == right.mean()


@pytest.mark.slow
def test_dropout_is_off_in_pairs_and_augmentation_is_ours_on_both_sides():
    def dropping(rngs):
        return nnx.Sequential(layers.Flatten(), layers.Dropout(0.5, rngs=rngs), build(rngs))

    def twin():
        return torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Dropout(0.5), compare.twin(build(nnx.Rngs(0)))
        )

    found = run(dropping, twin, augment=RandomHorizontalFlip(), epochs=1)
    assert found.settings["dropout"] == "off on both sides"
    (pair,) = found.pairs
    np.testing.assert_allclose(pair.ours.step_losses, pair.theirs.step_losses, rtol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"loss": lambda x, y: x.sum()},
            "torch_loss: expected PyTorch's loss, as loss is not one of",
        ),
        (
            {"torch_model": torch.nn.Sequential(OrderedDict(_orig_mod=torch.nn.Linear(16, 3)))},
            "torch_model: expected a network before torch.compile, got a compiled one",
        ),
        (
            {"data": Dataset("pairs", *2 * [Split((DATA.test.inputs,), DATA.test.labels)])},
            "data.train.inputs: expected an array, as step is None, got tuple",
        ),
        (
            {"data": Dataset("bare", *2 * [Split(DATA.test.inputs)])},
            "data.train.labels: expected an array, as step is None, got NoneType",
        ),
        (
            {"torch_step": print},
            "step: expected a step, as torch_step or torch_optimizers is given",
        ),
        ({"torch_model": 3}, "torch_model: expected a torch.nn.Module with parameters, or a"),
        ({"jax_model": 3, "torch_model": torch.nn.Linear(1, 1)}, "jax_model: expected an nnx.Mod"),
        ({"torch_optimizer": lambda p: 3}, "torch_optimizer: expected a function of parameters"),
        ({"seeds": [1, 1]}, "seeds: expected a number of seeds, or a list of different"),
        ({"margin": 0}, "margin: expected a finite number > 0"),
        ({"weights_from": "keras"}, "weights_from: expected one of jaxnets, torch"),
        ({"torch_model": torch.nn.Linear(16, 3)}, "the weights of jax_model, got bias"),
        (
            {"torch_model": lambda: compare.twin(build(nnx.Rngs(0))).double()},
            r"got fc1.bias \(8,\) float64 for \(8,\) float32",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_compared_is_said_in_a_sentence(wrong, message):
    with pytest.raises(InputError, match=message):
        run(**wrong)


def test_without_torch_a_sentence_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"requires torch.*pip install -e '\.\[torch\]'"):
        run(torch_model=3)


def test_a_member_that_is_not_its_run_alone_is_found(honest):
    ours = honest.pairs[0].ours
    assert of_one_alone(ours.step_losses, ours) == ()
    (found,) = of_one_alone(ours.step_losses * np.float32([1, 1.01, 1, 1, 1, 1]), ours)
    assert (found.statistic, found.step) == ("loss of the separate run", 1)
    assert "from that of the separate run" in found.text


def test_a_documented_figure_says_after_how_many_epochs_it_was():
    recipe = recipes.recipe("mnist-mlp")
    assert "epochs" not in from_recipe(recipe).reference
    fewer = from_recipe(dataclasses.replace(recipe, epochs=2))
    assert fewer.reference.startswith("expected after 10 epochs: ")


@pytest.mark.slow
def test_both_sides_follow_the_schedule_of_a_recipe():
    recipe = dataclasses.replace(
        recipes.recipe("mnist-mlp"),
        model_options={"features": (16, 3)},
        epochs=3,
        batch_size=16,
        normalize=None,
        scheduler="exponential",
        scheduler_options={"gamma": 0.1},
    )
    experiment = from_recipe(recipe, DATA)
    assert experiment.settings["scheduler"] == "exponential"
    terms = Terms(seeds=[0], control=False, timing=False)
    (pair,) = compared(experiment, terms, None, "none").pairs
    np.testing.assert_allclose(pair.ours.step_losses, pair.theirs.step_losses, rtol=1e-5)
    with pytest.raises(InputError, match="scheduler: expected none with Flax, got exponential"):
        sizes_of(experiment, "Flax")

    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = experiment.torch_optimizer([parameter])
    rates = []
    for _ in range(10):
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    steps = len(pair.ours.step_losses) // 3
    expected = np.repeat([0.01, 0.001, 0.0001], steps)[:10]
    np.testing.assert_allclose(rates[: len(expected)], expected, rtol=1e-6)


def test_a_comparison_is_shown_in_a_line_a_seed():
    done = run(epochs=1)
    pair = done.pairs[0]
    assert repr(done).splitlines() == [
        f"Comparison of jaxnets and torch by {done.name}, accuracy:",
        f"  seed 3: {pair.ours.score:.6g} and {pair.theirs.score:.6g}",
    ]
    assert repr(pair.ours) == f"Side: jaxnets, seed 3, test accuracy {pair.ours.score:.6g}"


def test_a_recipe_with_another_objective_is_not_compared():
    recipe = dataclasses.replace(recipes.recipe("mnist-mlp"), objective="ctc")
    with pytest.raises(ValueError, match="objective: expected 'supervised', .*, got ctc"):
        from_recipe(recipe)
