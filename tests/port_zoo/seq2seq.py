"""Translation by two GRUs with additive attention, one target word at a time."""
import torch
import torch.nn as nn
import torch.nn.functional as F

START = 0
LONGEST = 5


class Encoder(nn.Module):
    def __init__(self, words, hidden_size, dropout_p=0.1):
        super(Encoder, self).__init__()
        self.hidden_size = hidden_size

        self.embedding = nn.Embedding(words, hidden_size)
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.dropout = nn.Dropout(dropout_p)

    def forward(self, source):
        embedded = self.dropout(self.embedding(source))
        output, hidden = self.gru(embedded)
        return output, hidden


class AdditiveAttention(nn.Module):
    def __init__(self, hidden_size):
        super(AdditiveAttention, self).__init__()
        self.W = nn.Linear(hidden_size, hidden_size)
        self.U = nn.Linear(hidden_size, hidden_size)
        self.v = nn.Linear(hidden_size, 1)

    def forward(self, query, keys):
        scores = self.v(torch.tanh(self.W(query) + self.U(keys)))
        scores = scores.squeeze(2).unsqueeze(1)

        weights = F.softmax(scores, dim=-1)
        context = torch.bmm(weights, keys)

        return context, weights


class Decoder(nn.Module):
    def __init__(self, hidden_size, words, dropout_p=0.1):
        super(Decoder, self).__init__()
        self.embedding = nn.Embedding(words, hidden_size)
        self.attention = AdditiveAttention(hidden_size)
        self.gru = nn.GRU(2 * hidden_size, hidden_size, batch_first=True)
        self.out = nn.Linear(hidden_size, words)
        self.dropout = nn.Dropout(dropout_p)

    def forward(self, memory, state, target=None):
        n = memory.size(0)
        word = torch.empty(n, 1, dtype=torch.long).fill_(START)
        outputs = []
        attentions = []

        for i in range(LONGEST):
            output, state, weights = self.step(word, state, memory)
            outputs.append(output)
            attentions.append(weights)

            if target is not None:
                word = target[:, i].unsqueeze(1)  # teacher forcing
            else:
                _, best = output.topk(1)
                word = best.squeeze(-1).detach()

        outputs = torch.cat(outputs, dim=1)
        outputs = F.log_softmax(outputs, dim=-1)
        attentions = torch.cat(attentions, dim=1)

        return outputs, state, attentions

    def step(self, word, state, memory):
        embedded = self.dropout(self.embedding(word))

        query = state.permute(1, 0, 2)
        context, weights = self.attention(query, memory)
        output, state = self.gru(torch.cat((embedded, context), dim=2), state)
        output = self.out(output)

        return output, state, weights


class Seq2Seq(nn.Module):
    def __init__(self, vocabulary=20, hidden_size=8):
        super().__init__()
        self.encoder = Encoder(vocabulary, hidden_size)
        self.decoder = Decoder(hidden_size, vocabulary)

    def forward(self, source, target=None):
        outputs, hidden = self.encoder(source)
        return self.decoder(outputs, hidden, target)[0]
