import torch.nn as nn
import torch.nn.functional as F


class ConformerBlock(nn.Module):
    """Feed-forward layers, attention, and a depthwise convolution over time."""

    def __init__(self, dim=96):
        super().__init__()
        self.feed = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.SiLU(), nn.Linear(4 * dim, dim)
        )
        self.norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, 4, batch_first=True)
        self.conv_norm = nn.LayerNorm(dim)
        self.wide = nn.Conv1d(dim, 2 * dim, 1)
        self.depthwise = nn.Conv1d(dim, dim, 15, padding=7, groups=dim)
        self.batch_norm = nn.BatchNorm1d(dim)
        self.narrow = nn.Conv1d(dim, dim, 1)
        self.last = nn.LayerNorm(dim)

    def forward(self, x):
        x = x + 0.5 * self.feed(x)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        y = F.glu(self.wide(self.conv_norm(x).transpose(1, 2)), 1)
        y = self.narrow(F.silu(self.batch_norm(self.depthwise(y))))
        return self.last(x + y.transpose(1, 2))
