"""What README, examples and docstrings say, run."""

import doctest
import importlib
import pkgutil
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import jaxnets
from tests.pages import blocks

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MODULES = [
    module.name
    for module in pkgutil.walk_packages(jaxnets.__path__, "jaxnets.")
    if module.name != "jaxnets.__main__"
]


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
def test_the_readmes_python_runs(code, tmp_path):
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


def test_the_python_of_the_page_on_interop_runs_in_order(tmp_path):
    page = (ROOT / "docs" / "interop.md").read_text()
    code = "\n".join(blocks(page, "python"))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    report, trace = blocks(page, "text")
    assert done.stdout.startswith(report)
    numbers = r"\d\.\de[+-]\d\d *"
    assert re.sub(numbers, "", done.stdout) == re.sub(numbers, "", report + trace)


def test_the_python_of_the_page_on_training_prints_what_it_says(tmp_path):
    page = (ROOT / "docs" / "training.md").read_text()
    code = "\n".join(blocks(page, "python"))
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    (printed,) = blocks(page, "text")
    norm = r"= \d\.\d"
    assert re.sub(norm, "", done.stdout) == re.sub(norm, "", printed)


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
