"""Reinforcement learning: an environment in JAX, training steps of REINFORCE, PPO and DQN."""

from jaxnets.control.cartpole import CartPole
from jaxnets.control.dqn import dqn
from jaxnets.control.playing import Return, play_gymnasium
from jaxnets.control.ppo import ppo
from jaxnets.control.reinforce import reinforce

__all__ = ["CartPole", "Return", "dqn", "play_gymnasium", "ppo", "reinforce"]
