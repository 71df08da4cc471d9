"""The command ``explain``: shows which inputs a prediction depends on."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from jaxnets import explain, metrics, runs
from jaxnets.arrays import InputError, printable, shown
from jaxnets.commands import examples
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.saved import data_of, opened
from jaxnets.data.survey import is_image
from jaxnets.data.transforms.compose import applied
from jaxnets.explain import drawing, permutation
from jaxnets.figures import writable
from jaxnets.models import LANGUAGE_MODELS, TRANSLATORS
from jaxnets.training import predict

#: The methods for one example of floating-point inputs, and their names in titles.
METHODS = {
    "integrated-gradients": "integrated gradients",
    "saliency": "saliency",
    "input-x-gradient": "input × gradient",
    "smooth-grad": "SmoothGrad",
    "grad-cam": "Grad-CAM",
    "occlusion": "occlusion",
}
_DEFAULT = "integrated-gradients"
_UNSIGNED = ("saliency", "smooth-grad", "grad-cam")
_TESTED = 2_000  # rows of a table that are permuted


@click.command("explain")
@click.argument("run", type=PathArgument())
@click.argument("inputs", metavar="[IMAGE | TEXT | TABLE]...", nargs=-1)
@click.option("--row", multiple=True, metavar="NAME=VALUE,…", help="A new row of a table.")
@click.option("--index", type=int, multiple=True, help="A test example, by number; repeatable.")
@click.option(
    "--method",
    type=click.Choice(list(METHODS)),
    help="The attribution method.  [default: integrated-gradients]",
)
@click.option(
    "--target",
    metavar="CLASS",
    help="The class to explain, by name or number.  [default: the predicted class]",
)
@click.option(
    "--layer",
    metavar="NAME",
    help="The layer of grad-cam.  [default: the last convolution]",
)
@click.option(
    "--n-steps",
    type=click.IntRange(min=2, max=10_000),
    help="Number of points of the integral in integrated-gradients.  [default: 100]",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    help="Number of permutations of each column of a table.  [default: 5]",
)
@click.option(
    "--invert/--no-invert",
    default=None,
    help="Exchange dark and light.  [default: if the border is unlike those of training images]",
)
@click.option(
    "--out",
    type=PathArgument(),
    default=Path("explanation.png"),
    show_default=True,
    help="The PNG file to write, or replace. With several examples, each file has its number.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the attributions as JSON and draw nothing."
)
def explain_command(run: Path, out: Path, as_json: bool, **flags: Any) -> None:
    """Draw which inputs a prediction of the network in the run directory RUN depends on.

    For an image, a text or a row, inputs that increase the output of the class are red, and those
    that decrease it are blue. For a table without a row, the picture shows the importance of each
    column: how much the score on the test rows falls when the column is permuted.
    """
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    saved = opened(run)
    if saved.inputs is None:  # as in the records of older runs
        saved = dataclasses.replace(saved, inputs=data_of(saved, "run").spec.inputs)
    of_examples = not {"inputs", "row", "index"}.isdisjoint(given)
    _check_flags(given, saved, of_examples)
    place = writable(out, "out")
    if not of_examples:
        _explain_columns(saved, place, as_json, given.get("repeats", 5))
        return
    named = ("inputs", "row", "index", "invert")
    found = examples.read(saved, **{name: given[name] for name in named if name in given})
    settings = {name: value for name, value in given.items() if name not in named}
    _explain_examples(saved, found, place, as_json, settings)


def _check_flags(given: dict[str, Any], saved: runs.SavedRun, of_examples: bool) -> None:
    """Refuses flags that would have no effect."""
    if isinstance(saved.model, (*LANGUAGE_MODELS, *TRANSLATORS)):
        raise InputError("run", "a classifier or a regression", "a network that generates text")
    if not of_examples and not _has_columns(saved):
        raise click.UsageError("expected an image file, a text or --index N, got none")
    method = given.get("method", _DEFAULT)
    here = {
        "repeats": not of_examples,
        "method": of_examples and saved.encoder is None,
        "target": of_examples,
        "layer": of_examples and method == "grad-cam",
        "n_steps": of_examples and method == _DEFAULT,
        "row": saved.table is not None,
        "invert": "inputs" in given and saved.encoder is None and saved.table is None,
    }
    for name, has_effect in here.items():
        if name in given and not has_effect:
            raise InputError(name, "none, as it has no effect here", shown(given[name]))


def _has_columns(saved: runs.SavedRun) -> bool:
    """Whether an example is a row of numbers, or a series of them."""
    shape = getattr(saved.inputs, "shape", ())
    return len(shape) in (1, 2) and saved.encoder is None and saved.inputs.dtype.kind == "f"


class _Target(NamedTuple):
    """The output to explain.

    Attributes:
        output: the index of the network's output.
        sign: -1 for class 0 of a network with a single output, whose logit is that of class 1;
            otherwise 1.
        target: the name of the output or class.
        share: the probability of the class in parentheses, or "" for the predicted class.
        answer: the prediction as text.
    """

    output: int
    sign: int
    target: str
    share: str
    answer: str


class _Explained(NamedTuple):
    """An example and its explanation.

    Attributes:
        name: the name of the example.
        example: the inputs before the transform.
        chosen: the output that is explained.
        attributions: the attributions, of the shape of the transformed inputs.
        error: the relative error of the sum of integrated gradients (completeness); None for other
            methods.
    """

    name: str
    example: np.ndarray
    chosen: _Target
    attributions: np.ndarray
    error: float | None


def _explain_examples(
    saved: runs.SavedRun,
    found: examples.Examples,
    place: Path,
    as_json: bool,
    settings: dict[str, Any],
) -> None:
    """Explains each example, prints a line for it and draws it."""
    outputs = predict(
        saved.model, np.stack([example for _, example in found]), transform=saved.transform
    )
    if np.ndim(outputs) != 2:
        expected = "a run with one class or a vector of numbers for an example"
        raise InputError("run", expected, f"outputs of shape {list(np.shape(outputs)[1:])}")
    method = settings.pop("method", _DEFAULT)
    explained = [
        _explained(saved, name, example, row, method, **settings)
        for (name, example), row in zip(found, outputs, strict=True)
    ]
    if as_json:
        click.echo(json.dumps([_as_json(each, method) for each in explained]))
        return
    for number, each in enumerate(explained, start=1):
        path = place if len(explained) == 1 else place.with_stem(f"{place.stem}-{number}")
        click.echo(printable(_line(each), limit=None))
        _drawn(saved, each, method, path)
        click.echo(f"wrote {path}")


def _explained(
    saved: runs.SavedRun,
    name: str,
    example: np.ndarray,
    row: np.ndarray,
    method: str,
    target: str | None = None,
    layer: str | None = None,
    n_steps: int = 100,
) -> _Explained:
    """Explains one example."""
    chosen = _target(saved, row, target)
    made = _attributions(saved, example[None], chosen.output, method, layer, n_steps)
    error = None
    if isinstance(made, explain.IntegratedGradients):
        difference = float(made.attributions.sum() - made.delta[0])
        error = abs(float(made.delta[0])) / max(abs(difference), 1e-12)
        made = made.attributions
    attributions = np.asarray(made)[0]
    attributions = attributions if method in _UNSIGNED else chosen.sign * attributions
    return _Explained(name, example, chosen, attributions, error)


def _attributions(
    saved: runs.SavedRun, batch: np.ndarray, target: int, method: str, layer: str | None, n: int
) -> Any:
    """Computes the attributions of a batch of one example by a method of ``METHODS``."""
    if saved.encoder is not None:
        return explain.token_attributions(saved.model, batch, target, n_steps=n)
    given = saved.model, batch, target
    options: dict[str, Any] = {"transform": saved.transform}
    if method == "saliency":
        return explain.saliency(*given, **options)
    if method == "input-x-gradient":
        return explain.input_x_gradient(*given, **options)
    if method == "smooth-grad":
        return explain.smooth_grad(*given, stdevs=_noise(saved, batch), **options)
    if method == "grad-cam":
        return explain.grad_cam(*given, layer=layer, **options)
    options["baselines"] = _baseline(saved, batch)
    if method == "occlusion":
        return explain.occlusion(*given, **{**options, **_window(saved, batch)})
    return explain.integrated_gradients(*given, n_steps=n, **options)


def _target(saved: runs.SavedRun, row: np.ndarray, given: str | None) -> _Target:
    """Finds the output to explain, from the outputs for an example and the value of --target.

    A single output is the logit of class 1; class 0 has the opposite sign.
    """
    if not saved.classifies:
        number = 0 if given is None else _number(given, [str(k) for k in range(len(row))])
        values = row if saved.labels_scaler is None else saved.labels_scaler.inverse(row)
        words = "the output" if len(row) == 1 else f"output {number}"
        return _Target(number, 1, words, "", " ".join(f"{value:.6g}" for value in np.ravel(values)))
    names, shares = examples.shares(saved, row)
    best = int(np.argmax(shares))
    number = best if given is None else _number(given, names)
    share = "" if number == best else f" ({shares[number]:.2%})"
    output, sign = (0, 1 if number else -1) if len(row) == 1 else (number, 1)
    answer = f"{names[best]} ({shares[best]:.2%})"
    return _Target(output, sign, f"class {names[number]}", share, answer)


def _number(given: str, names: Any) -> int:
    """Returns the number of a class, which is given by its name or its number."""
    if given in names:
        return list(names).index(given)
    if given.isdecimal() and len(given) < 10 and int(given) < len(names):
        return int(given)
    few = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    raise InputError("target", f"one of {few}", given)


def _baseline(saved: runs.SavedRun, batch: np.ndarray) -> Any:
    """Returns the baseline: an image of the background color, or 0 for other inputs."""
    if not is_image(saved.inputs):
        return 0.0
    blank = np.full_like(batch, round(255 * (saved.background or 0)))
    return np.asarray(applied(saved.transform, blank))


def _noise(saved: runs.SavedRun, batch: np.ndarray) -> float:
    """Returns the standard deviation of SmoothGrad's noise: 15 % of the range of the inputs.

    Within the 10 to 20 % that its authors recommend (Smilkov et al., 2017).
    """
    x = np.asarray(applied(saved.transform, batch))
    return 0.15 * float(x.max() - x.min())


def _window(saved: runs.SavedRun, batch: np.ndarray) -> dict[str, Any]:
    """Returns the occlusion window: a seventh of an image, moved by half of it, or one column."""
    x = np.asarray(applied(saved.transform, batch))
    if x.ndim == 2:
        return {"sliding_window_shapes": 1}
    if not is_image(saved.inputs):
        return {"sliding_window_shapes": (1, *[1] * (x.ndim - 2))}
    side = max(1, min(x.shape[1:3]) // 7)
    window = (side, side, *x.shape[3:])
    step = max(1, side // 2)
    return {"sliding_window_shapes": window, "strides": (step, step, *[1] * (x.ndim - 3))}


def _line(each: _Explained) -> str:
    """Returns a line with the prediction and what is explained."""
    text = f"{each.name}: {each.chosen.answer}; explained: {each.chosen.target}{each.chosen.share}"
    return text if each.error is None else f"{text}; relative error of the sum: {each.error:.2%}"


def _as_json(each: _Explained, method: str) -> dict[str, Any]:
    return {
        "example": each.name,
        "answer": each.chosen.answer,
        "target": each.chosen.target,
        "method": method,
        "completeness_error": each.error,
        "attributions": each.attributions.tolist(),
    }


def _drawn(saved: runs.SavedRun, each: _Explained, method: str, path: Path) -> None:
    """Draws an explanation of a text, an image or a row."""
    chosen = each.chosen
    title = f"predicted {chosen.answer}; {METHODS[method]} for {chosen.target}{chosen.share}"
    if saved.encoder is None:  # a text is drawn below the title anyway
        title = f"{printable(each.name, limit=90)}\n{title}"
    label = f"red increases the output for {chosen.target}, blue decreases it"
    if method in _UNSIGNED and saved.encoder is None:
        label = f"red: important for {chosen.target}"
    options: dict[str, Any] = {"title": title, "label": label, "path": path}
    if saved.encoder is not None:
        _draw_words(saved, each, options)
    elif is_image(saved.inputs):
        drawing.draw_image(*_as_image(saved, each), **options)
    else:
        names, values = _by_column(saved, each.attributions)
        drawing.draw_bars(names, values, **{**options, "label": f"attribution to {chosen.target}"})


def _draw_words(saved: runs.SavedRun, each: _Explained, options: dict[str, Any]) -> None:
    """Draws a text in the terminal and as a picture, and prints its five most important words."""
    from rich.console import Console
    from rich.text import Text

    assert saved.encoder is not None
    count = int((each.example != 0).sum())
    words = saved.encoder.vocabulary.decode(each.example[:count])
    values = each.attributions[:count]
    line = Text()
    for word, (red, green, blue) in zip(words, drawing.shades(values), strict=True):
        ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else "white"
        line.append(printable(word), style=f"{ink} on rgb({red},{green},{blue})").append(" ")
    Console().print(line)
    order = np.argsort(-np.abs(values), kind="stable")[:5]
    click.echo("largest: " + ", ".join(f"{printable(words[k])} {values[k]:+.3f}" for k in order))
    drawing.draw_text([printable(word) for word in words], values, **options)


def _as_image(saved: runs.SavedRun, each: _Explained) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image and its attributions in the same size.

    If the transform changes the size, that is the size of the transformed image.
    """
    found = each.attributions
    height, width = each.example.shape[:2]
    if found.shape[:2] == (height, width):
        return each.example, found
    if found.size == each.example.size:
        return each.example, found.reshape(each.example.shape)
    taken = np.asarray(applied(saved.transform, each.example[None]))[0]
    return taken, found


def _by_column(saved: runs.SavedRun, found: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Returns the names and attributions of a row's columns.

    A column with several inputs, such as a one-hot category, has the sum of their attributions. In
    a series of several columns, the steps of each column are summed; in a series of one column,
    each step has its own attribution.
    """
    names, groups = _columns(saved, found.shape[-1])
    if found.shape[-1] == 1 and found.ndim == 2:
        steps = range(len(found), 0, -1)
        return [f"{names[0]}, {step} before" for step in steps], found[:, 0]
    found = found.reshape(-1, found.shape[-1]).sum(axis=0)
    return names, np.array([found[group].sum() for group in groups])


def _columns(saved: runs.SavedRun, count: int) -> tuple[list[str], list[list[int]]]:
    """Returns the names of a table's columns, and the indices of each column's inputs."""
    if saved.table is None or len(saved.table.inputs) != count:
        return [f"input {number}" for number in range(count)], [[n] for n in range(count)]
    groups, first = [], 0
    for column in saved.table.columns:
        groups.append(list(range(first, first + len(column.inputs))))
        first += len(column.inputs)
    return list(saved.table.names), groups


def _explain_columns(saved: runs.SavedRun, place: Path, as_json: bool, repeats: int) -> None:
    """Prints and draws the importance of a table's columns."""
    inputs, labels = examples.of_test(data_of(saved, "run"), _TESTED)
    names, groups = _columns(saved, inputs.shape[-1])
    metric: permutation.Score = metrics.r_squared()
    if saved.classifies:
        metric = _accuracy_of_logits if saved.output_kind == "logits" else metrics.accuracy
    found = explain.permutation_importance(
        saved.model,
        inputs,
        labels,
        metric=metric,
        columns=groups,
        n_repeats=repeats,
        transform=saved.transform,
    )
    score = "accuracy" if saved.classifies else "R²"
    order = np.argsort(-found.importances_mean, kind="stable")
    if as_json:
        rows = [
            {"column": names[k], "mean": found.importances_mean[k], "std": found.importances_std[k]}
            for k in order
        ]
        click.echo(json.dumps({"metric": score, "score": found.score, "columns": rows}))
        return
    width = max(len(printable(name)) for name in names)
    click.echo(f"{score} {found.score:.4f} on {len(inputs)} test rows; permuted, it falls by")
    for k in order:
        mean, std = found.importances_mean[k], found.importances_std[k]
        click.echo(f"{printable(names[k]):{width}}  {mean:.4f} ± {std:.4f}")
    drawing.draw_bars(
        names,
        found.importances_mean,
        found.importances_std,
        title=f"Importance of each column ({repeats} permutations)",
        label=f"decrease of {score}",
        path=place,
    )
    click.echo(f"wrote {place}")


def _accuracy_of_logits(outputs: Any, labels: Any) -> float:
    return int(metrics.correct_logits(outputs, labels)) / len(labels)
