"""The command ``serve``: serves a trained network over HTTP."""

from pathlib import Path

import click

from jaxnets import serve
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.saved import opened


@click.command("serve")
@click.argument("run", type=PathArgument())
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port to listen on; 0 for any free port.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 4096),
    default=64,
    show_default=True,
    help="The largest batch, a power of two.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0, 1000),
    default=2.0,
    show_default=True,
    help="Milliseconds to wait for further examples of a batch.",
)
def serve_command(run: Path, host: str, port: int, batch: int, wait: float) -> None:
    """Serve the network in the run directory RUN over HTTP, with a web page to try it.

    POST /predict accepts JSON: images (base64 of PNG or JPEG), texts, rows or inputs (nested
    lists). The examples of concurrent requests are computed in one batch. The default address can
    only be reached from this machine.
    """
    limits = serve.Limits(batch=batch, wait=wait / 1000)
    serve.serve(opened(run), host, port, limits, click.echo)
