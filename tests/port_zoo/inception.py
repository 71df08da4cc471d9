from collections import namedtuple

import torch
import torch.nn as nn
import torch.nn.functional as F

Outputs = namedtuple("Outputs", ["logits", "aux"])


class BasicConv2d(nn.Module):
    def __init__(self, in_channels, out_channels, **kwargs):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **kwargs)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    def __init__(self, in_channels, ch1x1, ch3x3, pool_proj, conv_block=None):
        super().__init__()
        if conv_block is None:
            conv_block = BasicConv2d
        self.branch1 = conv_block(in_channels, ch1x1, kernel_size=1)
        self.branch2 = nn.Sequential(
            conv_block(in_channels, ch3x3, kernel_size=1),
            conv_block(ch3x3, ch3x3, kernel_size=(1, 3), padding=(0, 1)),
        )
        self.branch3 = nn.Sequential(
            nn.MaxPool2d(kernel_size=3, stride=1, padding=1, ceil_mode=True),
            conv_block(in_channels, pool_proj, kernel_size=1),
        )

    def _forward(self, x):
        branch1 = self.branch1(x)
        branch2 = self.branch2(x)
        branch3 = self.branch3(x)
        return [branch1, branch2, branch3]

    def forward(self, x):
        outputs = self._forward(x)
        return torch.cat(outputs, 1)


class InceptionNet(nn.Module):
    def __init__(self, num_classes=6, aux_logits=True):
        super().__init__()
        self.aux_logits = aux_logits
        self.stem = BasicConv2d(3, 8, kernel_size=3, stride=2)
        self.inception1 = Inception(8, 4, 6, 2)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception2 = Inception(12, 6, 6, 4)
        if aux_logits:
            self.aux = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, num_classes))
        else:
            self.aux = None
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x):
        x = self.inception1(self.stem(x))
        aux = None
        if self.aux is not None and self.training:
            aux = self.aux(x)
        x = self.inception2(self.pool(x))
        x = F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)
        x = self.fc(self.dropout(x))
        if self.training and self.aux_logits:
            return Outputs(x, aux)
        return x
