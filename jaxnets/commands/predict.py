"""The command ``predict``: outputs of a trained network."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from flax import nnx

from jaxnets import runs
from jaxnets.arrays import InputError, printable, shown
from jaxnets.commands import examples, prediction_file
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.saved import opened
from jaxnets.data.text import target_texts
from jaxnets.models import LANGUAGE_MODELS, TRANSLATORS
from jaxnets.reports.report import WHICH
from jaxnets.sampling import sample, translate
from jaxnets.training import predict


@click.command("predict")
@click.argument("run", type=PathArgument())
@click.argument("inputs", metavar="[IMAGE | TEXT | TABLE]...", nargs=-1)
@click.option(
    "--row",
    multiple=True,
    metavar="NAME=VALUE,…",
    help="A new row of a table, or a step of a series; repeatable.",
)
@click.option("--index", type=int, multiple=True, help="A test example, by number; repeatable.")
@click.option("--top", type=click.IntRange(min=1), show_default="3", help="Classes to show.")
@click.option(
    "--invert/--no-invert",
    default=None,
    help="Exchange dark and light; by default where an image's border is unlike those trained on.",
)
@click.option("--text", multiple=True, help="A text, as TEXT; repeatable.")
@click.option("--prompt", help="The text that a language model continues.")
@click.option(
    "--length",
    type=int,
    show_default="400, or twice the length of a text that is read",
    help="Tokens to write, at most.",
)
@click.option(
    "--beam-size",
    type=int,
    show_default="1",
    help="Texts that the search for the best one keeps, of a network that writes one for another.",
)
@click.option(
    "--length-penalty",
    type=float,
    show_default="1",
    help="How much that search favours long texts.",
)
@click.option(
    "--temperature",
    type=float,
    show_default="0.8",
    help="Lower writes likelier tokens; 0 the likeliest.",
)
@click.option("--seed", type=int, show_default="0", help="Draws what is written.")
@click.option(
    "--csv",
    type=PathArgument(),
    metavar="FILE",
    help="Write the predictions into this file: of --split, or of what is given.",
)
@click.option(
    "--split",
    type=click.Choice(WHICH),
    show_default="test",
    help="With --csv: the examples of the run's data set that are predicted.",
)
def predict_command(run: Path, **flags: Any) -> None:
    """Classify image files, texts, rows or test examples with the network saved in the folder RUN.

    An image of another size is resized: the largest middle part of the right proportions.

    A network on text takes each TEXT as it is; a language model continues --prompt; a network that
    writes one text for another prints the text that it writes for each TEXT. Each
    TABLE is a file with the columns that a network on a table was trained on, or - for standard
    input. A series is forecast from its last rows.

    --csv FILE writes a row for each example: its number or name, its label where that is known, the
    predicted class, its probability and that of each class, or the predicted number. There an image
    may be a folder of images, and a text a file with one in each line.
    """
    flags["inputs"] = (*flags["inputs"], *flags.pop("text"))
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    if "split" in given and "csv" not in given:
        raise click.UsageError("--split needs --csv FILE.")
    if not {"inputs", "index", "prompt", "row", "csv"} & set(given):
        expected = "an image file, a text, --index N or --prompt TEXT"
        raise click.UsageError(f"expected {expected}, got none of them; of a table a file or --row")
    saved = opened(run)
    writes = isinstance(saved.model, LANGUAGE_MODELS)
    if isinstance(saved.model, TRANSLATORS):
        _check_flags(given, saved, "writes after --text", _FOR_OTHERS)
        for text in _translated(saved, **given):
            click.echo(printable(text, limit=None))
        return
    if writes:
        _check_flags(given, saved, "writes after --prompt", (*_CLASSIFYING, *_TRANSLATING))
    else:
        _check_flags(given, saved, "classifies", (*_WRITING, *_TRANSLATING))
    if writes:
        click.echo(printable(_written(saved, **given), limit=None, lines=True))
    elif "csv" in given:
        click.echo(printable(_filed(saved, **given), limit=None))
    else:
        for line in _answers(saved, **given):
            click.echo(line)


def saved_in(folder: Path, example: Path, model: nnx.Module) -> str:
    """Where a run was saved, and how to use it, in a line.

    Args:
        folder: where all was saved.
        example: the run's own folder.
        model: the run's.
    """
    asked = "--prompt TEXT" if isinstance(model, LANGUAGE_MODELS) else "--index 0"
    asked = "--text TEXT" if isinstance(model, TRANSLATORS) else asked
    return f"saved in {folder}; use it with: jaxnets predict {shlex.quote(str(example))} {asked}"


_WRITING = ("prompt", "length", "temperature", "seed")
_CLASSIFYING = ("inputs", "row", "index", "top", "invert", "csv")
_TRANSLATING = ("beam_size", "length_penalty")
_FOR_OTHERS = ("prompt", "temperature", "seed", "row", "index", "top", "invert", "csv")


def _check_flags(
    given: dict[str, Any], saved: runs.SavedRun, does: str, strange: Sequence[str]
) -> None:
    """Refuses what would have no effect, as the network does something else."""
    for name in strange:
        if name in given:
            called = "TEXT" if name == "inputs" else name
            expected = f"none, as {type(saved.model).__name__} {does}"
            raise InputError(called, expected, shown(given[name]))
    reads_images = saved.encoder is None and saved.table is None
    if "invert" in given and not (reads_images and "inputs" in given):
        raise InputError("invert", "none, as no image file is given", given["invert"])
    several = {"inputs", "row", "index"} & set(given)
    if "split" in given and several:
        raise InputError("split", "none, as examples are given", given["split"])
    if "csv" in given and "top" in given:
        raise InputError("top", "none, as --csv writes every class", given["top"])
    if "top" in given and not saved.classifies:
        raise InputError("top", "none, as the run has no classes", given["top"])
    if "row" in given and saved.table is None:
        raise InputError("row", "none, as the run is not on a table", given["row"][0])


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


def _translated(
    saved: runs.SavedRun,
    inputs: Sequence[str] = (),
    length: int | None = None,
    beam_size: int = 1,
    length_penalty: float = 1.0,
) -> list[str]:
    """What the network writes for each text."""
    if saved.encoder is None:
        raise InputError("run", "a folder with the text.json of its texts", "none")
    source = saved.encoder(inputs)
    found = translate(
        saved.model,
        source,
        2 * source.shape[1] if length is None else length,
        beam_size=beam_size,
        length_penalty=length_penalty,
    )
    return target_texts(saved.encoder, found.tokens)


def _filed(saved: runs.SavedRun, csv: Path, split: Any = None, **given: Any) -> str:
    """Writes a file of predictions, and says where it is."""
    prediction_file.check_place(csv)
    if split is not None or not given:
        found = prediction_file.of_split(saved, split or "test")
    else:
        several, outputs = _predicted(saved, whole=True, **given)
        labels = [() if each.label is None else (each.label,) for each in several]
        names = [each.name for each in several]
        found = prediction_file.Predictions("name", names, labels, outputs)
    _check_one_class(saved, found.outputs)
    prediction_file.write(csv, saved, found)
    return f"wrote {len(found.names):,} predictions to {csv}"


def _answers(saved: runs.SavedRun, top: int = 3, **given: Any) -> list[str]:
    """A line for each example."""
    several, outputs = _predicted(saved, **given)
    _check_one_class(saved, outputs)
    names = (printable(examples.said(each.name, each.label), limit=None) for each in several)
    return [
        f"{name}: {_answer(saved, each, top)}" for name, each in zip(names, outputs, strict=True)
    ]


def _predicted(saved: runs.SavedRun, **given: Any) -> tuple[list[examples.Example], np.ndarray]:
    """The examples given, and the outputs for them."""
    several = examples.given(saved, **given)
    batch = np.stack([each.inputs for each in several])
    return several, predict(saved.model, batch, transform=saved.transform)


def _check_one_class(saved: runs.SavedRun, outputs: np.ndarray) -> None:
    if saved.classifies and np.ndim(outputs) > 2:
        expected = "a run that gives an example one class"
        raise InputError("run", expected, f"outputs {list(np.shape(outputs)[1:])} for each")


def _answer(saved: runs.SavedRun, row: np.ndarray, top: int) -> str:
    """The most likely classes of one row of outputs; the numbers themselves without classes."""
    if not saved.classifies:
        return " ".join(f"{value:.6g}" for value in prediction_file.values(saved, row[None])[0])
    names, shares = examples.shares(saved, row)
    best = np.argsort(-shares, kind="stable")[:top]
    return "  ".join(f"{names[k]} {shares[k]:.2%}" for k in best)
