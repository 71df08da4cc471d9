"""``python -m jaxnets`` is the command ``jaxnets``."""

from jaxnets.cli import console

console()
