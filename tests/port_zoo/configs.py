from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn as nn


class Routed(NamedTuple):
    hidden: torch.Tensor
    weights: torch.Tensor | None = None


@dataclass(frozen=True)
class Config:
    dim: int = 4
    experts: int = 3


class Experts(nn.Module):
    """Its configuration has annotations that Python does not evaluate."""

    def __init__(self, config: Config = Config()):
        super().__init__()
        self.config = config
        self.gate = nn.Linear(config.dim, config.experts, bias=False)
        self.experts = nn.ModuleList(nn.Linear(config.dim, 2) for _ in range(config.experts))

    def forward(self, x) -> Routed:
        weights = self.gate(x).softmax(-1)
        out = torch.stack([expert(x) for expert in self.experts], dim=-1)
        return Routed(hidden=(out * weights.unsqueeze(-2)).sum(-1), weights=weights)


class Abstract(nn.Module, ABC):
    @abstractmethod
    def encode(self, x): ...


class Halves(Abstract):
    """Encodes both halves of a batch."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def encode(self, x):
        return self.fc(x)

    def forward(self, x):
        left, right = self.encode(x).chunk(2, dim=0)
        return left.sum() - right.sum(), dict(zip(("left", "right"), torch.chunk(x, 2)))
