"""Draws the learning curves of docs/control.md: python scripts/draw_control.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flax import nnx

from jaxnets import MLP, fit, optimizers
from jaxnets.control import CartPole, dqn, ppo, reinforce
from jaxnets.data import Split, load
from jaxnets.models import ActorCritic

ROOT = Path(__file__).parent.parent
SEEDS = 3


def main() -> None:
    """Trains each method from three seeds, and draws the returns of the training episodes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8.4, 3.6), sharey=True, layout="constrained"
    )
    rule = optimizers.adam(lr=0.01)
    curves("REINFORCE", "#4c6aa5", left, reinforce(CartPole(), rule), policy, 160, 5, 40)
    rule = optimizers.adam(lr=0.001)
    curves("PPO", "#d95f02", left, ppo(CartPole(), rule), actor_critic, 320, 5, 40)
    cosine = optimizers.cosine_annealing_lr(0.0005, 12)
    rule = optimizers.adam(lr=optimizers.per_epoch(cosine, 4000))
    curves("DQN", "#1b9e77", right, dqn(CartPole(), rule), values, 8, 1000, 48)
    for axes in (left, right):
        axes.set_xlabel("training step")
        axes.axhline(475, color="0.6", linewidth=1, linestyle="--")
        axes.legend(frameon=False, loc="lower right")
        axes.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("mean return of training episodes")
    right.text(0, 480, "solved: 475", color="0.4", fontsize=9, va="bottom")
    left.set_ylim(0, 540)
    figure.savefig(ROOT / "docs" / "images" / "control.png", dpi=150)


def policy(seed: int) -> MLP:
    """The network of REINFORCE."""
    return MLP((4, 64, 2), rngs=nnx.Rngs(seed))


def actor_critic(seed: int) -> ActorCritic:
    """The network of PPO."""
    return ActorCritic(rngs=nnx.Rngs(seed))


def values(seed: int) -> MLP:
    """The network of DQN."""
    return MLP((4, 128, 128, 2), rngs=nnx.Rngs(seed))


def curves(
    name: str,
    color: str,
    axes: Any,
    step: Any,
    build: Callable[[int], nnx.Module],
    batch: int,
    steps: int,
    points: int,
) -> None:
    """Draws one line for each seed, with a point after each ``steps`` training steps."""
    starts = Split(load("cartpole").train.inputs[: batch * steps])
    for seed in range(SEEDS):
        run = fit(
            build(seed), starts, step, epochs=points, batch_size=batch, seed=seed, progress="none"
        )
        found = [epoch.train["return"] for epoch in run.history]
        place = [steps * (number + 1) for number in range(points)]
        axes.plot(place, found, color=color, label=name if seed == 0 else None, linewidth=1.2)


if __name__ == "__main__":
    main()
