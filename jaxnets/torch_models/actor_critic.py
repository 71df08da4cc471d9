"""A policy and a value function in PyTorch."""

import torch
from torch import Tensor, nn


class ActorCritic(nn.Module):
    """Two networks with two hidden layers and tanh."""

    def __init__(self, observations: int = 4, actions: int = 2, hidden: int = 64) -> None:
        super().__init__()
        self.actor1 = nn.Linear(observations, hidden)
        self.actor2 = nn.Linear(hidden, hidden)
        self.actor3 = nn.Linear(hidden, actions)
        self.critic1 = nn.Linear(observations, hidden)
        self.critic2 = nn.Linear(hidden, hidden)
        self.critic3 = nn.Linear(hidden, 1)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits [batch, actions] and values [batch] of observations [batch, values]."""
        x = torch.tanh(self.actor2(torch.tanh(self.actor1(observation))))
        y = torch.tanh(self.critic2(torch.tanh(self.critic1(observation))))
        return self.actor3(x), self.critic3(y)[:, 0]
