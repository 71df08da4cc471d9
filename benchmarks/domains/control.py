"""The recipes for control from several seeds, judged by Gymnasium's environment too.

    python benchmarks/domains/control.py --seeds 3

Needs Gymnasium: pip install -e '.[control]'. What is measured is added to
benchmarks/results/domains/control.json after each recipe.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from jaxnets import recipes
from jaxnets.control import play_gymnasium

ROOT = Path(__file__).parent.parent.parent
RECORD = ROOT / "benchmarks" / "results" / "domains" / "control.json"
NAMES = ("cartpole-reinforce", "cartpole-ppo", "cartpole-dqn")
sys.path.insert(0, str(ROOT / "benchmarks"))


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
    from machine import PACKAGES, described

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipes", nargs="*", default=NAMES)
    options = parser.parse_args()
    for name in options.recipes:
        seeds = [trained(name, seed) for seed in range(options.seeds)]
        known = json.loads(RECORD.read_text())["recipes"] if RECORD.exists() else {}
        known[name] = {"seeds": seeds}
        content = {
            **described((*PACKAGES, "gymnasium")),
            "title": "Control",
            "method": "The mean return of 100 test episodes, and of 100 episodes in Gymnasium.",
            "command": "python benchmarks/domains/control.py",
            "recipes": {each: known[each] for each in NAMES if each in known},
        }
        RECORD.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
