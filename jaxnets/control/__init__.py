"""Reinforcement learning: an environment in JAX, and the training steps of REINFORCE and PPO."""

from jaxnets.control.cartpole import CartPole
from jaxnets.control.playing import Return, play_gymnasium
from jaxnets.control.ppo import ppo
from jaxnets.control.reinforce import reinforce

__all__ = ["CartPole", "Return", "play_gymnasium", "ppo", "reinforce"]
