"""Checks the links of a site without a network.

Every file and anchor that a page names must be in the site. A page must not load anything from the
network.
"""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Html(HTMLParser):
    """The links of a page, and the anchors in it.

    Attributes:
        links: each address, and whether the page shows or runs what is there.
        anchors: the ids, and the names of ``<a>``.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[tuple[str, bool]] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Takes the links and anchors of an element."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag, name) == ("a", "name"):
                self.anchors.add(value)
            elif name in ("href", "src", "poster", "data"):
                self.links.append((value, tag not in ("a", "area")))


def faults(site: Path) -> list[str]:
    """Returns a sentence for each fault in the pages below ``site``."""
    pages = {path.resolve(): Html(path.read_text("utf-8")) for path in site.rglob("*.html")}
    return [
        f"{path.relative_to(site.resolve())}: {fault}"
        for path, page in sorted(pages.items())
        for link, loaded in page.links
        if (fault := _fault(link, loaded, path, pages))
    ]


def _fault(link: str, loaded: bool, path: Path, pages: dict[Path, Html]) -> str | None:
    address = urlsplit(link)
    if address.scheme == "data" or (not loaded and address.scheme in ("http", "https", "mailto")):
        return None
    if address.scheme or address.netloc or address.path.startswith("/"):
        return f"{link} is not in the site"
    target = (path.parent / unquote(address.path)).resolve() if address.path else path
    if not target.is_file():
        return f"{link} is not a file in the site"
    anchor = unquote(address.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return f"{link} names an anchor that {target.name} does not have"
    return None
