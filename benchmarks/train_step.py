"""The time of a training step: jaxnets against PyTorch, plain Flax and Keras.

    python benchmarks/train_step.py                          # the documented networks, 64 and 1024
    python benchmarks/train_step.py --network mlp --batch 64 --rounds 5
    python benchmarks/train_step.py --network resnet-20 --without Keras  # any of networks.py

A step is the forward pass, the backward pass and the update of SGD with momentum, on random data
in memory that are shuffled for each round; a round is an epoch. Each competitor is a separate
process with all cores, and they take turns (`turns.py`). With `--dtype bfloat16` jaxnets uses
`fit(compute_dtype=…)` and PyTorch `torch.autocast`:

- jaxnets: `fit`, with everything that it does in an epoch, including the evaluation of one example.
- jaxnets, devices (only on a CPU): the same with a virtual device for each core, `fit(devices=…)`.
- jaxnets, ported: the same with the port of the PyTorch network by `jaxnets.port`.
- torch eager: a step as in PyTorch's tutorials, without their data loader.
- torch channels_last (only images): the same, with weights and images in that memory format.
- torch.compile: like torch eager, with the whole step compiled; on a GPU with
  `mode="reduce-overhead"`.
- CUDA graph (only on a GPU): the whole step captured once and replayed.
- plain Flax: NNX with a jitted step, as in Flax's MNIST example.
- Keras (if installed): `fit` on the JAX backend, which compiles the step. `train_on_batch` would
  wait for the loss after each step.
- floor: the multiplications of the network at the rate of a large matrix product.

The table has medians over the rounds, quartiles, and each competitor's time divided by jaxnets'.
Separate columns have the compilation time, which is the time of the first round minus that of a
later one, and the peak memory of each process.
Writes `benchmarks/results/train_step.json` and a chart next to it.
"""

import argparse
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import machine
import numpy as np
import products
import turns
from networks import NETWORKS, Network, build, examples

LR, MOMENTUM = 0.01, 0.9
DTYPES = ("float32", "bfloat16")


def main() -> None:
    parser = turns.parser(__doc__, rounds=7, seconds=0.5, out="train_step")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    options = parser.parse_args()
    if options.competitor:
        take_steps(options)
    else:
        turns.compete(options, measured, (64, 1024), "steps", "Time of a training step")


def measured(name: str, batch: int, options: argparse.Namespace) -> dict:
    """Times all competitors with a network; returns a row of the results."""
    network = NETWORKS[name]
    steps = max(4, int(options.seconds / (network.multiplications * 6 * batch / 30e9)))
    case = ["--network", name, "--batch", str(batch), "--dtype", options.dtype]
    arguments = [*case, "--times", str(steps)]
    found = turns.take_turns(__file__, names(network, options), arguments, options.rounds)
    row = {"network": name, "batch": batch, "dtype": options.dtype, "steps": steps}
    return {**row, "competitors": found}


def names(network: Network, options: argparse.Namespace) -> list[str]:
    """The competitors that this machine can run with this network."""
    import torch

    gpu = torch.cuda.is_available()
    missing = [] if find_spec("keras") else ["Keras"]
    missing += ["jaxnets, devices"] if gpu else ["CUDA graph"]
    missing += [] if network.axes == 2 else ["torch channels_last"]
    if options.dtype == "bfloat16":
        missing += ["plain Flax", "Keras", "floor"]
        if not gpu and not machine.has_bfloat16():
            raise SystemExit("this processor has no instructions for bfloat16 (AVX512_BF16)")
    return [name for name in COMPETITORS if name not in {*options.without, *missing}]


class Case(NamedTuple):
    """The work of a competitor: number of steps in a turn, and their batch size."""

    network: Network
    batch: int
    steps: int
    dtype: str


def take_steps(options: argparse.Namespace) -> None:
    """In a competitor: runs its turns."""
    network = NETWORKS[options.network[0]]
    case = Case(network, options.batch[0], options.times, options.dtype)
    with turns.failures_printed():
        COMPETITORS[options.competitor](case)


def jaxnets_steps(
    case: Case, devices: int | None = None, make: Callable[[Network], Any] = build
) -> None:
    """Runs epochs of ``fit``, which waits for the next turn after each."""
    from jaxnets import fit, losses, optimizers
    from jaxnets.data import Dataset, Split
    from jaxnets.training import StopTraining

    split = Split(*examples(case.network, case.steps * case.batch))
    began = [0.0]

    def next_turn(record: object) -> None:
        turns.tell(time.perf_counter() - began[0])
        if not turns.wait():
            raise StopTraining("the last turn")
        began[0] = time.perf_counter()

    model = make(case.network)
    turns.tell("ready")
    turns.wait()
    began[0] = time.perf_counter()
    fit(
        model,
        Dataset("random", split, split.take(1)),
        loss=getattr(losses, case.network.loss),
        optimizer=optimizers.sgd(LR, momentum=MOMENTUM),
        epochs=10**6,
        batch_size=case.batch,
        devices=devices,
        compute_dtype=None if case.dtype == "float32" else case.dtype,
        callbacks=[next_turn],
        progress="none",
    )
    turns.tell({**machine.peak_memory(), "device": machine.device()})


def jaxnets_devices(case: Case) -> None:
    """Runs epochs of ``fit`` with a virtual device for each core."""
    import jax

    cores = len(os.sched_getaffinity(0))
    jax.config.update("jax_num_cpu_devices", cores)
    jaxnets_steps(case, devices=cores)


def jaxnets_ported(case: Case) -> None:
    """Runs epochs of ``fit`` with the port of the PyTorch network."""
    jaxnets_steps(case, make=ported)


def ported(network: Network) -> Any:
    """Returns the port of the PyTorch network."""
    import torch_networks

    from jaxnets.port import from_torch

    inputs, _ = torch_networks.tensors(network, 2)
    return from_torch(torch_networks.build(network).cpu(), inputs.cpu())


def torch_step(case: Case, channels_last: bool = False) -> tuple[Callable, Callable]:
    """Returns a step as in PyTorch's tutorials, and a separate function that resets gradients."""
    import torch
    import torch_networks

    model = torch_networks.build(case.network)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    criterion = torch_networks.loss(case.network)
    lower = case.dtype == "bfloat16"

    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if not lower:
            return criterion(model(x), y)
        with torch.autocast(torch_networks.DEVICE, torch.bfloat16):
            return criterion(model(x), y)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        forward(x, y).backward()
        optimizer.step()

    return step, optimizer.zero_grad


def torch_serve(case: Case, step: Callable, channels_last: bool = False) -> None:
    """Runs epochs of a step over shuffled tensors."""
    import torch
    import torch_networks

    x, y = torch_networks.tensors(case.network, case.steps * case.batch, channels_last)

    def epoch() -> None:
        for rows in torch.randperm(len(x), device=x.device).split(case.batch):
            step(x[rows], y[rows])
        torch_networks.wait()

    turns.serve(epoch)


def torch_eager(case: Case) -> None:
    torch_serve(case, torch_step(case)[0])


def torch_channels_last(case: Case) -> None:
    torch_serve(case, torch_step(case, channels_last=True)[0], channels_last=True)


def torch_compile(case: Case) -> None:
    import torch

    mode = "reduce-overhead" if torch.cuda.is_available() else "default"
    torch_serve(case, torch.compile(torch_step(case)[0], mode=mode))


def cuda_graph(case: Case) -> None:
    """Captures the step on fixed tensors, into which each batch is copied."""
    import torch
    import torch_networks

    step, no_gradients = torch_step(case)
    x, y = torch_networks.tensors(case.network, case.batch)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step(x, y)
    torch.cuda.current_stream().wait_stream(aside)
    no_gradients()  # the graph then allocates its gradients in its own memory
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(x, y)

    def replay(inputs: torch.Tensor, labels: torch.Tensor) -> None:
        x.copy_(inputs)
        y.copy_(labels)
        graph.replay()

    torch_serve(case, replay)


def plain_flax(case: Case) -> None:
    """Runs epochs as in Flax's MNIST example."""
    import flax_networks
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    model = flax_networks.build(case.network)
    optimizer = nnx.Optimizer(model, optax.sgd(LR, MOMENTUM), wrt=nnx.Param)
    x, y = map(jnp.asarray, examples(case.network, case.steps * case.batch))

    @nnx.jit
    def step(model: nnx.Module, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
        def objective(model: nnx.Module) -> jax.Array:
            return flax_networks.loss(case.network, model(x), y)

        loss, gradients = nnx.value_and_grad(objective)(model)
        optimizer.update(model, gradients)
        return loss

    def epoch() -> None:
        order = np.random.default_rng().permutation(len(x)).reshape(-1, case.batch)
        for rows in order:
            loss = step(model, optimizer, x[rows], y[rows])
        loss.block_until_ready()

    turns.serve(epoch)


def keras_fit(case: Case) -> None:
    """Runs epochs of Keras' ``fit``."""
    import keras_networks
    from keras_networks import keras

    model = keras_networks.build(case.network)
    optimizer = keras.optimizers.SGD(LR, momentum=MOMENTUM)
    model.compile(optimizer, keras_networks.loss(case.network))
    x, y = examples(case.network, case.steps * case.batch)
    turns.serve(lambda: model.fit(x, y, batch_size=case.batch, epochs=1, verbose=0))


def floor(case: Case) -> None:
    products.serve(3 * case.steps * case.batch * case.network.multiplications)


COMPETITORS = {
    "jaxnets": jaxnets_steps,
    "jaxnets, devices": jaxnets_devices,
    "jaxnets, ported": jaxnets_ported,
    "torch eager": torch_eager,
    "torch channels_last": torch_channels_last,
    "torch.compile": torch_compile,
    "CUDA graph": cuda_graph,
    "plain Flax": plain_flax,
    "Keras": keras_fit,
    "floor": floor,
}


if __name__ == "__main__":
    main()
