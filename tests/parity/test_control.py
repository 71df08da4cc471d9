"""Updates of deep Q-networks compared with the same updates in PyTorch."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from jaxnets import optimizers
from jaxnets.compare import twin
from jaxnets.control import CartPole, dqn
from jaxnets.control.dqn import Transitions
from jaxnets.interop import load_torch
from jaxnets.models import MLP

MEMORY, SAMPLES, RATE, UPDATES = 64, 16, 0.1, 3


def test_updates_equal_pytorch():
    model = MLP((4, 8, 2), rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    settings = {"memory": MEMORY, "samples": SAMPLES, "discount": 0.9, "rate": RATE}
    step = dqn(CartPole(), optimizers.adam(lr=0.01), **settings)
    draw = np.random.default_rng(0)
    memory = Transitions(
        draw.normal(size=(MEMORY, 4)),
        draw.integers(0, 2, MEMORY),
        draw.normal(size=MEMORY),
        draw.normal(size=(MEMORY, 4)),
        draw.random(MEMORY) < 0.3,
    )
    network, moved, losses = in_pytorch(model, memory)
    slots = step.init(model)
    slots |= {"memory": jax.tree.map(jnp.asarray, memory), "taken": jnp.array(5000)}
    learn = nnx.jit(step._learn)
    for number in range(UPDATES):
        slots, metrics = learn(model, slots, jax.random.key(number))
        np.testing.assert_allclose(metrics["loss"].value, losses[number], rtol=1e-10)
    target = nnx.merge(nnx.graphdef(model), slots["target"])
    for ours, theirs in ((model, network), (target, moved)):
        for layer in ("fc1", "fc2"):
            expected = getattr(theirs, layer).weight.detach().numpy().T
            np.testing.assert_allclose(getattr(ours, layer).kernel[...], expected, rtol=1e-10)


def in_pytorch(model, memory):
    """Takes the updates in PyTorch; returns the network, its target network and the losses.

    The model gets the initial weights of the network.
    """
    network = twin(model).double()
    load_torch(model, network.state_dict())
    target = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for number in range(UPDATES):
        rows = jax.random.randint(jax.random.key(number), (SAMPLES,), 0, MEMORY)
        state, action, reward, after, ended = (
            torch.tensor(column[np.asarray(rows)]) for column in memory
        )
        with torch.no_grad():
            best = network(after).argmax(dim=1, keepdim=True)
            following = target(after).gather(1, best)[:, 0]
            wanted = reward + 0.9 * following * ~ended
        value = network(state).gather(1, action[:, None])[:, 0]
        loss = torch.nn.functional.mse_loss(value, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        with torch.no_grad():
            for old, new in zip(target.parameters(), network.parameters(), strict=True):
                old.lerp_(new, RATE)
    return network, target, losses
