"""The report of a comparison: a page to read, in Markdown and HTML, and its figures as JSON."""

from jaxnets.compare.report.as_json import read
from jaxnets.compare.report.files import write

__all__ = ["read", "write"]
