"""Writes docs/results: each recipe in PyTorch and in jaxnets, side by side.

    python scripts/results.py                          # every recipe: hours on 2 cores
    python scripts/results.py mnist-mlp mnist-gru      # these

A finished comparison is taken from the work folder, and one that was interrupted continues there.
What cannot be compared, such as a recipe whose data are not there, is named, and left out.
"""

import argparse
import dataclasses
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnets.compare.records import Comparison
from jaxnets.compare.report import read
from jaxnets.compare.report.content import content
from jaxnets.compare.report.wording import Scale, p_value
from jaxnets.pages.files import drawn, put
from jaxnets.pages.markdown import markdown
from jaxnets.recipes import RECIPES

ROOT = Path(__file__).parent.parent
SEEDS = 5
#: Recipes of which a run takes a minute or more.
SLOW = {
    **dict.fromkeys(("mnist-lenet", "mnist-lstm", "mnist-gru"), 3),
    **dict.fromkeys(("fashion-mnist-lenet", "cifar10-lenet", "char-lstm"), 3),
}
INTRODUCTION = """# Results

Each documented network in PyTorch and in jaxnets: the same initial weights, the same batches, the
same optimizer. The score is that after the last epoch, its mean over the seeds ± their standard
deviation; the difference is jaxnets less PyTorch, with its 95 % confidence interval. p is that of
the test of equivalence (two one-sided t tests) within the margin: below 0.05 the two are shown to
be equivalent. Time is PyTorch's for an epoch, divided by that of jaxnets. Dropout is off on both
sides, so that the recipes that have it score otherwise than documented. `scripts/results.py` wrote
these pages.
"""
COLUMNS = (
    *("recipe", "document", "documented", "seeds", "PyTorch", "jaxnets"),
    *("difference", "margin", "p", "time", "date"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares, and writes the pages; gives how many recipes could not be compared."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--work", type=Path, default=Path("comparisons"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--seeds", type=int, help="of every recipe")
    parser.add_argument("--epochs", type=int, help="of every recipe; for a trial")
    told = parser.parse_args(arguments)
    missing = 0
    for name in told.recipes:
        comparison = finished(name, told.work / name, told.seeds, told.epochs)
        if comparison is None:
            print(f"{name}: not compared", file=sys.stderr)
            missing += 1
        else:
            write_page(comparison, told.out)
    files = {name: told.work / name / "report.json" for name in RECIPES}
    found = {name: read(file) for name, file in files.items() if file.exists()}
    put({"index.md": index(found).encode()}, told.out)
    if told.out == ROOT / "docs" / "results":
        for name in ("README.md", "README.zh-CN.md"):
            page = (ROOT / name).read_text()
            (ROOT / name).write_text(with_results(page, index(found)))
    return missing


def with_results(readme: str, page: str) -> str:
    """A README whose table has the figures of the page of results.

    Args:
        readme: its text. A row of its table names a recipe by a link to its page.
        page: what ``index`` returns.
    """
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| [")]
    figures = {row[0].partition("]")[0][1:]: dict(zip(COLUMNS, row, strict=True)) for row in rows}

    def filled(match: re.Match[str]) -> str:
        of = figures[match[2]]
        return f"{match[1]} {of['PyTorch']} | {of['jaxnets']} | {of['difference']} |"

    return re.sub(r"^(\|.*?\]\(docs/results/([\w-]+)\.md\) \|).*$", filled, readme, flags=re.M)


def finished(name: str, folder: Path, seeds: int | None, epochs: int | None) -> Comparison | None:
    """The comparison in the folder, made if it is not there; None if it cannot be made."""
    if not (folder / "report.json").exists():
        arguments = ["--resume", str(folder)]
        if not (folder / "begun.json").exists():
            count = seeds or SLOW.get(name, SEEDS)
            arguments = [name, "--seeds", str(count), "--out", str(folder)]
            arguments += [] if epochs is None else ["--epochs", str(epochs)]
        words = [sys.executable, "-m", "jaxnets", "compare", *arguments]
        if subprocess.run(words, check=False).returncode:
            return None
    return read(folder / "report.json")


def write_page(comparison: Comparison, directory: Path) -> None:
    """``NAME.md``, and its images in the folder ``NAME``."""
    name = comparison.name
    blocks = content(dataclasses.replace(comparison, command=command(comparison)))
    images = {f"{figure}.png": image for figure, image in drawn(blocks).items()}
    put(images, directory / name)
    put({f"{name}.md": markdown(blocks, f"{name}/").encode()}, directory)


def command(comparison: Comparison) -> str:
    """What makes a comparison again, wherever it was made and however often interrupted."""
    words = ["jaxnets", "compare", comparison.name, "--seeds", str(len(comparison.pairs))]
    epochs = len(comparison.pairs[0].ours.train_loss)
    if epochs != RECIPES[comparison.name].epochs:
        words += ["--epochs", str(epochs)]
    return " ".join(words)


def index(found: dict[str, Comparison]) -> str:
    """The page with a row for each comparison."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|"]
    lines += [f"| {' | '.join(row(name, of))} |" for name, of in found.items()]
    return f"{INTRODUCTION}\n{chr(10).join(lines)}\n"


def row(name: str, comparison: Comparison) -> list[str]:
    """A comparison in the cells of ``COLUMNS``."""
    recipe, scale, seen = RECIPES[name], Scale.of(comparison), comparison.equivalence
    means = []
    for side in ("theirs", "ours"):
        scores = [getattr(pair, side).score for pair in comparison.pairs]
        std = f" ± {scale.bare(float(np.std(scores, ddof=1)))}" if len(scores) > 1 else ""
        means.append(f"{scale.bare(float(np.mean(scores)))}{std}{scale.unit}")
    apart = scale.signed(seen.difference)
    if seen.interval is not None:
        low, high = map(scale.signed, seen.interval)
        apart += f" ({low} to {high})"
    chance = "–" if seen.p_value is None else p_value(seen.p_value).removeprefix("p ")
    medians = [float(np.median(timing.epoch_seconds)) for timing in comparison.timings]
    return [
        f"[{name}]({name}.md)",
        re.split("[:;]", recipe.document)[0],
        re.split(r",? in (?:about|less)", recipe.expect)[0],
        str(len(comparison.pairs)),
        *means,
        apart,
        f"±{scale.bare(seen.margin)}",
        chance.removeprefix("= ").replace("<", "&lt;"),
        f"{medians[1] / medians[0]:.2f}" if len(medians) == 2 else "–",
        comparison.date[:10],
    ]


if __name__ == "__main__":
    sys.exit(main())
