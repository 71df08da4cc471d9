"""A network as StableHLO, which JAX alone reads and runs on CPUs, GPUs and TPUs."""

import zipfile
from pathlib import Path
from typing import Any

import jax
from jax import export

from jaxnets.arrays import InputError, check_path
from jaxnets.disk import replacing
from jaxnets.export.program import Program, description_of
from jaxnets.kernels import native
from jaxnets.optional import require

PLATFORMS = ("cpu", "cuda", "tpu")
#: The parts of a file, which is a zip archive.
NETWORK, ABOUT = "network.bin", "about.json"


def save_stablehlo(program: Program, path: Path | str) -> None:
    """Writes a network as StableHLO, which ``jax.export`` reads without jaxnets.

    The file is a zip archive: ``network.bin`` holds the computation with its weights, for CPUs,
    CUDA and TPUs; ``about.json`` holds ``Program.description()``.

    Args:
        program: the network, and what its inputs go through.
        path: where to write; an existing file is replaced.

    Raises:
        InputError: if the network cannot be traced, or StableHLO cannot hold an operation.
        ImportError: if flatbuffers is not installed.

    Examples:
        >>> save_stablehlo(Program(model, inputs), "network.zip")  # doctest: +SKIP
    """
    path = check_path("path", path, "a file to write")
    require("flatbuffers", extra="export", feature="a file of StableHLO")
    about = description_of(program)  # says first what is wrong with the network
    data = _serialized(program)
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(NETWORK, data)
        file.writestr(ABOUT, about)


def _serialized(program: Program) -> bytes:
    def run(inputs: Any) -> Any:  # its own name would be that of a class
        return program(inputs)

    with native.aside():
        try:
            exported = export.export(jax.jit(run), platforms=PLATFORMS)(program.specs)
            return bytes(exported.serialize())
        except (NotImplementedError, ValueError) as error:
            got = f"{type(program.model).__name__} ({str(error).partition(chr(10))[0]})"
            raise InputError("model", "operations that StableHLO holds", got) from error
