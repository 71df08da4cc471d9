"""The ported networks of tests/port_zoo as ONNX in onnxruntime and as StableHLO.

    python benchmarks/after_training/export_ports.py [FIRST LAST]

With numbers, only these networks are exported, and the record keeps the others. Requires torch and
the packages that the networks of tests/port_zoo import.
"""

import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import record
import torch

from jaxnets.arrays import InputError
from jaxnets.export import Program, save_onnx
from jaxnets.interop import load_torch
from jaxnets.networks import OwnNetwork
from jaxnets.port import port
from jaxnets.port.examples import inputs_of


def main() -> None:
    sys.path.insert(0, str(record.ROOT))
    from tests.port_cases import CASES

    warnings.simplefilter("ignore")  # warnings of PyTorch about the code of its users
    onnxruntime.set_default_logger_severity(4)
    torch.set_num_threads(1)
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    cases = [case for case in CASES if not (case.refused or case.built or case.eager)]
    part = slice(*map(int, sys.argv[1:3])) if sys.argv[1:] else slice(None)
    found = record.read("export_ports").get("found", {}) if part.start else {}
    found |= {str(case): outcome(case) for case in cases[part]}
    counts = Counter(found.values())
    about = {
        "title": "Ported networks as ONNX",
        "method": (
            f"{len(found)} networks of `tests/port_zoo`, ported from PyTorch, are exported to "
            "ONNX and run in onnxruntime. Outputs are equal if they differ from the JAX network "
            "by at most 1e-5 of the largest output. A network whose code requires a fixed batch "
            "size is exported with `--batch`. If an operation has no translation, the error "
            "names it."
        ),
        "command": "python benchmarks/after_training/export_ports.py",
        "columns": ["outcome", "networks"],
        "rows": [[name, str(count)] for name, count in counts.most_common()],
        "found": found,
    }
    record.write("export_ports", about, ("onnx", "onnxruntime"))
    print({name: each for name, each in found.items() if each not in EQUAL}, len(cases))


EQUAL = "equal, any batch", "equal, one batch"


def outcome(case) -> str:
    """How the export of a network ends, in words."""
    factory = OwnNetwork.at(f"{case.path}:{case.name}").make
    torch.manual_seed(0)
    module = factory(**case.args)
    module.eval()
    done = port(factory, inputs_of(case.inputs, module), kwargs=case.args)
    model = done.build()
    load_torch(model, module.state_dict())
    arrays = [
        narrow(*pair) for pair in zip(inputs_of(case.inputs, module), done.inputs, strict=True)
    ]
    if len({len(array) for array in arrays}) > 1:
        return "inputs without a common batch"
    specs = tuple(jax.ShapeDtypeStruct(array.shape[1:], array.dtype) for array in arrays)
    spec = specs if len(specs) > 1 else specs[0]
    try:
        program = Program(model, spec)
        word = EQUAL[0]
        if not traces(program):
            program, word = Program(model, spec, batch=len(arrays[0])), EQUAL[1]
        return word if equal(program, model, arrays) else "another result"
    except InputError as error:
        return f"refused: {str(error.got).partition(' (')[0]}"
    except Exception as error:
        return f"fails: {type(error).__name__}"


def traces(program: Program) -> bool:
    try:
        return program.traced is not None
    except Exception:
        return False


def narrow(array, order) -> np.ndarray:
    array = np.asarray(array)
    array = array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
    return array if order is None else np.transpose(array, order)


def equal(program: Program, model, arrays: list[np.ndarray]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        save_onnx(program, path)
        session = onnxruntime.InferenceSession(path)
    names = [one.name for one in session.get_inputs()]
    made = session.run(None, dict(zip(names, arrays, strict=True)))
    model.eval()
    expected = jax.tree.leaves(jax.jit(lambda *given: model(*given))(*arrays))
    pairs = zip(made, map(np.asarray, expected), strict=True)
    return all(np.abs(a - b).max() <= 1e-5 * max(1, np.abs(b).max()) for a, b in pairs)


if __name__ == "__main__":
    main()
