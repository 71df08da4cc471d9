"""A variational autoencoder in PyTorch."""

import torch
from torch import Tensor, nn


class VAE(nn.Module):
    """The fully connected autoencoder of PyTorch's example."""

    def __init__(
        self,
        image_size: int = 28,
        in_channels: int = 1,
        hidden_dim: int = 400,
        latent_dim: int = 20,
        likelihood: str = "bernoulli",
    ) -> None:
        super().__init__()
        self.image_shape, self.likelihood = (in_channels, image_size, image_size), likelihood
        pixels = in_channels * image_size**2
        self.fc1 = nn.Linear(pixels, hidden_dim)
        self.fc21 = nn.Linear(hidden_dim, latent_dim)
        self.fc22 = nn.Linear(hidden_dim, latent_dim)
        self.fc3 = nn.Linear(latent_dim, hidden_dim)
        self.fc4 = nn.Linear(hidden_dim, pixels)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean and the log variance of the codes, [batch, latent_dim] each."""
        x = torch.relu(self.fc1(torch.flatten(images, 1)))
        return self.fc21(x), self.fc22(x)

    def decode(self, codes: Tensor) -> Tensor:
        """Returns logits, or means, of the pixels [batch, channels, height, width]."""
        return self.fc4(torch.relu(self.fc3(codes))).view(-1, *self.image_shape)

    def forward(self, images: Tensor) -> Tensor:
        """Returns reconstructions of images [batch, channels, height, width]."""
        x = self.decode(self.encode(images)[0])
        return torch.sigmoid(x) if self.likelihood == "bernoulli" else x
