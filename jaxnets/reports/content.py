"""The content of a report: sentences, tables and figures, for all formats."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from jaxnets.pages.blocks import Block, Command, Figure, Heading, Paragraph, Table, Title
from jaxnets.pages.figures import called, confusion
from jaxnets.pages.settings import settings_table
from jaxnets.pages.wording import minus, percent, several
from jaxnets.reports import figures
from jaxnets.reports.records import Classification, Detection, Mistake, Regression
from jaxnets.reports.wording import described, measured

if TYPE_CHECKING:
    from jaxnets.reports.report import Report

_IN_A_FIGURE = 20  # largest number of classes in a confusion matrix
_SEEN = 4  # number of classes up to which the matrix needs no table of confusions
_LISTED = 40  # largest number of classes in a table
_LONGEST = 160  # characters of an example's text


def content(report: "Report") -> list[Block]:
    """Returns the blocks of the page in order; sections without data are omitted."""
    sections = [_opening(report)]
    if isinstance(report.found, Classification):
        sections += [_classes(report.found), _confusion(report.found)]
        sections += [_calibration(report.found), _mistakes(report.found)]
    elif isinstance(report.found, Detection):
        sections += [_detected(report.found)]
    elif isinstance(report.found, Regression):
        sections += [_values(report.found)]
    sections += [_training(report), _how(report)]
    return [block for section in sections for block in section]


def _opening(report: "Report") -> Iterator[Block]:
    about = [report.date, f"{report.parameters:,} parameters"]
    about += [f"trained for {several(len(report.history), 'epoch')}"] if report.history else []
    title = f"{report.name} on {report.data}"
    yield Title(title, f"Evaluated on the {described(report)}.", " · ".join(about))
    if isinstance(report.found, Classification):
        right = int(np.trace(report.found.confusion))
        many = report.found.predictions
        yield Paragraph(
            f"{right:,} of {several(many, 'prediction')} are correct: "
            f"{percent(report.scores['accuracy'])}."
        )
    caption = "Scores"
    if isinstance(report.found, Regression):
        caption = "Scores, in the data's units except for the loss and R²"
    yield Table(f"{caption}.", ["score", "value"], "lr", measured(report))


def _classes(found: Classification) -> Iterator[Block]:
    yield Heading("Classes")
    scores, count = found.classes, len(found.class_names)
    order = list(range(count)) if count <= _LISTED else scores.f1.argsort()[:_LISTED].tolist()
    rows = [
        [found.class_names[k], *(_bare(part[k]) for part in scores[:3]), f"{scores.support[k]:,}"]
        for k in order
    ]
    total = f"{scores.support.sum():,}"
    for average in ("macro", "weighted"):
        rows.append([average, *map(_bare, scores.average(average)), total])
    caption = (
        "Precision: the share of predictions of a class that are correct. Recall: the share of "
        "examples of a class that are predicted correctly. F1: their harmonic mean. All are in "
        "percent. The macro average gives each class the same weight; the weighted average weights "
        "classes by their number of examples."
    )
    if count > _LISTED:
        caption += f" The table shows the {_LISTED} of {count} classes with the lowest F1."
    columns = ["class", "precision", "recall", "F1", "examples"]
    yield Table(caption, columns, "lrrrr", rows, sums=2)


def _detected(found: Detection) -> Iterator[Block]:
    yield Heading("Classes")
    rows = [[name, *map(_bare, shares), f"{objects:,}"] for name, *shares, objects in found.rows()]
    caption = (
        "COCO's average precision: the mean over overlaps (intersection over union) from 0.50 to "
        "0.95, and at 0.50 and 0.75. Recall: the share of objects that are found, the mean over "
        "the same overlaps. All are in percent."
    )
    columns = ["class", "AP", "AP50", "AP75", "recall", "objects"]
    yield Table(caption, columns, "lrrrrr", rows)


def _confusion(found: Classification) -> Iterator[Block]:
    count, confused = len(found.class_names), found.confused(10)
    if count <= _IN_A_FIGURE or confused:
        yield Heading("Confusion")
    if count <= _IN_A_FIGURE:
        names = [called(k, found.class_names) for k in range(count)]
        caption = "Counts of examples by true class (rows) and predicted class (columns)."
        axes = ("true class", "predicted class")
        draw = partial(confusion, found.confusion, names, *axes, right=True)
        yield Figure("confusion", caption, "A matrix of counts.", draw)
    if confused and count > _SEEN:
        rows = [[label, taken, f"{often:,}"] for label, taken, often in confused]
        caption = "The most frequent confusions."
        yield Table(caption, ["true", "predicted", "examples"], "llr", rows)


def _calibration(found: Classification) -> Iterator[Block]:
    yield Heading("Calibration")
    bins = found.calibration
    accuracy = float(np.trace(found.confusion) / found.predictions)
    how = "over" if bins.mean_confidence > accuracy else "under"
    yield Paragraph(
        f"The mean probability of the predicted class is {percent(bins.mean_confidence)}, and "
        f"{percent(accuracy)} of the predictions are correct, so the network is {how}confident. "
        f"The expected calibration error over {len(bins.count)} bins is {percent(bins.ece)}."
    )
    caption = (
        f"Top: the share of correct predictions against their probability, in {len(bins.count)} "
        "bins; the dashed line is perfect calibration. Bottom: the number of predictions in each "
        "bin."
    )
    draw = partial(figures.reliability, bins)
    yield Figure("calibration", caption, "Bars of accuracy over confidence.", draw)


def _mistakes(found: Classification) -> Iterator[Block]:
    if not found.mistakes:
        return
    yield Heading("Most confident mistakes")
    if all(each.image is not None for each in found.mistakes):
        numbers = ", ".join(str(each.index) for each in found.mistakes)
        caption = (
            "The wrong predictions with the highest probability, with the true class, the "
            f"predicted class and its probability. Numbers of the images, row by row: {numbers}."
        )
        draw = partial(figures.mistakes, found.mistakes, found.class_names)
        yield Figure("mistakes", caption, "Images with three captions each.", draw)
        return
    texts = any(each.text is not None for each in found.mistakes)
    columns = ["number", "true", "predicted", "probability, %", *["example"] * texts]
    rows = [_mistake(each, texts=texts) for each in found.mistakes]
    caption = "The wrong predictions with the highest probability."
    yield Table(caption, columns, "rwwr" + "l" * texts, rows)


def _mistake(each: Mistake, *, texts: bool) -> list[str]:
    cells = [str(each.index), each.label, each.predicted, f"{100 * each.probability:.1f}"]
    return [*cells, *[_cut(each.text or "")] * texts]


def _values(found: Regression) -> Iterator[Block]:
    yield Heading("Predictions")
    if len(found.names) > 1:
        columns = ["", "RMSE", "MAE", "R²"]
        rows = [
            [name, _number(rmse), _number(mae), f"{r2:.4f}"]
            for name, rmse, mae, r2 in zip(found.names, *found.scores, strict=True)
        ]
        yield Table("Errors of each value, in its units except for R².", columns, "lrrr", rows)
    caption = "Predicted against true values; on the dashed line they are equal."
    draw = partial(figures.predicted_and_true, found)
    yield Figure("predictions", caption, "A point for each example.", draw)
    mean = ", ".join(minus(f"{value:.4g}") for value in found.residuals.mean(0))
    caption = f"Residuals, predicted minus true values; their mean is {mean}."
    yield Figure("residuals", caption, "A histogram.", partial(figures.residuals, found))
    yield Heading("Largest errors")
    texts = any(text is not None for text in found.texts.values())
    rows = []
    for index, text in found.texts.items():
        column = int(np.abs(found.residuals[index]).argmax())
        ends = (found.true[index, column], found.predicted[index, column])
        cells = [str(index), *map(_number, (*ends, ends[1] - ends[0]))]
        rows.append([*cells, *[_cut(text or "")] * texts])
    columns = ["number", "true", "predicted", "difference", *["example"] * texts]
    caption = "The predictions with the largest errors."
    yield Table(caption, columns, "rrrr" + "l" * texts, rows)


def _training(report: "Report") -> Iterator[Block]:
    if not report.history:
        return
    yield Heading("Training")
    rate = "" if report.rates is None else ", and the learning rate"
    caption = f"The run's curves{rate}. Training values are means over each epoch."
    draw = partial(figures.training, report.history, report.rates)
    yield Figure("training", caption, "Curves over epochs.", draw)


def _how(report: "Report") -> Iterator[Block]:
    if report.settings or report.versions:
        yield Heading("Settings of the training")
        about = [("evaluated", report.date)]
        yield settings_table(report.settings, about, report.versions, report.machine)
    if report.command is not None:
        yield Command(report.command)


def _bare(share: float) -> str:
    return f"{100 * share:.2f}"


def _number(value: float) -> str:
    return minus(f"{value:.5g}")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
