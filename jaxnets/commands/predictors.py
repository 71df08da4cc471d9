"""What the command ``predict`` does with networks of each kind."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxnets import reports, runs
from jaxnets.arrays import InputError, printable, shortened, shown
from jaxnets.commands import boxes, examples, prediction_file, reconstructions
from jaxnets.data import RatingsDataset, save_image
from jaxnets.data.text import target_texts
from jaxnets.figures import writable
from jaxnets.models import (
    IMAGE_MODELS,
    LANGUAGE_MODELS,
    TRANSLATORS,
    ActorCritic,
    Autoencoder,
    CenterNet,
    MatrixFactorization,
    NeuMF,
    SpeechRecognizer,
)
from jaxnets.reports.ranking import recommend
from jaxnets.sampling import ctc_greedy, sample, sample_images, translate
from jaxnets.training import predict


class Predictor(NamedTuple):
    """What ``predict`` does with networks of some kinds.

    Attributes:
        does: what a network does, for messages about other flags; ``{}`` stands for its class.
        lines: a function (run, flags by name) → lines to print.
        flags: the flags that have an effect.
        example: the flags that are suggested when a run is saved; empty for none.
    """

    does: str
    lines: Callable[..., Iterable[str]]
    flags: tuple[str, ...]
    example: str = "--index 0"


def predictor_of(model: nnx.Module, *, ratings: bool = False) -> Predictor:
    """Returns what ``predict`` does with a network.

    Args:
        model: the network.
        ratings: whether it was trained on ratings.
    """
    if ratings:
        return _RECOMMENDS
    return next((kind for models, kind in _PREDICTORS if isinstance(model, models)), _CLASSIFIES)


def check_flags(given: dict[str, Any], saved: runs.SavedRun, kind: Predictor) -> None:
    """Refuses flags that would have no effect.

    Args:
        given: the flags by name.
        saved: the run.
        kind: what ``predict`` does with the run's network.

    Raises:
        InputError: if one of the flags has no effect.
    """
    for name in given:
        if name not in kind.flags:
            called = {"inputs": "TEXT", "of_class": "class"}.get(name, name)
            does = kind.does.format(type(saved.model).__name__)
            value = given[name]
            value = str(value) if isinstance(value, Path) else value
            raise InputError(called, f"none, as {does}", shown(value))
    reads_images = saved.encoder is None and saved.table is None and saved.audio is None
    if "invert" in given and not (reads_images and "inputs" in given):
        raise InputError("invert", "none, as no image file is given", given["invert"])
    several = {"inputs", "row", "index"} & set(given)
    if "split" in given and several:
        raise InputError("split", "none, as examples are given", given["split"])
    if "csv" in given and "top" in given:
        raise InputError("top", "none, as --csv writes every class", given["top"])
    if "top" in given and kind is not _RECOMMENDS and not saved.classifies:
        raise InputError("top", "none, as the run has no classes", given["top"])
    if "row" in given and saved.table is None:
        raise InputError("row", "none, as the run was not trained on a table", given["row"][0])


def _recommended(saved: runs.SavedRun, user: str | None = None, top: int = 10) -> list[str]:
    """Returns a line for each recommended item, the best first."""
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
    """Returns the text that the network writes for each text."""
    if saved.encoder is None:
        raise InputError("run", "a run directory with text.json", "none")
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
    samples: int | None = None,
    of_class: str | None = None,
    out: Path | None = None,
    seed: int = 0,
) -> list[str]:
    """Writes images that the network generates, and returns a line with their file."""
    if samples is None:
        raise InputError("samples", "the number of images to generate", "none")
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
    _check_one_class(saved, outputs)
    names = (printable(examples.titled(each.name, each.label), limit=None) for each in several)
    return [
        f"{name}: {_answer(saved, each, top)}" for name, each in zip(names, outputs, strict=True)
    ]


def _recognized(saved: runs.SavedRun, **given: Any) -> list[str]:
    """Returns a line with the sequence in each example."""
    several, outputs = _predicted(saved, **given)
    return _named(several, [_words(saved, labels) for labels in ctc_greedy(*outputs)])


def _detected(
    saved: runs.SavedRun, out: Path | None = None, score: float = boxes.LEAST, **given: Any
) -> list[str]:
    """Returns a line with the objects in each example, and draws them."""
    several, outputs = _predicted(saved, **given)
    found = boxes.found(saved, several, outputs, score)
    lines = _named(several, map(boxes.in_words, found))
    return lines if out is None else [*lines, *boxes.draw(several, found, out)]


def _named(several: list[examples.Example], words: Iterable[str]) -> list[str]:
    pairs = zip(several, words, strict=True)
    return [printable(f"{each.name}: {found}", limit=None) for each, found in pairs]


def _predicted(saved: runs.SavedRun, **given: Any) -> tuple[list[examples.Example], np.ndarray]:
    """Returns the given examples, and the network's outputs for them."""
    several = examples.given(saved, **given)
    if not several:
        raise InputError("examples", "a file, a text, --row or --index N", "none")
    batch = jax.tree.map(lambda *arrays: np.stack(arrays), *[each.inputs for each in several])
    return several, predict(saved.model, batch, transform=saved.transform)


def _words(saved: runs.SavedRun, labels: np.ndarray) -> str:
    """Returns a sequence of classes as text; digits and letters are not separated."""
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


_GIVEN = ("inputs", "row", "index", "invert")
_RECOMMENDS = Predictor(
    "a run on ratings recommends items to --user ID", _recommended, ("user", "top"), "--user ID"
)
_CLASSIFIES = Predictor("{} classifies", _classified, (*_GIVEN, "csv", "split", "top"))
_PREDICTORS: tuple[tuple[Any, Predictor], ...] = (
    (
        LANGUAGE_MODELS,
        Predictor(
            "{} generates text after --prompt",
            _written,
            ("prompt", "length", "temperature", "seed"),
            "--prompt TEXT",
        ),
    ),
    (
        TRANSLATORS,
        Predictor(
            "{} generates text after --text",
            _translated,
            ("inputs", "length", "beam_size", "length_penalty"),
            "--text TEXT",
        ),
    ),
    (
        IMAGE_MODELS,
        Predictor(
            "{} draws --samples N",
            _drawn,
            ("samples", "of_class", "out", "seed"),
            "--samples 100 --out samples.png",
        ),
    ),
    ((MatrixFactorization, NeuMF), _RECOMMENDS),
    (SpeechRecognizer, Predictor("the run recognizes sequences", _recognized, _GIVEN)),
    (
        CenterNet,
        Predictor(
            "{} detects objects",
            _detected,
            (*_GIVEN, "out", "score"),
            "--index 0 --out objects.png",
        ),
    ),
    (
        Autoencoder,
        Predictor("{} encodes examples", reconstructions.encoded, (*_GIVEN, "csv", "split", "out")),
    ),
    (ActorCritic, Predictor("{} acts", _refused, _CLASSIFIES.flags, "")),
)
