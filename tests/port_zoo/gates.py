import torch
import torch.nn as nn
import torch.nn.functional as F


class Highway(nn.Module):
    def __init__(self, size=6, num_layers=2, f=F.relu):
        super(Highway, self).__init__()
        self.num_layers = num_layers
        self.nonlinear = nn.ModuleList([nn.Linear(size, size) for _ in range(num_layers)])
        self.linear = nn.ModuleList([nn.Linear(size, size) for _ in range(num_layers)])
        self.gate = nn.ModuleList([nn.Linear(size, size) for _ in range(num_layers)])
        self.f = f

    def forward(self, x):
        for layer in range(self.num_layers):
            gate = torch.sigmoid(self.gate[layer](x))
            nonlinear = self.f(self.nonlinear[layer](x))
            linear = self.linear[layer](x)
            x = gate * nonlinear + (1 - gate) * linear
        return x


class Maxout(nn.Module):
    def __init__(self, d_in=6, d_out=4, pool_size=3):
        super().__init__()
        self.d_in, self.d_out, self.pool_size = d_in, d_out, pool_size
        self.lin = nn.Linear(d_in, d_out * pool_size)

    def forward(self, inputs):
        shape = list(inputs.size())
        shape[-1] = self.d_out
        shape.append(self.pool_size)
        max_dim = len(shape) - 1
        out = self.lin(inputs)
        m, i = out.view(*shape).max(max_dim)
        return m


class MixtureOfExperts(nn.Module):
    """Each expert sees everything, and a gate weighs them."""

    def __init__(self, dim=6, hidden=8, out=4, num_experts=3):
        super().__init__()
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, out))
            for _ in range(num_experts)
        )
        self.gate = nn.Linear(dim, num_experts)

    def forward(self, x):
        weights = F.softmax(self.gate(x), dim=1)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=2)
        return torch.einsum("bod,bd->bo", outputs, weights)


class TopTwo(nn.Module):
    """Two experts of three for each example, found by topk and gathered."""

    def __init__(self, dim=6, out=4, num_experts=3):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_experts, dim, out) * 0.3)
        self.gate = nn.Linear(dim, num_experts, bias=False)

    def forward(self, x):
        logits = self.gate(x)
        top, index = torch.topk(logits, 2, dim=-1)
        weights = torch.zeros_like(logits).scatter(-1, index, top.softmax(-1))
        every = torch.einsum("bi,eio->beo", x, self.weight)
        chosen = every.gather(1, index.unsqueeze(-1).expand(-1, -1, every.size(-1)))
        return (every * weights.unsqueeze(-1)).sum(1), chosen.mean(1)
