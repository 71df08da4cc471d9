"""The networks for unsupervised learning in PyTorch."""

import itertools
from typing import Any

from jaxnets.models import Autoencoder


def autoencoder(torch: Any, model: Autoencoder) -> Any:
    """``Autoencoder`` of the same sizes."""

    def layers(sizes: tuple[int, ...]) -> list[Any]:
        pairs = [(torch.nn.Linear(*pair), torch.nn.ReLU()) for pair in itertools.pairwise(sizes)]
        return list(itertools.chain(*pairs))[:-1]

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = (model.in_features, *model.hidden_features, model.code_features)
            ends = [torch.nn.Sigmoid()] if model.output == "sigmoid" else []
            self.encoder = torch.nn.Sequential(*layers(sizes))
            self.decoder = torch.nn.Sequential(*layers(sizes[::-1]), *ends)

        def forward(self, x: Any) -> Any:
            return self.decoder(self.encoder(torch.flatten(x, 1)))

    return Network()
