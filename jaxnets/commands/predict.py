"""The command ``predict``: prints or writes the predictions of a trained network."""

import shlex
from pathlib import Path
from typing import Any

import click
from flax import nnx

from jaxnets.commands import boxes
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.predictors import check_flags, predictor_of
from jaxnets.commands.saved import opened
from jaxnets.reports.report import WHICH

_PATHS = ("csv", "out")


@click.command("predict")
@click.argument("run", type=PathArgument())
@click.argument("inputs", metavar="[IMAGE | WAV | TEXT | TABLE]...", nargs=-1)
@click.option(
    "--row",
    multiple=True,
    metavar="NAME=VALUE,…",
    help="A row of a table, or a step of a series; repeatable.",
)
@click.option("--index", type=int, multiple=True, help="A test example, by number; repeatable.")
@click.option("--user", metavar="ID", help="With a run on ratings: the user, by id.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    show_default="3, or 10 items",
    help="Number of classes, or of items, to show.",
)
@click.option(
    "--invert/--no-invert",
    default=None,
    help="Exchange dark and light.  [default: if the border is unlike those of training images]",
)
@click.option("--text", multiple=True, help="A text, like TEXT; repeatable.")
@click.option("--prompt", help="The text for a language model to continue.")
@click.option(
    "--length",
    type=int,
    show_default="400, or twice the longest source",
    help="Number of tokens to generate; with TEXT the maximum.",
)
@click.option(
    "--beam-size",
    type=int,
    show_default="1",
    help="Width of the beam search, for a network that writes a text for each TEXT.",
)
@click.option(
    "--length-penalty",
    type=float,
    show_default="1",
    help="Larger values prefer longer texts in the beam search.",
)
@click.option(
    "--temperature",
    type=float,
    show_default="0.8",
    help="Sampling temperature; 0 always takes the most likely token.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1, max=10_000),
    help="Number of images to draw with a network that generates images, into --out.",
)
@click.option(
    "--class",
    "of_class",
    metavar="NAME",
    help="With --samples: the class to draw.  [default: all classes, one in each column]",
)
@click.option("--seed", type=int, show_default="0", help="Seed of the generated text or images.")
@click.option(
    "--out",
    type=PathArgument(),
    help="The new PNG file for --samples, for the objects that a detector finds in an example, or "
    "for the reconstructions of an autoencoder; a new folder for objects in several examples.",
)
@click.option(
    "--score",
    type=click.FloatRange(0, 1),
    show_default=str(boxes.LEAST),
    help="For a detector: the smallest score of an object to show.",
)
@click.option(
    "--csv",
    type=PathArgument(),
    metavar="FILE",
    help="Write the predictions for the given examples, or for --split, into this CSV file.",
)
@click.option(
    "--split",
    type=click.Choice(WHICH),
    show_default="test",
    help="With --csv: the split of the run's data set to predict.",
)
def predict_command(run: Path, **flags: Any) -> None:
    """Predict for files, texts, rows or test examples with the network in the run directory RUN.

    An image of another size is cropped around its center to the aspect ratio of the training
    images, and resized. A WAV file is converted to the sample rate and the length of the training
    recordings. Each TABLE is a file with the columns that the network was trained on, or - for
    standard input; a series is forecast from its last rows.

    A text classifier classifies each TEXT. A language model continues --prompt. A
    sequence-to-sequence network writes a text for each TEXT. A network for sequences of words
    prints the sequence that it recognizes.

    A detector prints class, score and box of each object (the left, upper, right and lower edge in
    pixels); --out draws them. An autoencoder prints the code of each example and the mean squared
    error of its reconstruction. A network that generates images writes --samples N images into the
    PNG file --out. A network trained on ratings recommends items to --user: those with the largest
    outputs, except for items that the user has rated.

    --csv FILE writes a row for each example: its number or name, its label if known, and the
    predicted class with the probability of each class, or the predicted number. With --csv, IMAGE
    may also be a folder of images, and TEXT a .txt file with one text per line.
    """
    flags["inputs"] = (*flags.pop("text"), *flags["inputs"])
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    if "split" in given and "csv" not in given:
        raise click.UsageError("--split requires --csv FILE.")
    if not {"inputs", "index", "prompt", "row", "csv", "out", "user", "samples"} & set(given):
        expected = "an image file, a WAV file, a text, --index N, --prompt TEXT or --user ID"
        expected = f"{expected}, for a table a file or --row, or --samples N"
        raise click.UsageError(f"expected {expected}, got none")
    saved = opened(run)
    kind = predictor_of(saved.model, ratings=saved.ratings is not None)
    check_flags(given, saved, kind)
    for line in kind.lines(saved, **given):
        click.echo(line)


def saved_in(folder: Path, example: Path, model: nnx.Module) -> str:
    """Returns a line with the folder of a run and the command that uses it.

    Args:
        folder: the folder in which everything was saved.
        example: the run directory for the command.
        model: the network of the run.
    """
    flags = predictor_of(model).example
    if not flags:
        return f"saved in {folder}"
    return f"saved in {folder}; use it with: jaxnets predict {shlex.quote(str(example))} {flags}"
