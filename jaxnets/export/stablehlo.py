"""Writes a network as StableHLO, which JAX runs on CPUs, GPUs and TPUs without jaxnets."""

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
#: The members of a file, which is a zip archive.
NETWORK, ABOUT = "network.bin", "about.json"


def save_stablehlo(program: Program, path: Path | str) -> None:
    """Writes a network as StableHLO, which ``jax.export`` reads without jaxnets.

    The file is a zip archive: ``network.bin`` contains the computation with its weights, for CPUs,
    CUDA and TPUs; ``about.json`` contains ``Program.description()``.

    Args:
        program: the network with its preprocessing.
        path: the file, which is replaced if it exists.

    Raises:
        InputError: if the network cannot be traced, or StableHLO does not support an operation.
        ImportError: if flatbuffers is not installed.

    Examples:
        >>> save_stablehlo(Program(model, inputs), "network.zip")  # doctest: +SKIP
    """
    path = check_path("path", path, "a file to write")
    require("flatbuffers", extra="export", feature="a file of StableHLO")
    about = description_of(program)  # first, as it checks the network
    data = _serialized(program)
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(NETWORK, data)
        file.writestr(ABOUT, about)


def _serialized(program: Program) -> bytes:
    def run(inputs: Any) -> Any:  # jax.jit needs a function with a name, unlike a Program
        return program(inputs)

    with native.aside():
        try:
            exported = export.export(jax.jit(run), platforms=PLATFORMS)(program.specs)
            return bytes(exported.serialize())
        except (NotImplementedError, ValueError) as error:
            got = f"{type(program.model).__name__} ({str(error).partition(chr(10))[0]})"
            raise InputError("model", "operations that StableHLO supports", got) from error
