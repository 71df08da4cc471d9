"""Train a language model of characters on a text, and generate text.

Reproduces: PyTorch's word_language_model with characters instead of words. Each window of 64
characters starts from a zero state. The last tenth of the text is held out.
Data:       any text file, such as tinyshakespeare's input.txt, in --data-dir.
Run:        python examples/shakespeare.py --data-dir FILE
Time:       about 2 minutes on 2 CPU cores.
Loss:       1.58 to 1.59 nats per character on the last tenth of tinyshakespeare, with 53 % of the
characters predicted correctly.
"""

import argparse

from flax import nnx

from jaxnets import LanguageModel, fit, losses, optimizers
from jaxnets.arrays import check_number, check_seed
from jaxnets.compilation import keep_programs
from jaxnets.data import load
from jaxnets.sampling import sample


def main():
    """Trains, and prints a line for each epoch, the loss, and a generated text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="the text file or its folder")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompt", default="ROMEO:")
    parser.add_argument("--temperature", type=float, default=0.8)
    args = parser.parse_args()
    try:
        check_seed("--seed", args.seed)
        check_number("--temperature", args.temperature, least=0)
        data = load("text", data_dir=args.data_dir)
        prompt = data.encoder([args.prompt])[0]
        run = fit(
            LanguageModel(
                len(data.vocabulary), embedding_dim=64, hidden_dim=256, rngs=nnx.Rngs(args.seed)
            ),
            data,
            loss=losses.cross_entropy,
            optimizer=optimizers.adam(lr=0.003),
            epochs=args.epochs,
            batch_size=32,
            seed=args.seed,
        )
    except ValueError as error:
        parser.error(str(error))
    print(f"test loss: {run.test.loss:.4f} nats per character, accuracy {run.test.accuracy:.2%}")
    written = sample(run.model, prompt, 400, temperature=args.temperature, seed=args.seed)
    print(args.prompt + data.encoder.decode(written))


if __name__ == "__main__":
    keep_programs()
    main()
