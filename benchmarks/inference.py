"""The time of inference with a trained network, for one example and for many at once.

    python benchmarks/inference.py                           # the documented networks, 1 and 1024
    python benchmarks/inference.py --network mlp --batch 1 --rounds 5
    python benchmarks/inference.py --network resnet-20       # any of networks.py

The inputs are one NumPy array for all competitors, and the outputs are NumPy arrays, so each call
is complete when it is timed. Each competitor is a separate process with all cores, and they take
turns (`turns.py`):

- jaxnets: `predictor`.
- jaxnets, on device: the same from a JAX array, which is on the device and is not copied.
- jaxnets, sync: like jaxnets, with JAX set to compute on CPUs in the calling thread
  (`jax_cpu_enable_async_dispatch`); jaxnets does not change this setting itself.
- torch eager: `model.eval()` under `torch.inference_mode()`; images are NCHW.
- torch channels_last (only images): the same in that memory format, from images NHWC.
- torch.compile: like torch eager, compiled; on a GPU with `mode="reduce-overhead"`.
- plain Flax: NNX under `nnx.jit`.
- floor (only batches): the multiplications of the network at the rate of a large matrix product.

The table has medians over the rounds of the mean time of a call, quartiles, and each competitor's
time divided by jaxnets'. Writes `benchmarks/results/inference.json` and a chart next to it.
"""

import argparse
from collections.abc import Callable

import numpy as np
import products
import turns
from networks import NETWORKS, Network, build, examples


def main() -> None:
    options = turns.parser(__doc__, rounds=11, seconds=0.3, out="inference").parse_args()
    if options.competitor:
        answer(options)
    else:
        turns.compete(options, measured, (1, 1024), "calls", "Time of an inference")


def measured(name: str, batch: int, options: argparse.Namespace) -> dict:
    """Times all competitors with a network; returns a row of the results."""
    network = NETWORKS[name]
    without = set(options.without)
    if batch == 1:
        without.add("floor")  # one example is too small for a large matrix product
    if network.axes != 2:
        without.add("torch channels_last")
    names = [name for name in [*COMPETITORS, "floor"] if name not in without]
    work = network.multiplications * 2 * batch / 30e9
    calls = max(4, int(options.seconds / (work + 150e-6)))
    arguments = ["--network", name, "--batch", str(batch), "--times", str(calls)]
    found = turns.take_turns(__file__, names, arguments, options.rounds)
    return {"network": name, "batch": batch, "calls": calls, "competitors": found}


def answer(options: argparse.Namespace) -> None:
    """In a competitor: runs inference on the same inputs a number of times in each turn."""
    network = NETWORKS[options.network[0]]
    if options.competitor == "floor":
        multiplications = options.times * options.batch[0] * network.multiplications
        products.serve(multiplications, size=512)  # small, as their number is rounded
        return
    with turns.failures_printed():
        inputs, _ = examples(network, options.batch[0])
        call = COMPETITORS[options.competitor](network, inputs)

        def run() -> None:
            for _ in range(options.times):
                call()

        turns.serve(run)


Call = Callable[[], np.ndarray]


def jaxnets_call(network: Network, inputs: np.ndarray) -> Call:
    from jaxnets import predictor

    answer = predictor(build(network))
    return lambda: np.asarray(answer(inputs))


def jaxnets_on_device(network: Network, inputs: np.ndarray) -> Call:
    import jax

    return jaxnets_call(network, jax.device_put(inputs))


def jaxnets_sync(network: Network, inputs: np.ndarray) -> Call:
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return jaxnets_call(network, inputs)


def torch_call(
    network: Network, inputs: np.ndarray, mode: str | None = None, channels_last: bool = False
) -> Call:
    """Runs inference in PyTorch: eager, or compiled in a mode."""
    import torch
    import torch_networks

    model = torch_networks.build(network).eval()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    if mode:
        model = torch.compile(model, mode=mode)
    inputs = torch_networks.laid_out(network, inputs, channels_last)

    def call() -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(inputs).to(torch_networks.DEVICE)).cpu().numpy()

    return call


def torch_eager(network: Network, inputs: np.ndarray) -> Call:
    return torch_call(network, inputs)


def torch_channels_last(network: Network, inputs: np.ndarray) -> Call:
    return torch_call(network, inputs, channels_last=True)


def torch_compile(network: Network, inputs: np.ndarray) -> Call:
    import torch

    mode = "reduce-overhead" if torch.cuda.is_available() else "default"
    return torch_call(network, inputs, mode)


def plain_flax(network: Network, inputs: np.ndarray) -> Call:
    import flax_networks
    from flax import nnx

    model = flax_networks.build(network)
    model.eval()
    answer = nnx.jit(lambda model, x: model(x))
    return lambda: np.asarray(answer(model, inputs))


COMPETITORS = {
    "jaxnets": jaxnets_call,
    "jaxnets, on device": jaxnets_on_device,
    "jaxnets, sync": jaxnets_sync,
    "torch eager": torch_eager,
    "torch channels_last": torch_channels_last,
    "torch.compile": torch_compile,
    "plain Flax": plain_flax,
}  # floor runs no network


if __name__ == "__main__":
    main()
