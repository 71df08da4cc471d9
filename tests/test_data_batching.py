import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnets.data import epoch_plan

COUNTS = st.integers(1, 300)
SIZES = st.integers(1, 70)
KEYS = st.integers(0, 2**64 - 1)


def order(plan):
    return np.concatenate([plan.full.ravel(), plan.rest])


@given(count=COUNTS, batch_size=SIZES, seed=KEYS, epoch=KEYS, shuffle=st.booleans())
def test_plan_has_every_index_once(count, batch_size, seed, epoch, shuffle):
    plan = epoch_plan(count, batch_size, seed=seed, epoch=epoch, shuffle=shuffle)
    assert plan.full.dtype == plan.rest.dtype == np.int32
    assert plan.full.shape == (count // batch_size, batch_size)
    assert plan.rest.shape == (count % batch_size,)
    assert plan.steps == -(-count // batch_size)
    np.testing.assert_array_equal(np.sort(order(plan)), np.arange(count))


@given(count=COUNTS, batch_size=SIZES, seed=KEYS, epoch=KEYS, shuffle=st.booleans())
def test_drop_last_drops_only_the_last_smaller_batch(count, batch_size, seed, epoch, shuffle):
    key = {"seed": seed, "epoch": epoch, "shuffle": shuffle}
    kept = epoch_plan(count, batch_size, **key)
    dropped = epoch_plan(count, batch_size, **key, drop_last=True)
    np.testing.assert_array_equal(dropped.full, kept.full)
    assert dropped.rest.shape == (0,)
    assert dropped.rest.dtype == np.int32
    assert dropped.steps == count // batch_size


@given(count=COUNTS, batch_size=SIZES, seed=KEYS, epoch=KEYS)
def test_natural_order(count, batch_size, seed, epoch):
    plan = epoch_plan(count, batch_size, seed=seed, epoch=epoch, shuffle=False)
    np.testing.assert_array_equal(order(plan), np.arange(count))


@given(batch_size=SIZES, seed=KEYS, epoch=KEYS, other=st.tuples(KEYS, KEYS))
def test_order_follows_from_seed_and_epoch(batch_size, seed, epoch, other):
    ours = order(epoch_plan(100, batch_size, seed=seed, epoch=epoch))
    again = order(epoch_plan(100, 7, seed=np.uint64(seed), epoch=epoch))
    theirs = order(epoch_plan(100, batch_size, seed=other[0], epoch=other[1]))
    np.testing.assert_array_equal(ours, again)
    assert (ours == theirs).all() == (other == (seed, epoch))


def test_neighbouring_seeds_and_epochs_give_different_orders():
    keys = [(seed, epoch) for seed in range(20) for epoch in range(20)]
    orders = {tuple(order(epoch_plan(50, 50, seed=s, epoch=e))) for s, e in keys}
    assert len(orders) == len(keys)


def test_every_position_gets_every_index_equally_often():
    plans = [epoch_plan(5, 5, seed=3, epoch=epoch) for epoch in range(5000)]
    table = np.stack([order(plan) for plan in plans])
    counts = np.stack([np.bincount(column, minlength=5) for column in table.T])
    chi_squared = ((counts - 1000.0) ** 2 / 1000.0).sum()
    assert chi_squared < 40.0  # 16 degrees of freedom: p = 0.0008


def test_order_is_this_one_for_ever():
    plan = epoch_plan(10, 4, seed=1, epoch=2)
    assert order(plan).tolist() == [4, 2, 0, 6, 1, 5, 9, 8, 7, 3]


def test_mnist_sizes():
    plan = epoch_plan(60000, 64, seed=0, epoch=0)
    assert plan.full.shape == (937, 64)
    assert plan.rest.shape == (32,)
    assert plan.steps == 938


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count: expected a positive integer, got 0"),
        ({"count": -3}, "count: expected a positive integer, got -3"),
        ({"count": 2**31}, "count: expected an integer of 32 bits"),
        ({"count": 10.0}, "count: expected a positive integer, got 10.0"),
        ({"batch_size": 0}, "batch_size: expected a positive integer"),
        ({"batch_size": True}, "batch_size: expected a positive integer, got True"),
        ({"batch_size": "64"}, "batch_size: expected a positive integer, got 64"),
        ({"seed": -1}, "seed: expected an integer from 0 to 18446744073709551615, got -1"),
        ({"seed": 2**64}, "seed: expected an integer from 0"),
        ({"seed": None}, "seed: expected an integer from 0 to .*, got None"),
        ({"shuffle": "no"}, "shuffle: expected True or False, got no"),
        ({"drop_last": 1}, "drop_last: expected True or False, got 1"),
        ({"epoch": -1}, "epoch: expected an integer from 0"),
        ({"epoch": False}, "epoch: expected an integer from 0 to .*, got False"),
        ({"epoch": 1.5}, "epoch: expected an integer from 0 to .*, got 1.5"),
    ],
)
def test_plan_refuses(change, message):
    arguments = {"count": 10, "batch_size": 3, "seed": 0, "epoch": 0} | change
    with pytest.raises(ValueError, match=message):
        epoch_plan(**arguments)
