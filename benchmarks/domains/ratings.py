"""Recommendation compared with PyTorch: from the same weights, on the same batches and negatives.

    python benchmarks/domains/ratings.py          # trains both recipes, seeds 0 to 2: minutes
    python benchmarks/domains/ratings.py --step   # times a step with 100,000 items
    python benchmarks/domains/ratings.py --picture    # draws the curves of docs/recommendation.md

The record also has the best scores that the generated ratings allow, and simple baselines.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np

from jaxnets import predict, recipes, scores
from jaxnets.compare.from_recipe import from_recipe
from jaxnets.compare.torch_side import Torch
from jaxnets.data.ratings.generated import generate
from jaxnets.reports.ranking import item_scores

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
RESULTS = ROOT / "benchmarks" / "results" / "domains"
SEEDS = range(3)
USERS, ITEMS, FACTORS, BATCH, STEPS, ROUNDS = 50_000, 100_000, 32, 256, 4, 40


def write(name, **about):
    """Writes a record in the format of after_training."""
    from machine import PACKAGES, described

    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**described(PACKAGES), **about}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def both(recipe, data, seed):
    """The test outputs of jaxnets and of PyTorch after training, and the seconds of each."""
    began = time.perf_counter()
    run = recipes.train(recipe, seed=seed, data=data, progress="none")
    seconds = [time.perf_counter() - began]
    outputs = [predict(run.model, data.test.inputs)]
    this = from_recipe(recipe, data)
    side = Torch(this, paired=True, device="cpu")
    with side.at_work():
        began = time.perf_counter()
        training = side.begin(seed, this.build(seed))
        for epoch in range(recipe.epochs):
            training.epoch(epoch, lambda steps, loss: None)
        seconds.append(time.perf_counter() - began)
        outputs.append(training.evaluate()[1])
    return outputs, seconds, run


def errors(outputs, labels):
    """RMSE and MAE."""
    found = scores.regression_scores(outputs, labels)
    return float(found.rmse[0]), float(found.mae[0])


def ranks(outputs, candidates):
    """Hit rate and NDCG at 10."""
    rows = np.asarray(outputs, np.float64).reshape(-1, candidates)
    places = scores.places(rows, np.zeros(len(rows), int))
    return scores.hit_rate(places, 10), scores.ndcg(places, 10)


def said(values, digits=4):
    """A mean and a standard deviation over seeds, in words."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def rows_of(name, found):
    """A row for each of some scores [seeds, 2]."""
    columns = np.array(found).T
    return [name, *map(said, columns)]


def explicit(rows):
    """Errors on ratings held out at random."""
    recipe, (_, truth) = recipes.recipe("ratings-mf"), generate()
    data = recipes.load_data(recipe)
    labels, seconds = data.test.labels, []
    measured = {"jaxnets": [], "PyTorch": [], "biases alone": []}
    for seed in SEEDS:
        outputs, taken, _ = both(recipe, data, seed)
        seconds.append(taken)
        for name, each in zip(("jaxnets", "PyTorch"), outputs, strict=True):
            measured[name].append(errors(each, labels))
        alone = dataclasses.replace(recipe, model_options={**recipe.model_options, "init_std": 0.0})
        run = recipes.train(alone, seed=seed, data=data, progress="none")
        measured["biases alone"].append(errors(predict(run.model, data.test.inputs), labels))
    best = truth.expected[_numbers(data, "user"), _numbers(data, "item")]
    mean = np.full(len(labels), data.mean)
    for name, found in measured.items():
        rows.append([f"`ratings-mf`, {name}", "RMSE, MAE", *rows_of(name, found)[1:]])
        print(*rows[-1], sep="  ")
    for name, outputs in (("the best possible", best), ("the mean", mean)):
        found = (f"{value:.4f}" for value in errors(outputs.astype(np.float64), labels))
        rows.append([f"`ratings-mf`, {name}", "RMSE, MAE", *found])
        print(*rows[-1], sep="  ")
    return np.mean(seconds, axis=0)


def implicit(rows):
    """Hit rate and NDCG of the last item of each user."""
    recipe, (_, truth) = recipes.recipe("ratings-ncf"), generate()
    data = recipes.load_data(recipe)
    seconds, count = [], data.candidates
    measured = {"jaxnets": [], "PyTorch": []}
    every = []
    for seed in SEEDS:
        outputs, taken, run = both(recipe, data, seed)
        seconds.append(taken)
        for name, each in zip(measured, outputs, strict=True):
            measured[name].append(ranks(each, count))
        every.append(_among_all(data, item_scores(run.model, *_users_and_items(data))))
    users, items = _numbers(data, "user"), _numbers(data, "item")
    popularity = np.bincount(
        [int(data.encoder.items[item]) - 1 for item in data.train.inputs["item"]],
        minlength=len(data.encoder.items),
    )
    for name, found in measured.items():
        rows.append([f"`ratings-ncf`, {name}", "HR@10, NDCG@10", *rows_of(name, found)[1:]])
        print(*rows[-1], sep="  ")
    for name, each in (
        ("the best possible", truth.choice[users, items]),
        ("popularity", popularity[items]),
    ):
        found = (f"{value:.4f}" for value in ranks(each, count))
        rows.append([f"`ratings-ncf`, {name}", "HR@10, NDCG@10", *found])
        print(*rows[-1], sep="  ")
    rows.append(["`ratings-ncf`, jaxnets, all items", "HR@10, NDCG@10", *rows_of("", every)[1:]])
    own = np.array([int(each) - 1 for each in data.encoder.users])
    order = np.array([int(each) - 1 for each in data.encoder.items])
    test_users = data.test.inputs["user"][::count]
    oracle = truth.choice[own[test_users]][:, order]
    found = (f"{value:.4f}" for value in _among_all(data, oracle))
    rows.append(["`ratings-ncf`, the best possible, all items", "HR@10, NDCG@10", *found])
    for row in rows[-2:]:
        print(*row, sep="  ")
    return np.mean(seconds, axis=0)


def _users_and_items(data):
    return data.test.inputs["user"][:: data.candidates], len(data.encoder.items)


def _among_all(data, outputs):
    """Hit rate and NDCG of scores [test examples, items] among what was not rated in training."""
    rated, every = data.rated("train"), np.array(outputs, np.float64)
    user, item = (data.test.inputs[name][:: data.candidates] for name in ("user", "item"))
    for row, of in zip(every, user.tolist(), strict=True):
        row[rated.by(of)] = -np.inf
    places = scores.places(every, item)
    return scores.hit_rate(places, 10), scores.ndcg(places, 10)


def _numbers(data, kind):
    """The numbers in the generated table of the users or items of the test rows."""
    ids = np.array([int(each) - 1 for each in getattr(data.encoder, f"{kind}s")])
    return ids[data.test.inputs[kind]]


def train(names):
    """Trains recipes and writes the record; rows of the other one stay."""
    path = RESULTS / "ratings.json"
    before = json.loads(path.read_text()) if path.exists() else {"rows": [], "seconds": {}}
    rows, seconds = [], before["seconds"]
    for name in ("ratings-mf", "ratings-ncf"):
        if name in names:
            ours, theirs = (explicit if name == "ratings-mf" else implicit)(rows)
            seconds[name] = {"jaxnets": round(ours, 1), "PyTorch": round(theirs, 1)}
        else:
            rows += [row for row in before["rows"] if row[0].startswith(f"`{name}`")]
    method = (
        "Generated ratings; the means of seeds 0 to 2 ± their standard deviation. The same initial "
        "weights, batches and negatives in both frameworks. The best possible predicts what the "
        "ratings were drawn from, without their noise. A run takes the seconds given, those of "
        "jaxnets with compilation and a test after each epoch."
    )
    write(
        "ratings",
        title="Recommendation",
        method=method,
        command="python benchmarks/domains/ratings.py",
        columns=["network", "scores", "first", "second"],
        rows=rows,
        seconds=seconds,
    )


def steps():
    """Times a training step of matrix factorization with 100,000 items."""
    import jax
    import torch
    from flax import nnx

    from jaxnets import MatrixFactorization, losses, optimizers
    from jaxnets.data import Split
    from jaxnets.interop import to_torch
    from jaxnets.training import fit

    draw = np.random.default_rng(0)
    count = BATCH * STEPS
    inputs = {
        "user": draw.integers(USERS, size=count).astype(np.int32),
        "item": draw.integers(ITEMS, size=count).astype(np.int32),
    }
    labels = draw.normal(size=count).astype(np.float32)
    model = MatrixFactorization(USERS, ITEMS, FACTORS, rngs=nnx.Rngs(0))
    weights = to_torch(model)

    def ours(optimizer):
        seconds = []

        def note(record):
            seconds.append(record.seconds / STEPS)

        fit(
            model, Split(inputs, labels), loss=losses.mse_loss, optimizer=optimizer, epochs=ROUNDS,
            batch_size=BATCH, callbacks=[note], progress="none",
        )  # fmt: skip
        return min(seconds[1:])

    def theirs(make, sparse):
        tables = {
            name.removesuffix(".weight"): torch.nn.Embedding.from_pretrained(
                value.clone(), freeze=False, sparse=sparse
            )
            for name, value in weights.items()
        }
        parameters = [table.weight for table in tables.values()]
        optimizer = make(parameters)
        columns = {name: torch.from_numpy(each).long() for name, each in inputs.items()}
        wanted = torch.from_numpy(labels)
        best = []
        for number in range(2 * ROUNDS):
            torch.set_num_threads(1 + number % 2)  # the faster of one thread and two
            began = time.perf_counter()
            for start in range(0, count, BATCH):
                rows = slice(start, start + BATCH)
                user, item = columns["user"][rows], columns["item"][rows]
                product = (tables["user_factors"](user) * tables["item_factors"](item)).sum(1)
                biases = tables["user_bias"](user)[:, 0] + tables["item_bias"](item)[:, 0]
                loss = torch.nn.functional.mse_loss(biases + product, wanted[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            best.append((time.perf_counter() - began) / STEPS)
        return min(best[2:])

    def sparse_adam(parameters):
        return torch.optim.SparseAdam(parameters, lr=0.001)

    rows = [
        ["jaxnets, SGD", ours(optimizers.sgd(lr=0.1))],
        ["PyTorch, SGD", theirs(lambda p: torch.optim.SGD(p, lr=0.1), False)],
        ["PyTorch, SGD, sparse=True", theirs(lambda p: torch.optim.SGD(p, lr=0.1), True)],
        ["jaxnets, Adam", ours(optimizers.adam(lr=0.001))],
        ["PyTorch, Adam", theirs(lambda p: torch.optim.Adam(p, lr=0.001), False)],
        ["PyTorch, SparseAdam, sparse=True", theirs(sparse_adam, True)],
    ]
    rows = [[name, f"{1000 * seconds:.2f}"] for name, seconds in rows]
    for row in rows:
        print(*row, sep="  ")
    method = (
        f"MatrixFactorization of {USERS:,} users, {ITEMS:,} items and {FACTORS} factors, which is "
        f"{(USERS + ITEMS) * (FACTORS + 1):,} numbers; batch {BATCH}; the best of {ROUNDS - 1} "
        f"rounds of {STEPS} steps, as other jobs shared the machine; on {jax.default_backend()} "
        "with 2 cores; of PyTorch the faster of one thread and two."
    )
    write(
        "ratings_step",
        title="A step with many items",
        method=method,
        command="python benchmarks/domains/ratings.py --step",
        columns=["framework and optimizer", "ms a step"],
        rows=rows,
    )


def picture():
    """Draws the errors of ratings-mf after each epoch, and what it learned about the items."""
    from jaxnets.figures import new_figure, save

    recipe, (_, truth) = recipes.recipe("ratings-mf"), generate()
    data = recipes.load_data(recipe)
    best = truth.expected[_numbers(data, "user"), _numbers(data, "item")]
    best = errors(best, data.test.labels.astype(np.float64))[0]
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    for std, name, color in ((0.0, "biases alone", "tab:gray"), (0.1, "4 factors", "tab:blue")):
        options = {**recipe.model_options, "init_std": std}
        changed = dataclasses.replace(recipe, model_options=options)
        run = recipes.train(changed, data=data, progress="none")
        epochs = [record.epoch for record in run.history]
        for part, style in (("train", ":"), ("test", "-")):
            error = [getattr(record, part)["loss"] ** 0.5 for record in run.history]
            left.plot(epochs, error, style, color=color, label=f"{name}, {part}")
    left.axhline(best, color="black", linestyle="--", label="the best possible, test")
    left.set(xlabel="epoch", ylabel="RMSE", ylim=(0.6, 1.0))
    left.legend(fontsize=8)
    counts = np.bincount(data.train.inputs["item"])
    biases = np.asarray(run.model.item_bias.embedding[...])[:, 0]
    mean = np.bincount(data.train.inputs["item"], weights=data.train.labels) / counts
    points = right.scatter(mean, run.model.mean + biases, s=8, c=np.log10(counts), cmap="viridis")
    figure.colorbar(points, ax=right, label="log10 of the number of ratings")
    right.plot([2, 5], [2, 5], "--", color="black", linewidth=1)
    right.set(xlabel="mean rating of an item", ylabel="\u03bc + b_i")
    save(figure, ROOT / "docs" / "images" / "recommendation.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", action="store_true", help="time a step with many items")
    parser.add_argument(
        "--picture", action="store_true", help="draw docs/images/recommendation.png"
    )
    parser.add_argument("recipes", nargs="*", default=["ratings-mf", "ratings-ncf"])
    arguments = parser.parse_args()
    if arguments.step or arguments.picture:
        (steps if arguments.step else picture)()
    else:
        train(arguments.recipes)
