"""The time of a training step: jaxnets against PyTorch and against plain Flax.

    python benchmarks/train_step.py                          # all networks, batches of 64 and 1024
    python benchmarks/train_step.py --network mlp --batch 64 --rounds 5

Forward, backward and the update of SGD with momentum, float32, on random data that lie in memory.
jaxnets runs through its own `fit`, shuffled, an epoch a round; after each epoch the others take as
many steps, in turn, each with all cores: PyTorch as a tutorial writes it, the same under
`torch.compile`, and Flax NNX with a jitted step, as Flax's MNIST example has it. A first round of
each is not counted: in it they compile. The table gives medians over the rounds, the quartiles, and
how many times as long as jaxnets each takes; the floor is the network's multiplications at the rate
of a large matrix product, measured in the same rounds. Writes `benchmarks/results/train_step.json`.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from machine import described

from jaxnets import fit, losses, optimizers
from jaxnets.compare.torch_twins import twin
from jaxnets.data import Dataset, Split
from jaxnets.models import MLP, LeNet, RecurrentClassifier

RESULTS = Path(__file__).parent / "results" / "train_step.json"
PACKAGES = ("jaxnets", "jax", "flax", "optax", "torch", "numpy")
LR, MOMENTUM = 0.01, 0.9


def recurrent(cell: str) -> Callable[[nnx.Rngs], nnx.Module]:
    return lambda rngs: RecurrentClassifier(28, 128, 2, output_dim=10, cell=cell, rngs=rngs)


#: How to build a network, the shape of its inputs, and its multiplications forward, per example.
NETWORKS = {
    "mlp": (lambda rngs: MLP((784, 128, 64, 10), rngs=rngs), (784,), 784 * 128 + 128 * 64 + 640),
    "lenet-28": (
        lambda rngs: LeNet(rngs=rngs),
        (28, 28, 1),
        28 * 28 * 25 * 6 + 10 * 10 * 150 * 16 + 400 * 120 + 120 * 84 + 840,
    ),
    "lenet-32": (
        lambda rngs: LeNet(3, image_size=32, rngs=rngs),
        (32, 32, 3),
        28 * 28 * 75 * 6 + 10 * 10 * 150 * 16 + 400 * 120 + 120 * 84 + 840,
    ),
    "lstm": (recurrent("lstm"), (28, 28), 28 * 512 * (28 + 128 + 128 + 128) + 1280),
    "gru": (recurrent("gru"), (28, 28), 28 * 384 * (28 + 128 + 128 + 128) + 1280),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="about how long a round takes")
    parser.add_argument("--without", action="append", default=[], help="leave a competitor out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = []
    print("network    batch  competitor         µs a step           quartiles   ratio")
    for network in options.network or NETWORKS:
        for batch in options.batch or (64, 1024):
            row = measure(network, batch, options)
            rows.append(row)
            report(row)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps({**described(PACKAGES), "rows": rows}, indent=1) + "\n")


def measure(network: str, batch: int, options: argparse.Namespace) -> dict:
    """Microseconds a step of each competitor, by round."""
    build, shape, multiplications = NETWORKS[network]
    steps = max(4, int(options.seconds / (multiplications * 6 * batch / 30e9)))
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(steps * batch, *shape)).astype(np.float32)
    labels = draw.integers(10, size=len(inputs)).astype(np.int32)
    split = Split(inputs, labels)
    competitors = {
        "torch eager": torch_steps(build, inputs, labels, batch, compiled=False),
        "torch.compile": torch_steps(build, inputs, labels, batch, compiled=True),
        "plain Flax": flax_steps(build, inputs, labels, batch),
        "floor": matmul(steps * 6 * multiplications * batch),
    }
    for name in options.without:
        competitors.pop(name)
    times: dict[str, list[float]] = {name: [] for name in ("jaxnets", *competitors)}

    def others(record: object) -> None:
        times["jaxnets"].append(record.seconds)  # type: ignore[attr-defined]
        for name, run in competitors.items():
            began = time.perf_counter()
            scaled = run()
            times[name].append(scaled or time.perf_counter() - began)

    run = fit(
        build(nnx.Rngs(0)),
        Dataset("random", split, split.take(batch)),
        loss=losses.cross_entropy,
        optimizer=optimizers.sgd(LR, momentum=MOMENTUM),
        epochs=options.rounds + 1,
        batch_size=batch,
        callbacks=[others],
        progress="none",
    )
    return {
        "network": network,
        "batch": batch,
        "steps": steps,
        "compile_seconds": run.timings.compile_seconds,
        "microseconds": {name: [1e6 * s / steps for s in of[1:]] for name, of in times.items()},
    }


def torch_steps(
    build: Callable, inputs: np.ndarray, labels: np.ndarray, batch: int, *, compiled: bool
) -> Callable[[], None]:
    """An epoch as a PyTorch tutorial writes it, but for its data loader."""
    model = twin(build(nnx.Rngs(0)))
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    criterion = torch.nn.CrossEntropyLoss()
    if inputs.ndim == 4:
        inputs = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels).long()

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()

    run = torch.compile(step) if compiled else step

    def epoch() -> None:
        for rows in torch.randperm(len(x)).split(batch):
            run(x[rows], y[rows])

    return epoch


def flax_steps(
    build: Callable, inputs: np.ndarray, labels: np.ndarray, batch: int
) -> Callable[[], None]:
    """An epoch as Flax's MNIST example writes it."""
    model = PLAIN[type(build(nnx.Rngs(0)))](build(nnx.Rngs(0)))
    optimizer = nnx.Optimizer(model, optax.sgd(LR, MOMENTUM), wrt=nnx.Param)
    x, y = jnp.asarray(inputs), jnp.asarray(labels)

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

    return epoch


class PlainMLP(nnx.Module):
    """The documented MLP of Flax's own layers."""

    def __init__(self, like: MLP) -> None:
        rngs, sizes = nnx.Rngs(0), like.features
        self.layers = nnx.List(nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes))

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


class PlainLeNet(nnx.Module):
    """LeNet of Flax's own layers."""

    def __init__(self, like: LeNet) -> None:
        rngs, channels = nnx.Rngs(0), like.conv1.kernel.shape[2]
        padding = 2 if channels == 1 else 0
        self.conv1 = nnx.Conv(channels, 6, (5, 5), padding=padding, rngs=rngs)
        self.conv2 = nnx.Conv(6, 16, (5, 5), padding=0, rngs=rngs)
        self.fc1, self.fc2 = nnx.Linear(400, 120, rngs=rngs), nnx.Linear(120, 84, rngs=rngs)
        self.fc3 = nnx.Linear(84, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for conv in (self.conv1, self.conv2):
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        return self.fc3(nnx.relu(self.fc2(nnx.relu(self.fc1(x)))))


class PlainRecurrent(nnx.Module):
    """Two recurrent layers of Flax's own."""

    def __init__(self, like: RecurrentClassifier) -> None:
        rngs = nnx.Rngs(0)
        cell = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}[like.cell]
        self.one = nnx.RNN(cell(28, 128, rngs=rngs))
        self.two = nnx.RNN(cell(128, 128, rngs=rngs))
        self.fc = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc(self.two(self.one(x))[:, -1])


PLAIN = {MLP: PlainMLP, LeNet: PlainLeNet, RecurrentClassifier: PlainRecurrent}


def matmul(operations: int, size: int = 1024) -> Callable[[], float]:
    """The seconds that so many floating-point operations take in matrix products of this size."""
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()

    def run() -> float:
        began = time.perf_counter()
        for _ in range(50):
            product(matrix, matrix).block_until_ready()
        return (time.perf_counter() - began) * operations / (50 * 2 * size**3)

    return run


def report(row: dict) -> None:
    ours = np.median(row["microseconds"]["jaxnets"])
    for name, times in row["microseconds"].items():
        low, middle, high = np.percentile(times, (25, 50, 75))
        quartiles = f"{low:,.0f} to {high:,.0f}"
        print(
            f"{row['network']:<10}{row['batch']:>6}  {name:<16}{middle:>12,.0f}{quartiles:>20}"
            f"{middle / ours:>8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
