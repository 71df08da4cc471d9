import torch
import torch.nn as nn


class SineSequence(nn.Module):
    """Two LSTM cells step by step, then steps of its own."""

    def __init__(self, future=2):
        super(SineSequence, self).__init__()
        self.lstm1 = nn.LSTMCell(1, 7)
        self.lstm2 = nn.LSTMCell(7, 7)
        self.linear = nn.Linear(7, 1)
        self.future = future

    def forward(self, input):
        outputs = []
        h_t = torch.zeros(input.size(0), 7, dtype=input.dtype)
        c_t = torch.zeros(input.size(0), 7, dtype=input.dtype)
        h_t2 = torch.zeros(input.size(0), 7, dtype=input.dtype)
        c_t2 = torch.zeros(input.size(0), 7, dtype=input.dtype)

        for input_t in input.split(1, dim=1):
            h_t, c_t = self.lstm1(input_t, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        for i in range(self.future):
            h_t, c_t = self.lstm1(output, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        return torch.cat(outputs, dim=1)


class GRUSteps(nn.Module):
    def __init__(self, n=4, h=5):
        super().__init__()
        self.h = h
        self.cell = nn.GRUCell(n, h)
        self.rnn = nn.RNNCell(h, h, nonlinearity="relu")

    def forward(self, x):
        state = x.new_zeros(x.shape[0], self.h)
        second = torch.zeros_like(state)
        seen = []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            second = self.rnn(state, second)
            seen.append(second)
        return torch.stack(seen, 1), state


class OwnRNN(nn.Module):
    """The recurrence of a tutorial, written out: one step a call."""

    def __init__(self, input_size=6, hidden_size=5, output_size=4):
        super().__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)
        self.h2o = nn.Linear(hidden_size, output_size)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, input, hidden):
        combined = torch.cat((input, hidden), 1)
        hidden = torch.tanh(self.i2h(combined))
        output = self.softmax(self.h2o(hidden))
        return output, hidden

    def initHidden(self):
        return torch.zeros(1, self.hidden_size)
