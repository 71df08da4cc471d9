"""A deep convolutional generative adversarial network in PyTorch."""

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """Three transposed convolutions; with classes, the noise is multiplied by their vectors."""

    def __init__(
        self,
        nz: int = 64,
        ngf: int = 32,
        nc: int = 1,
        image_size: int = 28,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, nz)
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, 2 * ngf, image_size // 4, bias=False),
            nn.BatchNorm2d(2 * ngf),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * ngf, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf),
            nn.ReLU(),
            nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns images [batch, nc, height, width] from noise [batch, nz]."""
        if self.embedding is not None:
            noise = noise * self.embedding(labels)
        return self.main(noise[:, :, None, None])


class Discriminator(nn.Module):
    """Three convolutions; with classes, a projection on their vectors."""

    def __init__(
        self, ndf: int = 32, nc: int = 1, image_size: int = 28, num_classes: int | None = None
    ) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(nc, ndf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ndf, 2 * ndf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * ndf, 1, image_size // 4, bias=False),
        )
        self.embedding = None
        if num_classes is not None:
            self.embedding = nn.Embedding(num_classes, 2 * ndf * (image_size // 4) ** 2)
            nn.init.normal_(self.embedding.weight, 0.0, 0.02)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns logits [batch] of images [batch, nc, height, width]."""
        x = self.main[:-1](images)
        logits = self.main[-1](x)[:, 0, 0, 0]
        if self.embedding is not None:
            logits = logits + (torch.flatten(x, 1) * self.embedding(labels)).sum(1)
        return logits


class DCGAN(nn.Module):
    """A generator and a discriminator."""

    def __init__(
        self,
        nz: int = 64,
        ngf: int = 32,
        ndf: int = 32,
        nc: int = 1,
        image_size: int = 28,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.generator = Generator(nz, ngf, nc, image_size, num_classes)
        self.discriminator = Discriminator(ndf, nc, image_size, num_classes)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns the generator's images."""
        return self.generator(noise, labels)
