"""The residual networks of ``jaxnets.models`` in PyTorch, for comparison."""

from typing import Any

from jaxnets.models import CifarResNet, ResNet


def _residual(torch: Any) -> Any:
    """Returns the class of two convolutions with batch normalization, F of a residual block."""
    nn = torch.nn

    class Residual(torch.nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)

        def residual(self, x: Any) -> Any:
            return self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))

    return Residual


def _projection(torch: Any, inputs: int, outputs: int, stride: int) -> Any:
    """Returns the shortcut between different shapes, or an empty one between equal shapes."""
    if stride == 1 and inputs == outputs:
        return torch.nn.Sequential()
    conv = torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return torch.nn.Sequential(conv, torch.nn.BatchNorm2d(outputs))


def cifar_resnet(torch: Any, model: CifarResNet) -> Any:
    """Returns the residual network for 32×32 images, in PyTorch."""
    nn, sizes = torch.nn, model.options

    base: Any = _residual(torch)

    class Block(base):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__(inputs, outputs, stride)
            self.stride, self.more = stride, outputs - inputs
            self.shortcut = nn.Sequential()
            if sizes["shortcut"] == "B":
                self.shortcut = _projection(torch, inputs, outputs, stride)

        def forward(self, x: Any) -> Any:
            y = self.residual(x)
            if len(self.shortcut):
                return torch.relu(y + self.shortcut(x))
            before = self.more // 2
            x = x[:, :, :: self.stride, :: self.stride]
            x = nn.functional.pad(x, (0, 0, 0, 0, before, self.more - before))
            return torch.relu(y + x)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(sizes["in_channels"], 16, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            more = [1] * ((sizes["depth"] - 2) // 6 - 1)
            self.layer1 = nn.Sequential(Block(16, 16, 1), *(Block(16, 16, 1) for _ in more))
            self.layer2 = nn.Sequential(Block(16, 32, 2), *(Block(32, 32, 1) for _ in more))
            self.layer3 = nn.Sequential(Block(32, 64, 2), *(Block(64, 64, 1) for _ in more))
            self.linear = nn.Linear(64, sizes["num_classes"])
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(layer.weight)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.bn1(self.conv1(x)))
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.linear(x.mean(dim=(2, 3)))

    return Network()


def resnet(torch: Any, model: ResNet) -> Any:
    """Returns ResNet-18 or ResNet-34, with the names of torchvision, in PyTorch."""
    nn, sizes = torch.nn, model.options

    base: Any = _residual(torch)

    class BasicBlock(base):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__(inputs, outputs, stride)
            self.downsample = _projection(torch, inputs, outputs, stride)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.residual(x) + self.downsample(x))

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(sizes["in_channels"], 64, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            inputs = 64
            for number in range(1, 5):
                outputs = 32 * 2**number
                blocks = [BasicBlock(inputs, outputs, 1 if number == 1 else 2)]
                depth = len(getattr(model, f"layer{number}").layers)
                blocks += [BasicBlock(outputs, outputs, 1) for _ in range(depth - 1)]
                setattr(self, f"layer{number}", nn.Sequential(*blocks))
                inputs = outputs
            self.fc = nn.Linear(512, sizes["num_classes"])
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

        def forward(self, x: Any) -> Any:
            x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean(dim=(2, 3)))

    return Network()
