import torch
import torch.nn as nn


class MatrixFactorization(nn.Module):
    def __init__(self, n_users=10, n_items=12, n_factors=4):
        super().__init__()
        self.user_factors = nn.Embedding(n_users, n_factors)
        self.item_factors = nn.Embedding(n_items, n_factors)
        self.user_biases = nn.Embedding(n_users, 1)
        self.item_biases = nn.Embedding(n_items, 1)

    def forward(self, user, item):
        pred = self.user_biases(user) + self.item_biases(item)
        pred += (self.user_factors(user) * self.item_factors(item)).sum(dim=1, keepdim=True)
        return pred.squeeze()


class FactorizationMachine(nn.Module):
    """Fields of categories, each with an offset into one table."""

    def __init__(self, field_dims=(5, 6, 4), embed_dim=3):
        super().__init__()
        self.embedding = nn.Embedding(sum(field_dims), embed_dim)
        self.fc = nn.Embedding(sum(field_dims), 1)
        self.bias = nn.Parameter(torch.zeros((1,)))
        self.register_buffer("offsets", torch.tensor((0, *torch.tensor(field_dims).cumsum(0)[:-1].tolist())))

    def forward(self, x):
        x = x + self.offsets.unsqueeze(0)
        linear = torch.sum(self.fc(x), dim=1) + self.bias
        e = self.embedding(x)
        square_of_sum = torch.sum(e, dim=1) ** 2
        sum_of_square = torch.sum(e ** 2, dim=1)
        pairs = 0.5 * torch.sum(square_of_sum - sum_of_square, dim=1, keepdim=True)
        return torch.sigmoid((linear + pairs).squeeze(1))


class WideAndDeep(nn.Module):
    def __init__(self, categories=(5, 4), numbers=3, hidden=(8, 6)):
        super().__init__()
        self.embeddings = nn.ModuleList([nn.Embedding(c, min(50, (c + 1) // 2)) for c in categories])
        n_emb = sum(e.embedding_dim for e in self.embeddings)
        self.bn = nn.BatchNorm1d(numbers)
        sizes = [n_emb + numbers] + list(hidden)
        layers = []
        for a, b in zip(sizes, sizes[1:]):
            layers.append(nn.Linear(a, b))
            layers.append(nn.ReLU())
            layers.append(nn.BatchNorm1d(b))
            layers.append(nn.Dropout(0.2))
        self.deep = nn.Sequential(*layers)
        self.wide = nn.Linear(numbers, 1)
        self.out = nn.Linear(sizes[-1], 1)

    def forward(self, x_cat, x_cont):
        x = [e(x_cat[:, i]) for i, e in enumerate(self.embeddings)]
        x = torch.cat(x, 1)
        x = torch.cat([x, self.bn(x_cont)], 1)
        return self.out(self.deep(x)) + self.wide(x_cont)


class SentenceCNN(nn.Module):
    """Convolutions of several widths over the words, and the largest output of each."""

    def __init__(self, vocab=20, dim=5, kinds=4, sizes=(2, 3), classes=2):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.convs = nn.ModuleList([nn.Conv2d(1, kinds, (K, dim)) for K in sizes])
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(len(sizes) * kinds, classes)

    def forward(self, x):
        x = self.embed(x)  # (N, W, D)
        x = x.unsqueeze(1)  # (N, 1, W, D)
        x = [torch.relu(conv(x)).squeeze(3) for conv in self.convs]
        x = [nn.functional.max_pool1d(i, i.size(2)).squeeze(2) for i in x]
        x = torch.cat(x, 1)
        return self.fc(self.dropout(x))
