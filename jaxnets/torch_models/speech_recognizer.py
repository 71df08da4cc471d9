"""A recognizer of spoken sequences in PyTorch."""

import torch
from torch import Tensor, nn


class SpeechRecognizer(nn.Module):
    """Two convolutions and a bidirectional GRU, trained with the CTC loss."""

    def __init__(
        self, num_classes: int = 10, bands: int = 40, channels: int = 16, hidden_dim: int = 96
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=(1, 2), padding=1)
        features = channels * ((bands + 3) // 4)
        self.gru = nn.GRU(features, hidden_dim, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden_dim, num_classes + 1)

    def forward(self, sound: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits [batch, time / 2, num_classes + 1] and their lengths.

        The spectrograms are [batch, time, bands] with lengths [batch].
        """
        x = torch.relu(self.conv2(torch.relu(self.conv1(sound.unsqueeze(1)))))
        x = torch.flatten(x.transpose(1, 2), 2)
        rnn, lengths = nn.utils.rnn, (lengths + 1) // 2
        packed = rnn.pack_padded_sequence(x, lengths.cpu(), True, enforce_sorted=False)
        x, _ = rnn.pad_packed_sequence(self.gru(packed)[0], True, total_length=x.shape[1])
        return self.fc(x), lengths
