"""The time of a training step: jaxnets against PyTorch, plain Flax and Keras.

    python benchmarks/train_step.py                          # all networks, batches of 64 and 1024
    python benchmarks/train_step.py --network mlp --batch 64 --rounds 5

Forward, backward and the update of SGD with momentum, float32, on random data that lie in memory
and are shuffled for each round, which is an epoch. Each competitor is a process of its own with all
cores, and they take turns (`turns.py`):

- jaxnets: `fit`, with all that it does in an epoch, its evaluation of one example included.
- jaxnets, devices, on a CPU alone: the same over a virtual device for each core, `fit(devices=…)`.
- torch eager: as a tutorial writes it, but for its data loader.
- torch.compile: the same, the whole step compiled; on a GPU with `mode="reduce-overhead"`.
- CUDA graph, on a GPU alone: the whole step captured once and replayed.
- plain Flax: NNX with a jitted step, as Flax's MNIST example has it.
- Keras, where it is installed: `fit` on the JAX backend, which compiles the step by itself. It is
  what a user writes; `train_on_batch` would wait for the loss after each step.
- floor: the network's multiplications at the rate of a large matrix product.

The table gives medians over the rounds, quartiles, and each competitor's time divided by jaxnets'.
Apart from these stand the seconds to compile, which are the first round's less a later one's, and
the most memory that each process had.
Writes `benchmarks/results/train_step.json` and a chart beside it.
"""

import argparse
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import chart
import machine
import numpy as np
import products
import turns
from networks import NETWORKS, Network, build, examples

LR, MOMENTUM = 0.01, 0.9
Run = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="about how long a round takes")
    parser.add_argument("--without", action="append", default=[], help="leave a competitor out")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "train_step.json")
    parser.add_argument("--competitor", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.competitor:
        case = NETWORKS[options.network[0]], options.batch[0], options.steps
        COMPETITORS[options.competitor](*case)
    else:
        compete(options)


def compete(options: argparse.Namespace) -> None:
    """Times all cases, and tells and writes what came of it."""
    rows = []
    print(
        "network    batch  competitor         µs a step           quartiles   ratio  compile   MB"
    )
    for network in options.network or NETWORKS:
        for batch in options.batch or (64, 1024):
            work = NETWORKS[network].multiplications * 6 * batch
            steps = max(4, int(options.seconds / (work / 30e9)))
            arguments = ["--network", network, "--batch", str(batch), "--steps", str(steps)]
            found = turns.take_turns(names(options.without), arguments, options.rounds)
            rows.append({"network": network, "batch": batch, "steps": steps, "competitors": found})
            turns.report(rows[-1], "steps")
    machine.write(options.out, rows)
    chart.draw(rows, "steps", "Time of a training step", options.out.with_suffix(".png"))


def names(without: list[str]) -> list[str]:
    """The competitors that this machine can run."""
    import torch

    missing = [] if find_spec("keras") else ["Keras"]
    missing += ["jaxnets, devices"] if torch.cuda.is_available() else ["CUDA graph"]
    return [name for name in COMPETITORS if name not in {*without, *missing}]


def jaxnets_steps(network: Network, batch: int, steps: int, devices: int | None = None) -> None:
    """Epochs of ``fit``, which waits for its turn after each."""
    from jaxnets import fit, losses, optimizers
    from jaxnets.data import Dataset, Split
    from jaxnets.training import StopTraining

    inputs, labels = examples(network, steps * batch)
    split = Split(inputs, labels)
    began = [0.0]

    def next_turn(record: object) -> None:
        turns.tell(time.perf_counter() - began[0])
        if not turns.wait():
            raise StopTraining("the last turn")
        began[0] = time.perf_counter()

    model = build(network)
    turns.tell("ready")
    turns.wait()
    began[0] = time.perf_counter()
    fit(
        model,
        Dataset("random", split, split.take(1)),
        loss=losses.cross_entropy,
        optimizer=optimizers.sgd(LR, momentum=MOMENTUM),
        epochs=10**6,
        batch_size=batch,
        devices=devices,
        callbacks=[next_turn],
        progress="none",
    )
    turns.tell({**machine.peak_memory(), "device": machine.device()})


def jaxnets_devices(network: Network, batch: int, steps: int) -> None:
    """The same, over a virtual device for each core."""
    import jax

    cores = len(os.sched_getaffinity(0))
    jax.config.update("jax_num_cpu_devices", cores)
    jaxnets_steps(network, batch, steps, devices=cores)


def torch_step(network: Network) -> tuple[Callable, Callable]:
    """A step as a PyTorch tutorial writes it; and what sets gradients to None, if that is apart."""
    import torch
    import torch_networks

    model = torch_networks.build(network)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    criterion = torch.nn.CrossEntropyLoss()

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    return step, optimizer.zero_grad


def torch_serve(network: Network, batch: int, steps: int, step: Callable) -> None:
    """Epochs of a step over shuffled tensors."""
    import torch
    import torch_networks

    x, y = map(torch_networks.tensor, examples(network, steps * batch))

    def epoch() -> None:
        for rows in torch.randperm(len(x), device=x.device).split(batch):
            step(x[rows], y[rows])
        torch_networks.wait()

    turns.serve(epoch)


def torch_eager(network: Network, batch: int, steps: int) -> None:
    torch_serve(network, batch, steps, torch_step(network)[0])


def torch_compile(network: Network, batch: int, steps: int) -> None:
    import torch

    mode = "reduce-overhead" if torch.cuda.is_available() else "default"
    torch_serve(network, batch, steps, torch.compile(torch_step(network)[0], mode=mode))


def cuda_graph(network: Network, batch: int, steps: int) -> None:
    """The step recorded on tensors that stay, into which each batch is copied."""
    import torch
    import torch_networks

    step, no_gradients = torch_step(network)
    x, y = map(torch_networks.tensor, examples(network, batch))
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step(x, y)
    torch.cuda.current_stream().wait_stream(aside)
    no_gradients()  # so that the graph has gradients in memory of its own
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(x, y)

    def replay(inputs: torch.Tensor, labels: torch.Tensor) -> None:
        x.copy_(inputs)
        y.copy_(labels)
        graph.replay()

    torch_serve(network, batch, steps, replay)


def plain_flax(network: Network, batch: int, steps: int) -> None:
    """Epochs as Flax's MNIST example writes them."""
    import flax_networks
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    model = flax_networks.build(network)
    optimizer = nnx.Optimizer(model, optax.sgd(LR, MOMENTUM), wrt=nnx.Param)
    x, y = map(jnp.asarray, examples(network, steps * batch))

    @nnx.jit
    def step(model: nnx.Module, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
        def objective(model: nnx.Module) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

        loss, gradients = nnx.value_and_grad(objective)(model)
        optimizer.update(model, gradients)
        return loss

    def epoch() -> None:
        order = np.random.default_rng().permutation(len(x)).reshape(-1, batch)
        for rows in order:
            loss = step(model, optimizer, x[rows], y[rows])
        loss.block_until_ready()

    turns.serve(epoch)


def keras_fit(network: Network, batch: int, steps: int) -> None:
    """Epochs of Keras' own loop."""
    import keras_networks
    from keras_networks import keras

    model = keras_networks.build(network)
    model.compile(
        keras.optimizers.SGD(LR, momentum=MOMENTUM),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x, y = examples(network, steps * batch)
    turns.serve(lambda: model.fit(x, y, batch_size=batch, epochs=1, verbose=0))


def floor(network: Network, batch: int, steps: int) -> None:
    products.serve(3 * steps * batch * network.multiplications)


COMPETITORS = {
    "jaxnets": jaxnets_steps,
    "jaxnets, devices": jaxnets_devices,
    "torch eager": torch_eager,
    "torch.compile": torch_compile,
    "CUDA graph": cuda_graph,
    "plain Flax": plain_flax,
    "Keras": keras_fit,
    "floor": floor,
}


if __name__ == "__main__":
    main()
