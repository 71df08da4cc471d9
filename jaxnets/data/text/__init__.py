"""Texts: tokens, vocabularies, and text files as data sets."""

from jaxnets.data.text.corpora import characters, classified, names, polarity, windows
from jaxnets.data.text.dataset import TextDataset
from jaxnets.data.text.encoder import TextEncoder, learn_encoder, pad
from jaxnets.data.text.tokens import Tokenizer
from jaxnets.data.text.vocabulary import PAD, UNKNOWN, Vocabulary

__all__ = [
    "PAD",
    "UNKNOWN",
    "TextDataset",
    "TextEncoder",
    "Tokenizer",
    "Vocabulary",
    "characters",
    "classified",
    "learn_encoder",
    "names",
    "pad",
    "polarity",
    "windows",
]
