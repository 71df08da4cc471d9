import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class ResidualBlock(nn.Module):
    """Two convolutions with group normalization; the time is added between them."""

    def __init__(self, inputs, outputs, times):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(times, outputs)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, t):
        h = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(t))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class PixelAttention(nn.Module):
    """Attention between the pixels of an image."""

    def __init__(self, channels, heads=4):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)
        self.heads = heads

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, -1, h * w).unbind(1)
        weights = torch.softmax(q.transpose(-1, -2) @ k / math.sqrt(c // self.heads), -1)
        return x + self.proj((v @ weights.transpose(-1, -2)).reshape(b, c, h, w))


class DiffusionUNet(nn.Module):
    """A U-Net that predicts the noise in an image at a time."""

    def __init__(self, width=32, times=128):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(32, times), nn.SiLU(), nn.Linear(times, times))
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.down1 = ResidualBlock(width, width, times)
        self.half1 = nn.Conv2d(width, width, 3, 2, 1)
        self.down2 = ResidualBlock(width, 2 * width, times)
        self.half2 = nn.Conv2d(2 * width, 2 * width, 3, 2, 1)
        self.middle1 = ResidualBlock(2 * width, 2 * width, times)
        self.attention = PixelAttention(2 * width)
        self.middle2 = ResidualBlock(2 * width, 2 * width, times)
        self.up2 = ResidualBlock(4 * width, width, times)
        self.up1 = ResidualBlock(2 * width, width, times)
        self.norm = nn.GroupNorm(8, width)
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x, t):
        frequencies = torch.exp(-math.log(10000) * torch.arange(16) / 16)
        angles = t[:, None] * frequencies
        t = self.time(torch.cat([torch.sin(angles), torch.cos(angles)], 1))
        a = self.down1(self.first(x), t)
        b = self.down2(self.half1(a), t)
        x = self.middle2(self.attention(self.middle1(self.half2(b), t)), t)
        x = self.up2(torch.cat([F.interpolate(x, scale_factor=2.0), b], 1), t)
        x = self.up1(torch.cat([F.interpolate(x, scale_factor=2.0), a], 1), t)
        return self.last(F.silu(self.norm(x)))
