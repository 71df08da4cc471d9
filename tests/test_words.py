"""Phrases that CONTRIBUTING.md lists as retired are not used."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = [
    *ROOT.glob("*.md"),
    *(
        path
        for folder in ("jaxnets", "docs", "examples", "scripts", "benchmarks", "notebooks")
        for suffix in ("*.py", "*.md", "*.html", "*.ipynb", "*.cc", "*.h")
        for path in (ROOT / folder).rglob(suffix)
    ),
]
RETIRED = re.compile(
    r"\b(?:an answer|goes on|go on with|gives? back|bears?|asks? for|asked for|herewith|thereby"
    r"|wherein|for all that|to be had|of one's own|(?:is|are) told|PyTorch is the oracle"
    r"|how many epochs|is none of|but for|is at home|by turns|lies? (?:in|beside|below))\b",
    re.IGNORECASE,
)


def test_no_retired_phrase_is_left():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in FILES
        if path.name != "CONTRIBUTING.md"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for match in RETIRED.finditer(line)
    ]
    assert found == []
