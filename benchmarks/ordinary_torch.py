"""Ordinary networks as users write them in PyTorch, channels first.

The classes of `ordinary_jaxnets.py`, `ordinary_flax.py` and `ordinary_keras.py` have the same
names, layers and sizes.
"""

from itertools import pairwise

import torch
from torch import nn


class MLP(nn.Sequential):
    def __init__(self, *sizes):
        layers = []
        for pair in pairwise(sizes):
            layers += [nn.Linear(*pair), nn.ReLU()]
        super().__init__(*layers[:-1])


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(128 * 4 * 4, 10)

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = self.pool(torch.relu(conv(x)))
        return self.fc(torch.flatten(x, 1))


class VGG(nn.Sequential):
    def __init__(self):
        layers, inputs = [], 3
        for outputs in (32, 64, 128):
            for _ in range(2):
                layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
                layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        head = [nn.Flatten(), nn.Linear(128 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, 10)]
        super().__init__(*layers, *head)


class ResidualBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if inputs != outputs:
            project = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        blocks, inputs = [], 16
        for outputs, first in ((16, 1), (32, 2), (64, 2)):
            for stride in (first, 1, 1):
                blocks.append(ResidualBlock(inputs, outputs, stride))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.blocks(torch.relu(self.norm(self.conv(x))))
        return self.fc(x.mean((2, 3)))


class SeparableBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        x = torch.relu(self.norm1(self.depthwise(x)))
        return torch.relu(self.norm2(self.pointwise(x)))


class MobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(32)
        sizes = (32, 32, 1), (32, 64, 2), (64, 128, 2), (128, 128, 1)
        self.blocks = nn.Sequential(*(SeparableBlock(*size) for size in sizes))
        self.fc = nn.Linear(128, 10)

    def forward(self, x):
        x = self.blocks(torch.relu(self.norm(self.conv(x))))
        return self.fc(x.mean((2, 3)))


class TwoConvs(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x):
        return torch.relu(self.conv2(torch.relu(self.conv1(x))))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2 = TwoConvs(1, 16), TwoConvs(16, 32)
        self.middle = TwoConvs(32, 64)
        self.up2, self.merge2 = nn.ConvTranspose2d(64, 32, 2, 2), TwoConvs(64, 32)
        self.up1, self.merge1 = nn.ConvTranspose2d(32, 16, 2, 2), TwoConvs(32, 16)
        self.pool = nn.MaxPool2d(2)
        self.out = nn.Conv2d(16, 1, 1)

    def forward(self, x):
        one = self.down1(x)
        two = self.down2(self.pool(one))
        x = self.middle(self.pool(two))
        x = self.merge2(torch.cat([two, self.up2(x)], 1))
        x = self.merge1(torch.cat([one, self.up1(x)], 1))
        return self.out(x)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.up1 = nn.ConvTranspose2d(100, 256, 4, bias=False)
        self.up2 = nn.ConvTranspose2d(256, 128, 4, 2, 1, bias=False)
        self.up3 = nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False)
        self.up4 = nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(256), nn.BatchNorm2d(128)
        self.norm3 = nn.BatchNorm2d(64)

    def forward(self, x):
        x = torch.relu(self.norm1(self.up1(x)))
        x = torch.relu(self.norm2(self.up2(x)))
        x = torch.relu(self.norm3(self.up3(x)))
        return torch.tanh(self.up4(x))


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 4, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 128, 4, 2, 1, bias=False)
        self.conv3 = nn.Conv2d(128, 256, 4, 2, 1, bias=False)
        self.conv4 = nn.Conv2d(256, 1, 4, bias=False)
        self.norm2, self.norm3 = nn.BatchNorm2d(128), nn.BatchNorm2d(256)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x):
        x = self.act(self.conv1(x))
        x = self.act(self.norm2(self.conv2(x)))
        x = self.act(self.norm3(self.conv3(x)))
        return self.conv4(x).flatten(1)


class CNN1d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv1d(16, 64, 5, padding=2), nn.BatchNorm1d(64)
        self.conv2, self.norm2 = nn.Conv1d(64, 128, 5, padding=2), nn.BatchNorm1d(128)
        self.conv3, self.norm3 = nn.Conv1d(128, 128, 3, padding=1), nn.BatchNorm1d(128)
        self.pool = nn.MaxPool1d(2)
        self.fc = nn.Linear(128, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.norm1(self.conv1(x))))
        x = self.pool(torch.relu(self.norm2(self.conv2(x))))
        x = torch.relu(self.norm3(self.conv3(x)))
        return self.fc(x.mean(2))


class CausalBlock(nn.Module):
    def __init__(self, inputs, outputs, dilation):
        super().__init__()
        self.padding = 2 * dilation
        options = {"padding": self.padding, "dilation": dilation}
        self.conv1 = nn.Conv1d(inputs, outputs, 3, **options)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, **options)
        self.shortcut = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x):
        y = torch.relu(self.conv1(x)[:, :, : -self.padding])
        y = torch.relu(self.conv2(y)[:, :, : -self.padding])
        return torch.relu(y + self.shortcut(x))


class TCN(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = (16, 64, 1), (64, 64, 2), (64, 64, 4), (64, 64, 8)
        self.blocks = nn.Sequential(*(CausalBlock(*size) for size in sizes))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(self.blocks(x)[:, :, -1])


class BiLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5000, 128)
        self.lstm = nn.LSTM(128, 128, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(256, 10)

    def forward(self, x):
        _, (h, _) = self.lstm(self.embedding(x))
        return self.fc(torch.cat([h[0], h[1]], 1))


class CharLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(65, 256)
        self.lstm = nn.LSTM(256, 256, 2, batch_first=True)
        self.fc = nn.Linear(256, 65)

    def forward(self, x):
        return self.fc(self.lstm(self.embedding(x))[0])


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(5000, 128), nn.Embedding(64, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.fc = nn.Linear(128, 10)

    def forward(self, x):
        x = self.embedding(x) + self.positions(torch.arange(64, device=x.device))
        return self.fc(self.encoder(x).mean(1))


class GPTBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(128), nn.LayerNorm(128)
        self.attention = nn.MultiheadAttention(128, 4, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(128, 512), nn.Linear(512, 128)
        mask = nn.Transformer.generate_square_subsequent_mask(64)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        y = self.norm1(x)
        options = {"attn_mask": self.mask, "is_causal": True, "need_weights": False}
        x = x + self.attention(y, y, y, **options)[0]
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(65, 128), nn.Embedding(64, 128)
        self.blocks = nn.Sequential(GPTBlock(), GPTBlock())
        self.norm = nn.LayerNorm(128)
        self.fc = nn.Linear(128, 65)

    def forward(self, x):
        x = self.embedding(x) + self.positions(torch.arange(64, device=x.device))
        return self.fc(self.norm(self.blocks(x)))
