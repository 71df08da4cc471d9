"""Texts: tokens, vocabularies, and text files as data sets."""

from jaxnets.data.text.corpora import characters, classified, names, polarity, windows
from jaxnets.data.text.dataset import TextDataset
from jaxnets.data.text.encoder import TextEncoder, learn_encoder, pad
from jaxnets.data.text.pairs import END, dates, paired, pairs, target_texts
from jaxnets.data.text.tokens import Tokenizer
from jaxnets.data.text.vocabulary import PAD, UNKNOWN, Vocabulary

__all__ = [
    "END",
    "PAD",
    "UNKNOWN",
    "TextDataset",
    "TextEncoder",
    "Tokenizer",
    "Vocabulary",
    "characters",
    "classified",
    "dates",
    "learn_encoder",
    "names",
    "pad",
    "paired",
    "pairs",
    "polarity",
    "target_texts",
    "windows",
]
