import torch.nn as nn


class CRNN(nn.Module):
    """Convolutions over an image of a line of text, then an LSTM from left to right and back."""

    def __init__(self, classes=40):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.LeakyReLU(0.1),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(0.1),
            nn.MaxPool2d((2, 1)),
        )
        self.rnn = nn.LSTM(64 * 8, 64, num_layers=2, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(128, classes)

    def forward(self, x):
        x = self.cnn(x)
        b, c, h, w = x.shape
        x, _ = self.rnn(x.permute(0, 3, 1, 2).reshape(b, w, c * h))
        return self.fc(x)
