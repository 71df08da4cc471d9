"""A denoising diffusion model in PyTorch."""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu


class TimeBlock(nn.Module):
    """A residual block that depends on the step."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(size, outputs)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """Returns [batch, outputs, height, width]."""
        y = self.conv1(silu(self.norm1(x))) + self.time(step)[:, :, None, None]
        return self.conv2(silu(self.norm2(y))) + self.shortcut(x)


def positions(length: int, size: int) -> Tensor:
    """Returns the position encoding of a Transformer, [length, size]."""
    place = torch.arange(size)
    angles = torch.arange(length).double()[:, None] / 10000 ** (place // 2 * 2 / size).double()
    return torch.where(place % 2 == 1, angles.cos(), angles.sin()).float()


class UNet(nn.Module):
    """Residual blocks at a half and a quarter of the resolution."""

    def __init__(
        self, in_channels: int, channels: int, num_classes: int | None, timesteps: int
    ) -> None:
        super().__init__()
        c, size, self.num_classes = channels, 4 * channels, num_classes
        self.time1, self.time2 = nn.Linear(c, size), nn.Linear(size, size)
        self.label = None if num_classes is None else nn.Embedding(num_classes + 1, size)
        self.conv_in = nn.Conv2d(in_channels, c // 2, 3, padding=1)
        self.halve, self.down1 = nn.Conv2d(c // 2, c, 4, 2, 1), TimeBlock(c, c, size)
        self.quarter, self.down2 = nn.Conv2d(c, c, 4, 2, 1), TimeBlock(c, 2 * c, size)
        self.middle, self.up2 = TimeBlock(2 * c, 2 * c, size), TimeBlock(4 * c, c, size)
        self.twice, self.up1 = nn.ConvTranspose2d(c, c, 4, 2, 1), TimeBlock(2 * c, c, size)
        self.norm, self.whole = nn.GroupNorm(8, c), nn.ConvTranspose2d(c, c // 2, 4, 2, 1)
        self.conv_up, self.time = nn.Conv2d(c, c // 2, 3, padding=1), nn.Linear(size, c // 2)
        self.conv_out = nn.Conv2d(c // 2, in_channels, 3, padding=1)
        self.register_buffer("table", positions(timesteps, c), persistent=False)

    def forward(self, images: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns the predicted noise [batch, channels, height, width]."""
        step = self.time2(silu(self.time1(self.table[time])))
        if self.label is not None:
            none = torch.full_like(time, self.num_classes)
            step = step + self.label(none if labels is None else labels)
        step = silu(step)
        full = silu(self.conv_in(images))
        half = self.down1(self.halve(full), step)
        quarter = self.down2(self.quarter(half), step)
        x = self.middle(quarter, step)
        x = self.up2(torch.cat([x, quarter], 1), step)
        x = self.up1(torch.cat([self.twice(x), half], 1), step)
        x = self.whole(silu(self.norm(x)))
        x = self.conv_up(torch.cat([x, full], 1)) + self.time(step)[:, :, None, None]
        return self.conv_out(silu(x))


class Diffusion(nn.Module):
    """A ``unet`` that predicts the noise in images; the schedule and the sampler are not here."""

    def __init__(
        self,
        image_size: int = 28,
        in_channels: int = 1,
        channels: int = 32,
        num_classes: int | None = None,
        timesteps: int = 1000,
        schedule: str = "cosine",
    ) -> None:
        super().__init__()
        self.image_size, self.schedule = image_size, schedule
        self.unet = UNet(in_channels, channels, num_classes, timesteps)

    def forward(self, images: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predicts the noise in images [batch, channels, height, width] at steps [batch]."""
        return self.unet(images, time, labels)
