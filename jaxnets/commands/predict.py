"""The command ``predict``: prints or writes the predictions of a trained network."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np
from flax import nnx

from jaxnets import reports, runs
from jaxnets.arrays import InputError, printable, shortened, shown
from jaxnets.commands import examples, prediction_file
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.saved import opened
from jaxnets.data import RatingsDataset, save_image
from jaxnets.data.text import target_texts
from jaxnets.figures import writable
from jaxnets.models import (
    IMAGE_MODELS,
    LANGUAGE_MODELS,
    TRANSLATORS,
    ActorCritic,
    MatrixFactorization,
    NeuMF,
    SpeechRecognizer,
)
from jaxnets.reports.ranking import recommend
from jaxnets.reports.report import WHICH
from jaxnets.sampling import ctc_greedy, sample, sample_images, translate
from jaxnets.training import predict

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
@click.option("--user", metavar="ID", help="A user of a run on ratings, to recommend items to.")
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
@click.option("--out", type=PathArgument(), metavar="FILE", help="With --samples: the PNG file.")
@click.option("--seed", type=int, show_default="0", help="Seed of the generated text or images.")
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

    An image of another size is cropped to the right proportions, around its center, and resized.

    A WAV file is converted to the sample rate and the length that the network was trained on. A
    network that was trained on sequences prints the sequence that it recognizes.

    A text classifier classifies each TEXT; a language model continues --prompt; and for a
    sequence-to-sequence network, the text that it writes for each TEXT is printed. Each TABLE is a
    file with the columns that the network was trained on, or - for standard input. A series is
    forecast from its last rows. A network on ratings recommends to --user the items with the
    largest outputs, without those that the user has rated. A network that generates images draws
    --samples into one PNG file.

    --csv FILE writes a row for each example: its number or name, its label if known, and the
    predicted class with the probability of each class, or the predicted number. With --csv, IMAGE
    may also be a folder of images, and TEXT a .txt file with one text per line.
    """
    flags["inputs"] = (*flags.pop("text"), *flags["inputs"])
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    if "split" in given and "csv" not in given:
        raise click.UsageError("--split requires --csv FILE.")
    if not {"inputs", "index", "prompt", "row", "csv", "user", "samples"} & set(given):
        expected = "an image file, a WAV file, a text, --index N, --prompt TEXT or --user ID"
        expected = f"{expected}, for a table a file or --row, or --samples N"
        raise click.UsageError(f"expected {expected}, got none")
    saved = opened(run)
    use = _RECOMMENDING if saved.ratings is not None else _use_of(saved.model)
    for name in given:
        if use.flags is not None and name not in use.flags:
            called = {"inputs": "TEXT", "of_class": "class"}.get(name, name)
            expected = f"none, as {use.does.format(type(saved.model).__name__)}"
            value = given[name]
            raise InputError(called, expected, shown(str(value) if name in _PATHS else value))
    for line in use.lines(saved, **given):
        click.echo(line)


def saved_in(folder: Path, example: Path, model: nnx.Module) -> str:
    """Returns a line with the folder of a run and the command that uses it.

    Args:
        folder: the folder in which everything was saved.
        example: the run directory for the command.
        model: the network of the run.
    """
    flags = _use_of(model).example
    if not flags:
        return f"saved in {folder}"
    return f"saved in {folder}; use it with: jaxnets predict {shlex.quote(str(example))} {flags}"


def _recommended(saved: runs.SavedRun, user: str | None = None, top: int = 10) -> list[str]:
    """A line for each item that is recommended, the best first."""
    if saved.ratings is None:
        raise InputError("run", "a folder with the ratings.json of its ratings", "none")
    (number,) = saved.ratings.numbered("user", [user])
    data = reports.data_of(saved)
    assert isinstance(data, RatingsDataset)
    items, outputs = recommend(saved.model, data.rated(), int(number), top)
    if data.candidates is not None:
        outputs = 1 / (1 + np.exp(-outputs))
    ids, titles = saved.ratings.items, saved.ratings.titles or ("",) * len(saved.ratings.items)
    names = [printable(f"{ids[item]}  {titles[item]}".rstrip()) for item in items]
    width = max(map(len, names), default=0)
    return [
        f"{place:>3}  {name:<{width}}  {output:.3f}"
        for place, (name, output) in enumerate(zip(names, outputs, strict=True), start=1)
    ]


def _written(
    saved: runs.SavedRun, prompt: str, length: int = 400, temperature: float = 0.8, seed: int = 0
) -> list[str]:
    """Returns the prompt and the text that the model generates after it."""
    encoder = saved.encoder
    if encoder is None:
        raise InputError("run", "a run directory with text.json", "none")
    tokens = encoder([prompt])[0]
    drawn = sample(saved.model, tokens, length, temperature=temperature, seed=seed)
    text = encoder.tokenizer.join([prompt, encoder.decode(drawn)])
    return [printable(text, limit=None, lines=True)]


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
    return [printable(text, limit=None) for text in target_texts(saved.encoder, found.tokens)]


def _drawn(
    saved: runs.SavedRun,
    samples: int,
    of_class: str | None = None,
    out: Path | None = None,
    seed: int = 0,
) -> list[str]:
    """Writes images that the network draws, and returns a line with their file."""
    if out is None:
        raise InputError("out", "a PNG file to write, as in --out samples.png", "none")
    path, count = writable(out, "out"), getattr(saved.model, "num_classes", None)
    names = (saved.class_names or tuple(map(str, range(count)))) if count else ()
    if of_class is not None and of_class not in names:
        expected = f"one of {shortened(names)}" if names else "none, as the network has no classes"
        raise InputError("class", expected, of_class)
    labels: Any = None
    if names:
        labels = names.index(of_class) if of_class else np.arange(samples) % len(names)
    columns = len(names) if names and of_class is None else 8
    save_image(sample_images(saved.model, samples, labels, seed=seed), path, columns)
    return [printable(f"wrote {samples:,} samples to {out}", limit=None)]


def _not_predicting(saved: runs.SavedRun, **given: Any) -> list[str]:
    expected = "a network that predicts (jaxnets.control.play_gymnasium plays a policy)"
    raise InputError("run", expected, type(saved.model).__name__)


def _classified(saved: runs.SavedRun, **given: Any) -> list[str]:
    """Returns a line for each example, or writes their predictions into a file."""
    _check_examples(given, saved)
    if "csv" in given:
        return [printable(_filed(saved, **given), limit=None)]
    return _answers(saved, **given)


def _check_examples(given: dict[str, Any], saved: runs.SavedRun) -> None:
    """Refuses flags that would have no effect."""
    reads_images = saved.encoder is None and saved.table is None and saved.audio is None
    if "invert" in given and not (reads_images and "inputs" in given):
        raise InputError("invert", "none, as no image file is given", given["invert"])
    several = {"inputs", "row", "index"} & set(given)
    if "split" in given and several:
        raise InputError("split", "none, as examples are given", given["split"])
    if "csv" in given and "top" in given:
        raise InputError("top", "none, as --csv writes every class", given["top"])
    if "csv" in given and isinstance(saved.model, SpeechRecognizer):
        raise InputError("csv", "none, as the run recognizes sequences", str(given["csv"]))
    if "top" in given and not saved.classifies:
        raise InputError("top", "none, as the run has no classes", given["top"])
    if "row" in given and saved.table is None:
        raise InputError("row", "none, as the run was not trained on a table", given["row"][0])


def _filed(saved: runs.SavedRun, csv: Path, split: Any = None, **given: Any) -> str:
    """Writes a file of predictions, and returns a line with its path."""
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
    """Returns a line for each example."""
    several, outputs = _predicted(saved, **given)
    if isinstance(saved.model, SpeechRecognizer):
        words = [_words(saved, labels) for labels in ctc_greedy(*outputs)]
        pairs = zip(several, words, strict=True)
        return [printable(f"{each.name}: {found}", limit=None) for each, found in pairs]
    _check_one_class(saved, outputs)
    names = (printable(examples.titled(each.name, each.label), limit=None) for each in several)
    return [
        f"{name}: {_answer(saved, each, top)}" for name, each in zip(names, outputs, strict=True)
    ]


def _predicted(saved: runs.SavedRun, **given: Any) -> tuple[list[examples.Example], np.ndarray]:
    """Returns the given examples, and the network's outputs for them."""
    several = examples.given(saved, **given)
    batch = jax.tree.map(lambda *arrays: np.stack(arrays), *[each.inputs for each in several])
    return several, predict(saved.model, batch, transform=saved.transform)


def _words(saved: runs.SavedRun, labels: np.ndarray) -> str:
    """A sequence of classes in words; digits and letters without spaces."""
    names = saved.class_names or tuple(map(str, range(labels.max(initial=0) + 1)))
    between = "" if all(len(name) == 1 for name in names) else " "
    return between.join(names[label] for label in labels)


def _check_one_class(saved: runs.SavedRun, outputs: np.ndarray) -> None:
    if saved.classifies and np.ndim(outputs) > 2:
        expected = "a run with one class for each example"
        raise InputError("run", expected, f"outputs of shape {list(np.shape(outputs)[1:])}")


def _answer(saved: runs.SavedRun, row: np.ndarray, top: int) -> str:
    """Returns the most likely classes for one row of outputs, or the predicted numbers."""
    if not saved.classifies:
        return " ".join(f"{value:.6g}" for value in prediction_file.values(saved, row[None])[0])
    names, shares = examples.shares(saved, row)
    best = np.argsort(-shares, kind="stable")[:top]
    return "  ".join(f"{names[k]} {shares[k]:.2%}" for k in best)


@dataclass(frozen=True)
class _Use:
    """How ``predict`` uses networks of some kinds.

    Attributes:
        networks: the classes of the networks.
        does: what a network does, for error messages; ``{}`` stands for its class.
        flags: the flags that have an effect; None if the network does not predict.
        lines: a function of a run and these flags that returns the lines to print.
        example: flags for the example that is printed after training; empty for none.
    """

    networks: tuple[type[nnx.Module], ...]
    does: str
    flags: tuple[str, ...] | None
    lines: Callable[..., Iterable[str]]
    example: str = "--index 0"


_RECOMMENDING = _Use(
    (MatrixFactorization, NeuMF),
    "a run on ratings recommends items to --user ID",
    ("user", "top"),
    _recommended,
    "--user ID",
)
_CLASSIFYING = _Use(
    (nnx.Module,),
    "{} classifies",
    ("inputs", "row", "index", "top", "invert", "csv", "split"),
    _classified,
)
_USES = (
    _RECOMMENDING,
    _Use(
        LANGUAGE_MODELS,
        "{} generates text after --prompt",
        ("prompt", "length", "temperature", "seed"),
        _written,
        "--prompt TEXT",
    ),
    _Use(
        TRANSLATORS,
        "{} generates text after --text",
        ("inputs", "length", "beam_size", "length_penalty"),
        _translated,
        "--text TEXT",
    ),
    _Use(
        IMAGE_MODELS,
        "{} draws --samples N",
        ("samples", "of_class", "out", "seed"),
        _drawn,
        "--samples 100 --out samples.png",
    ),
    _Use((ActorCritic,), "{} plays", None, _not_predicting, ""),
    _CLASSIFYING,
)


def _use_of(model: nnx.Module) -> _Use:
    """Returns how ``predict`` uses a network."""
    return next(use for use in _USES if isinstance(model, use.networks))
