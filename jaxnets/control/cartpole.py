"""The environment CartPole."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import InputError, check_positive
from jaxnets.training.steps import check_hashable

GRAVITY, CART, POLE, HALF_LENGTH = 9.8, 1.0, 0.1, 0.5  # m/s², kg, kg, m
FORCE, SECONDS = 10.0, 0.02  # N, s
MOST_POSITION, MOST_ANGLE = 2.4, 12 * 2 * np.pi / 360  # m, rad


@dataclass(frozen=True)
class CartPole:
    """A pole to balance on a cart, as in Gymnasium's ``CartPole-v1``.

    A state is the position of the cart in m, its speed in m/s, the angle of the pole in rad and its
    speed in rad/s. Action 0 pushes to the left and action 1 to the right, with 10 N for 0.02 s.
    The reward of each step is 1. An episode terminates when the cart is more than 2.4 m from the
    center or the pole is more than 12° from vertical. It is truncated after ``max_steps``.

    Args:
        max_steps: the number of steps after which an episode is truncated.

    Raises:
        ValueError: if the number is not a positive integer.

    Source: Barto, Sutton, Anderson (1983), "Neuronlike adaptive elements that can solve difficult
    learning control problems".
    """

    max_steps: int = 500
    observations: ClassVar[int] = 4
    actions: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Checks the number."""
        check_positive("max_steps", self.max_steps)

    def step(self, state: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Takes one step of several environments.

        Args:
            state: the states, float [environments, 4].
            action: the actions, integer [environments].

        Returns:
            The states after the step, the rewards float [environments], and whether the episodes
            have terminated, bool [environments].
        """
        x, x_speed, angle, angle_speed = state.T
        force = jnp.where(action == 1, FORCE, -FORCE).astype(state.dtype)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        mass, moment = CART + POLE, POLE * HALF_LENGTH
        pushed = (force + moment * angle_speed**2 * sin) / mass
        inertia = HALF_LENGTH * (4.0 / 3.0 - POLE * cos**2 / mass)
        turning = (GRAVITY * sin - cos * pushed) / inertia
        moving = pushed - moment * turning * cos / mass
        x, x_speed = x + SECONDS * x_speed, x_speed + SECONDS * moving
        angle, angle_speed = angle + SECONDS * angle_speed, angle_speed + SECONDS * turning
        terminated = (jnp.abs(x) > MOST_POSITION) | (jnp.abs(angle) > MOST_ANGLE)
        after = jnp.stack([x, x_speed, angle, angle_speed], axis=1)
        return after, jnp.ones_like(x), terminated


def check_environment(environment: Any) -> None:
    """Checks that an object has the attributes of ``CartPole`` and is hashable.

    Args:
        environment: the object.

    Raises:
        InputError: if an attribute is missing, or the object is not hashable.
    """
    sizes = [getattr(environment, name, None) for name in ("observations", "actions", "max_steps")]
    known = all(isinstance(size, int) for size in sizes) and not isinstance(environment, type)
    if not known or not callable(getattr(environment, "step", None)):
        raise InputError("environment", "an environment, such as CartPole()", environment)
    check_hashable("environment", environment)
