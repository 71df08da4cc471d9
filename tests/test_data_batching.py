import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnets.data import bucketed, epoch_plan
from jaxnets.data.batching import CHUNK

COUNTS = st.integers(1, 300)
SIZES = st.integers(1, 70)
KEYS = st.integers(0, 2**64 - 1)
LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=300).map(np.array)


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


@given(lengths=LENGTHS, buckets=st.integers(1, 9), spare=st.integers(0, 5))
def test_buckets_hold_their_examples(lengths, buckets, spare):
    longest = max(1, lengths.max()) + spare
    widths = bucketed(lengths, longest, buckets)
    assert widths.dtype == np.int32
    assert (widths >= np.maximum(lengths, 1)).all()
    assert (widths <= longest).all()
    assert len(set(widths)) <= buckets
    for width in sorted(set(widths))[:-1]:  # the last width is always the maximum
        assert width == max(1, lengths[widths == width].max())
        assert (lengths[widths > width] > width).all()


def test_buckets_are_of_about_as_many_examples():
    widths = bucketed(np.random.default_rng(0).permutation(1000), 1000, 4)
    assert np.unique(widths).tolist() == [250, 500, 750, 1000]
    assert np.bincount(widths)[250::250].tolist() == [251, 250, 250, 249]


@given(lengths=LENGTHS, buckets=st.integers(1, 9), batch_size=SIZES, seed=KEYS, epoch=KEYS)
def test_a_plan_with_widths(lengths, buckets, batch_size, seed, epoch):
    count, widths = len(lengths), bucketed(lengths, 41, buckets)
    key = {"seed": seed, "epoch": epoch}
    plan = epoch_plan(count, batch_size, **key, widths=widths)
    plain = epoch_plan(count, batch_size, **key)
    np.testing.assert_array_equal(plan.rest, plain.rest)
    assert plan.widths.shape == (count // batch_size,)
    if buckets == 1:
        np.testing.assert_array_equal(plan.full, plain.full)
    for start in range(0, len(plan.full), CHUNK):
        rows, before = (each.full[start : start + CHUNK] for each in (plan, plain))
        np.testing.assert_array_equal(np.sort(rows, axis=None), np.sort(before, axis=None))
        needed = widths[rows].ravel()
        assert np.count_nonzero(np.diff(needed)) == len(set(needed)) - 1
        np.testing.assert_array_equal(widths[rows].max(axis=1), plan.widths[start : start + CHUNK])
    again = epoch_plan(count, batch_size, **key, widths=widths)
    np.testing.assert_array_equal(again.full, plan.full)
    ordered = epoch_plan(count, batch_size, **key, shuffle=False, widths=widths)
    np.testing.assert_array_equal(order(ordered), np.arange(count))


def test_the_order_of_widths_changes():
    widths = np.repeat([3, 5, 9], 8)
    orders = {
        tuple(epoch_plan(24, 8, seed=0, epoch=epoch, widths=widths).widths) for epoch in range(99)
    }
    assert orders == set(itertools.permutations((3, 5, 9)))


def test_an_order_by_width_is_this_one_for_ever():
    plan = epoch_plan(10, 2, seed=1, epoch=2, widths=np.arange(10) % 3 + 1)
    assert order(plan).tolist() == [4, 1, 7, 0, 6, 9, 3, 2, 5, 8]
    assert plan.widths.tolist() == [2, 2, 1, 3, 3]


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
        ({"widths": np.ones(9, int)}, r"widths: expected positive integers \[10\], got int64\[9\]"),
        ({"widths": np.ones(10)}, r"widths: expected positive integers \[10\], got float64\[10\]"),
        ({"widths": np.arange(10)}, r"widths: expected positive .*, got a width of 0"),
        ({"epoch": 1.5}, "epoch: expected an integer from 0 to .*, got 1.5"),
    ],
)
def test_plan_refuses(change, message):
    arguments = {"count": 10, "batch_size": 3, "seed": 0, "epoch": 0} | change
    with pytest.raises(ValueError, match=message):
        epoch_plan(**arguments)


def test_buckets_are_counted():
    with pytest.raises(ValueError, match="buckets: expected a positive integer, got 0"):
        bucketed(np.ones(3, int), 4, 0)
