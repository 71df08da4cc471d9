"""The time of an answer: a trained network on one example, and on many at once.

    python benchmarks/inference.py                           # all networks, batches of 1 and 1024
    python benchmarks/inference.py --network mlp --batch 1 --rounds 5

Inputs are a NumPy array, the same for all, and outputs are NumPy arrays again, so that each call
has ended when it is timed. Each competitor is a process of its own with all cores, and they take
turns (`turns.py`):

- jaxnets: `predictor`.
- jaxnets, on device: the same, from a JAX array, which lies on the device and is not copied there.
- jaxnets, sync: the same as the first, where the program has told JAX to compute on CPUs in the
  calling thread (`jax_cpu_enable_async_dispatch`), which jaxnets leaves to the program.
- torch eager: `model.eval()` under `torch.inference_mode()`; images lie as PyTorch has them, NCHW.
- torch.compile: the same, compiled; on a GPU with `mode="reduce-overhead"`.
- plain Flax: NNX under `nnx.jit`.
- floor: of batches, the network's multiplications at the rate of a large matrix product.

The table gives medians over the rounds of the mean time of a call in a round, quartiles, and each
competitor's time divided by jaxnets'. Writes `benchmarks/results/inference.json` and a chart beside
it.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import chart
import machine
import numpy as np
import products
import turns
from networks import NETWORKS, Network, build, examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=0.3, help="about how long a round takes")
    parser.add_argument("--without", action="append", default=[], help="leave a competitor out")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "inference.json")
    parser.add_argument("--competitor", help=argparse.SUPPRESS)
    parser.add_argument("--calls", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.competitor:
        answer(options)
    else:
        compete(options)


def compete(options: argparse.Namespace) -> None:
    """Times all cases, and tells and writes what came of it."""
    rows = []
    print(turns.HEAD.format("call"))
    for network in options.network or NETWORKS:
        for batch in options.batch or (1, 1024):
            # A few multiplications are no large product.
            without = {*options.without, "floor"} if batch == 1 else options.without
            names = [name for name in [*COMPETITORS, "floor"] if name not in without]
            work = NETWORKS[network].multiplications * 2 * batch / 30e9
            calls = max(4, int(options.seconds / (work + 150e-6)))
            arguments = ["--network", network, "--batch", str(batch), "--calls", str(calls)]
            found = turns.take_turns(names, arguments, options.rounds)
            rows.append({"network": network, "batch": batch, "calls": calls, "competitors": found})
            turns.report(rows[-1], "calls")
    machine.write(options.out, rows)
    chart.draw(rows, "calls", "Time of an answer", options.out.with_suffix(".png"))


def answer(options: argparse.Namespace) -> None:
    """In a competitor: answers the same inputs so many times a turn."""
    network = NETWORKS[options.network[0]]
    if options.competitor == "floor":
        multiplications = options.calls * options.batch[0] * network.multiplications
        products.serve(multiplications, size=512)  # small enough for whole ones to be near
        return
    inputs, _ = examples(network, options.batch[0])
    call = COMPETITORS[options.competitor](network, inputs)

    def run() -> None:
        for _ in range(options.calls):
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


def torch_eager(network: Network, inputs: np.ndarray, mode: str | None = None) -> Call:
    import torch
    import torch_networks

    model = torch_networks.build(network).eval()
    if mode:
        model = torch.compile(model, mode=mode)
    if inputs.ndim == 4:
        inputs = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))

    def call() -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(inputs).to(torch_networks.DEVICE)).cpu().numpy()

    return call


def torch_compile(network: Network, inputs: np.ndarray) -> Call:
    import torch

    mode = "reduce-overhead" if torch.cuda.is_available() else "default"
    return torch_eager(network, inputs, mode)


def plain_flax(network: Network, inputs: np.ndarray) -> Call:
    import flax_networks
    from flax import nnx

    model = flax_networks.build(network)
    answer = nnx.jit(lambda model, x: model(x))
    return lambda: np.asarray(answer(model, inputs))


COMPETITORS = {
    "jaxnets": jaxnets_call,
    "jaxnets, on device": jaxnets_on_device,
    "jaxnets, sync": jaxnets_sync,
    "torch eager": torch_eager,
    "torch.compile": torch_compile,
    "plain Flax": plain_flax,
}  # and floor, of which nothing is called


if __name__ == "__main__":
    main()
