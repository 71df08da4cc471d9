"""The networks that draw images in PyTorch."""

from collections.abc import Callable
from typing import Any

from flax import nnx

from jaxnets.models import DCGAN, VAE, Diffusion, Discriminator, Generator, UNet
from jaxnets.models.positions import sinusoidal_positions


def vae(torch: Any, model: VAE) -> Any:
    """``VAE`` of the same sizes."""
    nn, sizes = torch.nn, model.options
    size, channels = sizes["image_size"], sizes["in_channels"]
    pixels, hidden, codes = size**2 * channels, sizes["hidden_dim"], sizes["latent_dim"]

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(pixels, hidden)
            self.fc21 = nn.Linear(hidden, codes)
            self.fc22 = nn.Linear(hidden, codes)
            self.fc3 = nn.Linear(codes, hidden)
            self.fc4 = nn.Linear(hidden, pixels)

        def encode(self, images: Any) -> Any:
            x = torch.relu(self.fc1(torch.flatten(images, 1)))
            return self.fc21(x), self.fc22(x)

        def decode(self, codes: Any) -> Any:
            x = self.fc4(torch.relu(self.fc3(codes)))
            return x.view(-1, channels, size, size)

        def forward(self, images: Any) -> Any:
            x = self.decode(self.encode(images)[0])
            return torch.sigmoid(x) if model.likelihood == "bernoulli" else x

    return Network()


def generator(torch: Any, model: Generator) -> Any:
    """``Generator`` of the same sizes."""
    nn, (first, _, _, second, _, _, third, _) = torch.nn, model.main.layers
    wide, narrow, channels = first.out_channels, second.out_channels, third.out_channels

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main = nn.Sequential(
                nn.ConvTranspose2d(model.nz, wide, first.kernel.shape[0], bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(),
                nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False),
                nn.BatchNorm2d(narrow),
                nn.ReLU(),
                nn.ConvTranspose2d(narrow, channels, 4, 2, 1, bias=False),
                nn.Tanh(),
            )
            if model.embedding is not None:
                self.embedding = nn.Embedding(model.embedding.num_embeddings, model.nz)

        def forward(self, noise: Any, labels: Any = None) -> Any:
            if model.embedding is not None:
                noise = noise * self.embedding(labels)
            return self.main(noise[:, :, None, None])

    return Network()


def discriminator(torch: Any, model: Discriminator) -> Any:
    """``Discriminator`` of the same sizes."""
    nn, (first, _, second, _, last) = torch.nn, model.main.layers
    narrow, wide = first.out_channels, second.out_channels

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main = nn.Sequential(
                nn.Conv2d(model.image_shape[-1], narrow, 4, 2, 1, bias=False),
                nn.LeakyReLU(0.2),
                nn.Conv2d(narrow, wide, 4, 2, 1, bias=False),
                nn.LeakyReLU(0.2),
                nn.Conv2d(wide, 1, last.kernel.shape[0], bias=False),
            )
            if model.embedding is not None:
                classes, size = model.embedding.embedding.shape
                self.embedding = nn.Embedding(classes, size)
                nn.init.normal_(self.embedding.weight, 0.0, 0.02)

        def forward(self, images: Any, labels: Any = None) -> Any:
            x = self.main[:-1](images)
            logits = self.main[-1](x)[:, 0, 0, 0]
            if model.embedding is not None:
                logits = logits + (torch.flatten(x, 1) * self.embedding(labels)).sum(1)
            return logits

    return Network()


def dcgan(torch: Any, model: DCGAN) -> Any:
    """``DCGAN`` of the same sizes."""

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = generator(torch, model.generator)
            self.discriminator = discriminator(torch, model.discriminator)

        def forward(self, noise: Any, labels: Any = None) -> Any:
            return self.generator(noise, labels)

    return Network()


def unet(torch: Any, model: UNet) -> Any:
    """``UNet`` of the same sizes."""
    nn, sizes = torch.nn, model.options
    c, size = sizes["channels"], 4 * sizes["channels"]

    class TimeBlock(torch.nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.norm1 = nn.GroupNorm(8, inputs)
            self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
            self.time = nn.Linear(size, outputs)
            self.norm2 = nn.GroupNorm(8, outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
            self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

        def forward(self, x: Any, step: Any) -> Any:
            y = self.conv1(nn.functional.silu(self.norm1(x))) + self.time(step)[:, :, None, None]
            y = self.conv2(nn.functional.silu(self.norm2(y)))
            return y + (x if self.shortcut is None else self.shortcut(x))

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time1, self.time2 = nn.Linear(c, size), nn.Linear(size, size)
            self.label = None
            if sizes["num_classes"] is not None:
                self.label = nn.Embedding(sizes["num_classes"] + 1, size)
            self.conv_in = nn.Conv2d(sizes["in_channels"], c // 2, 3, padding=1)
            self.halve, self.down1 = nn.Conv2d(c // 2, c, 4, 2, 1), TimeBlock(c, c)
            self.quarter, self.down2 = nn.Conv2d(c, c, 4, 2, 1), TimeBlock(c, 2 * c)
            self.middle, self.up2 = TimeBlock(2 * c, 2 * c), TimeBlock(4 * c, c)
            self.twice, self.up1 = nn.ConvTranspose2d(c, c, 4, 2, 1), TimeBlock(2 * c, c)
            self.norm, self.whole = nn.GroupNorm(8, c), nn.ConvTranspose2d(c, c // 2, 4, 2, 1)
            self.conv_up, self.time = nn.Conv2d(c, c // 2, 3, padding=1), nn.Linear(size, c // 2)
            self.conv_out = nn.Conv2d(c // 2, sizes["in_channels"], 3, padding=1)
            self.table = torch.tensor(sinusoidal_positions(sizes["timesteps"], c))

        def forward(self, images: Any, time: Any, labels: Any = None) -> Any:
            positions = self.table[time].to(images.dtype)
            step = self.time2(nn.functional.silu(self.time1(positions)))
            if self.label is not None:
                none = torch.full_like(time, sizes["num_classes"])
                step = step + self.label(none if labels is None else labels)
            silu = nn.functional.silu
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

    return Network()


def diffusion(torch: Any, model: Diffusion) -> Any:
    """``Diffusion`` of the same sizes."""

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet = unet(torch, model.unet)

        def forward(self, images: Any, time: Any, labels: Any = None) -> Any:
            return self.unet(images, time, labels)

    return Network()


TWINS: dict[type[nnx.Module], Callable[[Any, Any], Any]] = {
    VAE: vae,
    Generator: generator,
    Discriminator: discriminator,
    DCGAN: dcgan,
    UNet: unet,
    Diffusion: diffusion,
}
"""What builds the twin of each network."""
