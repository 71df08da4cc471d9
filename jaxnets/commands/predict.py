"""The command ``predict``: prints or writes the predictions of a trained network."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import jax
import numpy as np
from flax import nnx

from jaxnets import reports, runs
from jaxnets.arrays import InputError, printable, shown
from jaxnets.commands import examples, prediction_file, reconstructions
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.saved import opened
from jaxnets.data import RatingsDataset
from jaxnets.data.text import target_texts
from jaxnets.models import (
    LANGUAGE_MODELS,
    TRANSLATORS,
    ActorCritic,
    Autoencoder,
    MatrixFactorization,
    NeuMF,
    SpeechRecognizer,
)
from jaxnets.reports.ranking import recommend
from jaxnets.reports.report import WHICH
from jaxnets.sampling import ctc_greedy, sample, translate
from jaxnets.training import predict


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
@click.option("--seed", type=int, show_default="0", help="Seed of the generated text.")
@click.option(
    "--csv",
    type=PathArgument(),
    metavar="FILE",
    help="Write the predictions for the given examples, or for --split, into this CSV file.",
)
@click.option(
    "--png",
    type=PathArgument(),
    metavar="FILE",
    help="For an autoencoder: draw the examples, each above its reconstruction, in this PNG file.",
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
    largest outputs, without those that the user has rated. An autoencoder prints the code of each
    example and the mean squared error of its reconstruction.

    --csv FILE writes a row for each example: its number or name, its label if known, and the
    predicted class with the probability of each class, or the predicted number. With --csv, IMAGE
    may also be a folder of images, and TEXT a .txt file with one text per line.
    """
    flags["inputs"] = (*flags.pop("text"), *flags["inputs"])
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    if "split" in given and "csv" not in given:
        raise click.UsageError("--split requires --csv FILE.")
    if not {"inputs", "index", "prompt", "row", "csv", "png", "user"} & set(given):
        expected = "an image file, a WAV file, a text, --index N, --prompt TEXT or --user ID"
        raise click.UsageError(f"expected {expected}, or for a table a file or --row, got none")
    saved = opened(run)
    kind = _kind_of(saved.model) if saved.ratings is None else _RATINGS
    _check_flags(given, saved, kind)
    for line in kind.predict(saved, **given):
        click.echo(line)


def saved_in(folder: Path, example: Path, model: nnx.Module) -> str:
    """Returns a line with the folder of a run and the command that uses it.

    Args:
        folder: the folder in which everything was saved.
        example: the run directory for the command.
        model: the network of the run.
    """
    flags = _kind_of(model).flags
    if not flags:
        return f"saved in {folder}"
    return f"saved in {folder}; use it with: jaxnets predict {shlex.quote(str(example))} {flags}"


def _check_flags(given: dict[str, Any], saved: runs.SavedRun, kind: "_Kind") -> None:
    """Refuses flags that would have no effect."""
    for name in given:
        if name not in kind.taken:
            called = "TEXT" if name == "inputs" else name
            does = kind.does.format(type(saved.model).__name__)
            raise InputError(called, f"none, as {does}", shown(given[name]))
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
    if "top" in given and kind is not _RATINGS and not saved.classifies:
        raise InputError("top", "none, as the run has no classes", given["top"])
    if "row" in given and saved.table is None:
        raise InputError("row", "none, as the run was not trained on a table", given["row"][0])


def _recommended(saved: runs.SavedRun, user: str | None = None, top: int = 10) -> list[str]:
    """A line for each item that is recommended, the best first."""
    assert saved.ratings is not None
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
    written = encoder.tokenizer.join([prompt, encoder.decode(drawn)])
    return [printable(written, limit=None, lines=True)]


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


def _refused(saved: runs.SavedRun, **given: Any) -> list[str]:
    """Refuses a policy, which acts rather than predicts."""
    expected = "a network that predicts (jaxnets.control.play_gymnasium plays a policy)"
    raise InputError("run", expected, type(saved.model).__name__)


def _classified(saved: runs.SavedRun, csv: Path | None = None, **given: Any) -> list[str]:
    """Writes a file of predictions, or returns a line for each example."""
    if csv is not None:
        return [printable(_filed(saved, csv, **given), limit=None)]
    return _answers(saved, **given)


def _filed(saved: runs.SavedRun, csv: Path, split: Any = None, **given: Any) -> str:
    """Writes a file of predictions, and returns a line with its path."""
    prediction_file.check_place(csv)
    if split is not None or not given:
        found = prediction_file.of_split(saved, split or "test")
    else:
        found = prediction_file.of_examples(*_predicted(saved, whole=True, **given))
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


class _Kind(NamedTuple):
    """What ``predict`` does with networks of some kinds.

    Attributes:
        flags: the flags that saving a run suggests; empty for a network that does not predict.
        predict: a function (run, flags by name) → lines to print.
        taken: the flags that have an effect.
        does: what the network does, for messages about other flags.
    """

    flags: str
    predict: Callable[..., Iterable[str]]
    taken: tuple[str, ...]
    does: str


_EXAMPLES = ("inputs", "row", "index", "invert", "csv", "split")
_RATINGS = _Kind(
    "--user ID", _recommended, ("user", "top"), "a run on ratings recommends items to --user ID"
)
_OTHERS = _Kind("--index 0", _classified, (*_EXAMPLES, "top"), "{} classifies")
_KINDS: tuple[tuple[Any, _Kind], ...] = (
    (
        LANGUAGE_MODELS,
        _Kind(
            "--prompt TEXT",
            _written,
            ("prompt", "length", "temperature", "seed"),
            "{} generates text after --prompt",
        ),
    ),
    (
        TRANSLATORS,
        _Kind(
            "--text TEXT",
            _translated,
            ("inputs", "length", *("beam_size", "length_penalty")),
            "{} generates text after --text",
        ),
    ),
    ((MatrixFactorization, NeuMF), _RATINGS),
    (ActorCritic, _Kind("", _refused, _OTHERS.taken, "{} acts")),
    (
        Autoencoder,
        _Kind("--index 0", reconstructions.encoded, (*_EXAMPLES, "png"), "{} encodes examples"),
    ),
)


def _kind_of(model: nnx.Module) -> _Kind:
    """Returns the row for a network."""
    return next((kind for models, kind in _KINDS if isinstance(model, models)), _OTHERS)
