"""Balance a pole on a cart.

Teaches:    reinforcement learning as a training step: each example of the data is the state in
            which an episode starts, the step plays the episodes, and their return is a metric.
Reproduces: REINFORCE (Williams 1992) as Sutton and Barto give it in section 13.4, PPO (Schulman et
            al. 2017) or double DQN (van Hasselt et al. 2016), on the cart and pole of Gymnasium's
            CartPole-v1.
Run:        python examples/cartpole.py; python examples/cartpole.py --ppo, or --dqn
Time:       less than a minute on 2 CPU cores, with --dqn about a minute.
Return:     498 to 500 of 500 with the best actions on 100 test episodes (seeds 0 to 2).
"""

import argparse

from flax import nnx

from jaxnets import MLP, fit, optimizers
from jaxnets.compilation import keep_programs
from jaxnets.control import CartPole, dqn, ppo, reinforce
from jaxnets.data import load
from jaxnets.models import ActorCritic
from jaxnets.optimizers import cosine_annealing_lr, per_epoch


def main():
    """Trains, and prints the mean return of 100 test episodes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    methods = parser.add_mutually_exclusive_group()
    methods.add_argument("--ppo", action="store_true", help="PPO instead of REINFORCE")
    methods.add_argument("--dqn", action="store_true", help="DQN instead of REINFORCE")
    parser.add_argument("--epochs", type=int, help="1 for REINFORCE, 4 for PPO, 12 for DQN")
    parser.add_argument("--steps", type=int, default=500, help="maximum steps of an episode; 500")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        environment, rngs = CartPole(max_steps=args.steps), nnx.Rngs(args.seed)
        if args.ppo:
            model, step = ActorCritic(rngs=rngs), ppo(environment, optimizers.adam(lr=0.001))
            settings = {"epochs": args.epochs or 4, "batch_size": 320}
        elif args.dqn:
            settings = {"epochs": args.epochs or 12, "batch_size": 8}
            rate = per_epoch(cosine_annealing_lr(0.0005, settings["epochs"]), 4000)
            model = MLP((4, 128, 128, 2), rngs=rngs)
            step = dqn(environment, optimizers.adam(lr=rate))
        else:
            model = MLP((4, 64, 2), rngs=rngs)
            step = reinforce(environment, optimizers.adam(lr=0.01))
            settings = {"epochs": args.epochs or 1, "batch_size": 160}
        run = fit(model, load("cartpole"), step, seed=args.seed, **settings)
    except ValueError as error:
        parser.error(str(error))
    print(f"mean return: {run.test.metrics['return']:.1f} of {args.steps}")


if __name__ == "__main__":
    keep_programs()
    main()
