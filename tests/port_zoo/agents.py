import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class DuelingDQN(nn.Module):
    def __init__(self, n_actions=4):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 4, kernel_size=4, stride=2), nn.ReLU(),
            nn.Conv2d(4, 6, kernel_size=3, stride=1), nn.ReLU(),
        )
        n = self._conv_out((2, 10, 10))
        self.advantage = nn.Sequential(nn.Linear(n, 8), nn.ReLU(), nn.Linear(8, n_actions))
        self.value = nn.Sequential(nn.Linear(n, 8), nn.ReLU(), nn.Linear(8, 1))

    def _conv_out(self, shape):
        o = self.features(torch.zeros(1, *shape))
        return int(torch.prod(torch.tensor(o.size())))

    def forward(self, x):
        x = x.float() / 256
        x = self.features(x).view(x.size()[0], -1)
        adv, val = self.advantage(x), self.value(x)
        return val + (adv - adv.mean(dim=1, keepdim=True))


class ActorCritic(nn.Module):
    def __init__(self, obs=6, actions=2):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(obs, 8), nn.Tanh())
        self.mu = nn.Linear(8, actions)
        self.log_std = nn.Parameter(torch.zeros(actions))
        self.critic = nn.Linear(8, 1)

    def forward(self, obs, action):
        h = self.body(obs)
        mu = torch.tanh(self.mu(h))
        std = self.log_std.clamp(-20, 2).exp().expand_as(mu)
        log_prob = -((action - mu) ** 2) / (2 * std ** 2) - torch.log(std) - math.log(math.sqrt(2 * math.pi))
        return log_prob.sum(-1), self.critic(h).squeeze(-1)


class GridWorld(nn.Module):
    """A spatial transformer: looks at a part of the image that it chooses."""

    def __init__(self):
        super().__init__()
        self.localization = nn.Sequential(nn.Conv2d(1, 4, 5), nn.MaxPool2d(2), nn.ReLU(True))
        self.fc_loc = nn.Sequential(nn.Linear(4 * 4 * 4, 8), nn.ReLU(True), nn.Linear(8, 3 * 2))
        self.fc = nn.Linear(144, 3)
        self.fc_loc[2].weight.data.zero_()
        self.fc_loc[2].bias.data.copy_(torch.tensor([0.9, 0.1, 0, 0.05, 1.1, 0], dtype=torch.float))

    def forward(self, x):
        theta = self.fc_loc(self.localization(x).view(-1, 4 * 4 * 4)).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        x = F.grid_sample(x, grid, align_corners=False)
        return self.fc(x.flatten(1))
