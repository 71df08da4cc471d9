"""Averages of weights compared with ``torch.optim.swa_utils`` after the same steps."""

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from torch.optim import swa_utils

from jaxnets import layers, losses, optimizers
from jaxnets.averaging import averaged, ema, greedy_soup, soup, swa, update_batch_norm
from jaxnets.data import Split
from jaxnets.interop import load_torch, to_numpy
from jaxnets.training import initialize, minimize, supervised, train_step
from tests.parity.oracle import assert_equal

DTYPE = "float64"
DRAW = np.random.default_rng(0)
INPUTS, LABELS = DRAW.normal(size=(44, 5)), DRAW.integers(0, 3, 44).astype(np.int32)
BATCHES = [slice(start, start + 8) for start in range(0, 44, 8)] * 2
TRAIN = minimize(supervised(losses.cross_entropy), optimizers.sgd(0.3, momentum=0.9))


def torch_network(momentum=0.1):
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm1d(4, momentum=momentum)
    parts = torch.nn.Linear(5, 4), norm, torch.nn.ReLU(), torch.nn.Linear(4, 3)
    return torch.nn.Sequential(*parts).double()


def network(momentum=0.1):
    options = {"rngs": nnx.Rngs(0), "param_dtype": DTYPE}
    return nnx.Sequential(
        layers.Linear(5, 4, **options),
        layers.BatchNorm1d(4, momentum=momentum, **options),
        nnx.relu,
        layers.Linear(4, 3, **options),
    )


def check_same(model, torch_model):
    ours = to_numpy(model)
    for name, theirs in torch_model.state_dict().items():
        if name != "n_averaged":
            name = name.removeprefix("module.")
            assert_equal(ours[name].astype(theirs.numpy().dtype), theirs, name)


def after_steps(step, update, average):
    """Our state, and PyTorch's average, after the same steps."""
    theirs, model = torch_network(), network()
    load_torch(model, theirs.state_dict())
    average = average(theirs)
    optimizer = torch.optim.SGD(theirs.parameters(), 0.3, momentum=0.9)
    state, take = initialize(model, step), jax.jit(train_step, static_argnums=0)
    for number, rows in enumerate(BATCHES, start=1):
        state, _ = take(step, state, {"inputs": INPUTS[rows], "labels": LABELS[rows]})
        optimizer.zero_grad()
        outputs = theirs(torch.tensor(INPUTS[rows]))
        torch.nn.functional.cross_entropy(outputs, torch.tensor(LABELS[rows]).long()).backward()
        optimizer.step()
        if update(number):
            average.update_parameters(theirs)
    check_same(state.model, theirs)
    return state, average


def test_the_moving_average_equals_torch():
    options = {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.8), "use_buffers": True}
    step = ema(TRAIN, 0.8, use_buffers=True)
    state, theirs = after_steps(
        step, lambda number: True, lambda m: swa_utils.AveragedModel(m, **options)
    )
    check_same(averaged(state), theirs)
    assert int(state.optimizer_state.n_averaged) == int(theirs.n_averaged)


@pytest.mark.slow
@pytest.mark.parametrize("use_buffers", [False, True])
def test_stochastic_weight_averaging_equals_torch(use_buffers):
    step = swa(TRAIN, start=3, every=2, use_buffers=use_buffers)
    state, theirs = after_steps(
        step,
        lambda number: number > 3 and (number - 3) % 2 == 0,
        lambda m: swa_utils.AveragedModel(m, use_buffers=use_buffers),
    )
    model = averaged(state)
    check_same(model, theirs)
    swa_utils.update_bn([torch.tensor(INPUTS[rows]) for rows in BATCHES[:6]], theirs)
    anew = update_batch_norm(model, Split(INPUTS, LABELS), batch_size=8)
    check_same(anew, theirs)
    assert anew.layers[1].momentum == 0.1
    inputs = torch.tensor(INPUTS)
    assert_equal(anew(INPUTS), theirs.eval()(inputs), "outputs")


def test_stock_batch_normalization_takes_the_mean_of_all_batches_too():
    stock, split = nnx.BatchNorm(5, rngs=nnx.Rngs(0)), Split(INPUTS.astype(np.float32))
    anew = update_batch_norm(stock, split, batch_size=8)
    batches = [INPUTS[rows] for rows in BATCHES[:6]]
    np.testing.assert_allclose(anew.mean, np.mean([b.mean(0) for b in batches], 0), rtol=1e-5)
    np.testing.assert_allclose(anew.var, np.mean([b.var(0) for b in batches], 0), rtol=1e-5)
    assert anew.momentum == stock.momentum


def test_a_soup_is_the_mean_of_state_dicts():
    several = []
    for seed in range(3):
        torch.manual_seed(seed)
        several.append(torch_network())
        for value in several[-1].state_dict().values():
            if value.is_floating_point():
                value += torch.rand_like(value)
    ours = [network() for _ in several]
    for model, theirs in zip(ours, several, strict=True):
        load_torch(model, theirs.state_dict())
    dicts = [theirs.state_dict() for theirs in several]
    mean = {
        name: sum(d[name] for d in dicts) / 3 if value.is_floating_point() else value
        for name, value in dicts[0].items()
    }
    expected = torch_network()
    expected.load_state_dict(mean)
    check_same(soup(ours), expected)


def test_a_greedy_soup_keeps_what_does_not_harm():
    models = []
    for value in (5.0, 1.0, 4.0, 2.5):
        models.append(layers.Linear(1, 1, rngs=nnx.Rngs(0)))
        models[-1].bias[...] = np.array([value], np.float32)
    # 2.5 is the best; adding 4 gives 3.25. Adding 1 gives 2.5, which is worse, although adding 5 as
    # well would give 3.125.
    found = greedy_soup(models, lambda model: -abs(float(model.bias[0]) - 3))
    assert found.chosen == (3, 2)
    assert found.score == -0.25
    assert float(found.model.bias[0]) == 3.25
