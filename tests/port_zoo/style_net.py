import torch.nn as nn
import torch.nn.functional as F


class StyleNet(nn.Module):
    """Reflection padding and instance normalization, as for style transfer."""

    def __init__(self, width=16):
        super().__init__()
        self.pad = nn.ReflectionPad2d(1)
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(3, width, 3),
                nn.Conv2d(width, 2 * width, 3, 2),
                nn.Conv2d(2 * width, 2 * width, 3),
                nn.Conv2d(2 * width, width, 3),
            ]
        )
        self.norms = nn.ModuleList(
            [nn.InstanceNorm2d(conv.out_channels, affine=True) for conv in self.convs]
        )
        self.last = nn.Conv2d(width, 3, 3)

    def block(self, number, x):
        return F.relu(self.norms[number](self.convs[number](self.pad(x))))

    def forward(self, x):
        x = self.block(1, self.block(0, x))
        x = F.interpolate(x + self.block(2, x), scale_factor=2.0)
        return self.last(self.pad(self.block(3, x)))
