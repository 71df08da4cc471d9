from typing import Dict

import torch
import torch.nn as nn
from torch import Tensor


class MultiTask(nn.Module):
    """Outputs by name."""

    def __init__(self, n=6):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n, 8), nn.ReLU())
        self.heads = nn.ModuleDict({"age": nn.Linear(8, 1), "kind": nn.Linear(8, 3)})

    def forward(self, x: Tensor) -> Dict[str, Tensor]:
        features = self.trunk(x)
        out = {name: head(features) for name, head in self.heads.items()}
        out["features"] = features
        return out


class Pyramid(nn.Module):
    """A list of maps, coarse ones added to fine ones."""

    def __init__(self, channels=(4, 6, 8), out=4):
        super().__init__()
        self.stem = nn.Conv2d(3, channels[0], 3, padding=1)
        self.stages = nn.ModuleList(
            [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(channels[:-1], channels[1:])]
        )
        self.lateral = nn.ModuleList([nn.Conv2d(c, out, 1) for c in channels])

    def forward(self, x):
        maps = [torch.relu(self.stem(x))]
        for stage in self.stages:
            maps.append(torch.relu(stage(maps[-1])))
        results = []
        last = self.lateral[-1](maps[-1])
        results.append(last)
        for idx in range(len(maps) - 2, -1, -1):
            side = self.lateral[idx](maps[idx])
            last = side + nn.functional.interpolate(last, size=side.shape[-2:], mode="nearest")
            results.insert(0, last)
        return tuple(results)


class TakesAnyNumber(nn.Module):
    """*args: as many inputs as there are."""

    def __init__(self, dim=4):
        super().__init__()
        self.linear = nn.Linear(dim, dim)

    def forward(self, *inputs):
        total = sum(self.linear(x) for x in inputs)
        return total / len(inputs), torch.cat(inputs, dim=-1)


class NamedFields(nn.Module):
    """Results of torch by the names of their fields."""

    def forward(self, x):
        best = torch.max(x, dim=1)
        values = x.sort(-1).values + torch.topk(x, k=6).values.flip(dims=[1])
        values = values + x.median(dim=1, keepdim=True).values
        return best.values, best.indices, values, torch.min(x, 1).indices
