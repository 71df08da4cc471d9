import torch
import torch.nn as nn
import torch.nn.functional as F


class CausalConv1d(nn.Conv1d):
    def __init__(self, in_channels, out_channels, kernel_size, dilation=1):
        self.left = (kernel_size - 1) * dilation
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation)

    def forward(self, x):
        return super().forward(F.pad(x, (self.left, 0)))


class GatedBlock(nn.Module):
    def __init__(self, residual, skip, dilation):
        super().__init__()
        self.filter_conv = CausalConv1d(residual, residual, 2, dilation)
        self.gate_conv = CausalConv1d(residual, residual, 2, dilation)
        self.skip_conv = nn.Conv1d(residual, skip, 1)
        self.res_conv = nn.Conv1d(residual, residual, 1)

    def forward(self, x):
        gated = torch.tanh(self.filter_conv(x)) * torch.sigmoid(self.gate_conv(x))
        return self.res_conv(gated) + x, self.skip_conv(gated)


class WaveNet(nn.Module):
    def __init__(self, layers=3, blocks=2, residual=6, skip=8, classes=16):
        super().__init__()
        self.start = nn.Conv1d(1, residual, 1)
        self.stack = nn.ModuleList()
        for b in range(blocks):
            for i in range(layers):
                self.stack.append(GatedBlock(residual, skip, 2 ** i))
        self.end1 = nn.Conv1d(skip, skip, 1)
        self.end2 = nn.Conv1d(skip, classes, 1)

    def forward(self, x):
        x = self.start(x)
        skips = 0
        for block in self.stack:
            x, s = block(x)
            skips = skips + s
        out = F.relu(self.end1(F.relu(skips)))
        return self.end2(out)


class GLUEncoder(nn.Module):
    """Convolutions over tokens with gated linear units."""

    def __init__(self, vocab=20, dim=6):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.convs = nn.ModuleList([nn.Conv1d(dim, 2 * dim, 3, padding=1) for _ in range(2)])
        self.scale = 0.5 ** 0.5

    def forward(self, tokens):
        x = self.embed(tokens).permute(0, 2, 1)
        for conv in self.convs:
            x = (F.glu(conv(x), dim=1) + x) * self.scale
        return x.permute(0, 2, 1)
