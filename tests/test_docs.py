"""Runs the code in the README, the documentation and docstrings."""

import doctest
import importlib
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import jaxnets
from jaxnets.cli import main
from tests.pages import blocks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MODULES = [
    module.name
    for module in pkgutil.walk_packages(jaxnets.__path__, "jaxnets.")
    if module.name != "jaxnets.__main__"
]


@pytest.fixture
def printed_by(tmp_path, monkeypatch, capsys):
    """Runs code with JAX's default promotion, and returns its output; warnings are errors."""
    monkeypatch.chdir(tmp_path)

    def printed(code):
        capsys.readouterr()
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            exec(code, {"__name__": "__main__"})
        return capsys.readouterr().out

    return printed


def test_the_readmes_first_command_trains_as_it_says(tmp_path):
    assert "pip install -e . && python examples/mnist.py" in README
    out = tmp_path / "run"
    command = [sys.executable, "examples/mnist.py", "--epochs", "1", "--out", out]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("epoch 1/1  train loss")
    match = re.fullmatch(r"test accuracy: (\d+\.\d\d)% \((\d+)/10000\)", lines[-1])
    assert float(match[1]) == int(match[2]) / 100
    assert int(match[2]) > 9300
    assert sorted(path.name for path in out.iterdir()) == ["curves.png", "history.csv", "weights"]


def test_the_readmes_second_command_is_the_test_command():
    assert "pip install -e '.[test]' && pytest" in README
    assert "\npytest\n" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("code", blocks(README, "python"))
def test_the_readmes_python_runs(code, printed_by):
    printed_by(code)


def test_the_python_of_the_page_on_interop_runs_in_order(printed_by):
    page = (ROOT / "docs" / "interop.md").read_text()
    code = "\n".join(blocks(page, "python"))
    printed = printed_by(code)
    report, trace = blocks(page, "text")
    assert printed.startswith(report)
    numbers = r"\d\.\de[+-]\d\d *"
    assert re.sub(numbers, "", printed) == re.sub(numbers, "", report + trace)


def test_the_page_on_porting_shows_what_the_command_writes(printed_by, monkeypatch, capsys):
    page = (ROOT / "docs" / "port.md").read_text()
    command, _ = blocks(page, "sh")
    network, written, from_python = blocks(page, "python")
    Path("nets.py").write_text(network)
    assert main(shlex.split(command)[1:]) == 0
    assert Path("net_jax.py").read_text() == written
    numbers = r"\d\.\de[+-]\d\d +| [\w.]+$"
    table, *_ = blocks(page, "text")
    printed = capsys.readouterr().out
    assert re.sub(numbers, "", table, flags=re.M) in re.sub(numbers, "", printed, flags=re.M)
    Path("use.py").write_text(from_python)  # the source of a function must be in a file
    monkeypatch.syspath_prepend(".")
    printed_by("import use")


@pytest.fixture(scope="module")
def lenet(tmp_path_factory):
    """The run that the pages on trained networks use, with few images."""
    folder = tmp_path_factory.mktemp("lenet") / "lenet"
    few = ["--data-option", "train=train[:128]", "--data-option", "test=test[:64]"]
    command = ["train", "mnist-lenet", *few, "--epochs", "1", "--quiet", "--out", str(folder)]
    assert main(command) == 0
    return folder


@pytest.mark.parametrize("name", ["explain", "look-inside"])
def test_the_python_of_the_pages_on_explaining_prints_what_it_says(name, lenet, printed_by):
    page = (ROOT / "docs" / f"{name}.md").read_text()
    Path("runs").mkdir()
    Path("runs/lenet").symlink_to(lenet)
    (code,), (expected,) = blocks(page, "python"), blocks(page, "text")
    assert printed_by(code) == expected
    assert len(list(Path.cwd().glob("*.png"))) == {"explain": 1, "look-inside": 2}[name]


def test_the_python_of_the_page_on_training_prints_what_it_says(printed_by):
    page = (ROOT / "docs" / "training.md").read_text()
    code = "\n".join(blocks(page, "python"))
    printed = printed_by(code)
    (expected,) = blocks(page, "text")
    norm = r"= \d\.\d"
    assert re.sub(norm, "", printed) == re.sub(norm, "", expected)


def test_the_python_of_the_page_on_training_anything_prints_what_it_says(printed_by):
    page = (ROOT / "docs" / "anything.md").read_text()
    code = "\n".join(blocks(page, "python"))
    (expected,) = blocks(page, "text")
    assert printed_by(code) == expected


def test_the_python_of_the_page_for_newcomers_prints_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "coming-from-pytorch.md").read_text()
    code = "\n".join(blocks(page, "python"))
    exec(code, {"__name__": "port"})
    printed = "".join(blocks(page, "text"))
    numbers = r"\d\.\de[+-]\d\d *"
    assert re.sub(numbers, "", capsys.readouterr().out) == re.sub(numbers, "", printed)


@pytest.mark.parametrize("name", ["combine", "control", "residual", "transfer"])
def test_the_python_of_pages_on_trained_networks_prints_what_they_say(name, printed_by):
    page = (ROOT / "docs" / f"{name}.md").read_text()
    assert printed_by("\n".join(blocks(page, "python"))) == blocks(page, "text")[-1]


QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text()


def test_the_python_of_the_quickstart_prints_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(QUICKSTART, "python"))
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    (text,) = blocks(QUICKSTART, "text")
    accuracy, *expected = text.splitlines()
    printed, *others = [line for line in lines if not line.startswith("epoch ")]
    assert others == expected
    assert re.sub(r"^\d\d%", "", printed) == re.sub(r"^\d\d%", "", accuracy)
    assert int(printed[:2]) > 88


def test_the_commands_of_the_quickstart_train_go_on_and_predict(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"## From a shell\n\n```sh\n(.*?)```", QUICKSTART, flags=re.DOTALL)
    for line in block.splitlines():
        program, *arguments = shlex.split(line)
        assert (program, main(arguments)) == ("jaxnets", 0)
    out = capsys.readouterr().out
    assert "\nepoch 2/2  train loss" in out
    assert "\ntest example 0 (label 7): 7 " in out
    assert "\nmnist-lstm\n" in out


def test_the_lines_for_completion_give_each_shell_a_script(monkeypatch, capsys):
    shells = re.findall(r"_JAXNETS_COMPLETE=(\w+)_source jaxnets", QUICKSTART)
    assert shells == ["bash", "zsh", "fish"]
    for shell in shells:
        monkeypatch.setenv("_JAXNETS_COMPLETE", f"{shell}_source")
        with pytest.raises(SystemExit) as ended:
            main([])
        assert ended.value.code == 0
        assert f"_JAXNETS_COMPLETE={shell}_complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("english", "chinese"),
    [("README.md", "README.zh-CN.md"), ("docs/quickstart.md", "docs/zh/quickstart.md")],
)
def test_chinese_pages_keep_in_step_with_the_english_ones(english, chinese):
    code, headings, figures, links = [], [], [], []
    for name in (english, chinese):
        parts = re.split(r"(```.*?```)", (ROOT / name).read_text(), flags=re.DOTALL)
        prose = "".join(parts[::2])
        code.append(parts[1::2])
        headings.append(re.findall(r"^#+ ", prose, re.MULTILINE))
        figures.append(sorted(re.findall(r"\d+\.\d+", prose)))
        links.append(re.findall(r"\]\((.*?)\)", prose.split("\n## ")[0])[0])
    for ours, theirs in (code, headings, figures):
        assert ours == theirs
    for name, link, other in ((english, links[0], chinese), (chinese, links[1], english)):
        assert (ROOT / name).parent.joinpath(link).resolve() == (ROOT / other).resolve()


def test_the_gradient_by_hand_is_that_of_jax(printed_by):
    page = (ROOT / "docs" / "lstm-gradients.md").read_text()
    assert printed_by("\n".join(blocks(page, "python"))) == "True\n"


def test_the_python_of_the_page_on_comparisons_prints_what_it_says(printed_by):
    page = (ROOT / "docs" / "compare.md").read_text()
    printed = printed_by("\n".join(blocks(page, "python")))
    said = "".join(blocks(page, "text"))
    words, expected = (re.sub(r"\d\.\d+", "", text).split() for text in (printed, said))
    assert words == expected


def test_the_python_of_the_page_on_pruning_prints_what_it_says(printed_by):
    page = (ROOT / "docs" / "pruning.md").read_text()
    assert printed_by("\n".join(blocks(page, "python"))) == "".join(blocks(page, "text"))


def test_the_python_of_the_page_on_quantization_prints_what_it_says(printed_by):
    page = (ROOT / "docs" / "quantization.md").read_text()
    _, *said = blocks(page, "text")
    assert printed_by("\n".join(blocks(page, "python"))) == "".join(said)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    failures, _ = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert failures == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "-1"], "epochs: expected a positive integer, got -1"),
        (["--batch-size", "0"], "batch_size: expected a positive integer, got 0"),
        (["--model", "vgg"], "invalid choice: 'vgg'"),
        (["--seed", "-3"], "--seed: expected an integer from 0"),
    ],
)
def test_the_example_refuses_bad_arguments_and_leaves_no_folder(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["mnist.py", "--out", str(tmp_path / "run"), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "examples" / "mnist.py"), run_name="__main__")
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
