"""Networks of coordinates and of time: sines, Fourier features, an integrated flow, diffusion."""

import math

import torch
from torch import nn


class SineLayer(nn.Module):
    def __init__(self, n_in, n_out, omega=30.0, first=False):
        super().__init__()
        self.omega = omega
        self.linear = nn.Linear(n_in, n_out)
        with torch.no_grad():
            bound = 1 / n_in if first else math.sqrt(6 / n_in) / omega
            self.linear.weight.uniform_(-bound, bound)

    def forward(self, x):
        return torch.sin(self.omega * self.linear(x))


class Siren(nn.Module):
    def __init__(self, hidden=8):
        super().__init__()
        self.net = nn.Sequential(SineLayer(2, hidden, first=True), SineLayer(hidden, hidden), nn.Linear(hidden, 3))

    def forward(self, coords):
        return self.net(coords)


class FourierNet(nn.Module):
    """Positions as sines and cosines, with a skip in the middle."""

    def __init__(self, freqs=3, width=8):
        super().__init__()
        self.freqs = 2.0 ** torch.arange(freqs)
        self.first = nn.Linear(3 + 3 * 2 * freqs, width)
        self.second = nn.Linear(width + 3 + 3 * 2 * freqs, 4)

    def embed(self, x):
        out = [x]
        for f in self.freqs:
            for fn in [torch.sin, torch.cos]:
                out.append(fn(x * f))
        return torch.cat(out, -1)

    def forward(self, x):
        e = self.embed(x)
        h = torch.relu(self.first(e))
        out = self.second(torch.cat([h, e], -1))
        rgb, sigma = torch.split(out, [3, 1], dim=-1)
        return torch.sigmoid(rgb), nn.functional.softplus(sigma)


class TimeEmbedding(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        half = self.dim // 2
        emb = math.log(10000) / (half - 1)
        emb = torch.exp(torch.arange(half, device=t.device) * -emb)
        emb = t[:, None] * emb[None, :]
        return torch.cat((emb.sin(), emb.cos()), dim=-1)


class Denoiser(nn.Module):
    """A residual block that knows the time, as in diffusion."""

    def __init__(self, channels=4, dim=8):
        super().__init__()
        self.time_mlp = nn.Sequential(TimeEmbedding(dim), nn.Linear(dim, dim), nn.SiLU())
        self.inp = nn.Conv2d(1, channels, 3, padding=1)
        self.shift = nn.Linear(dim, channels)
        self.norm = nn.GroupNorm(2, channels)
        self.down = nn.Conv2d(channels, channels, 4, 2, 1)
        self.up = nn.ConvTranspose2d(channels, channels, 4, 2, 1)
        self.out = nn.Conv2d(2 * channels, 1, 1)

    def forward(self, x, t):
        emb = self.time_mlp(t)
        h = self.inp(x)
        h = h + self.shift(emb)[(...,) + (None,) * 2]
        h = nn.functional.silu(self.norm(h))
        d = self.up(self.down(h))
        return self.out(torch.cat((d, h), dim=1))


class Euler(nn.Module):
    """Integrates a small network over time."""

    def __init__(self, n=3, steps=4):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(n + 1, 6), nn.Tanh(), nn.Linear(6, n))
        self.steps = steps

    def forward(self, x):
        dt = 1.0 / self.steps
        path = [x]
        for i in range(self.steps):
            t = torch.full_like(x[:, :1], i * dt)
            x = x + dt * self.f(torch.cat([x, t], 1))
            path.append(x)
        return torch.stack(path)
