"""The detector in PyTorch, and its loss."""

import math
from typing import Any

from jaxnets.models import CenterNet


def center_net(torch: Any, model: CenterNet) -> Any:
    """Makes the twin of a ``CenterNet``, whose outputs are channels last, as those of the model."""
    width, nn = model.width, torch.nn

    def head(outputs: int) -> Any:
        first, last = nn.Conv2d(2 * width, width, 3, 1, 1), nn.Conv2d(width, outputs, 1)
        return nn.Sequential(first, nn.ReLU(), last)

    class Network(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(model.in_channels, width, 3, 2, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(2 * width)
            self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, 2, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(4 * width)
            self.conv4 = nn.Conv2d(4 * width, 4 * width, 3, 1, 1, bias=False)
            self.bn4 = nn.BatchNorm2d(4 * width)
            self.deconv = nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False)
            self.bn5 = nn.BatchNorm2d(2 * width)
            self.hm, self.wh, self.reg = head(model.num_classes), head(2), head(2)
            nn.init.constant_(self.hm[2].bias, math.log(0.1 / 0.9))

        def forward(self, images: Any) -> Any:
            x = torch.relu(self.bn1(self.conv1(images)))
            fine = torch.relu(self.bn2(self.conv2(x)))
            x = torch.relu(self.bn3(self.conv3(fine)))
            x = torch.relu(self.bn4(self.conv4(x)))
            x = torch.relu(self.bn5(self.deconv(x)) + fine)
            return torch.cat([self.hm(x), self.wh(x), self.reg(x)], 1).permute(0, 2, 3, 1)

    return Network()


def detection_loss(
    torch: Any, outputs: Any, boxes: Any, classes: Any, size_weight: float = 0.1
) -> Any:
    """Computes ``jaxnets.models.center_net.detection_loss`` in PyTorch, one object at a time.

    Args:
        torch: the package.
        outputs: a tensor [batch, rows, columns, num_classes + 4].
        boxes: a tensor [batch, objects, 4], in pixels.
        classes: an integer tensor [batch, objects], negative where there is no object.
        size_weight: the weight of the sizes.
    """
    logits, sizes, offsets = outputs[..., :-4], outputs[..., -4:-2], outputs[..., -2:]
    target, far, count = torch.zeros_like(logits), 0.0, 0
    rows, columns = logits.shape[1:3]
    down, across = torch.arange(rows)[:, None], torch.arange(columns)[None]
    for image, label in torch.nonzero(classes >= 0).tolist():
        kind = classes[image, label]
        x1, y1, x2, y2 = (boxes[image, label] / 4).to(outputs.dtype)
        size, center = torch.stack([x2 - x1, y2 - y1]), torch.stack([x1 + x2, y1 + y2]) / 2
        column = int(center[0].floor().clamp(0, columns - 1))
        row = int(center[1].floor().clamp(0, rows - 1))
        deviation = (2 * _radius(*size.tolist()) + 1) / 6
        distance = (down - row) ** 2 + (across - column) ** 2
        hill = torch.exp(-distance.to(outputs.dtype) / (2 * deviation**2))
        target[image, :, :, kind] = torch.maximum(target[image, :, :, kind], hill)
        place = torch.tensor([column, row])
        far = far + size_weight * (sizes[image, row, column] - size).abs().sum()
        far = far + (offsets[image, row, column] - (center - place)).abs().sum()
        count += 1
    p, log = torch.sigmoid(logits), torch.nn.functional.logsigmoid
    at_center = -((1 - p) ** 2) * log(logits)
    elsewhere = -((1 - target) ** 4) * p**2 * log(-logits)
    return (torch.where(target == 1, at_center, elsewhere).sum() + far) / max(count, 1)


def _radius(wide: float, high: float, overlap: float = 0.7) -> float:
    """The radius of ``jaxnets.models.center_net.gaussian_radius``, from quadratic equations."""
    equations = (  # a, b, c of a r² + b r + c = 0, and the sign of the root
        (1, -(wide + high), wide * high * (1 - overlap) / (1 + overlap), -1),
        (4, -2 * (wide + high), wide * high * (1 - overlap), -1),
        (4 * overlap, 2 * overlap * (wide + high), wide * high * (overlap - 1), 1),
    )
    return min((-b + sign * math.sqrt(b * b - 4 * a * c)) / (2 * a) for a, b, c, sign in equations)
