"""Builds the documentation site: python scripts/build_site.py [--serve].

The project's Markdown is written for a code host: README.md is the first page, and links lead
anywhere in the repository. This script writes pages for the site into `build/pages`: README.md
becomes index.md, links lead to places in the site, and files outside of `docs/` that a page links
to are copied. It then has Zensical render them into `site/`, and checks every link. The site needs
neither a server nor a network.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import check_links
from public_names import expanded

ROOT = Path(__file__).parent.parent
PAGES, SITE = ROOT / "build" / "pages", ROOT / "site"
#: Pages outside of docs/, by their names in the site.
OUTSIDE = {path.name.lower(): path.name for path in ROOT.glob("*.md")}
OUTSIDE["index.md"] = OUTSIDE.pop("readme.md")
_PLACES = {source: name for name, source in OUTSIDE.items()}
_CODE = re.compile(r"(```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(\]\(|<img src=\")([^)\"\s#]+)([^)\"]*[)\"])")


def main() -> int:
    """Writes the pages, and renders or serves them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", action="store_true", help="show the site while pages change")
    options = parser.parse_args()
    write_pages()
    if options.serve:
        return subprocess.call(["zensical", "serve"], cwd=ROOT)
    shutil.rmtree(SITE, ignore_errors=True)
    if code := subprocess.call(["zensical", "build", "--clean", "--strict"], cwd=ROOT):
        return code
    (SITE / "404.html").unlink(missing_ok=True)  # only a server shows it
    faults = check_links.faults(SITE)
    print("\n".join(faults) or f"built {SITE.relative_to(ROOT)}: all links are valid")
    return 1 if faults else 0


def write_pages() -> None:
    """Writes the pages and what they link to into an empty folder."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES)
    inside = [path.relative_to(PAGES).as_posix() for path in PAGES.rglob("*.md")]
    for name in (*inside, *OUTSIDE):
        source = OUTSIDE.get(name, f"docs/{name}")
        (PAGES / name).write_text(page((ROOT / source).read_text("utf-8"), name, source), "utf-8")


def page(markdown: str, name: str, source: str) -> str:
    """Rewrites a page for the site, and copies the files that it links to.

    Args:
        markdown: the page in the repository.
        name: its path in the site.
        source: its path in the repository.
    """

    def rewritten(link: re.Match[str]) -> str:
        if ":" in link[2]:
            return link[0]
        target = os.path.normpath(PurePosixPath(source).parent / link[2])
        place = _PLACES.get(target, target.removeprefix("docs/"))
        if (ROOT / target).is_file() and not (PAGES / place).exists():
            (PAGES / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / target, PAGES / place)
        return link[1] + os.path.relpath(place, PurePosixPath(name).parent) + link[3]

    parts = _CODE.split(markdown)
    parts[::2] = [_LINK.sub(rewritten, part) for part in parts[::2]]
    # A page without headings has no table of contents. Wide tables can use its place.
    head = "" if "\n## " in "".join(parts[::2]) else "---\nhide: [toc]\n---\n\n"
    return head + expanded("".join(parts))


if __name__ == "__main__":
    sys.exit(main())
