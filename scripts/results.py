"""Writes docs/results, the comparison of each recipe in PyTorch and in jaxnets.

    python scripts/results.py                          # every recipe: hours on 2 cores
    python scripts/results.py mnist-mlp mnist-gru      # only these recipes

Finished comparisons are read from the work folder, and interrupted ones continue there. Recipes
that are not compared now, or cannot be because their data are missing, keep their rows.
"""

import argparse
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
#: Number of seeds of recipes whose run takes more than a minute.
SLOW = dict.fromkeys(("fashion-mnist-lenet", "cifar10-lenet", "char-lstm"), 3)
INTRODUCTION = """# Results

Each documented network was trained in PyTorch and in jaxnets with the same initial weights, the
same batches and the same optimizer. The score is measured after the last epoch: mean ± standard
deviation over the seeds. The difference is jaxnets minus PyTorch, with its 95 % confidence
interval. p is the p-value of an equivalence test (two one-sided t tests) with the margin in
parentheses: below 0.05, the frameworks are equivalent within the margin. Time is the time of an
epoch in PyTorch divided by the time in jaxnets. Dropout is off in both frameworks, so recipes with
dropout have other scores than documented. `scripts/results.py` writes these pages.
"""
OTHER_OBJECTIVES = """
## Other objectives

`jaxnets compare` trains with supervised losses. The recipes of this table have other objectives, or
a transform that PyTorch computes in its own way. The programs in `benchmarks/domains` train them in
both frameworks, from the same weights on the same batches, and record the scores in
`benchmarks/results/domains`: mean ± standard deviation over the seeds. A dash means that PyTorch
was not trained. For reinforcement learning a test compares the updates with PyTorch's instead.

"""
DOMAINS = ROOT / "benchmarks" / "results" / "domains"
#: The guide of a recipe, its score, and whether the score is a share.
GUIDES = {
    "dates-seq2seq": ("transformers", "exact matches", True),
    "dates-transformer": ("transformers", "exact matches", True),
    "fsdd-gru": ("speech", "accuracy", True),
    "fsdd-ctc": ("speech", "wrong digits", True),
    "mnist-vae": ("generation", "negative ELBO in nats", False),
    "mnist-cgan": ("generation", "samples recognized by a LeNet", True),
    "mnist-diffusion": ("generation", "samples recognized by a LeNet", True),
    "digits-detector": ("detection", "mAP@[.50:.95]", True),
    "mnist-autoencoder": ("unsupervised", "mean squared error", False),
    "mnist-100-labels": ("unsupervised", "accuracy", True),
    "mnist-fixmatch": ("unsupervised", "accuracy", True),
    "mnist-fixmatch, 2 epochs": ("unsupervised", "accuracy", True),
    "cartpole-reinforce": ("control", "mean return", False),
    "cartpole-ppo": ("control", "mean return", False),
    "cartpole-dqn": ("control", "mean return", False),
}
COLUMNS = (
    *("recipe", "document", "seeds", "PyTorch", "jaxnets"),
    *("difference", "p (margin)", "time", "date"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the comparisons and writes the pages; returns the number of failed recipes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--work", type=Path, default=Path("comparisons"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--seeds", type=int, help="of every recipe")
    parser.add_argument("--epochs", type=int, help="of every recipe; for a trial")
    options = parser.parse_args(arguments)
    missing = 0
    for name in options.recipes:
        comparison = finished(name, options.work / name, options.seeds, options.epochs)
        if comparison is None:
            print(f"{name}: not compared", file=sys.stderr)
            missing += 1
        else:
            write_page(comparison, options.out)
    files = {name: options.work / name / "report.json" for name in RECIPES}
    found = {name: read(file) for name, file in files.items() if file.exists()}
    before = options.out / "index.md"
    page = index(found, before.read_text() if before.exists() else "")
    put({"index.md": page.encode()}, options.out)
    if options.out == ROOT / "docs" / "results":
        for name in ("README.md", "README.zh-CN.md"):
            readme = (ROOT / name).read_text()
            (ROOT / name).write_text(with_results(readme, page))
    return missing


def with_results(readme: str, page: str) -> str:
    """Returns a README whose table has the figures of the page of results.

    Args:
        readme: its text. A row of its table names a recipe by a link to its page.
        page: what ``index`` returns.
    """
    figures = {name: dict(zip(COLUMNS, row, strict=True)) for name, row in rows_of(page).items()}

    def filled(match: re.Match[str]) -> str:
        of = figures[match[2]]
        return f"{match[1]} {of['PyTorch']} | {of['jaxnets']} | {of['difference']} |"

    return re.sub(r"^(\|.*?\]\(docs/results/([\w-]+)\.md\) \|).*$", filled, readme, flags=re.M)


def rows_of(page: str) -> dict[str, list[str]]:
    """Returns the cells of the rows of the comparisons on a page of results, by recipe."""
    lines = page.partition("\n## ")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| [")]
    return {row[0].partition("]")[0][1:]: row for row in rows}


def finished(name: str, folder: Path, seeds: int | None, epochs: int | None) -> Comparison | None:
    """Returns the comparison in the folder, after running it if missing; None if that fails."""
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
    """Writes ``NAME.md``, and its images into the folder ``NAME``."""
    name = comparison.name
    blocks = content(dataclasses.replace(comparison, command=command(comparison)))
    images = {f"{figure}.png": image for figure, image in drawn(blocks).items()}
    put(images, directory / name)
    put({f"{name}.md": markdown(blocks, f"{name}/").encode()}, directory)


def command(comparison: Comparison) -> str:
    """Returns the command that repeats a comparison, without paths and ``--resume``."""
    words = ["jaxnets", "compare", comparison.name, "--seeds", str(len(comparison.pairs))]
    epochs = len(comparison.pairs[0].ours.train_loss)
    if epochs != RECIPES[comparison.name].epochs:
        words += ["--epochs", str(epochs)]
    return " ".join(words)


def index(found: dict[str, Comparison], before: str = "") -> str:
    """Returns the page with a row for each comparison.

    Args:
        found: comparisons by recipe.
        before: the page as it was, whose other rows remain.
    """
    rows = rows_of(before) | {name: row(name, of) for name, of in found.items()}
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|---:|---:|---:|---:|---:|---:|---|"]
    lines += [f"| {' | '.join(rows[name])} |" for name in RECIPES if name in rows]
    return f"{INTRODUCTION}\n{chr(10).join(lines)}\n{other_objectives()}"


def other_objectives() -> str:
    """Returns the table of the scores that the programs in ``benchmarks/domains`` recorded."""
    found: dict[str, dict[str, list[float]]] = {}
    dates = {}
    for file in sorted(DOMAINS.glob("*.json")):
        record = json.loads(file.read_text())
        for name, framework, score in recorded(record):
            if name in GUIDES:
                found.setdefault(name, {}).setdefault(framework, []).append(score)
                dates[name] = record["date"]
    lines = ["| recipe | score | PyTorch | jaxnets | date |", "|---|---|---:|---:|---|"]
    for name in (name for name in GUIDES if name in found):
        guide, measured, is_share = GUIDES[name]
        both = (summary(found[name].get(side, []), is_share) for side in ("PyTorch", "jaxnets"))
        cells = [f"[{name}](../{guide}.md)", measured, *both, dates[name]]
        lines.append(f"| {' | '.join(cells)} |")
    return f"{OTHER_OBJECTIVES}{chr(10).join(lines)}\n"


def recorded(record: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Yields the recipe, the framework and the score of each training of a record."""
    for name, of in record.get("recipes", {}).items():
        for seed in of["seeds"]:
            yield name, "jaxnets", seed["score"]
            if "torch_score" in seed:
                yield name, "PyTorch", seed["torch_score"]


def summary(scores: Sequence[float], is_share: bool) -> str:
    """Returns the mean, the standard deviation and the number of scores."""
    if not scores:
        return "–"
    scale, unit = (100, " %") if is_share else (1, "")
    mean, spread = scale * np.mean(scores), scale * np.std(scores, ddof=len(scores) > 1)
    digits = 2 if is_share else max(0, 3 - int(np.floor(np.log10(abs(mean) or 1))))
    if len(scores) == 1:
        return f"{mean:.{digits}f}{unit} (1 seed)"
    return f"{mean:.{digits}f} ± {spread:.{digits}f}{unit} ({len(scores)} seeds)"


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
        str(len(comparison.pairs)),
        *means,
        apart,
        f"{chance.removeprefix('= ').replace('<', '&lt;')} (±{scale.bare(seen.margin)})",
        f"{medians[1] / medians[0]:.2f}" if len(medians) == 2 else "–",
        comparison.date[:10],
    ]


if __name__ == "__main__":
    sys.exit(main())
