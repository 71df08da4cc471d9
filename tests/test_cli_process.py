"""The program ``jaxnets`` as a shell sees it: its streams, signals and environment."""

import os
import signal
import subprocess
import sys

import jax
import pytest

from jaxnets.cli import main

pytestmark = pytest.mark.slow

LINE = ["train", "linear-regression", "--epochs", "1", "--quiet"]


def command(*arguments):
    return [sys.executable, "-m", "jaxnets", *map(str, arguments)]


def run(*arguments, **options):
    return subprocess.run(command(*arguments), capture_output=True, text=True, **options)


def shell(arguments, redirection):
    """Exit code and standard error of a command whose streams are redirected by a shell."""
    line = f'"$0" -m jaxnets {arguments} {redirection}'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_streams_that_are_closed_lose_no_run(tmp_path):
    out = tmp_path / "run"
    assert shell(f"{' '.join(LINE)} --out {out}", "<&- >&-") == (0, "")
    assert {"run.json", "weights"} <= set(os.listdir(out))


def test_a_reader_that_goes_away_is_no_error_to_speak_of():
    code, err = shell("train linear-regression --epochs 2000", "| head -1; exit ${PIPESTATUS[0]}")
    assert (code, err) == (1, "")


def test_what_cannot_be_printed_is_one_sentence():
    assert shell("recipes", "> /dev/full") == (1, "jaxnets: [Errno 28] No space left on device\n")


def test_what_the_streams_encoding_lacks_is_escaped():
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = run("summary", "linear-regression", env=environment)
    assert done.returncode == 0
    assert "\\u2503" in done.stdout


def test_a_platform_that_jax_does_not_know_is_one_sentence():
    done = run(*LINE, env={**os.environ, "JAX_PLATFORMS": "abacus"})
    assert done.returncode == 1
    assert done.stderr.startswith("jaxnets: Unable to initialize backend 'abacus'")
    assert done.stderr.count("\n") == 1


def test_a_number_that_is_none_is_one_sentence_where_jax_looks_for_it(capfd):
    with jax.debug_nans(True):
        assert main([*LINE, "--lr", "1e30"]) == 1
    error = capfd.readouterr().err
    assert "nan" in error
    assert error.count("\n") == 1


def test_an_interrupt_is_one_word_and_leaves_no_trace(tmp_path):
    flags = ["--epochs", "100000", "--out", tmp_path / "run"]
    process = subprocess.Popen(
        command("train", "linear-regression", *flags),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline().startswith("epoch 1/100000")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "jaxnets: interrupted"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_the_package_is_imported_is_the_same_word():
    script = """
import os, signal, sys
import jaxnets_command

class Interrupting:
    def find_spec(name, path, target=None):
        if name == "jaxnets.arrays":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting)
jaxnets_command.console()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (130, "jaxnets: interrupted\n", "")


@pytest.fixture(scope="module")
def interrupted():
    """A command that warns and then trains until the garbage collector is interrupted."""
    script = """
import gc, os, signal, sys, warnings
from jaxnets import cli

def interrupt(phase, about):
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # fit listens
        gc.callbacks.remove(interrupt)
        os.kill(os.getpid(), signal.SIGINT)

main = cli.main
cli.main = lambda: warnings.warn("step-8 is damaged: step-7 is used instead") or main()
gc.callbacks.append(interrupt)
cli.console()
"""
    line = [sys.executable, "-c", script, *LINE[:2], "--epochs", "100000", "--quiet"]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def test_a_warning_is_one_line(interrupted):
    warning, *rest = filter(None, interrupted.stderr.splitlines())
    assert warning == "jaxnets: step-8 is damaged: step-7 is used instead"
    assert len(rest) == 1


def test_an_interrupt_of_the_garbage_collector_is_the_same_word(interrupted):
    assert interrupted.returncode == 130
    assert interrupted.stderr.partition("\n")[2].strip() == "jaxnets: interrupted"


def test_a_shell_completes_the_names_of_recipes(monkeypatch, capsys):
    words = {"COMP_WORDS": "jaxnets train mnist-l", "COMP_CWORD": "2"}
    for name, value in {**words, "_JAXNETS_COMPLETE": "bash_complete"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        main([])
    assert not end.value.code
    assert capsys.readouterr().out.split() == ["plain,mnist-lenet", "plain,mnist-lstm"]
