"""MNIST in PyTorch, as in a tutorial, for comparison with examples/mnist.py.

    python benchmarks/torch_mnist.py --model lenet --epochs 10

It has the same recipes: a DataLoader with its defaults, normalized pixels, evaluation of all test
images after each epoch. NumPy reads the images from the file in the folder of jaxnets.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from networks import NETWORKS
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch_networks import DEVICE, build

FILE = Path(__file__).parent.parent / "jaxnets" / "data" / "mnist.npz"
MODELS = {"mlp": "mlp", "lenet": "lenet-28", "lstm": "lstm", "gru": "gru"}


def load(part, model):
    """Returns normalized images and labels."""
    with np.load(FILE) as arrays:
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    images = (torch.from_numpy(images).float() / 255 - 0.1307) / 0.3081
    if model not in ("lstm", "gru"):
        images = images.unsqueeze(1)
    return TensorDataset(images, torch.from_numpy(labels).long())


def train(model, loader, criterion, optimizer):
    model.train()
    for inputs, labels in loader:
        inputs, labels = inputs.to(DEVICE), labels.to(DEVICE)
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()


def evaluate(model, loader):
    model.eval()
    correct = 0
    with torch.no_grad():
        for inputs, labels in loader:
            inputs, labels = inputs.to(DEVICE), labels.to(DEVICE)
            correct += (model(inputs).argmax(1) == labels).sum().item()
    return correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--epochs", type=int)
    args = parser.parse_args()
    model = build(NETWORKS[MODELS[args.model]])
    criterion = nn.CrossEntropyLoss()
    if args.model in ("lstm", "gru"):
        optimizer, epochs = torch.optim.Adam(model.parameters(), lr=0.001), 3
    else:
        optimizer, epochs = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), 10
    training = DataLoader(load("train", args.model), batch_size=64, shuffle=True)
    test = DataLoader(load("test", args.model), batch_size=1000)
    for epoch in range(args.epochs or epochs):
        train(model, training, criterion, optimizer)
        accuracy = evaluate(model, test)
        print(f"epoch {epoch + 1}  test accuracy {accuracy:.2%}", flush=True)
    print(f"test accuracy: {accuracy:.2%}", flush=True)


if __name__ == "__main__":
    main()
