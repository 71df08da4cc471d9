"""A linear layer with int8 weights and inputs, compared with float32 and with PyTorch.

    python benchmarks/after_training/int8_products.py

Each variant receives a NumPy array (or a tensor in PyTorch) and waits for the outputs. The
benchmark runs for about 15 seconds; no other program should run at the same time.
"""

import time
import warnings

import jax
import numpy as np
import record
import torch
from flax import nnx

from jaxnets import layers, quantization
from jaxnets.kernels import aside
from jaxnets.training import predictor

SIZES = (784, 128), (1024, 1024)
SECONDS = 0.3


def best(function):
    """Microseconds of the fastest of many calls."""
    end, least = time.perf_counter() + SECONDS, float("inf")
    function()
    while time.perf_counter() < end:
        begin = time.perf_counter()
        function()
        least = min(least, time.perf_counter() - begin)
    return least * 1e6


def measured(inputs, outputs, batch):
    """The times of a layer in each form."""
    x = np.random.default_rng(0).normal(size=(batch, inputs)).astype(np.float32)
    layer = layers.Linear(inputs, outputs, rngs=nnx.Rngs(0))
    dynamic = quantization.quantize_dynamic(layer)
    static = quantization.quantize_static(layer, x)
    times = []
    for each in (layer, dynamic, static):
        answer = predictor(each)
        times.append(best(lambda answer=answer: jax.block_until_ready(answer(x))))
    with aside():
        answer = predictor(dynamic)
        times.append(best(lambda: jax.block_until_ready(answer(x))))
    theirs = torch.nn.Sequential(torch.nn.Linear(inputs, outputs))
    small = torch.ao.quantization.quantize_dynamic(theirs, {torch.nn.Linear}, torch.qint8)
    given = torch.from_numpy(x)
    with torch.inference_mode():
        times += [best(lambda: theirs(given)), best(lambda: small(given))]
    return times


def main():
    warnings.simplefilter("ignore")
    rows = []
    for inputs, outputs in SIZES:
        for batch in (1, 256):
            times = measured(inputs, outputs, batch)
            rows.append([f"{inputs} → {outputs}, {batch} rows", *(f"{t:.0f} µs" for t in times)])
            print(rows[-1], flush=True)
    about = {
        "title": "int8 products",
        "method": (
            "A linear layer with float32 weights, and with int8 weights and inputs; the fastest "
            "of many calls. Without the kernel of jaxnets, XLA multiplies the same integers."
        ),
        "command": "python benchmarks/after_training/int8_products.py",
        "columns": [
            "layer",
            "float32",
            "dynamic",
            "static",
            "dynamic without the kernel",
            "PyTorch float32",
            "PyTorch dynamic",
        ],
        "rows": rows,
    }
    record.write("int8_products", about)


if __name__ == "__main__":
    main()
