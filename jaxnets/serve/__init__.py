"""A trained network as an HTTP service, with a page to try it on."""

from jaxnets.serve.application import Limits, application
from jaxnets.serve.server import serve

__all__ = ["Limits", "application", "serve"]
