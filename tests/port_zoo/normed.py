import torch
import torch.nn as nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm


class SNDiscriminator(nn.Module):
    """Each layer's largest singular value is one."""

    def __init__(self, channels=3):
        super().__init__()
        self.conv1 = spectral_norm(nn.Conv2d(channels, 4, 3, stride=1, padding=(1, 1)))
        self.conv2 = spectral_norm(nn.Conv2d(4, 8, 4, stride=2, padding=(1, 1)))
        self.fc = spectral_norm(nn.Linear(4 * 4 * 8, 1))

    def forward(self, x):
        m = x
        m = nn.LeakyReLU(0.1)(self.conv1(m))
        m = nn.LeakyReLU(0.1)(self.conv2(m))
        return self.fc(m.view(-1, 4 * 4 * 8))


class WeightNormedMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = weight_norm(nn.Linear(6, 8))
        self.fc2 = weight_norm(nn.Linear(8, 3), dim=None)

    def forward(self, x):
        return self.fc2(torch.nn.functional.silu(self.fc1(x)))


class NormZoo(nn.Module):
    """Group, instance and layer normalization of images, and a norm written by hand."""

    def __init__(self, dim=8):
        super().__init__()
        self.conv = nn.Conv2d(3, dim, 3, padding=1)
        self.group = nn.GroupNorm(4, dim)
        self.instance = nn.InstanceNorm2d(dim, affine=True)
        self.layer = nn.LayerNorm([dim, 6, 6])
        self.gain = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        x = self.group(self.conv(x)).relu()
        x = self.instance(x).relu_()
        x = self.layer(x)
        rms = x.pow(2).mean(dim=1, keepdim=True).add(1e-6).rsqrt()
        return x * rms * self.gain.view(1, -1, 1, 1)


class OlderSpectralNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.utils.spectral_norm(nn.Linear(4, 3))

    def forward(self, x):
        return self.fc(x)
