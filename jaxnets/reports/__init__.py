"""Evaluation of a trained network on a split: scores, and a page with tables and figures."""

from jaxnets.reports.data import data_of
from jaxnets.reports.of_run import of_run
from jaxnets.reports.records import Classification, Mistake, Regression
from jaxnets.reports.report import Report, report

__all__ = [
    "Classification",
    "Mistake",
    "Regression",
    "Report",
    "data_of",
    "of_run",
    "report",
]
