"""Neural collaborative filtering in PyTorch."""

import itertools

import torch
from torch import Tensor, nn


class NeuMF(nn.Module):
    """A product of factors and a multilayer perceptron in parallel, and a linear layer on both."""

    def __init__(
        self,
        num_users: int,
        num_items: int,
        factors: int = 8,
        features: tuple[int, ...] = (64, 32, 16, 8),
    ) -> None:
        super().__init__()
        self.depth = len(features) - 1
        self.user_gmf = nn.Embedding(num_users, factors)
        self.item_gmf = nn.Embedding(num_items, factors)
        self.user_mlp = nn.Embedding(num_users, features[0] // 2)
        self.item_mlp = nn.Embedding(num_items, features[0] // 2)
        for table in (self.user_gmf, self.item_gmf, self.user_mlp, self.item_mlp):
            nn.init.normal_(table.weight, 0.0, 0.01)
        for index, (size, next_size) in enumerate(itertools.pairwise(features), start=1):
            layer = nn.Linear(size, next_size)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
            setattr(self, f"fc{index}", layer)
        self.output = nn.Linear(factors + features[-1], 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Returns logits [batch] of items [batch] for users [batch]."""
        product = self.user_gmf(user) * self.item_gmf(item)
        x = torch.cat([self.user_mlp(user), self.item_mlp(item)], dim=1)
        for index in range(1, self.depth + 1):
            x = torch.relu(getattr(self, f"fc{index}")(x))
        return self.output(torch.cat([product, x], dim=1))[:, 0]
