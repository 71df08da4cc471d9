"""Train a small GPT on a text, and generate text.

Reproduces: nanoGPT's smallest setting for CPUs: 4 layers, 4 heads, 128 values per character, blocks
of 64 characters, 2,000 steps of 12 blocks.
Data:       any text file, such as tinyshakespeare's input.txt, in --data-dir.
Run:        python examples/gpt.py --data-dir FILE
Time:       about 4 minutes on 2 CPU cores.
Loss:       1.75 nats per character on the last tenth of tinyshakespeare (nanoGPT: 1.88).
"""

import argparse

from flax import nnx

from jaxnets import GPT, fit, losses, optimizers
from jaxnets.arrays import check_seed
from jaxnets.compilation import keep_programs
from jaxnets.data import load
from jaxnets.sampling import sample


def main():
    """Trains, and prints the loss and a text that the network has generated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="the text file, or its folder")
    parser.add_argument("--stride", type=int, default=42, help="characters between block starts")
    parser.add_argument("--width", type=int, default=128, help="number of values per character")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompt", default="ROMEO:")
    args = parser.parse_args()
    try:
        check_seed("--seed", args.seed)
        data = load("text", data_dir=args.data_dir, stride=args.stride)
        prompt = data.encoder([args.prompt])[0]
        steps = -(-len(data.train) // 12)
        schedule = optimizers.one_cycle_lr(0.004, steps, pct_start=0.05, final_div_factor=1.6)
        run = fit(
            GPT(
                len(data.vocabulary), block_size=64, n_layer=4, n_head=4, n_embd=args.width,
                rngs=nnx.Rngs(args.seed),
            ),
            data,
            loss=losses.cross_entropy,
            optimizer=optimizers.adamw(schedule, betas=(0.9, 0.99), weight_decay=0.1),
            epochs=1,
            batch_size=12,
            seed=args.seed,
        )  # fmt: skip
    except ValueError as error:
        parser.error(str(error))
    print(f"test loss: {run.test.loss:.4f} nats a character, accuracy {run.test.accuracy:.2%}")
    written = sample(run.model, prompt, 400, temperature=0.8, seed=args.seed)
    print(args.prompt + data.encoder.decode(written))


if __name__ == "__main__":
    keep_programs()
    main()
