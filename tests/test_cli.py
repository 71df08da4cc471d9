import csv
import json
import re
import shlex

import click
import jax
import pytest
from flax import nnx
from PIL import Image

from jaxnets import MLP, LanguageModel, recipes
from jaxnets.cli import COMMANDS, cli, main
from jaxnets.commands.flags import KeyValue, Scheduler
from jaxnets.commands.predict import saved_in
from jaxnets.commands.suggestions import _ELSEWHERE
from tests import tier
from tests.data_files import write_idx


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run of one epoch on MNIST, saved by the command line."""
    out = tmp_path_factory.mktemp("runs") / "mlp"
    assert main(["train", "mnist-mlp", "--epochs", "1", "--out", str(out), "--quiet"]) == 0
    return out


def test_with_json_standard_output_is_one_object_and_progress_goes_to_standard_error(capfd):
    code, out, err = run(capfd, "train", "linear-regression", "--json")
    assert code == 0
    assert err.startswith("epoch 1/50  train loss")
    assert err.count("\n") == 50
    result = json.loads(out)
    assert set(result) == {
        "recipe", "seed", "epochs", "test_accuracy", "test_correct", "test_total", "test_loss",
        "train_loss", "parameters", "train_seconds", "compile_seconds", "examples_per_second",
        "device", "stopped", "test_rmse",
    }  # fmt: skip
    assert result["recipe"] == "linear-regression"
    assert result["parameters"] == 2
    assert result["test_accuracy"] is None
    assert result["test_loss"] == pytest.approx(0.01, rel=0.2)  # the variance of the noise


def test_a_run_on_mnist_reaches_its_accuracy_and_leaves_its_record(saved):
    record = json.loads((saved / "run.json").read_text())
    assert record["test_total"] == 10_000
    assert record["test_accuracy"] == record["test_correct"] / 10_000
    assert record["test_accuracy"] > 0.93  # PyTorch's first epoch: 94 to 95 %
    assert record["settings"]["optimizer_options"] == {"lr": 0.01, "momentum": 0.9}
    with open(saved / "history.csv") as file:
        assert float(next(csv.DictReader(file))["test_accuracy"]) == record["test_accuracy"]
    with Image.open(saved / "curves.png") as plot:
        assert plot.width > plot.height > 300
    assert sorted(path.name for path in saved.parent.iterdir()) == ["mlp"]


def test_the_last_line_states_the_accuracy(capsys):
    flags = ["--batch-size", "600", "--epochs", "1", "--model-option", "features=(784,16,10)"]
    code, out, _ = run(capsys, "train", "mnist-mlp", "--quiet", *flags)
    assert code == 0
    words = out.split()
    correct = int(words[-1].strip("()").partition("/")[0])
    assert out == f"test accuracy: {correct / 100:.2f}% ({correct}/10000)\n"


@pytest.mark.slow
def test_flags_change_the_recipe(capsys):
    flags = ["--optimizer", "adam", "--lr", "0.05", "--batch-size", "100", "--seed", "3"]
    code, out, _ = run(
        capsys, "train", "linear-regression", "--epochs", "3", "--json", "--quiet", *flags
    )
    assert code == 0
    assert len(out.splitlines()) == 1
    result = json.loads(out)
    assert (result["epochs"], result["seed"]) == (3, 3)
    assert result["test_loss"] != pytest.approx(
        recipes.train(recipes.recipe("linear-regression"), progress="none").test.loss, rel=1e-3
    )


@pytest.mark.slow
def test_augmentation_is_a_flag_and_is_recorded(capsys, tmp_path):
    data = ["--data-dir", str(write_idx(tmp_path))]
    flags = ["--batch-size", "10", "--epochs", "1", "--model-option", "features=(784,16,10)"]
    flags += ["--augment", "shift", "--augment", "mixup", "--out", str(tmp_path / "run")]
    code, _, _ = run(capsys, "train", "mnist-mlp", "--quiet", *data, *flags)
    assert code == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["augment"] == ["shift", "mixup"]
    code, _, err = run(capsys, "predict", str(tmp_path / "run"), "--index", "0")
    assert (code, err) == (0, "")


def test_every_recipe_is_listed_with_its_document(capsys):
    code, out, _ = run(capsys, "recipes")
    assert code == 0
    for recipe in recipes.RECIPES.values():
        assert recipe.name in out
        assert recipe.document in out


@pytest.mark.parametrize(
    ("recipe", "parameters"), [("mnist-lenet", "61,706"), ("mnist-lstm", "214,282")]
)
def test_summary_shows_layers_shapes_and_counts(capsys, recipe, parameters):
    code, out, _ = run(capsys, "summary", recipe)
    assert code == 0
    assert parameters in out
    assert "float32[64,10]" in out


@pytest.mark.parametrize(
    ("recipe", "parts"),
    [
        ("dates-transformer", ["src_tok_emb", "transformer"]),
        tier.slow("dates-seq2seq", ["encoder", "decoder"]),
        tier.slow("mnist-cgan", ["generator", "discriminator"]),
        tier.slow("mnist-diffusion", ["unet"]),
    ],
)
def test_summary_of_networks_that_need_more_than_the_inputs(capsys, recipe, parts):
    code, out, _ = run(capsys, "summary", recipe, "--batch-size", "2")
    assert code == 0
    assert "Training Summary" in out
    for part in parts:
        assert f"network/{part[:6]}" in out  # longer names are truncated


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "mnist-mpl"], "recipe: expected one of mnist-mlp, .*did you mean 'mnist-mlp'?"),
        (["train"], "Missing argument 'RECIPE'"),
        (["train", "mnist-mlp", "--epochs", "-1"], "epochs: expected a positive integer, got -1"),
        (["train", "mnist-mlp", "--epochs", "many"], "'many' is not a valid integer"),
        (["train", "mnist-mlp", "--batch-size", "0"], "batch_size: expected a positive integer"),
        (["train", "mnist-mlp", "--seed", "-1"], "seed: expected"),
        (["train", "mnist-mlp", "--lr", "-0.1"], "lr: expected"),
        (["train", "mnist-mlp", "--optimizer", "sdg"], "'sdg' is not one of"),
        (["train", "mnist-mlp", "--optimizer-option", "speed=1"], "optimizer option: expected one"),
        (
            ["train", "mnist-mlp", "--model-option", "features"],
            "expected KEY=VALUE, got 'features'",
        ),
        (
            ["train", "mnist-mlp", "--model", "recurrent-classifier"],
            "model option: expected input_dim, hidden_dim for recurrent-classifier, got no hidden",
        ),
        (["train", "mnist-mlp", "--model-option", "features=784"], "features: expected at least"),
        (["train", "mnist-mlp", "--model-option", "size=3"], "model option: expected one of feat"),
        (["train", "mnist-mlp", "--model-option", "features=(100,10)"], "inputs: expected a batch"),
        (
            ["train", "mnist-mlp", "--model-option", "features=(784,5)"],
            "train.labels: expected cla",
        ),
        (["train", "mnist-mlp", "--model-option", "self=3"], "model option: expected one of feat"),
        (["train", "mnist-mlp", "--model-option", "rngs=3"], "for mlp, got rngs"),
        (["train", "mnist-mlp", "--model-option", "param_dtype=int8"], "for mlp, got param_dtype"),
        (["train", "mnist-mlp", "--optimizer-option", "self=3"], "optimizer option: expected one"),
        (
            ["train", "mnist-mlp", "--optimizer-option", "nesterov=maybe"],
            "nesterov: expected True or False, got 'maybe'",
        ),
        (["train", "mnist-mlp", "--data-option", "name=x"], "data option: expected one of source"),
        (["train", "mnist-mlp", "--out", ""], "expected a path, got ''"),
        (["train", "mnist-mlp", "--out", "x" * 300], "expected a path, got 'x.*: File name too lo"),
        (["predict", "x" * 300, "--index", "0"], "expected a path, got 'x.*: File name too long"),
        (["inspect", ""], "expected a path, got ''"),
        (["train", "mnist-mlp", "--layout", "rows", "--model", "lenet"], "images: expected"),
        (["train", "mnist-mlp", "--augment", "blur"], "'blur' is not one of"),
        (["train", "mnist-mlp", "--augment", "crop-flip"], "inputs: expected a batch of examples"),
        (["train", "mnist-mlp", "--out", "pyproject.toml"], "out: expected a new or empty folder"),
        (["train", "mnist-mlp", "--out", "/proc/run"], "out: expected a folder that can be made"),
        (["train", "mnist-mlp", "--fast"], "No such option '?--fast"),
        (["predict", "tests", "--index", "0"], "run: expected a folder with a run.json"),
        (
            ["predict", "tests"],
            "--user ID, for a table a file or --row, or --samples N, got none",
        ),
        (["summary", "lenet"], "recipe: expected one of"),
        (["trane"], "No such command 'trane'"),
    ],
)
def test_a_bad_argument_is_one_sentence_and_exit_code_2(capsys, arguments, message):
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("jaxnets: ")
    assert err.count("\n") == 1

    assert re.search(message, err), err


def test_divergence_is_one_sentence_and_leaves_no_folder(capsys, tmp_path):
    flags = ["--lr", "1e30", "--out", str(tmp_path / "run"), "--quiet"]
    code, out, err = run(capsys, "train", "linear-regression", *flags)
    assert code == 1
    assert out == ""
    assert "training has diverged" in err
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_never_overwritten(capsys, saved):
    before = (saved / "run.json").read_bytes()
    code, _, err = run(capsys, "train", "mnist-mlp", "--out", str(saved))
    assert code == 2
    assert "out: expected a new or empty folder" in err
    assert (saved / "run.json").read_bytes() == before


def test_help_and_version(capsys):
    code, out, _ = run(capsys, "train", "--help")
    assert code == 0
    assert "--batch-size" in out
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.startswith("jaxnets, version ")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("false", False), ("TRUE", True), ("none", None), ("Yes", True), ("on", True),
        ("no", False), ("OFF", False), ("'no'", "no"), ("(784,32)", (784, 32)), ("1e-3", 1e-3),
        ("train[:90%]", "train[:90%]"), ("train[-5000:]+test", "train[-5000:]+test"),
        ("a=b", "a=b"), ("1if", "1if"), ("2024-01", "2024-01"), ("./data dir", "./data dir"),
    ],
)  # fmt: skip
def test_options_are_literals_or_words(text, value):
    assert KeyValue().convert(f"key={text}", None, None) == ("key", value)


@pytest.mark.parametrize(
    "text",
    [
        "(784,32", "[1,", "'no", "{1: 2}", "{1}", "b'x'", "1e999", "(1, 1e999)", "9" * 30,
        "9" * 5000, "(" * 500 + ")" * 500, "-" * 100_000 + "1", "...", "1j",
    ],
)  # fmt: skip
def test_what_is_neither_a_literal_nor_a_word_is_refused(text):
    message = "expected a number, a word, True, False, None or a tuple of these after key=, got "
    with pytest.raises(click.BadParameter, match=message):
        KeyValue().convert(f"key={text}", None, None)


@pytest.mark.parametrize("text", ["key", "key=", "=3", ""])
def test_an_option_has_a_key_and_a_value(text):
    with pytest.raises(click.BadParameter, match=f"expected KEY=VALUE, got '{text}'"):
        KeyValue().convert(text, None, None)


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_a_group_alone_prints_its_help_in_lines(capsys, arguments):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"Usage: {' '.join(['jaxnets', *arguments])} [OPTIONS] COMMAND")
    assert len(err.splitlines()) > 8


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (FloatingPointError("invalid value (nan)"), 1, "invalid value (nan)"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of\nmemory"), 1, "RESOURCE_EXHAUST"),
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("Unable to initialize backend 'foo': none"), 1, "Unable to initialize"),
        (type("InternalFloatingPointError", (Exception,), {})("jit(f)", "nan"), 1, "nan in jit(f)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_fails_while_running_is_one_sentence(capsys, monkeypatch, error, code, message):
    def fail(name):
        error.add_note("For simplicity, JAX has removed its internal frames")
        error.add_note("what was written is kept in there")
        raise error

    monkeypatch.setattr(recipes, "recipe", fail)
    found, out, err = run(capsys, "train", "mnist-mlp")
    assert (found, out) == (code, "")
    assert err.lstrip().startswith(f"jaxnets: {message}")
    assert err.endswith("; what was written is kept in there\n")
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("error", [RuntimeError("a fault of ours"), EOFError("likewise")])
def test_a_fault_of_ours_is_not_hidden(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(recipes, "recipe", fail)
    with pytest.raises(type(error), match=str(error)):
        main(["train", "mnist-mlp"])


def test_summary_takes_only_what_changes_it(capsys):
    for flag in ("--epochs", "--lr", "--optimizer", "--loss", "--augment", "--normalize"):
        code, _, err = run(capsys, "summary", "mnist-mlp", flag, "1")
        assert code == 2
        assert f"No such option '{flag}'" in err
    code, out, _ = run(capsys, "summary", "linear-regression", "--batch-size", "5")
    assert code == 0
    assert "float32[5,1]" in out


# Options that do not exist


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--learning-rate", "--lr or --learning-rates"), ("--learning_rate=0.1", "--lr or --lea"),
        ("--LR", "--lr"), ("--batch", "--batch-size"), ("--batch_size", "--batch-size"),
        ("--wd", "--weight-decay"), ("--num-epochs", "--epochs"), ("--epoch", "--epochs"),
        ("--output", "--out"), ("--output-dir", "--out"), ("--gpu", "--devices"),
        ("--gpus", "--devices"), ("--patience", "--early-stopping"), ("--dataset", "--data"),
        ("--optim", "--optimizer"), ("--amp", "--compute-dtype"), ("--learnig-rate", "--lr"),
        ("--momentm", "--momentum"), ("--lr-scheduler", "--scheduler"), ("--rank", "--process-id"),
        ("--restore", "--restore-best"), ("--monitor", "--metric"), ("--hidden-size", "--model-op"),
    ],
)  # fmt: skip
def test_an_option_that_does_not_exist_suggests_what_may_be_meant(capsys, given, meant):
    code, out, err = run(capsys, "train", "mnist-mlp", given, "1")
    assert (code, out) == (2, "")
    assert err.startswith(
        f"jaxnets: No such option '{given.partition('=')[0]}'. Did you mean {meant}"
    )
    assert err.count("\n") == 1


def test_only_options_of_the_same_command_are_suggested(capsys):
    assert run(capsys, "predict", "x", "--learning-rate", "1")[2].endswith("'--learning-rate'.\n")
    assert "Did you mean --top?" in run(capsys, "predict", "x", "--topk", "1")[2]
    assert "mean --lr?" in run(capsys, "compare", "mnist-mlp", "--learning-rate", "1")[2]
    assert run(capsys, "train", "mnist-mlp", "--xyzzy")[2].endswith("'--xyzzy'.\n")


def test_every_suggestion_is_an_option():
    known = {
        option for name in COMMANDS for each in cli.get_command(None, name).params
        for option in each.opts
    }  # fmt: skip
    assert set(_ELSEWHERE.values()) <= known


# Where a run was saved


@pytest.mark.slow
def test_a_run_says_where_it_was_saved_and_how_to_ask_it(capsys, tmp_path):
    out = tmp_path / "a run"
    train = ["train", "linear-regression", "--epochs", "1"]
    line = f"saved in {out}; use it with: jaxnets predict '{out}' --index 0"
    assert run(capsys, *train, "--out", str(out))[1].splitlines()[-1] == line
    assert run(capsys, *shlex.split(line)[-4:])[0] == 0
    saving = ["--out", str(tmp_path / "b"), "--save-every", "9"]
    for arguments in ([*train, *saving], ["train", "--resume", str(tmp_path / "b")]):
        said = run(capsys, *arguments)[1].splitlines()[-1]
        assert said.endswith(f"jaxnets predict {tmp_path / 'b'} --index 0")
    quiet = ["--out", str(tmp_path / "c"), "--quiet"]
    assert "saved" not in run(capsys, *train, *quiet)[1]
    assert "saved" not in "".join(run(capsys, *train, "--out", str(tmp_path / "d"), "--json")[1:])
    assert "saved" not in run(capsys, *train)[1]
    many = [*train, "--seeds", "1,2", "--out", str(tmp_path / "many")]
    said = run(capsys, *many)[1].splitlines()[-1]
    one = tmp_path / "many" / "seed-1"
    assert said == f"saved in {tmp_path / 'many'}; use it with: jaxnets predict {one} --index 0"


def test_a_language_model_is_asked_by_a_prompt():
    model = LanguageModel(3, 2, 2, rngs=nnx.Rngs(0))
    assert saved_in("x", "x", model).endswith("jaxnets predict x --prompt TEXT")


# Schedules


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("step:step_size=5,gamma=0.5", ("step", {"step_size": 5, "gamma": 0.5})),
        (
            "multistep:milestones=(3,8),gamma=.1",
            ("multistep", {"milestones": (3, 8), "gamma": 0.1}),
        ),
        ("MultiStepLR:milestones=[3,8]", ("multistep", {"milestones": [3, 8]})),
        ("cosine", ("cosine", {})),
        ("CosineAnnealingLR:T_max=3", ("cosine", {"T_max": 3})),
        ("CosineAnnealingWarmRestarts:T_0=2", ("cosine-restarts", {"T_0": 2})),
        ("one_cycle_lr", ("onecycle", {})),
        ("one-cycle:three_phase=yes", ("onecycle", {"three_phase": True})),
        ("none", (None, {})),
    ],
)
def test_a_schedule_is_a_name_and_its_arguments(text, found):
    assert Scheduler().convert(text, None, None) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plateau", "expected one of none, step, multistep, .*, got 'plateau'"),
        ("", "expected one of none, step"),
        ("none:gamma=3", "expected one of none, step, .*, got 'none:gamma=3'"),
        ("step:5", "expected KEY=VALUE, got '5'"),
        ("step:step_size=3,", "expected KEY=VALUE, got ''"),
        ("step:gamma=(1", "expected a number, a word"),
    ],
)
def test_what_is_no_schedule_is_refused(text, message):
    with pytest.raises(click.BadParameter, match=message):
        Scheduler().convert(text, None, None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--scheduler", "step"],
            "scheduler option: expected step_size for step, got no step_size",
        ),
        (["--scheduler", "cosine:tmax=3"], "expected one of T_max, eta_min for cosine, got tmax"),
        (["--scheduler", "step:lr=1"], "expected one of step_size, gamma for step, got lr"),
        (["--scheduler", "step:step_size=0"], "step_size: expected a positive integer, got 0"),
        (["--scheduler", "onecycle:pct_start=3"], "pct_start: expected a number in"),
        (["--scheduler", "cosine", "--learning-rates", "1,2"], "optimizer: expected one without a"),
    ],
)
def test_a_schedule_that_does_not_fit_is_one_sentence(capsys, flags, message):
    code, out, err = run(capsys, "train", "linear-regression", "--quiet", *flags)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_the_help_lists_every_command_by_section(capsys):
    _, out, _ = run(capsys, "--help")
    for name, entry in COMMANDS.items():
        assert f"\n{entry.section}:\n" in out
        assert re.search(rf"^  {name} +{re.escape(entry.summary)}$", out, re.MULTILINE)


def test_a_summary_leaves_the_classes_of_a_network_as_they_were():
    before = set(vars(MLP))
    assert main(["summary", "mnist-mlp"]) == 0
    assert set(vars(MLP)) == before
