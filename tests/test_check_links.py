import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent
faults = runpy.run_path(str(ROOT / "scripts" / "check_links.py"))["faults"]


def site(folder, page):
    (folder / "a").mkdir()
    (folder / "a" / "b c.html").write_text('<p id="here"><a name="there">')
    (folder / "index.html").write_text(page)
    return folder


def test_links_that_lead_somewhere_are_no_faults(tmp_path):
    page = """<h1 id="top"><a href="#top"><a href="a/b%20c.html#here"><a href="a/b%20c.html#there">
        <a href="https://example.org/x"><a href="mailto:x@example.org"><img src="data:,x">"""
    assert faults(site(tmp_path, page)) == []


def test_each_fault_is_a_line(tmp_path):
    page = """<a href="no.html"><a href="#no"><a href="a/b%20c.html#no"><a href="a">
        <img src="no.png"><script src="https://example.org/x.js"></script><a href="/index.html">"""
    assert faults(site(tmp_path, page)) == [
        "index.html: no.html is not a file in the site",
        "index.html: #no names an anchor that index.html does not have",
        "index.html: a/b%20c.html#no names an anchor that b c.html does not have",
        "index.html: a is not a file in the site",
        "index.html: no.png is not a file in the site",
        "index.html: https://example.org/x.js is not in the site",
        "index.html: /index.html is not in the site",
    ]
