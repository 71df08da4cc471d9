"""The report of a comparison: a page in Markdown and HTML, and its numbers as JSON."""

from jaxnets.compare.report.as_json import read
from jaxnets.compare.report.files import write

__all__ = ["read", "write"]
