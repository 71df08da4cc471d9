"""U-Nets in parts: one with bilinear upsampling that pads odd sizes, one that crops."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class TwoConvs(nn.Module):
    """conv, norm, relu; twice"""

    def __init__(self, n_in, n_out, n_mid=None):
        super().__init__()
        if not n_mid:
            n_mid = n_out
        self.both = nn.Sequential(
            nn.Conv2d(n_in, n_mid, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(n_mid),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_mid, n_out, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True)
        )

    def forward(self, x):
        return self.both(x)


class Down(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.layers = nn.Sequential(
            nn.MaxPool2d(2),
            TwoConvs(n_in, n_out)
        )

    def forward(self, x):
        return self.layers(x)


class Up(nn.Module):
    def __init__(self, n_in, n_out, bilinear=True):
        super().__init__()

        # without weights of its own, the convolutions halve the channels
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True)
            self.conv = TwoConvs(n_in, n_out, n_in // 2)
        else:
            self.up = nn.ConvTranspose2d(n_in, n_in // 2, kernel_size=2, stride=2)
            self.conv = TwoConvs(n_in, n_out)

    def forward(self, low, skip):
        low = self.up(low)
        dY = skip.size()[2] - low.size()[2]
        dX = skip.size()[3] - low.size()[3]

        low = F.pad(low, [dX // 2, dX - dX // 2,
                          dY // 2, dY - dY // 2])
        return self.conv(torch.cat([skip, low], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels=3, n_classes=2, bilinear=True, width=4):
        super().__init__()
        self.n_channels = n_channels
        self.n_classes = n_classes
        self.bilinear = bilinear

        factor = 2 if bilinear else 1
        self.inc = TwoConvs(n_channels, width)
        self.down1 = Down(width, 2 * width)
        self.down2 = Down(2 * width, 4 * width // factor)
        self.up1 = Up(4 * width, 2 * width // factor, bilinear)
        self.up2 = Up(2 * width, width, bilinear)
        self.outc = nn.Conv2d(width, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x = self.up1(x3, x2)
        x = self.up2(x, x1)
        logits = self.outc(x)
        return logits


class CroppedUNet(nn.Module):
    """Convolutions without padding; skip connections are cropped to their center."""

    def __init__(self, n_classes=2):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 8, 3), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.last = nn.Conv2d(8, n_classes, 3)

    def crop(self, tensor, target_size):
        _, _, h, w = tensor.shape
        top = (h - target_size[0]) // 2
        left = (w - target_size[1]) // 2
        return tensor[:, :, top:top + target_size[0], left:left + target_size[1]]

    def forward(self, x):
        bridge = self.first(x)
        out = self.up(self.down(bridge))
        out = torch.cat([out, self.crop(bridge, out.shape[2:])], 1)
        return self.last(out)
