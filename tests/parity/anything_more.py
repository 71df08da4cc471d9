"""Cases for ``test_anything``: frozen parts, a penalty, an environment, a carried state."""

import dataclasses
import functools

import jax
import numpy as np
import torch
from torch.nn import functional

from jaxnets import MLP, losses, optimizers
from jaxnets.data import Draws, Split
from jaxnets.training import minimize, supervised
from jaxnets.training.state import DRAWS
from tests.parity.anything import BATCH, COUNT, STEPS, Case, example

distillation = example("distillation")
fine_tuning = example("fine_tuning")
l1_penalty = example("l1_penalty")
reinforce = example("reinforce")
truncated_bptt = example("truncated_bptt")


def images(size, dtype):
    """Values from 0 to 1, [COUNT, size, size, 1]."""
    return np.random.default_rng(0).uniform(size=(COUNT, size, size, 1)).astype(dtype)


def classes(count):
    return np.random.default_rng(1).integers(0, count, COUNT).astype(np.int32)


def with_statistics(model):
    """Replaces the initial running statistics of a model, and returns it."""
    rng = np.random.default_rng(0)
    for norm in (model.norm1, model.norm2):
        for statistic, low, high in ((norm.mean, -0.2, 0.2), (norm.var, 0.05, 0.2)):
            statistic[...] = rng.uniform(low, high, statistic.shape).astype(statistic.dtype)
    return model


def share_right(outputs, labels):
    return (outputs.argmax(-1) == labels).double().mean().item()


class TorchTrunk(torch.nn.Module):
    """Two convolutions with batch normalization."""

    def __init__(self, channels, padding):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, channels, 5, padding=padding)
        self.norm1 = torch.nn.BatchNorm2d(channels)
        self.conv2 = torch.nn.Conv2d(channels, 2 * channels, 5, padding=padding)
        self.norm2 = torch.nn.BatchNorm2d(2 * channels)

    def forward(self, x):
        x = functional.max_pool2d(self.norm1(self.conv1(x)).relu(), 2)
        x = functional.max_pool2d(self.norm2(self.conv2(x)).relu(), 2)
        return x.flatten(1)


class TorchMLP(torch.nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(*sizes[:2]), torch.nn.Linear(*sizes[1:])

    def forward(self, x):
        return self.fc2(self.fc1(x.flatten(1)).relu())


# -- distillation --------------------------------------------------------------------------------


class TorchTeacher(TorchTrunk):
    def __init__(self):
        super().__init__(channels=2, padding=2)
        self.fc = torch.nn.Linear(4 * 7 * 7, 10)

    def forward(self, x):
        return self.fc(super().forward(x))


class TorchPair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher, self.student = TorchTeacher(), TorchMLP(784, 6, 10)


def build_pair(*, rngs, param_dtype=np.float32):
    options = {"rngs": rngs, "param_dtype": param_dtype}
    teacher = with_statistics(distillation.Teacher(channels=2, **options))
    teacher.fc.kernel[...] *= 10  # otherwise the softened probabilities are almost equal
    return distillation.Pair(teacher, MLP((784, 6, 10), **options))


def train_distilled(network, batches):
    teacher, student = network.teacher.eval(), network.student
    optimizer = torch.optim.Adam(student.parameters(), lr=0.003)
    temperature = distillation.TEMPERATURE
    draws = jax.random.fold_in(jax.random.key(0), DRAWS)
    for number, (images, _) in enumerate(batches):
        moved = distillation.moved(images.movedim(1, 3).numpy(), jax.random.fold_in(draws, number))
        images = torch.tensor(np.array(moved)).movedim(3, 1) / 255
        with torch.no_grad():
            theirs = teacher(images)
        ours = student(images)
        optimizer.zero_grad()
        loss = temperature**2 * functional.kl_div(
            functional.log_softmax(ours / temperature, dim=1),
            functional.log_softmax(theirs / temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        loss.backward()
        optimizer.step()
        yield {"loss": loss.item(), "agreement": share_right(ours, theirs.argmax(-1))}


DISTILLATION = Case(
    build=build_pair,
    data=lambda dtype: Split(255 * images(28, dtype), classes(10)),
    step=distillation.step,
    twin=TorchPair,
    loop=train_distilled,
)


# -- a frozen trunk ------------------------------------------------------------------------------


class TorchClassifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.head = TorchTrunk(channels=3, padding=0), torch.nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.trunk(x))


def build_classifier(**options):
    trunk = with_statistics(fine_tuning.Trunk(size=16, channels=3, **options))
    return fine_tuning.Classifier(trunk, **options)


def fine_tune(network, batches):
    network.trunk.eval().requires_grad_(False)
    optimizer = torch.optim.Adam(network.head.parameters(), lr=0.001)
    for images, labels in batches:
        optimizer.zero_grad()
        logits = network(images)
        loss = functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        yield {"loss": loss.item(), "accuracy": share_right(logits, labels)}


FINE_TUNING = Case(
    build=build_classifier,
    data=lambda dtype: Split(images(16, dtype), classes(5)),
    step=dataclasses.replace(
        fine_tuning.train_head,
        objective=supervised(losses.cross_entropy),  # without ToFloat, for float64
    ),
    twin=TorchClassifier,
    loop=fine_tune,
)


# -- an L1 penalty -------------------------------------------------------------------------------


def train_penalized(network, batches):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    for images, labels in batches:
        optimizer.zero_grad()
        logits = network(images)
        weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
        penalty = 1e-2 * sum(weight.abs().sum() for weight in weights)
        loss = functional.cross_entropy(logits, labels) + penalty
        loss.backward()
        small = sum((weight.abs() < l1_penalty.NEAR_ZERO).sum().item() for weight in weights)
        optimizer.step()
        yield {
            "loss": loss.item(),
            "accuracy": share_right(logits, labels),
            "near_zero": small / sum(weight.numel() for weight in weights),
        }


L1_PENALTY = Case(
    build=functools.partial(MLP, (64, 16, 4)),
    data=lambda dtype: Split(images(8, dtype), classes(4)),
    step=minimize(
        l1_penalty.Penalized(supervised(losses.cross_entropy), 1e-2), optimizers.adam(lr=0.001)
    ),
    twin=lambda: TorchMLP(64, 16, 4),
    loop=train_penalized,
)


# -- REINFORCE -----------------------------------------------------------------------------------


def push(state, right):
    """One step of Gymnasium's CartPole in one episode."""
    _, x_speed, angle, angle_speed = state
    force = 10.0 if right else -10.0
    temp = (force + 0.05 * angle_speed**2 * angle.sin()) / 1.1
    turning = (9.8 * angle.sin() - angle.cos() * temp) / (
        0.5 * (4.0 / 3.0 - 0.1 * angle.cos() ** 2 / 1.1)
    )
    moving = temp - 0.05 * turning * angle.cos() / 1.1
    speeds = torch.stack([x_speed, moving, angle_speed, turning])
    return state + 0.02 * speeds


def play(policy, state, uniform):
    """The log-probabilities of the pushes of one episode, until the pole falls."""
    found = []
    for number in uniform:
        logit = policy(state[None])[0, 0]
        right = number < logit.detach().sigmoid()
        found.append(functional.logsigmoid(logit if right else -logit))
        state = push(state, right)
        if abs(state[0]) >= 2.4 or abs(state[2]) >= np.deg2rad(12.0):
            break
    return torch.stack(found)


def train_policy(network, batches):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for batch in batches:
        episodes = list(map(functools.partial(play, network), batch["start"], batch["uniform"]))
        returns = torch.zeros_like(batch["uniform"])
        for number, episode in enumerate(episodes):
            for step in reversed(range(len(episode))):
                later = returns[number, step + 1] if step + 1 < len(episode) else 0.0
                returns[number, step] = 1 + reinforce.DISCOUNT * later
        baseline = returns.mean(dim=0)
        loss = 0.0
        for episode, own in zip(episodes, returns, strict=True):
            loss = loss - ((own - baseline)[: len(episode)] * episode).sum()
        lengths = [len(episode) for episode in episodes]
        loss = loss / sum(lengths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield {"loss": loss.item(), "length": np.mean(lengths)}


def randomness(dtype):
    """Initial states from which some poles fall, and the numbers that select the pushes."""
    rng = np.random.default_rng(0)
    start = rng.uniform(-0.1, 0.1, (COUNT, 4)), rng.uniform(size=(COUNT, 30))
    return {"start": start[0].astype(dtype), "uniform": start[1].astype(dtype)}


REINFORCE = Case(
    build=functools.partial(MLP, (4, 8, 1)),
    data=lambda dtype: Split(randomness(dtype)),
    step=reinforce.step,
    twin=lambda: TorchMLP(4, 8, 1),
    loop=train_policy,
)

REINFORCE_DRAWN = Case(
    build=lambda rngs, param_dtype: MLP((4, 8, 1), rngs=rngs),  # it draws float32 numbers
    data=lambda dtype: Draws(STEPS),
    step=reinforce.step,
)


# -- truncated back-propagation through time -----------------------------------------------------

VOCABULARY, WINDOW = 7, 5


class TorchReader(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Embedding(VOCABULARY, 32)
        self.rnn = torch.nn.LSTM(32, 6, batch_first=True)
        self.decoder = torch.nn.Linear(6, VOCABULARY)
        self.register_buffer("hidden", torch.zeros(1, BATCH, 6))
        self.register_buffer("cell_state", torch.zeros(1, BATCH, 6))


def train_reader(network, batches):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.002)
    for inputs, labels in batches:
        if inputs["begins"].any():  # a new epoch
            network.hidden.zero_()
            network.cell_state.zero_()
        optimizer.zero_grad()
        state = network.hidden, network.cell_state
        outputs, (hidden, cell_state) = network.rnn(network.encoder(inputs["tokens"]), state)
        logits = network.decoder(outputs)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        loss.backward()
        optimizer.step()
        network.hidden, network.cell_state = hidden.detach(), cell_state.detach()
        yield {"loss": loss.item()}


def text():
    """A text of COUNT windows in BATCH streams."""
    letters = np.random.default_rng(0).integers(0, VOCABULARY, COUNT * WINDOW + 1)
    return truncated_bptt.in_streams(letters.astype(np.int32), BATCH, WINDOW)


TRUNCATED_BPTT = Case(
    build=functools.partial(truncated_bptt.Reader, VOCABULARY, streams=BATCH, hidden_dim=6),
    data=lambda dtype: text(),
    step=truncated_bptt.step,
    twin=TorchReader,
    loop=train_reader,
    shuffle=False,
)

CASES = {
    "distillation": DISTILLATION,
    "fine_tuning": FINE_TUNING,
    "l1_penalty": L1_PENALTY,
    "reinforce": REINFORCE,
    "reinforce_drawn": REINFORCE_DRAWN,
    "truncated_bptt": TRUNCATED_BPTT,
}
