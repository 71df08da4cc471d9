"""Train a language model on consecutive windows of a text, carrying its state between windows.

Teaches:    a model with a state that is carried from batch to batch, batches in order, and an
            evaluation that starts without that state.
Reproduces: truncated back-propagation through time, as in Karpathy's min-char-rnn: windows of 25
            characters, each starting from the final state of the previous window.
Data:       the documentation of the language in Python's help, 465,000 characters. The last tenth
            is held out.
Run:        python examples/truncated_bptt.py
Time:       about 25 s on 2 CPU cores.
Loss:       1.36 nats per character if the held-out text is read as one sequence; 1.61 if the same
            network starts from zeros every 25 characters. (With Python 3.11; the text depends on
            the version.)
"""

import argparse
from pydoc_data.topics import topics

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxnets import LanguageModel, evaluate, fit, losses, optimizers
from jaxnets.arrays import check_seed
from jaxnets.compilation import keep_programs
from jaxnets.data import Split
from jaxnets.training import minimize

STREAMS, WINDOW = 32, 25  # parts of the text that are read in parallel; characters per step


class Carried(nnx.Variable):
    """The state after the last window of a stream; not a parameter, but saved with the model."""


class Reader(LanguageModel):
    """A language model with an LSTM state for each stream; ``__call__`` starts from zeros."""

    def __init__(
        self, vocab_size, streams=STREAMS, hidden_dim=128, *, rngs, param_dtype=jnp.float32
    ):
        super().__init__(vocab_size, 32, hidden_dim, rngs=rngs, param_dtype=param_dtype)
        self.hidden = Carried(jnp.zeros((1, streams, hidden_dim), param_dtype))
        self.cell_state = Carried(jnp.zeros((1, streams, hidden_dim), param_dtype))


def next_window(model, batch, key):
    """Returns the cross-entropy of the next window of each stream, and stores its final state."""
    inputs = batch["inputs"]
    kept = (~inputs["begins"])[:, None]
    state = tuple(jnp.where(kept, x[...], 0) for x in (model.hidden, model.cell_state))
    logits, state = model.advance(inputs["tokens"], state)
    model.hidden[...], model.cell_state[...] = lax.stop_gradient(state)
    return losses.cross_entropy(logits, batch["labels"])


def in_streams(tokens, streams, window):
    """Divides a text into windows: the first of each stream, then the second of each, and so on.

    Args:
        tokens: integers [length].
        streams: number of parts of equal length; the rest of the text is omitted.
        window: number of tokens in a window.

    Returns:
        A split to be read in order, in batches of ``streams`` windows.
    """
    count = (len(tokens) - 1) // (streams * window)
    places = np.arange(streams * count * window).reshape(streams, count, window)
    places = places.swapaxes(0, 1).reshape(-1, window)
    begins = np.arange(len(places)) < streams
    return Split({"tokens": tokens[places], "begins": begins}, tokens[places + 1])


step = minimize(next_window, optimizers.adam(lr=0.002))


def main():
    """Trains, and prints a line for each epoch and the loss with and without the carried state."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--letters", type=int, help="characters of the text; all by default")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    text = "\n".join(topics[name] for name in sorted(topics))[: args.letters]
    alphabet, tokens = np.unique(list(text), return_inverse=True)
    held_out = len(tokens) // 10
    train, test = np.split(tokens.astype(np.int32), [-held_out])
    try:
        check_seed("--seed", args.seed)
        run = fit(
            Reader(len(alphabet), rngs=nnx.Rngs(args.seed)), in_streams(train, STREAMS, WINDOW),
            step, epochs=args.epochs, batch_size=STREAMS, shuffle=False, seed=args.seed,
        )  # fmt: skip
    except ValueError as error:
        parser.error(str(error))
    windows = in_streams(test, 1, WINDOW)
    each = Split(windows.inputs["tokens"], windows.labels)
    whole = Split(each.inputs.reshape(1, -1), each.labels.reshape(1, -1))
    for name, split in (("as one sequence", whole), ("window by window from zeros", each)):
        measured = evaluate(run.model, split, loss=losses.cross_entropy)
        print(f"test loss, read {name}: {measured.loss:.3f} nats per character")


if __name__ == "__main__":
    keep_programs()
    main()
