import torch
import torch.nn as nn


class Containers(nn.Module):
    """Modules and parameters in every kind of container."""

    def __init__(self, dim=6, depth=3):
        super().__init__()
        self.linears = nn.ModuleList([nn.Linear(dim, dim) for i in range(depth)])
        self.linears.extend([nn.Linear(dim, dim)])
        self.choices = nn.ModuleDict({
            'linear': nn.Linear(dim, dim),
            'pool': nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim)),
        })
        self.activations = nn.ModuleDict([
            ['lrelu', nn.LeakyReLU()],
            ['prelu', nn.PReLU()]
        ])
        self.params = nn.ParameterList([nn.Parameter(torch.randn(dim, dim) / dim) for i in range(2)])
        self.gains = nn.ParameterDict({'left': nn.Parameter(torch.ones(dim)), 'right': nn.Parameter(torch.zeros(dim))})
        self.register_buffer('offset', torch.arange(dim).float())
        self.register_buffer('steps', torch.zeros(()))
        self.register_parameter('temperature', nn.Parameter(torch.tensor(2.0)))

    def forward(self, x, choice='pool', act='prelu'):
        for i, linear in enumerate(self.linears):
            x = self.linears[i // 2](x) + linear(x)
        x = self.choices[choice](x)
        x = self.activations[act](x)
        for p in self.params:
            x = x.mm(p)
        x = x * self.gains['left'] + self.gains['right']
        return (x + self.offset) / self.temperature


class RunningMean(nn.Module):
    """Centers inputs with a running mean that is updated in training."""

    def __init__(self, dim=5, momentum=0.1):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("count", torch.tensor(0))
        self.linear = nn.Linear(dim, 3)

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.mean.mul_(1 - self.momentum).add_(self.momentum * x.mean(0))
                self.count += 1
        return self.linear(x - self.mean)


class Codebook(nn.Module):
    """The nearest of a set of vectors, with the straight-through gradient."""

    def __init__(self, codes=7, dim=4):
        super().__init__()
        self.embedding = nn.Embedding(codes, dim)
        self.embedding.weight.data.uniform_(-1 / codes, 1 / codes)
        self.beta = 0.25

    def forward(self, z):
        flat = z.reshape(-1, z.shape[-1])
        d = (flat.pow(2).sum(1, keepdim=True) + self.embedding.weight.pow(2).sum(1)
             - 2 * flat @ self.embedding.weight.t())
        index = torch.argmin(d, dim=1)
        q = self.embedding(index).view(z.shape)
        loss = ((q.detach() - z) ** 2).mean() + self.beta * ((q - z.detach()) ** 2).mean()
        q = z + (q - z).detach()
        return q, loss, index
