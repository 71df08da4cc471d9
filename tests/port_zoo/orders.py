"""Networks that call one function, or one layer, with axes in several orders."""

import torch
import torch.nn as nn


class SwapAxes(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x):
        return torch.swapaxes(x, self.a, self.b)


class Mix(nn.Module):
    """A residual layer over tokens or, with the axes exchanged, over channels."""

    def __init__(self, tokens, channels, exchanged):
        super().__init__()
        self.before = SwapAxes(1, 2) if exchanged else nn.Identity()
        self.after = SwapAxes(1, 2) if exchanged else nn.Identity()
        self.fc = nn.Linear(tokens if exchanged else channels, tokens if exchanged else channels)

    def forward(self, x):
        x = self.before(x)
        x = x + torch.relu(self.fc(x))
        return self.after(x)


class Mixer(nn.Module):
    def __init__(self, channels=6, tokens=16, classes=4):
        super().__init__()
        self.patches = nn.Conv2d(3, channels, 4, 4)
        self.layers = nn.Sequential(
            nn.LayerNorm(channels), Mix(tokens, channels, True), Mix(tokens, channels, False)
        )
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.layers(x).mean(1))


class Halves(nn.Module):
    """Attention whose queries may be pooled, which changes the order of their axes."""

    def __init__(self, width, pooled):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.pool = nn.AvgPool1d(2) if pooled else None
        self.out = nn.Linear(width, width)

    def forward(self, x):
        n, length, width = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, 2, width // 2).transpose(1, 3).unbind(2)
        if self.pool is not None:
            token, q = torch.tensor_split(q, indices=(1,), dim=2)
            q = self.pool(q.transpose(2, 3).reshape(2 * n, width // 2, -1))
            q = torch.cat([token, q.reshape(n, 2, width // 2, -1).transpose(2, 3)], 2)
        x = (q @ k.transpose(2, 3)).softmax(-1) @ v
        return self.out(x.transpose(1, 2).reshape(n, -1, width))


class Pooled(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.token = nn.Parameter(torch.randn(width))
        self.blocks = nn.ModuleList([Halves(width, False), Halves(width, True)])

    def forward(self, x):
        x = torch.cat([self.token.expand(x.size(0), -1).unsqueeze(1), x], 1)
        for block in self.blocks:
            x = block(x)
        return x


class Keywords(nn.Module):
    """A loop whose variable starts with PyTorch's axes and has channels last after one pass."""

    def __init__(self, maps=6, layers=2, classes=4):
        super().__init__()
        self.layers = layers
        self.conv0 = nn.Conv2d(1, maps, 3, padding=1, bias=False)
        for i in range(1, layers + 1):
            self.add_module("bn{}".format(i), nn.BatchNorm2d(maps, affine=False))
            self.add_module("conv{}".format(i), nn.Conv2d(maps, maps, 3, padding=1, bias=False))
        self.output = nn.Linear(maps, classes)

    def forward(self, x):
        x = x.unsqueeze(1)
        for i in range(self.layers + 1):
            y = torch.relu(getattr(self, "conv{}".format(i))(x))
            if i == 0:
                old = y
            if i > 0 and i % 2 == 0:
                x = y + old
                old = x
            else:
                x = y
            if i > 0:
                x = getattr(self, "bn{}".format(i))(x)
        return self.output(x.view(x.size(0), x.size(1), -1).mean(2))


class TimeFirst(nn.Module):
    """Reads two of three sizes, by index and by slice, whose order the port exchanges."""

    def __init__(self, features=5, hidden=4, classes=3):
        super().__init__()
        self.rnn = nn.GRU(features, hidden, bidirectional=True)
        self.bn = nn.BatchNorm1d(hidden)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x):
        x, _ = self.rnn(x.transpose(0, 1))
        x = x.view(x.size(0), x.size(1), 2, -1).sum(2)
        t, n = x.size(0), x.size(1)
        x = self.bn(x.view(t * n, -1)).view(t, n, -1)
        t, n = x.shape[:2]
        return self.fc(x.reshape(t * n, -1)).reshape(t, n, -1).transpose(0, 1)


class ConvLSTMCell(nn.Module):
    def __init__(self, inputs, hidden):
        super().__init__()
        self.hidden = hidden
        self.conv = nn.Conv2d(inputs + hidden, 4 * hidden, 3, padding=1)

    def forward(self, frame, state):
        h, c = state
        gates = self.conv(torch.cat([frame, h], dim=1))
        i, f, o, g = torch.split(gates, self.hidden, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def start(self, batch, height, width):
        zeros = torch.zeros(batch, self.hidden, height, width, device=self.conv.weight.device)
        return zeros, zeros


class ConvLSTM(nn.Module):
    """The first cell reads frames with PyTorch's axes, the next one the frames that it wrote."""

    def __init__(self, channels=1, hidden=3, layers=2):
        super().__init__()
        cells = [ConvLSTMCell(channels if i == 0 else hidden, hidden) for i in range(layers)]
        self.cells = nn.ModuleList(cells)

    def forward(self, frames):
        b, _, _, height, width = frames.size()
        current = frames
        for number in range(len(self.cells)):
            h, c = self.cells[number].start(b, height, width)
            written = []
            for t in range(current.size(1)):
                h, c = self.cells[number](frame=current[:, t, :, :, :], state=[h, c])
                written.append(h)
            current = torch.stack(written, dim=1)
        return current
