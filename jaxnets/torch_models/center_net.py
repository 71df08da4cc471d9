"""CenterNet, a detector, and its loss in PyTorch."""

import torch
from torch import Tensor, nn


class CenterNet(nn.Module):
    """Heat maps of object centers, sizes and offsets (Zhou et al., 2019)."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, 2, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.conv4 = nn.Conv2d(4 * width, 4 * width, 3, 1, 1, bias=False)
        self.bn4 = nn.BatchNorm2d(4 * width)
        self.deconv = nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(2 * width)
        self.hm, self.wh, self.reg = (
            nn.Sequential(
                nn.Conv2d(2 * width, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, outputs, 1)
            )
            for outputs in (num_classes, 2, 2)
        )
        nn.init.constant_(self.hm[2].bias, torch.tensor(0.1, dtype=torch.float64).logit().item())

    def forward(self, x: Tensor) -> Tensor:
        """Returns [batch, height / 4, width / 4, num_classes + 4] of images [batch, channels, …].

        The last axis has a logit for each class, width and height, and the offset of the center.
        """
        x = torch.relu(self.bn1(self.conv1(x)))
        fine = torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(self.bn3(self.conv3(fine)))
        x = torch.relu(self.bn4(self.conv4(x)))
        x = torch.relu(self.bn5(self.deconv(x)) + fine)
        return torch.cat([self.hm(x), self.wh(x), self.reg(x)], 1).permute(0, 2, 3, 1)


def detection_loss(
    outputs: Tensor, boxes: Tensor, classes: Tensor, size_weight: float = 0.1
) -> Tensor:
    """Returns the focal loss of the heat maps and the L1 loss of sizes and offsets.

    Boxes are [batch, objects, 4] in pixels; classes [batch, objects] are negative where there is no
    object.
    """
    logits, sizes, offsets = outputs[..., :-4], outputs[..., -4:-2], outputs[..., -2:]
    images, rows, columns, kinds = logits.shape
    image, label = torch.nonzero(classes >= 0, as_tuple=True)
    boxes = (boxes[image, label] / 4).to(outputs.dtype)  # [n, 4]
    size, center = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
    column = center[:, 0].floor().long().clamp(0, columns - 1)
    row = center[:, 1].floor().long().clamp(0, rows - 1)
    down = (torch.arange(rows) - row[:, None]) ** 2
    across = (torch.arange(columns) - column[:, None]) ** 2
    distance = (down[:, :, None] + across[:, None]).to(outputs.dtype)
    deviation = (2 * gaussian_radius(size[:, 0], size[:, 1]) + 1) / 6
    hills = torch.exp(-distance / (2 * deviation[:, None, None] ** 2)).flatten(1)
    place = (image * kinds + classes[image, label].long())[:, None].expand_as(hills)
    target = torch.zeros(images * kinds, rows * columns, dtype=outputs.dtype)
    target = target.scatter_reduce(0, place, hills, "amax")
    target = target.view(images, kinds, rows, columns).permute(0, 2, 3, 1)
    far = size_weight * (sizes[image, row, column] - size).abs().sum()
    offset = center - torch.stack([column, row], 1)
    far = far + (offsets[image, row, column] - offset).abs().sum()
    p, log = torch.sigmoid(logits), nn.functional.logsigmoid
    at_center = -((1 - p) ** 2) * log(logits)
    elsewhere = -((1 - target) ** 4) * p**2 * log(-logits)
    return (torch.where(target == 1, at_center, elsewhere).sum() + far) / max(len(image), 1)


def gaussian_radius(wide: Tensor, high: Tensor, overlap: float = 0.7) -> Tensor:
    """Returns how far the corners of a box may be off (CornerNet), from quadratic equations."""
    equations = (  # a, b, c of a r² + b r + c = 0, and the sign of the root
        (1, -(wide + high), wide * high * (1 - overlap) / (1 + overlap), -1),
        (4, -2 * (wide + high), wide * high * (1 - overlap), -1),
        (4 * overlap, 2 * overlap * (wide + high), wide * high * (overlap - 1), 1),
    )
    roots = [(-b + sign * (b * b - 4 * a * c).sqrt()) / (2 * a) for a, b, c, sign in equations]
    return torch.stack(roots).amin(0)
