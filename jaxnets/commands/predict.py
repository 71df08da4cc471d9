"""The command that asks a trained network."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from flax import nnx

from jaxnets import recipes, runs
from jaxnets.arrays import InputError
from jaxnets.commands.flags import PathArgument
from jaxnets.data import Dataset, StandardizedDataset
from jaxnets.models import LanguageModel
from jaxnets.sampling import sample
from jaxnets.training import predict

_Examples = list[tuple[str, np.ndarray]]


@click.command("predict")
@click.argument("run", type=PathArgument())
@click.argument("inputs", metavar="[IMAGE | TEXT]...", nargs=-1)
@click.option("--index", type=int, multiple=True, help="A test example, by number; repeatable.")
@click.option("--top", type=click.IntRange(min=1), show_default="3", help="Classes to show.")
@click.option("--prompt", help="What a language model goes on writing after.")
@click.option("--length", type=int, show_default="400", help="Tokens to write.")
@click.option(
    "--temperature",
    type=float,
    show_default="0.8",
    help="Lower writes likelier tokens; 0 the likeliest.",
)
@click.option("--seed", type=int, show_default="0", help="Draws what is written.")
def predict_command(run: Path, **flags: Any) -> None:
    """Classify image files, texts or test examples with the network saved in the folder RUN.

    A network on text takes each TEXT as it stands; a language model goes on after --prompt.
    """
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    if not {"inputs", "index", "prompt"} & set(given):
        expected = "an image file, a text, --index N or --prompt TEXT"
        raise click.UsageError(f"expected {expected}, got none of them")
    saved = runs.read(run)
    writes = isinstance(saved.model, LanguageModel)
    _check_flags(given, saved, ("inputs", "index", "top") if writes else _WRITING)
    if writes:
        click.echo(_written(saved, **given))
    else:
        for line in _answers(saved, **given):
            click.echo(line)


def saved_in(folder: Path, example: Path, model: nnx.Module) -> str:
    """Where a run was saved, and how to ask it, in a line.

    Args:
        folder: where all was saved.
        example: the run's own folder.
        model: the run's.
    """
    asked = "--prompt TEXT" if isinstance(model, LanguageModel) else "--index 0"
    return f"saved in {folder}; to ask it: jaxnets predict {shlex.quote(str(example))} {asked}"


_WRITING = ("prompt", "length", "temperature", "seed")


def _check_flags(given: dict[str, Any], saved: runs.SavedRun, strange: Sequence[str]) -> None:
    """Refuses what would have no effect."""
    does = "classifies" if strange is _WRITING else "writes after --prompt"
    for name in strange:
        if name in given:
            called = "TEXT" if name == "inputs" else name
            expected = f"none, as {type(saved.model).__name__} {does}"
            raise InputError(called, expected, repr(given[name]))
    if "top" in given and not saved.classifies:
        raise InputError("top", "none, as the run has no classes", given["top"])


def _written(
    saved: runs.SavedRun, prompt: str, length: int = 400, temperature: float = 0.8, seed: int = 0
) -> str:
    """The prompt and what the model writes after it."""
    encoder = saved.encoder
    if encoder is None:
        raise InputError("run", "a folder with the text.json of a language model", "none")
    tokens = encoder([prompt])[0]
    drawn = sample(saved.model, tokens, length, temperature=temperature, seed=seed)
    return encoder.tokenizer.join([prompt, encoder.decode(drawn)])


def _answers(
    saved: runs.SavedRun, inputs: tuple[str, ...] = (), index: tuple[int, ...] = (), top: int = 3
) -> list[str]:
    """A line for each example."""
    examples = _given(saved, inputs) if inputs else []
    if index:
        examples += _chosen(_data(saved, "index"), index)
    batch = np.stack([example for _, example in examples])
    outputs = predict(saved.model, batch, transform=saved.transform)
    names = (name for name, _ in examples)
    return [f"{name}: {_answer(saved, row, top)}" for name, row in zip(names, outputs, strict=True)]


def _given(saved: runs.SavedRun, inputs: tuple[str, ...]) -> _Examples:
    """The texts or images given, each with its name."""
    if saved.encoder is not None:
        return list(zip(inputs, saved.encoder(inputs), strict=True))
    spec = saved.inputs or _data(saved, "image").spec.inputs
    return [(path, runs.read_image(path, spec)) for path in inputs]


def _data(saved: runs.SavedRun, argument: str) -> Dataset:
    """The run's data set."""
    if saved.recipe is None:
        expected = "none, as the folder of a run from Python does not name its data"
        raise InputError(argument, expected, "one")
    return recipes.load_data(saved.recipe)


def _chosen(data: Dataset, index: tuple[int, ...]) -> _Examples:
    """Test examples by number, each with its name."""
    for number in index:
        if not 0 <= number < len(data.test):
            raise InputError("index", f"a number from 0 to {len(data.test) - 1}", number)
    inputs, labels = data.test.gather(np.array(index, np.int32))
    if isinstance(data, StandardizedDataset) and data.labels_scaler is not None:
        labels = data.labels_scaler.inverse(labels)
    return [
        (f"test example {number} (label {label})", example)
        for number, label, example in zip(index, labels, inputs, strict=True)
    ]


def _answer(saved: runs.SavedRun, row: np.ndarray, top: int) -> str:
    """The most likely classes of one row of outputs; the numbers themselves without classes."""
    if not saved.classifies:
        if saved.labels_scaler is not None:
            row = saved.labels_scaler.inverse(row)
        return " ".join(f"{value:.6g}" for value in np.ravel(row))
    output = getattr(saved.model, "output", "logits")
    if len(row) == 1:  # one output tells two classes apart
        second = row[0] if output == "sigmoid" else 1 / (1 + np.exp(-row[0]))
        row = np.array([1 - second, second])
    elif output == "logits":
        exponentials = np.exp(row - row.max())
        row = exponentials / exponentials.sum()
    best = np.argsort(-row, kind="stable")[:top]
    names = saved.class_names or ()
    return "  ".join(f"{names[k] if k < len(names) else k} {row[k]:.2%}" for k in best)
