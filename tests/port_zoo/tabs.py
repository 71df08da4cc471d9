import torch
from torch import nn


def twice(x):
	return 2 * x


class Tabbed(nn.Module):
	"""Indented with tabs.

	The file has form feeds, and a string with a line separator.
	"""

	def __init__(self, width=4):
		super(Tabbed, self).__init__()
		self.text = """a
	b c"""
		if width > 2:
			self.fc = nn.Linear(width, width)	# the only layer
		else:
			self.fc = None
		self.acts = [
			lambda x: torch.tanh(x), lambda x: twice(x),
		]

	def forward(self, x):
		if self.fc is not None:
			# before the activations
			x = self.fc(x)
		for act in self.acts:
			x = act(x)
		x = x * len(self.text)
		x[:, 0] = 0.
		return x
