"""The content of the pages of a comparison, and that it is complete."""

import dataclasses
import json
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxnets.compare.records import Finding
from jaxnets.compare.report import predictions, read, write
from jaxnets.compare.report.as_json import as_json
from jaxnets.compare.report.content import content
from jaxnets.compare.report.plots import differences
from jaxnets.compare.report.verdict import verdict
from jaxnets.compare.report.wording import p_value
from jaxnets.pages import figures, files
from jaxnets.pages.blocks import Figure, Heading, Notice, Table
from jaxnets.pages.markdown import markdown
from jaxnets.pages.page import page
from jaxnets.pages.wording import power, seconds
from tests.compared import comparison

pytestmark = pytest.mark.slow

SMALL = {"epochs": 3, "steps": 40, "examples": 500}
EMPTY = {"meta", "img"}  # HTML elements without an end tag


@pytest.fixture(scope="module")
def made():
    return comparison(3, **SMALL)


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("compared") / "report"
    write(made, path)
    return path


class Page(HTMLParser):
    """Parses a page, and stores the attributes and texts of its elements."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.tags, self.texts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def scored(made, difference, spread):
    """The comparison with accuracies around 0.97; ours is larger by ``difference``."""
    pairs = []
    for pair, around in zip(made.pairs, (-spread, 0, spread), strict=False):
        ours, theirs = (
            dataclasses.replace(side, test_accuracy=np.array([0.5, accuracy]))
            for side, accuracy in ((pair.ours, 0.97 + difference + around), (pair.theirs, 0.97))
        )
        pairs.append(dataclasses.replace(pair, ours=ours, theirs=theirs))
    return dataclasses.replace(made, pairs=tuple(pairs))


def tables(blocks):
    return [block for block in blocks if isinstance(block, Table)]


def headings(blocks):
    return [block.text for block in blocks if isinstance(block, Heading)]


@pytest.mark.parametrize(
    ("difference", "spread", "tone", "said"),
    [
        (
            0.0001,
            0.0003,
            "good",
            "Equivalent. Over 3 seeds, the test accuracy is 97.01 % with jaxnets and 97.00 % with "
            "PyTorch, a difference of +0.01 percentage points (95 % confidence interval −0.06 to "
            "+0.08). The frameworks are equivalent within ±0.30 percentage points (p = 0.002; two "
            "one-sided t tests, paired by seed).",
        ),
        (0.001, 0.0001, "good", "a significant difference, which is smaller than this margin."),
        (0.002, 0.005, "open", "is not shown (p = 0.381; two one-sided t tests, paired by seed)"),
        (0.002, 0.005, "open", "and neither is a difference: add seeds."),
        (-0.02, 0.001, "bad", "Different. Over 3 seeds, the test accuracy is 95.00 % with"),
        (-0.02, 0.001, "bad", "the interval excludes zero"),
        (0.0, 0.0, "good", "a difference of 0.00 percentage points (95 % confidence interval 0.00"),
        (0.0, 0.0, "good", "(the differences have no variance, so no t test is needed)."),
        (np.nan, 0.0, "bad", "Not finite. A score is not finite: that of jaxnets from seed 0"),
    ],
)
def test_the_verdict_says_what_the_test_shows(made, difference, spread, tone, said):
    found = verdict(scored(made, difference, spread))
    assert found.tone == tone
    assert said in f"{found.head} {found.text}"


def test_one_seed_cannot_say():
    blocks = content(comparison(1, epochs=1, steps=1, examples=50, bare=True))
    said = next(block for block in blocks if isinstance(block, Notice))
    assert said.head == "Not tested."
    assert said.text.startswith("From seed 0, the test accuracy is ")
    assert len(tables(blocks)[0].rows) == 1


def test_findings_come_first(made):
    text = "Ours doubles the learning rate."
    finding = Finding(statistic="loss of a step", step=1200, layer="fc1", text=text)
    blocks = content(dataclasses.replace(made, findings=(finding,)))
    notices = [block for block in blocks if isinstance(block, Notice)]
    assert notices[0].head == "Finding: loss of a step, step 1,200, layer fc1."
    assert notices[0].text == text
    assert [block.tone for block in notices] == ["bad", verdict(made).tone]
    assert blocks.index(notices[0]) == 1


def test_the_numbers_are_those_of_the_json(folder):
    held = json.loads((folder / "report.json").read_text())
    text = (folder / "report.md").read_text().replace("−", "-")
    scores = [
        [100 * pair[side]["test_accuracy"][-1] for side in ("ours", "theirs")]
        for pair in held["pairs"]
    ]
    for seed, (ours, theirs) in enumerate(scores):
        same = f"{100 * held['agreement'][seed]:.2f}"
        row = f"| {seed} | {ours:.2f} | {theirs:.2f} | {ours - theirs:+.2f} | {same} |"
        assert row in text
    low, high = (100 * end for end in held["equivalence"]["interval"])
    assert f"| **{low:+.2f} to {high:+.2f}** |" in text
    means = " | ".join(f"**{mean:.2f}**" for mean in np.mean(scores, 0))
    stds = " | ".join(f"**{std:.2f}**" for std in np.std(scores, 0, ddof=1))
    assert f"| **mean** | {means} |" in text
    assert f"| **± SD** | {stds} |" in text
    assert "An epoch in PyTorch takes 1.94 times as long as in jaxnets" in text
    assert "| jaxnets | 0.510 | 0.498–0.535 | 1.24 | 612 |" in text


def test_both_pages_say_the_same(made, folder):
    parsed = Page((folder / "report.html").read_text())
    shown = " ".join(" ".join(parsed.texts).split())
    written = (folder / "report.md").read_text()
    for block in content(made):
        if isinstance(block, Table):
            assert all(cell in shown for row in block.rows for cell in row)
        if isinstance(block, Table | Figure):
            assert block.caption in shown
    labels = re.findall(r"(?:Table|Figure) \d+\.", shown)
    assert labels == re.findall(r"(?:Table|Figure) \d+\.", written)
    assert [label for label in labels if label[0] == "F"] == [f"Figure {n}." for n in range(1, 7)]


def test_the_html_needs_nothing_else(folder):
    text = (folder / "report.html").read_text()
    parsed = Page(text)
    assert parsed.open == []
    assert not {"script", "link", "iframe"} & set(parsed.tags)
    sources = [value for name, value in parsed.attributes if name in ("src", "href")]
    assert len(sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in text
    assert "url(" not in text


def test_the_markdowns_images_are_there(folder):
    names = re.findall(r"!\[.*?\]\((.*?)\)", (folder / "report.md").read_text())
    assert len(names) == 6
    pages = ["report.html", "report.json", "report.md"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, *pages])
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_pages_can_be_made_again(made, folder):
    again = read(folder / "report.json")
    assert markdown(content(again)) == markdown(content(made))
    assert as_json(again) == as_json(made) == (folder / "report.json").read_text()
    np.testing.assert_array_equal(again.disagreements[0].image, made.disagreements[0].image)


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", '{"format": "other"}', '{"format": "jaxnets comparison 1"}', "[" * 100_000),
        '{"format": "jaxnets comparison 1", "control": null, "class_names": -1, "pairs": null}',
    ],
)
def test_a_file_that_is_no_report_is_refused(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ValueError, match=r"path: expected a report.json of a comparison, got '.*'"):
        read(tmp_path / "report.json")


def test_what_is_not_finite_is_null(made):
    first = made.pairs[0]
    losses = first.ours.step_losses.copy()
    losses[1:3] = np.nan, np.inf
    side = dataclasses.replace(first.ours, step_losses=losses)
    broken = dataclasses.replace(made, pairs=(dataclasses.replace(first, ours=side),))
    held = json.loads(as_json(broken), parse_constant=pytest.fail)
    assert held["pairs"][0]["ours"]["step_losses"][1:3] == [None, None]
    blocks = content(broken)
    assert list(tables(blocks)[1].rows[1])[:2] == ["2–10", "not finite"]
    for block in blocks:
        if isinstance(block, Figure) and block.name in ("losses", "rounding"):
            block.draw().draw_without_rendering()


def test_a_loss_is_the_measure_where_there_is_no_accuracy():
    made = comparison(2, regression=True, **SMALL)
    blocks = content(made)
    assert headings(blocks)[:2] == ["Test loss", "Training loss"]
    assert "Predictions" not in headings(blocks)
    assert "within ±0.00100" in verdict(made).text
    assert not re.search("accuracy|percent|disagree", markdown(blocks))


def test_independent_runs_compare_by_their_scores_alone():
    made = comparison(3, paired=False, **SMALL)
    blocks = content(made)
    assert not {"Step by step", "Predictions"} & set(headings(blocks))
    assert [row[3] for row in tables(blocks)[0].rows[:4]][:3] == ["–"] * 3
    assert "Welch’s, for independent runs" in verdict(made).text
    assert "each drew their own weights and order of examples" in markdown(blocks)
    drawing = next(block for block in blocks if isinstance(block, Figure)).draw()
    above, below = drawing.axes
    assert [text.get_text() for text in above.get_yticklabels()] == ["jaxnets", "PyTorch"]
    assert [text.get_text() for text in below.get_yticklabels()] == ["mean, 95 % CI"]


def test_a_documented_figure_with_dropout_is_not_that_of_pairs():
    made = comparison(2, **SMALL)
    assert "is with dropout" not in markdown(content(made))
    without = dataclasses.replace(made, settings={"dropout": "off on both sides"})
    assert "CPU cores. That result is with dropout, which is off" in markdown(content(without))


def test_what_is_missing_is_left_out():
    blocks = content(comparison(2, epochs=1, steps=1, examples=50, bare=True))
    assert headings(blocks) == ["Test accuracy", "Step by step", "Predictions", "Settings"]
    text = markdown(blocks)
    assert not re.search("control|thread|torch 2|machine:|Documented|memory", text)
    assert len(tables(blocks)[1].columns) == 3
    assert page(blocks, files.drawn(blocks)).count("<img") == text.count("![")


def test_many_classes_are_a_table_of_pairs(made):
    first = made.pairs[0]
    theirs = np.arange(500)
    ours = np.where(theirs < 60, (theirs // 2 * 2 + 1) % 60, theirs)
    sides = [dataclasses.replace(first.ours, predictions=each) for each in (ours, theirs)]
    pair = dataclasses.replace(first, ours=sides[0], theirs=sides[1])
    blocks = content(dataclasses.replace(made, pairs=(pair,), class_names=None, control=None))
    table = next(table for table in tables(blocks) if "ten most frequent" in table.caption)
    assert table.caption.startswith("The 30 predictions that differ")
    assert table.rows[0] == ["1", "0", "1"]
    assert len(table.rows) == 10


def test_names_are_only_text(made):
    names = ("<b>", "a|b", "$x$", "**", "_i_", "&amp;", "靴", "x" * 40, "[1](2)", "`")
    odd = dataclasses.replace(made, class_names=names, name="<i>", description="a <script>")
    odd = dataclasses.replace(odd, settings={"names": names, "_a_": "| \n|"}, command="a && <b>")
    blocks = content(odd)
    figures = [block for block in blocks if isinstance(block, Figure)]
    for figure in figures:
        if figure.name in ("confusion", "disagreements"):
            figure.draw().draw_without_rendering()
    text = page(blocks, dict.fromkeys([figure.name for figure in figures], b""))
    assert not {"b>", "script", "i"} & set(Page(text).tags)
    assert "a &lt;script&gt;" in text
    assert "&lt;i&gt;: jaxnets compared with PyTorch" in text
    written = markdown(blocks)
    assert "# &lt;i\\>: jaxnets compared with PyTorch" in written
    assert r"| names | &lt;b\>, a\|b, $x$, \*\*, \_i\_, &amp;amp;, 靴, " in written
    assert r"| a | \| \| |" in written.replace(r"\_", "")
    assert "    a && <b>" in written


def test_a_folder_that_cannot_be_is_named(made, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(files, "drawn", lambda blocks: dict.fromkeys(range(0), b""))
    monkeypatch.setattr(files, "page", lambda blocks, images: "")
    with pytest.raises(ValueError, match=r"directory: expected a folder .*, got '.*file/there': "):
        write(made, tmp_path / "file" / "there")


def test_a_report_is_replaced_whole_or_not_at_all(tmp_path):
    files.put({"a": b"old", "b": b"old"}, tmp_path)
    with pytest.raises(ValueError, match="No such file"):
        files.put({"a": b"new", "missing/b": b"new"}, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == {
        "a": b"old",
        "b": b"old",
    }
    files.put({"a": b"new"}, tmp_path)
    assert (tmp_path / "a").read_bytes() == b"new"


def test_differences_are_of_each_step(made):
    pair = made.pairs[1]
    found = differences([(pair.ours, pair.theirs)])
    expected = np.abs(pair.ours.step_losses.astype(float) - pair.theirs.step_losses)
    np.testing.assert_array_equal(found, expected[None])


def test_numbers_in_words():
    assert [p_value(value) for value in (0.0, 0.00099, 0.0123)] == [
        "p < 0.001",
        "p < 0.001",
        "p = 0.012",
    ]
    assert [power(value) for value in (0.0, 3.14e-7, 12.0, np.nan)] == [
        "0",
        "3.1 × 10⁻⁷",
        "1.2 × 10¹",
        "not finite",
    ]
    assert [seconds(value) for value in (0.0, 0.0123, 0.51, 12.34, 1234.0)] == [
        "0",
        "0.0123",
        "0.510",
        "12.3",
        "1234",
    ]


def test_names_of_classes_do_nothing_to_a_terminal():
    names = ("a\x1b[31m\n", "b")
    assert figures.called(0, names) == predictions._called(0, names) == r"a\x1b[31m\n"
