"""Examples of training steps that users write: they run to the end and refuse bad arguments."""

import re
import sys

import pytest
from matplotlib.image import imread

from tests.parity.anything import example

pytestmark = pytest.mark.slow

#: The beginning of the last line of an example's output, and the columns of its samples.
MAINS = {
    "gan": ("accuracy of the discriminator: ", 10),
    "vae": ("test reconstruction: ", 8),
    "diffusion": ("test error of the predicted noise: ", 10),
    "denoising_autoencoder": ("test: mean squared error ", None),
    "siamese": ("test accuracy: ", None),
    "two_tasks": ("test accuracy of odd: ", None),
}

#: Arguments that make an example fast.
SMALL = {"diffusion": ["--channels", "8", "--steps", "2"]}

#: Arguments of an example, and its last line.
FURTHER = {
    "distillation": ("--images 64 --epochs 1", r"student: test accuracy \S+%, of the 3s \S+%"),
    "fine_tuning": ("--images 64 --epochs 1", r"5 to 9: test accuracy \S+%, from scratch \S+%"),
    "l1_penalty": ("--images 64 --epochs 1", r"with these .* set to zero: test accuracy \S+%"),
    "reinforce": ("--epochs 1", r"the pole stays up for \d+ of 500 steps, at first for \d+"),
    "truncated_bptt": ("--letters 10000 --epochs 1", r"test loss, read window .*: \d\.\d+ nats .*"),
}


@pytest.mark.parametrize("name", MAINS)
def test_the_examples_run(name, monkeypatch, tmp_path, capsys):
    line, columns = MAINS[name]
    words = ["--images", "64", "--epochs", "1", *SMALL.get(name, ())]
    words += ["--samples", str(tmp_path / "drawn.png")] if columns else []
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    example(name).main()
    epoch, *_, last = capsys.readouterr().out.splitlines()
    assert re.match(r"epoch 1/1  train loss \d+\.\d+  ", epoch)
    assert re.match(rf"{line}\d+\.\d+", last)
    if columns:
        assert imread(tmp_path / "drawn.png").shape == (columns * 30 + 2, columns * 30 + 2)


@pytest.mark.parametrize("name", FURTHER)
def test_further_examples_run(name, monkeypatch, capsys):
    arguments, line = FURTHER[name]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments.split()])
    example(name).main()
    *_, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(line, last)


@pytest.mark.parametrize("name", [*MAINS, *FURTHER])
def test_bad_arguments_of_examples_are_one_sentence(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--epochs", "0"])
    with pytest.raises(SystemExit):
        example(name).main()
    assert capsys.readouterr().err.endswith("epochs: expected a positive integer, got 0\n")
