"""Serves a trained network over HTTP, with a web page to try it."""

from jaxnets.serve.application import Limits, application
from jaxnets.serve.server import serve

__all__ = ["Limits", "application", "serve"]
