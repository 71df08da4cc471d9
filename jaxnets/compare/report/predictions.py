"""The section on the predicted classes."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from jaxnets.arrays import printable
from jaxnets.compare.records import Comparison, Pair
from jaxnets.compare.report import plots
from jaxnets.compare.report.wording import names
from jaxnets.pages.blocks import Block, Figure, Heading, Paragraph, Table
from jaxnets.pages.figures import called, confusion

_MOST_CLASSES = 20  # the largest number of classes that fit into a figure
_MOST_IMAGES = 16


def predictions(comparison: Comparison) -> Iterator[Block]:
    """Yields the section on equal and different predictions; nothing for unpaired comparisons."""
    agreement = agreement_of(comparison)
    if agreement is None:
        return
    ours, theirs = names(comparison)
    yield Heading("Predictions")
    yield Paragraph(_agreement_sentence(comparison, agreement))
    apart = np.concatenate([_apart(pair) for pair in comparison.pairs], axis=1)
    if apart.size:
        yield _confusion(apart, comparison)
    shown = [one for one in comparison.disagreements if one.image is not None][:_MOST_IMAGES]
    if shown:
        seeds = {one.seed: [str(of.index) for of in shown if of.seed == one.seed] for one in shown}
        numbers = "; ".join(f"seed {seed}: {', '.join(of)}" for seed, of in seeds.items())
        caption = (
            f"Test images with different predictions, with their label and the predictions of "
            f"{ours} and {theirs}. Their numbers, row by row: {numbers}."
        )
        draw = partial(plots.examples, shown, comparison.class_names, (ours, theirs))
        yield Figure("disagreements", caption, "Images with three captions each.", draw)


def _agreement_sentence(comparison: Comparison, agreement: tuple[float, ...]) -> str:
    ours, theirs = names(comparison)
    count = np.asarray(comparison.pairs[0].ours.predictions).size
    text = f"Of {count:,} test predictions, {100 * float(np.median(agreement)):.2f} % are the same"
    text += f" in {ours} and {theirs}"
    if len(agreement) > 1:
        low, high = 100 * min(agreement), 100 * max(agreement)
        text += f" (median over seeds; {low:.2f} to {high:.2f} %)"
    control = comparison.control
    if control is not None and control.run.predictions is not None:
        same = np.mean(control.run.predictions == comparison.pairs[0].theirs.predictions)
        text += (
            f"; {100 * same:.2f} % are the same in {theirs} and its control run, from seed "
            f"{control.run.seed}"
        )
    return f"{text}."


def _apart(pair: Pair) -> np.ndarray:
    """Returns the predictions of both networks where they differ, [2, disagreements]."""
    both = np.array([pair.ours.predictions, pair.theirs.predictions]).reshape(2, -1)
    return both[:, both[0] != both[1]]


def _confusion(apart: np.ndarray, comparison: Comparison) -> Block:
    """Counts the pairs of different predictions: a figure, or a table for many classes."""
    ours, theirs = names(comparison)
    classes, numbers = np.unique(apart, return_inverse=True)
    first, second = numbers.reshape(apart.shape)
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (first, second), 1)
    over = f", over all {len(comparison.pairs)} seeds" if len(comparison.pairs) > 1 else ""
    what = f"The {apart.shape[1]:,} predictions that differ in {ours} and {theirs}{over}"
    if len(classes) <= _MOST_CLASSES:
        shown = [called(int(number), comparison.class_names) for number in classes]
        caption = f"{what}: the class of {ours} in rows, that of {theirs} in columns."
        draw = partial(confusion, counts, shown, f"class of {ours}", f"class of {theirs}")
        return Figure("confusion", caption, "A matrix of counts.", draw)
    often = np.argsort(-counts, axis=None, kind="stable")[:10]
    rows = []
    for row, column in zip(*np.unravel_index(often, counts.shape), strict=True):
        both = [_called(int(classes[index]), comparison.class_names) for index in (row, column)]
        rows.append([*both, f"{counts[row, column]:,}"])
    return Table(f"{what}: the ten most frequent pairs.", [ours, theirs, "count"], "llr", rows)


def agreement_of(comparison: Comparison) -> tuple[float, ...] | None:
    """Returns the share of equal predictions of each pair.

    Args:
        comparison: the comparison.

    Returns:
        The shares from 0 to 1; None if the comparison is not paired or has no classes.
    """
    sides = [side for pair in comparison.pairs for side in (pair.ours, pair.theirs)]
    known = all(side.predictions is not None for side in sides)
    return comparison.agreement if comparison.paired and known else None


def _called(number: int, class_names: Sequence[str] | None) -> str:
    known = class_names is not None and 0 <= number < len(class_names)
    return printable(class_names[number]) if known and class_names is not None else str(number)
