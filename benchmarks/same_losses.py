"""The loss of each step of LeNet's first epoch on MNIST, in jaxnets and in PyTorch, in float64.

    python benchmarks/same_losses.py

Both start from the same weights and use the same batches. Writes
`benchmarks/results/same_losses.json`.
"""

import jax

jax.config.update("jax_enable_x64", True)

import machine  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from flax import nnx  # noqa: E402

from jaxnets import fit, losses, optimizers  # noqa: E402
from jaxnets.data import Dataset, epoch_plan, load  # noqa: E402
from jaxnets.interop import to_torch  # noqa: E402
from jaxnets.models import LeNet  # noqa: E402

LR, MOMENTUM, BATCH, SEED = 0.01, 0.9, 64, 0


class TorchLeNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = torch.nn.Conv2d(1, 6, 5, padding=2), torch.nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = torch.nn.Linear(400, 120), torch.nn.Linear(120, 84)
        self.fc3 = torch.nn.Linear(84, 10)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


def jaxnets_losses(model: LeNet, data: Dataset) -> np.ndarray:
    return fit(
        model,
        data,
        loss=losses.cross_entropy,
        optimizer=optimizers.sgd(LR, momentum=MOMENTUM),
        transform=lambda images: images / 255.0,
        epochs=1,
        batch_size=BATCH,
        seed=SEED,
    ).step_losses


def torch_losses(weights: dict, data: Dataset) -> list[float]:
    model = TorchLeNet().double()
    model.load_state_dict(weights)
    optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM)
    found = []
    plan = epoch_plan(len(data.train), BATCH, seed=SEED, epoch=0)
    for rows in [*plan.full, plan.rest]:
        images = torch.from_numpy(data.train.inputs[rows] / 255.0).permute(0, 3, 1, 2)
        labels = torch.from_numpy(data.train.labels[rows].astype(np.int64))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def main() -> None:
    data = load("mnist")
    model = LeNet(rngs=nnx.Rngs(SEED), param_dtype="float64")
    theirs = torch_losses(to_torch(model), data)
    ours = jaxnets_losses(model, data)
    rows = [[float(a), b] for a, b in zip(ours, theirs, strict=True)]
    most = max(abs(a - b) / abs(b) for a, b in rows)
    print(f"{len(rows)} steps, largest relative difference {most:.1e}")
    machine.write(machine.RESULTS / "same_losses.json", rows, largest_difference=most)


if __name__ == "__main__":
    main()
