"""Exported networks compared with the predictions of jaxnets: file sizes and differences.

    python benchmarks/after_training/export.py RUN...

Each RUN is a run directory. Files are written to a temporary folder.
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import record
import torch
from jax import export as jax_export

from jaxnets import export, load, recipes
from jaxnets.data.transforms.compose import applied

SIZES = (1, 7, 100)  # of batches


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(Path(run), Path(folder)) for run in sys.argv[1:]]
    about = {
        "title": "Exported networks",
        "method": (
            "Each run is exported and evaluated on batches of 1, 7 and 100 test examples: "
            "StableHLO in JAX, ONNX in onnxruntime, and PyTorch's state_dict in the exported "
            "class. The table shows the largest difference from `SavedRun.predict`, relative to "
            "the largest output. `foreign` is the port of a PyTorch network, for which no class "
            "is exported."
        ),
        "command": "python benchmarks/after_training/export.py RUN...",
        "columns": ["run", "StableHLO", "difference", "ONNX", "difference", ".pt", "difference"],
        "rows": rows,
    }
    record.write("export", about, ("onnx", "onnxruntime"))
    print(json.dumps(rows, indent=1, ensure_ascii=False))


def row(run: Path, folder: Path) -> list[str]:
    saved = load(run, run_code=True)
    examples = recipes.load_data(saved.recipe).test.gather(np.arange(max(SIZES)))[0]
    files = [folder / f"{run.name}{ending}" for ending in (".zip", ".onnx", ".pt")]
    export.save_stablehlo(saved.program(), files[0])
    export.save_onnx(saved.program(), files[1])
    known = len(export.save_torch(saved.model, files[2])) > 1
    asked = [stablehlo(files[0]), onnx(files[1]), in_torch(saved, files[2]) if known else None]
    cells = [run.name]
    for file, ask in zip(files, asked, strict=True):
        cells += [f"{file.stat().st_size:,} B", "" if ask is None else worst(saved, ask, examples)]
    return cells


def worst(saved, ask, examples: np.ndarray) -> str:
    found = 0.0
    for size in SIZES:
        expected = saved.predict(examples[:size])
        off = np.abs(ask(examples[:size]) - expected).max() / np.abs(expected).max()
        found = max(found, float(off))
    return f"{found:.1e}"


def stablehlo(path: Path):
    with zipfile.ZipFile(path) as file:
        network = jax_export.deserialize(bytearray(file.read("network.bin")))
    return lambda inputs: np.asarray(network.call(inputs))


def onnx(path: Path):
    session = onnxruntime.InferenceSession(path)
    return lambda inputs: session.run(None, {"inputs": inputs})[0]


def in_torch(saved, path: Path):
    space: dict = {}
    exec(path.with_suffix(".py").read_text(), space)
    network = space["Network"]()
    network.load_state_dict(torch.load(path))
    network.eval()

    def ask(inputs: np.ndarray) -> np.ndarray:
        given = np.asarray(applied(saved.transform, jax.numpy.asarray(inputs)))
        given = np.moveaxis(given, -1, 1) if given.ndim == 4 else given
        with torch.no_grad():
            return network(torch.tensor(np.ascontiguousarray(given))).numpy()

    return ask


if __name__ == "__main__":
    main()
