import torch
import torch.nn as nn
import torch.nn.functional as F


class VolumeNet(nn.Module):
    """Convolutions over space and time."""

    def __init__(self, classes=4):
        super().__init__()
        self.conv1 = nn.Conv3d(1, 4, kernel_size=(3, 3, 3), padding=1)
        self.bn1 = nn.BatchNorm3d(4)
        self.pool1 = nn.MaxPool3d(kernel_size=(1, 2, 2), stride=(1, 2, 2))
        self.conv2 = nn.Conv3d(4, 6, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        x = self.pool1(F.relu(self.bn1(self.conv1(x))))
        x = F.relu(self.conv2(x))
        x = F.adaptive_avg_pool3d(x, 1)
        return self.head(torch.flatten(x, 1))


class FramesThenTime(nn.Module):
    """Each frame of a clip through the same convolutions, then an LSTM over the frames."""

    def __init__(self, hidden=5, classes=3):
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.lstm = nn.LSTM(4, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, clips):
        b, t, c, h, w = clips.shape
        x = clips.view(b * t, c, h, w)
        x = self.cnn(x).view(b, t, -1)
        out, _ = self.lstm(x)
        return self.fc(out[:, -1])


class SpeechNet(nn.Module):
    """One-dimensional convolutions with normalization and pooling."""

    def __init__(self, n_in=1, n_out=5, width=4, stride=4):
        super().__init__()
        self.conv1 = nn.Conv1d(n_in, width, kernel_size=8, stride=stride)
        self.bn1 = nn.BatchNorm1d(width)
        self.pool1 = nn.MaxPool1d(2)
        self.conv2 = nn.Conv1d(width, 2 * width, kernel_size=3)
        self.bn2 = nn.BatchNorm1d(2 * width)
        self.fc1 = nn.Linear(2 * width, n_out)

    def forward(self, x):
        x = self.conv1(x)
        x = F.relu(self.bn1(x))
        x = self.pool1(x)
        x = self.conv2(x)
        x = F.relu(self.bn2(x))
        x = F.avg_pool1d(x, x.shape[-1])
        x = x.permute(0, 2, 1)
        x = self.fc1(x)
        return F.log_softmax(x, dim=2)


class VolumeCNN(nn.Module):
    """Convolutions over the three axes of a volume, with max pooling."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv3d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv3d(8, 16, 3, padding=1)
        self.norm = nn.BatchNorm3d(16)
        self.pool = nn.MaxPool3d(2)
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.norm(self.conv2(x))))
        return self.fc(x.mean((2, 3, 4)))
