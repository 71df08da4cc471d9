import torch.nn as nn


class ConvAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 8, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.bottleneck = nn.Sequential(nn.Flatten(start_dim=1), nn.Linear(8 * 3 * 3, 6))
        self.decoder = nn.Sequential(
            nn.Linear(6, 8 * 3 * 3),
            nn.ReLU(),
            nn.Unflatten(dim=1, unflattened_size=(8, 3, 3)),
            nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(True),
            nn.ConvTranspose2d(4, 1, 3, stride=2, padding=1, output_padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        z = self.bottleneck(self.encoder(x))
        return self.decoder(z), z


class UpsampleDecoder(nn.Module):
    """Nearest neighbours and sub-pixel shuffling instead of transposed convolutions."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Upsample(scale_factor=2),
            nn.Conv2d(4, 8, 3, padding=1),
            nn.ELU(),
            nn.PixelShuffle(2),
            nn.ReplicationPad2d((1, 1, 1, 1)),
            nn.Conv2d(2, 1, 3),
        )

    def forward(self, x):
        return self.layers(x).clamp(-1, 1)


class IndexUnpool(nn.Module):
    """Puts values back where the maxima were."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2, stride=2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2, stride=2)
        self.back = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x):
        pooled, indices = self.pool(self.conv(x))
        return self.back(self.unpool(pooled, indices))
