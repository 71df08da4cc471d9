"""The networks for speech in PyTorch."""

from collections.abc import Callable
from typing import Any

from flax import nnx

from jaxnets.models import SpeechCNN, SpeechGRU, SpeechRecognizer
from jaxnets.models.speech_recognizer import shorter


def _speech_cnn(torch: Any, model: SpeechCNN) -> Any:
    channels, classes = model.bn1.num_features, model.fc.out_features

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = torch.nn.Conv2d(1, channels, 3, padding=1, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(channels)
            self.conv2 = torch.nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
            self.bn2 = torch.nn.BatchNorm2d(2 * channels)
            self.conv3 = torch.nn.Conv2d(2 * channels, 4 * channels, 3, padding=1, bias=False)
            self.bn3 = torch.nn.BatchNorm2d(4 * channels)
            self.pool = torch.nn.MaxPool2d(2)
            self.fc = torch.nn.Linear(channels * model.bands, classes)

        def forward(self, sound: Any) -> Any:
            x = self.pool(torch.relu(self.bn1(self.conv1(sound.unsqueeze(1)))))
            x = self.pool(torch.relu(self.bn2(self.conv2(x))))
            x = torch.relu(self.bn3(self.conv3(x)))
            return self.fc(torch.flatten(x.amax(2), 1))

    return Network()


def _speech_gru(torch: Any, model: SpeechGRU) -> Any:
    size, layers, rate = model.gru.hidden_size, model.gru.num_layers, model.dropout.rate

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(
                model.gru.input_size,
                size,
                layers,
                batch_first=True,
                dropout=rate if layers > 1 else 0.0,
                bidirectional=True,
            )
            self.dropout = torch.nn.Dropout(rate)
            self.fc = torch.nn.Linear(2 * size, model.fc.out_features)

        def forward(self, sound: Any, lengths: Any = None) -> Any:
            if lengths is None:
                mean = self.gru(sound)[0].mean(1)
            else:
                mean = _padded(torch, self.gru, sound, lengths).sum(1) / lengths[:, None]
            return self.fc(self.dropout(mean))

    return Network()


def _speech_recognizer(torch: Any, model: SpeechRecognizer) -> Any:
    channels, size = model.conv1.out_channels, model.gru.hidden_size

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = torch.nn.Conv2d(1, channels, 3, stride=2, padding=1)
            self.conv2 = torch.nn.Conv2d(channels, channels, 3, stride=(1, 2), padding=1)
            self.gru = torch.nn.GRU(
                model.gru.input_size, size, batch_first=True, bidirectional=True
            )
            self.fc = torch.nn.Linear(2 * size, model.fc.out_features)

        def forward(self, sound: Any, lengths: Any) -> Any:
            x = torch.relu(self.conv2(torch.relu(self.conv1(sound.unsqueeze(1)))))
            x = torch.flatten(x.transpose(1, 2), 2)
            return self.fc(_padded(torch, self.gru, x, shorter(lengths))), shorter(lengths)

    return Network()


def _padded(torch: Any, layer: Any, x: Any, lengths: Any) -> Any:
    """The outputs of a recurrent layer for sequences of several lengths."""
    rnn = torch.nn.utils.rnn
    packed = rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return rnn.pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=x.shape[1])[0]


TWINS: dict[type[nnx.Module], Callable[[Any, Any], Any]] = {
    SpeechCNN: _speech_cnn,
    SpeechGRU: _speech_gru,
    SpeechRecognizer: _speech_recognizer,
}
"""What builds the twin of each network."""
