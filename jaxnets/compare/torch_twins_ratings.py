"""The networks for recommendation in PyTorch."""

import itertools
from typing import Any

from jaxnets.models import MatrixFactorization, NeuMF


def matrix_factorization(torch: Any, model: MatrixFactorization) -> Any:
    """``MatrixFactorization`` of the same sizes."""
    users, items = model.user_factors.num_embeddings, model.item_factors.num_embeddings
    factors = model.user_factors.embedding_dim

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user_bias = torch.nn.Embedding(users, 1)
            self.item_bias = torch.nn.Embedding(items, 1)
            self.user_factors = torch.nn.Embedding(users, factors)
            self.item_factors = torch.nn.Embedding(items, factors)
            for bias in (self.user_bias, self.item_bias):
                torch.nn.init.zeros_(bias.weight)
            for vectors in (self.user_factors, self.item_factors):
                torch.nn.init.normal_(vectors.weight, 0.0, model.init_std)

        def forward(self, user: Any, item: Any) -> Any:
            biases = self.user_bias(user)[:, 0] + self.item_bias(item)[:, 0]
            product = self.user_factors(user) * self.item_factors(item)
            return model.mean + biases + product.sum(1)

    return Network()


def neumf(torch: Any, model: NeuMF) -> Any:
    """``NeuMF`` of the same sizes."""
    users, items = model.user_gmf.num_embeddings, model.item_gmf.num_embeddings
    factors, features = model.user_gmf.embedding_dim, model.features

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user_gmf = torch.nn.Embedding(users, factors)
            self.item_gmf = torch.nn.Embedding(items, factors)
            self.user_mlp = torch.nn.Embedding(users, features[0] // 2)
            self.item_mlp = torch.nn.Embedding(items, features[0] // 2)
            for table in (self.user_gmf, self.item_gmf, self.user_mlp, self.item_mlp):
                torch.nn.init.normal_(table.weight, 0.0, 0.01)
            for index, (size, next_size) in enumerate(itertools.pairwise(features), start=1):
                layer = torch.nn.Linear(size, next_size)
                torch.nn.init.xavier_uniform_(layer.weight)
                torch.nn.init.zeros_(layer.bias)
                setattr(self, f"fc{index}", layer)
            self.output = torch.nn.Linear(factors + features[-1], 1)

        def forward(self, user: Any, item: Any) -> Any:
            product = self.user_gmf(user) * self.item_gmf(item)
            x = torch.cat([self.user_mlp(user), self.item_mlp(item)], dim=1)
            for index in range(1, len(features)):
                x = torch.relu(getattr(self, f"fc{index}")(x))
            return self.output(torch.cat([product, x], dim=1))[:, 0]

    return Network()
