"""Recipes for reinforcement learning."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxnets.arrays import InputError
from jaxnets.control import CartPole, dqn, ppo, reinforce
from jaxnets.recipes.recipe import Builder, Objective, Recipe

_CARTPOLE: dict[str, Any] = {"data": "cartpole", "optimizer": "adam", "score": "return"}


def _playing(make: Callable[..., Any]) -> Builder:
    """Returns the builder of a step that plays episodes, which do not use the inputs' options."""

    def build(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
        for name in ("augment", "compute_dtype"):
            if objective.get(name) is not None:
                raise InputError(name, "None for reinforcement learning", objective[name])
        return make(CartPole(), **update)

    return build


#: The objectives of these recipes; see ``jaxnets.recipes.OBJECTIVES``.
OBJECTIVES = {
    name: Objective(_playing(make))
    for name, make in (("reinforce", reinforce), ("ppo", ppo), ("dqn", dqn))
}

RECIPES = (
    Recipe(
        name="cartpole-reinforce",
        document="003, section 2.3, names reinforcement learning: REINFORCE (Williams 1992)",
        model="mlp",
        model_options={"features": (4, 64, 2)},
        objective="reinforce",
        optimizer_options={"lr": 0.01},
        epochs=1,
        batch_size=160,
        **_CARTPOLE,
    ),
    Recipe(
        name="cartpole-ppo",
        document="003, section 2.3, names reinforcement learning: PPO (Schulman et al. 2017)",
        model="actor-critic",
        model_options={"observations": 4, "actions": 2},
        objective="ppo",
        optimizer_options={"lr": 0.001},
        epochs=4,
        batch_size=320,
        **_CARTPOLE,
    ),
    Recipe(
        name="cartpole-dqn",
        document="003, section 2.3, names reinforcement learning: DQN (Mnih et al. 2015)",
        model="mlp",
        model_options={"features": (4, 128, 128, 2)},
        objective="dqn",
        optimizer_options={"lr": 0.0005},
        scheduler="cosine",
        epochs=12,
        batch_size=8,
        ema=0.999,
        **_CARTPOLE,
    ),
)
