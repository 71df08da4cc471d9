import torch.nn as nn
from torch.nn.utils import weight_norm


class Chomp(nn.Module):
    def __init__(self, size):
        super(Chomp, self).__init__()
        self.size = size

    def forward(self, x):
        return x[:, :, :-self.size].contiguous()


class Block(nn.Module):
    def __init__(self, n_in, n_out, kernel_size, dilation, dropout=0.2):
        super(Block, self).__init__()
        padding = (kernel_size - 1) * dilation
        self.conv1 = weight_norm(nn.Conv1d(n_in, n_out, kernel_size, padding=padding, dilation=dilation))
        self.chomp1 = Chomp(padding)
        self.conv2 = weight_norm(nn.Conv1d(n_out, n_out, kernel_size, padding=padding, dilation=dilation))
        self.net = nn.Sequential(self.conv1, self.chomp1, nn.ReLU(), nn.Dropout(dropout),
                                 self.conv2, Chomp(padding), nn.ReLU(), nn.Dropout(dropout))
        self.downsample = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else None
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.net(x)
        res = x if self.downsample is None else self.downsample(x)
        return self.relu(out + res)


class TCN(nn.Module):
    def __init__(self, inputs=3, channels=(6, 6, 8), kernel_size=2, outputs=4):
        super(TCN, self).__init__()
        layers = []
        for i in range(len(channels)):
            n_in = inputs if i == 0 else channels[i - 1]
            layers += [Block(n_in, channels[i], kernel_size, dilation=2 ** i)]
        self.network = nn.Sequential(*layers)
        self.linear = nn.Linear(channels[-1], outputs)

    def forward(self, x):
        y = self.network(x)
        return self.linear(y[:, :, -1])
