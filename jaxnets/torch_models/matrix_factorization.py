"""Matrix factorization in PyTorch."""

from torch import Tensor, nn


class MatrixFactorization(nn.Module):
    """The mean rating, biases of user and item, and the product of their factors."""

    def __init__(
        self,
        num_users: int,
        num_items: int,
        factors: int = 16,
        mean: float = 0.0,
        init_std: float = 0.1,
    ) -> None:
        super().__init__()
        self.mean = mean
        self.user_bias = nn.Embedding(num_users, 1)
        self.item_bias = nn.Embedding(num_items, 1)
        self.user_factors = nn.Embedding(num_users, factors)
        self.item_factors = nn.Embedding(num_items, factors)
        for bias in (self.user_bias, self.item_bias):
            nn.init.zeros_(bias.weight)
        for vectors in (self.user_factors, self.item_factors):
            nn.init.normal_(vectors.weight, 0.0, init_std)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Returns ratings [batch] of items [batch] by users [batch]."""
        biases = self.user_bias(user)[:, 0] + self.item_bias(item)[:, 0]
        product = self.user_factors(user) * self.item_factors(item)
        return self.mean + biases + product.sum(1)
