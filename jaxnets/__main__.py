"""Runs the command ``jaxnets`` as ``python -m jaxnets``."""

from jaxnets.cli import console

console()
