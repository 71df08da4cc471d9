import torch
import torch.nn as nn
import torch.nn.functional as F


class WarpedPool(nn.Module):
    """Pools the largest values of an image that a learned matrix warps."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.eye(3)[None].repeat(2, 1, 1))
        self.s = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        b, c, h, w = x.size()
        theta = F.pad(self.w[:, :2, :2], (0, 1))[:1].expand(b, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        y = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        u = F.unfold(y, kernel_size=2, stride=2).view(b, c, 4, h // 2, w // 2).amax(2)
        z = torch.stack((u, u), 2).view(b, -1, h // 2, w // 2)
        return z * torch.sigmoid(self.s) + z.mean((-2, -1), True)
