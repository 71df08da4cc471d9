"""A hook of MkDocs: pages that stand beside ``docs/``, and what pages link to outside of it.

The Markdown of the project is written for a code host, where README.md is the first page and
links go anywhere in the repository. Here README.md becomes index.md, and each other file that
a page links to is carried into the site under its own path.
"""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from public_names import expanded

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path.name.lower() for path in ROOT.glob("*.md")} | {"README.md": "index.md"}
_CODE = re.compile(r"(```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(\]\(|<img src=\")([^)\"\s#]+)([^)\"]*[)\"])")


def on_config(config: MkDocsConfig) -> None:
    """Leaves out the page that a server shows for what is missing: there is no server."""
    config.theme.static_templates.discard("404.html")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages, and the files that pages link to."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    for page in list(files.documentation_pages()):
        for target in _linked(page.content_string, _origin(page.src_uri)):
            name = _place(target)
            if files.get_file_from_path(name) is None and (ROOT / target).is_file():
                files.append(File.generated(config, name, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Rewrites the links of a page to where things stand in the site, and lists public names."""
    origin, place = _origin(page.file.src_uri), page.file.src_uri

    def rewritten(link: re.Match[str]) -> str:
        if ":" in link[2]:
            return link[0]
        target = _place(_resolved(link[2], origin))
        return link[1] + os.path.relpath(target, PurePosixPath(place).parent) + link[3]

    parts = _CODE.split(markdown)
    parts[::2] = [_LINK.sub(rewritten, part) for part in parts[::2]]
    if "\n## " not in "".join(parts[::2]):
        page.meta["hide"] = ["toc"]  # there is none, and a wide table needs its place
    return expanded("".join(parts))


def _linked(markdown: str, origin: str) -> list[str]:
    """The paths in the repository that the page at ``origin`` links to."""
    prose = "".join(_CODE.split(markdown)[::2])
    return [_resolved(link[2], origin) for link in _LINK.finditer(prose) if ":" not in link[2]]


def _resolved(link: str, origin: str) -> str:
    return os.path.normpath(PurePosixPath(origin).parent / link)


def _origin(name: str) -> str:
    """Where the repository has the page that the site has as ``name``."""
    return next((source for source, page in PAGES.items() if page == name), f"docs/{name}")


def _place(path: str) -> str:
    """Where the site has the repository's file ``path``."""
    return PAGES.get(path, path.removeprefix("docs/"))
