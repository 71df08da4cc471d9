import torch
import torch.nn as nn


class MixerLayer(nn.Module):
    """Linear layers over the pixels, then over the channels."""

    def __init__(self, patches, dim, hidden=8):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.tokens = nn.Sequential(nn.Linear(patches, hidden), nn.GELU(), nn.Linear(hidden, patches))
        self.norm2 = nn.LayerNorm(dim)
        self.channels = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x):
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self, image=8, patch=2, dim=6, depth=2, classes=4):
        super().__init__()
        self.embed = nn.Conv2d(3, dim, patch, stride=patch)
        self.layers = nn.Sequential(*[MixerLayer((image // patch) ** 2, dim) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.embed(x)
        x = x.flatten(2).permute(0, 2, 1)
        x = self.norm(self.layers(x))
        return self.head(x.mean(1))


class AxialMLP(nn.Module):
    """Permutes an image back and forth: rows, columns, channels."""

    def __init__(self, h=6, w=4, c=5):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 1)
        self.along_w = nn.Linear(w, w)
        self.along_h = nn.Linear(h, h)
        self.along_c = nn.Linear(c, c)
        self.weights = nn.Parameter(torch.ones(3) / 3)

    def forward(self, x):
        x = self.stem(x)
        a = self.along_w(x)
        b = self.along_h(x.transpose(2, 3)).transpose(-1, -2)
        c = self.along_c(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        wa, wb, wc = self.weights.softmax(0)
        return wa * a + wb * b + wc * c


class ChannelsLastInput(nn.Module):
    """Takes images with their channels last, as they come from files."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.fc = nn.Linear(6 * 4 * 4, 5)

    def forward(self, images):
        x = images.permute(0, 3, 1, 2).float() / 255.0
        x = torch.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.fc(x.reshape(x.shape[0], -1))
