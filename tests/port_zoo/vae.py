import torch
from torch import nn
from torch.nn import functional as F


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()

        self.fc1 = nn.Linear(64, 24)
        self.fc21 = nn.Linear(24, 5)
        self.fc22 = nn.Linear(24, 5)
        self.fc3 = nn.Linear(5, 24)
        self.fc4 = nn.Linear(24, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5*logvar)
        eps = torch.randn_like(std)
        return mu + eps*std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


class ConvVAE(nn.Module):
    def __init__(self, in_channels: int = 1, latent_dim: int = 4, dims=None) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        modules = []
        if dims is None:
            dims = [4, 8]
        for width in dims:
            modules.append(
                nn.Sequential(
                    nn.Conv2d(in_channels, out_channels=width, kernel_size=3, stride=2, padding=1),
                    nn.BatchNorm2d(width),
                    nn.LeakyReLU())
            )
            in_channels = width
        self.encoder = nn.Sequential(*modules)
        self.fc_mu = nn.Linear(dims[-1] * 4, latent_dim)
        self.fc_var = nn.Linear(dims[-1] * 4, latent_dim)

        modules = []
        self.decoder_input = nn.Linear(latent_dim, dims[-1] * 4)
        back = dims[::-1]
        for i in range(len(back) - 1):
            modules.append(
                nn.Sequential(
                    nn.ConvTranspose2d(back[i], back[i + 1], kernel_size=3,
                                       stride=2, padding=1, output_padding=1),
                    nn.BatchNorm2d(back[i + 1]),
                    nn.LeakyReLU())
            )
        self.decoder = nn.Sequential(*modules)
        self.final_layer = nn.Sequential(
            nn.ConvTranspose2d(back[-1], back[-1], 3, 2, 1, 1),
            nn.LeakyReLU(),
            nn.Conv2d(back[-1], out_channels=1, kernel_size=3, padding=1),
            nn.Tanh())

    def reparameterize(self, mu, logvar):
        if self.training:
            std = logvar.mul(0.5).exp_()
            eps = std.data.new(std.size()).normal_()
            return eps.mul(std).add_(mu)
        else:
            return mu

    def forward(self, input, **kwargs):
        result = self.encoder(input)
        result = torch.flatten(result, start_dim=1)
        mu, log_var = self.fc_mu(result), self.fc_var(result)
        z = self.reparameterize(mu, log_var)
        result = self.decoder_input(z)
        result = result.view(-1, 8, 2, 2)
        result = self.decoder(result)
        return [self.final_layer(result), mu, log_var]
