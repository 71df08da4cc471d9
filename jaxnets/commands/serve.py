"""The command that serves a trained network over HTTP."""

from pathlib import Path

import click

from jaxnets import serve
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.saved import opened


@click.command("serve")
@click.argument("run", type=PathArgument())
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port to listen at; 0 takes a free one.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 4096),
    default=64,
    show_default=True,
    help="Examples that are computed at once, a power of two.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0, 1000),
    default=2.0,
    show_default=True,
    help="Milliseconds that an example waits for others.",
)
def serve_command(run: Path, host: str, port: int, batch: int, wait: float) -> None:
    """Serve the network saved in the folder RUN over HTTP, with a page to try it on.

    POST /predict takes JSON: images (base64 of PNG or JPEG), texts, rows or inputs (nested lists).
    The examples of requests that come together are computed together. The default address is
    reached from this machine alone.
    """
    limits = serve.Limits(batch=batch, wait=wait / 1000)
    serve.serve(opened(run), host, port, limits, click.echo)
