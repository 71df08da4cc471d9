"""Language models over words, sequence first: a recurrent one and one of attention."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class RecurrentLM(nn.Module):
    def __init__(self, kind='LSTM', words=20, emb=8, hid=8, layers=2, dropout=0.5, tied=False):
        super(RecurrentLM, self).__init__()
        self.words = words
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(words, emb)
        if kind in ['LSTM', 'GRU']:
            self.rnn = getattr(nn, kind)(emb, hid, layers, dropout=dropout)
        else:
            try:
                nonlinearity = {'TANH': 'tanh', 'RELU': 'relu'}[kind]
            except KeyError as e:
                raise ValueError("kind is one of LSTM, GRU, TANH, RELU") from e
            self.rnn = nn.RNN(emb, hid, layers, nonlinearity=nonlinearity, dropout=dropout)
        self.decoder = nn.Linear(hid, words)

        if tied:
            if hid != emb:
                raise ValueError('tied weights need hid == emb')
            self.decoder.weight = self.encoder.weight

        self.init_weights()
        self.kind = kind
        self.hid = hid
        self.layers = layers

    def init_weights(self):
        r = 0.1
        nn.init.uniform_(self.encoder.weight, -r, r)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -r, r)

    def forward(self, text, state=None):
        if state is None:
            state = self.init_state(text.size(1))
        emb = self.drop(self.encoder(text))
        output, state = self.rnn(emb, state)
        output = self.drop(output)
        decoded = self.decoder(output)
        decoded = decoded.view(-1, self.words)
        return F.log_softmax(decoded, dim=1), state

    def init_state(self, batch):
        weight = next(self.parameters())
        if self.kind == 'LSTM':
            return (weight.new_zeros(self.layers, batch, self.hid),
                    weight.new_zeros(self.layers, batch, self.hid))
        else:
            return weight.new_zeros(self.layers, batch, self.hid)


class Sinusoids(nn.Module):
    def __init__(self, width, dropout=0.1, longest=50):
        super(Sinusoids, self).__init__()
        self.dropout = nn.Dropout(p=dropout)

        table = torch.zeros(longest, width)
        place = torch.arange(0, longest, dtype=torch.float).unsqueeze(1)
        rate = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10000.0) / width))
        table[:, 0::2] = torch.sin(place * rate)
        table[:, 1::2] = torch.cos(place * rate)
        table = table.unsqueeze(0).transpose(0, 1)
        self.register_buffer('table', table)

    def forward(self, x):
        x = x + self.table[:x.size(0), :]
        return self.dropout(x)


class AttentionLM(nn.Module):
    """Of nn.TransformerEncoder; keeps the mask of the last length."""

    def __init__(self, words=20, width=8, heads=2, hid=16, layers=2, dropout=0.5):
        super(AttentionLM, self).__init__()
        self.mask = None
        self.places = Sinusoids(width, dropout)
        layer = nn.TransformerEncoderLayer(width, heads, hid, dropout)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.embedding = nn.Embedding(words, width)
        self.width = width
        self.decoder = nn.Linear(width, words)

    def _causal(self, n):
        mask = (torch.triu(torch.ones(n, n)) == 1).transpose(0, 1)
        mask = mask.float().masked_fill(mask == 0, float('-inf')).masked_fill(mask == 1, float(0.0))
        return mask

    def forward(self, text, masked=True):
        if masked:
            if self.mask is None or self.mask.size(0) != len(text):
                self.mask = self._causal(len(text)).to(text.device)
        else:
            self.mask = None

        x = self.embedding(text) * math.sqrt(self.width)
        x = self.places(x)
        x = self.encoder(x, self.mask)
        return F.log_softmax(self.decoder(x), dim=-1)
