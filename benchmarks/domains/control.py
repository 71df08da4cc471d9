"""Trains the recipes for control from several seeds, and also evaluates them in Gymnasium.

    python benchmarks/domains/control.py --seeds 3

Requires Gymnasium: pip install -e '.[control]'. The measurements are added to
benchmarks/results/domains/control.json after each training.
"""

import argparse
import time
from importlib.metadata import version

import records

from jaxnets import recipes
from jaxnets.control import play_gymnasium

RECORD = records.FOLDER / "control.json"
ABOUT = {
    "title": "Control",
    "method": "The mean return of 100 test episodes, and of 100 episodes in Gymnasium.",
    "command": "python benchmarks/domains/control.py",
    "gymnasium": version("gymnasium"),
}
NAMES = ("cartpole-reinforce", "cartpole-ppo", "cartpole-dqn")


def trained(name, seed):
    """The returns of 100 episodes here and in Gymnasium, and the seconds with compilation."""
    began = time.perf_counter()
    run = recipes.train(recipes.recipe(name), seed=seed, progress="none")
    seconds = time.perf_counter() - began
    returns = play_gymnasium(run.model, "CartPole-v1", episodes=100, seed=0)
    found = {
        "seed": seed,
        "score": run.test.metrics["return"],
        "gymnasium": float(returns.mean()),
        "gymnasium_least": float(returns.min()),
        "seconds": round(seconds, 1),
    }
    print(name, found, flush=True)
    return found


def main() -> None:
    """Trains each recipe from each seed and records it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipes", nargs="*", default=NAMES)
    options = parser.parse_args()
    for name in options.recipes:
        for seed in range(options.seeds):
            records.add(RECORD, name, trained(name, seed), {}, **ABOUT)


if __name__ == "__main__":
    main()
