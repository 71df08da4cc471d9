from collections import OrderedDict

import torch
import torch.nn as nn
import torch.nn.functional as F


class _DenseLayer(nn.Module):
    def __init__(self, n_in, growth, bn_size, drop_rate):
        super(_DenseLayer, self).__init__()
        self.add_module('norm1', nn.BatchNorm2d(n_in)),
        self.add_module('relu1', nn.ReLU(inplace=True)),
        self.add_module('conv1', nn.Conv2d(n_in, bn_size * growth,
                                           kernel_size=1, stride=1, bias=False)),
        self.add_module('norm2', nn.BatchNorm2d(bn_size * growth)),
        self.add_module('relu2', nn.ReLU(inplace=True)),
        self.add_module('conv2', nn.Conv2d(bn_size * growth, growth,
                                           kernel_size=3, stride=1, padding=1, bias=False)),
        self.drop_rate = float(drop_rate)

    def forward(self, inputs):
        everything = torch.cat(inputs, 1)
        narrow = self.conv1(self.relu1(self.norm1(everything)))
        new = self.conv2(self.relu2(self.norm2(narrow)))
        if self.drop_rate > 0:
            new = F.dropout(new, p=self.drop_rate, training=self.training)
        return new


class _DenseBlock(nn.ModuleDict):
    def __init__(self, num_layers, n_in, bn_size, growth, drop_rate):
        super(_DenseBlock, self).__init__()
        for i in range(num_layers):
            layer = _DenseLayer(
                n_in + i * growth,
                growth=growth,
                bn_size=bn_size,
                drop_rate=drop_rate,
            )
            self.add_module('layer%d' % (i + 1), layer)

    def forward(self, first):
        features = [first]
        for name, layer in self.items():
            new = layer(features)
            features.append(new)
        return torch.cat(features, 1)


class _Transition(nn.Sequential):
    def __init__(self, n_in, n_out):
        super(_Transition, self).__init__()
        self.add_module('norm', nn.BatchNorm2d(n_in))
        self.add_module('relu', nn.ReLU(inplace=True))
        self.add_module('conv', nn.Conv2d(n_in, n_out,
                                          kernel_size=1, stride=1, bias=False))
        self.add_module('pool', nn.AvgPool2d(kernel_size=2, stride=2))


class DenseNet(nn.Module):
    def __init__(self, growth=4, block_config=(2, 2), num_first=8,
                 bn_size=2, drop_rate=0, num_classes=10):
        super(DenseNet, self).__init__()

        self.features = nn.Sequential(OrderedDict([
            ('conv0', nn.Conv2d(3, num_first, kernel_size=3, stride=1,
                                padding=1, bias=False)),
            ('norm0', nn.BatchNorm2d(num_first)),
            ('relu0', nn.ReLU(inplace=True)),
            ('pool0', nn.MaxPool2d(kernel_size=3, stride=2, padding=1)),
        ]))

        num_features = num_first
        for i, num_layers in enumerate(block_config):
            block = _DenseBlock(
                num_layers=num_layers,
                n_in=num_features,
                bn_size=bn_size,
                growth=growth,
                drop_rate=drop_rate,
            )
            self.features.add_module('block%d' % (i + 1), block)
            num_features = num_features + num_layers * growth
            if i != len(block_config) - 1:
                trans = _Transition(n_in=num_features,
                                    n_out=num_features // 2)
                self.features.add_module('transition%d' % (i + 1), trans)
                num_features = num_features // 2

        self.features.add_module('norm_last', nn.BatchNorm2d(num_features))

        self.classifier = nn.Linear(num_features, num_classes)

    def forward(self, x):
        features = self.features(x)
        out = F.relu(features, inplace=True)
        out = F.adaptive_avg_pool2d(out, (1, 1))
        out = torch.flatten(out, 1)
        out = self.classifier(out)
        return out
