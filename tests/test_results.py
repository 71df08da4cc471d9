"""The script that writes the pages of results."""

import functools
import json
import runpy
import statistics
from pathlib import Path

import pytest

from jaxnets.compare.report.as_json import as_json
from jaxnets.recipes import RECIPES
from tests.compared import comparison

ROOT = Path(__file__).parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "results.py"))


def test_pages_are_made_of_finished_comparisons(tmp_path, capsys):
    made = comparison(1, epochs=1, steps=20, examples=50, bare=True)
    (tmp_path / "work" / "mnist-mlp").mkdir(parents=True)
    (tmp_path / "work" / "mnist-mlp" / "report.json").write_text(as_json(made))
    arguments = ["mnist-mlp", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "docs")]
    assert SCRIPT["main"](arguments) == 0
    ours, theirs = (100 * side.score for side in (made.pairs[0].ours, made.pairs[0].theirs))
    apart = f"{ours - theirs:+.2f}".replace("-", "−")
    page = (tmp_path / "docs" / "index.md").read_text()
    assert page.partition("\n## ")[0].splitlines()[-1] == (
        "| [mnist-mlp](mnist-mlp.md) | 004, section 4 | 1 | "
        f"{theirs:.2f} % | {ours:.2f} % | {apart} | – (±0.30) | – | 2026-11-21 |"
    )
    page = (tmp_path / "docs" / "mnist-mlp.md").read_text()
    assert "](mnist-mlp/losses.png)" in page
    assert page.rstrip().endswith("    jaxnets compare mnist-mlp --seeds 1 --epochs 1")
    assert (tmp_path / "docs" / "mnist-mlp" / "losses.png").exists()


def test_recipes_that_are_not_compared_keep_their_rows():
    page = (ROOT / "docs" / "results" / "index.md").read_text()
    assert SCRIPT["index"]({}, page) == page


def test_a_row_says_whether_equivalence_is_shown():
    cells = SCRIPT["row"]("mnist-mlp", comparison(3, epochs=2, steps=4, examples=50))
    shown = dict(zip(SCRIPT["COLUMNS"], cells, strict=True))
    assert " ± " in shown["PyTorch"]
    assert shown["difference"].count(" to ") == 1
    chance, margin = shown["p (margin)"].removeprefix("&lt;").split()
    assert 0 < float(chance) < 1
    assert margin == "(±0.30)"
    assert shown["time"] == "1.94"


def test_a_comparison_that_fails_is_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(SCRIPT["sys"], "executable", "false")
    assert SCRIPT["main"](["mnist-gru", "--work", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "mnist-gru: not compared\n"
    page = (tmp_path / "index.md").read_text()
    assert page.partition("\n\n## ")[0].endswith("|---|")


def test_slow_recipes_are_recipes():
    assert SCRIPT["SLOW"].keys() <= RECIPES.keys()
    assert min(SCRIPT["SLOW"].values()) >= 3


README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_readme_has_the_results_of_the_page(name):
    readme = (ROOT / name).read_text()
    page = (ROOT / "docs" / "results" / "index.md").read_text()
    assert SCRIPT["with_results"](readme, page) == readme, "outdated: run python scripts/results.py"
    assert readme.count("](docs/results/mnist-") == 5


@pytest.mark.parametrize(
    ("network", "title"), [("resnet-20", "ResNet-20"), ("transformer", "Transf")]
)
def test_the_readme_has_the_recorded_times(network, title):
    record = json.loads((ROOT / "benchmarks" / "results" / "own_networks.json").read_text())
    (of,) = (
        row["competitors"] for row in record["rows"]
        if (row["network"], row["batch"], row["what"]) == (network, 64, "train")
        and row["dtype"] == "float32"
    )  # fmt: skip
    ours = statistics.median(of["jaxnets"]["seconds"])
    times = [
        statistics.median(of[name]["seconds"]) / ours
        for name in ("torch eager", "plain Flax", "Keras")
    ]
    (row,) = (line for line in README.splitlines() if f"training step, {title}" in line)
    assert row.strip("| ").split(" | ")[1:5] == ["1", *(f"{time:.2f}" for time in times)]


def test_the_figure_of_the_readme_has_the_recorded_losses():
    record = json.loads((ROOT / "benchmarks" / "results" / "same_losses.json").read_text())
    most = max(abs(ours - theirs) / theirs for ours, theirs in record["rows"])
    assert most == record["largest_difference"] < 1e-8
    assert len(record["rows"]) == 938


def test_the_page_on_what_follows_training_has_the_recorded_figures():
    script = runpy.run_path(str(ROOT / "scripts" / "after_training.py"))
    assert script["page"]() == script["PAGE"].read_text(), "python scripts/after_training.py"


def test_scores_of_other_objectives_have_a_row_each():
    table = SCRIPT["other_objectives"]()
    record = json.loads((SCRIPT["DOMAINS"] / "detection.json").read_text())
    scores = [seed["score"] for seed in record["recipes"]["digits-detector"]["seeds"]]
    assert (
        f"| {100 * statistics.mean(scores):.2f} ± {100 * statistics.stdev(scores):.2f} % "
        f"({len(scores)} seeds) | {record['date']} |"
    ) in next(line for line in table.splitlines() if "digits-detector" in line)
    assert SCRIPT["GUIDES"].keys() - RECIPES.keys() == {"mnist-fixmatch, 2 epochs"}
    assert all((ROOT / "docs" / f"{guide}.md").exists() for guide, *_ in SCRIPT["GUIDES"].values())


@pytest.mark.parametrize(
    ("scores", "is_share", "shown"),
    [
        ([], True, "–"),
        ([0.5], True, "50.00 % (1 seed)"),
        ([0.5, 0.6], True, "55.00 ± 7.07 % (2 seeds)"),
        ([105.7, 105.1], False, "105.4 ± 0.4 (2 seeds)"),
        ([0.0097], False, "0.009700 (1 seed)"),
    ],
)
def test_scores_are_a_mean_and_a_standard_deviation(scores, is_share, shown):
    assert SCRIPT["summary"](scores, is_share) == shown


def test_a_seed_is_added_to_the_record_of_its_settings(tmp_path):
    records, path = (
        runpy.run_path(str(ROOT / "benchmarks" / "domains" / "records.py")),
        tmp_path / "x",
    )
    add = functools.partial(records["add"], path, title="T")
    add("a", {"seed": 1, "score": 0.1, "torch_score": 0.2}, {"epochs": (1, 2)})
    add("a", {"seed": 0, "score": 0.3}, {"epochs": (1, 2)})
    add("a", {"seed": 1, "score": 0.4}, {"epochs": (1, 2)})
    seeds = [{"seed": 0, "score": 0.3}, {"seed": 1, "score": 0.4, "torch_score": 0.2}]
    assert records["recorded"](path) == {"a": {"settings": {"epochs": [1, 2]}, "seeds": seeds}}
    add("a", {"seed": 2, "score": 0.5}, {"epochs": 3})
    add("b", {"seed": 0, "score": 0.6}, {})
    assert records["recorded"](path) == {
        "a": {"settings": {"epochs": 3}, "seeds": [{"seed": 2, "score": 0.5}]},
        "b": {"settings": {}, "seeds": [{"seed": 0, "score": 0.6}]},
    }
    assert json.loads(path.read_text())["title"] == "T"
