"""Training with sharded parameters equals training on one device."""

import jax
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from jaxnets import losses
from jaxnets.models import MLP
from jaxnets.training import Sharding, initialize, minimize, supervised
from jaxnets.training.placement import Placement
from tests.test_training_placement import NETWORKS, all_on_devices, textwrap

CUT = """
    from jaxnets.training import Sharding, evaluate

    def cut(model, data, sharding, expected, **options):
        alone = losses_of(model, data, devices=1, **options)
        shared = losses_of(model, data, devices=8, sharding=sharding, **options)
        np.testing.assert_allclose(shared.step_losses, alone.step_losses, rtol=1e-12)
        assert shared.test.correct == alone.test.correct
        specs = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(shared.state):
            if leaf.ndim:
                spec = (*leaf.sharding.spec, *[None] * leaf.ndim)[: leaf.ndim]
                specs[jax.tree_util.keystr(path)] = spec
        for pattern, spec in expected.items():
            found = [value for name, value in specs.items() if pattern in name]
            assert len(found) > 1, pattern  # the parameter and its momentum
            assert set(found) == {spec}, (pattern, found)
        again = evaluate(shared.model, data.test, loss=losses.cross_entropy)
        np.testing.assert_allclose(again.loss, shared.test.loss, rtol=1e-12)
        assert {len(x.sharding.device_set) for x in jax.tree.leaves(shared.state)} == {8}
    """


CUTS = [
    # the columns of one layer and the rows of the next, as in Megatron
    "rules = {'fc1/kernel': (None, 'model'), 'fc1/bias': ('model',),\n"
    "         'fc2/kernel': ('model', None), 'fc2/bias': (None,)}\n"
    "cut(MLP((4, 8, 3), **wide), data((4,)), Sharding(model=4, rules=rules),\n"
    "    {\"['fc1']['kernel']\": (None, 'model'), \"['fc2']['kernel']\": ('model', None)})",
    "cut(MLP((4, 16, 3), **wide), data((4,)), Sharding(model=2, fully=True),\n"
    "    {\"['fc1']['kernel']\": ('data', 'model'), \"['fc2']['kernel']\": ('data', None)})",
    "cut(LeNet(1, 3, **wide), data((28, 28, 1), 8), Sharding(fully=True),\n"
    "    {\"['fc1']['kernel']\": ('data', None)}, batch_size=8)",
    "cut(RecurrentClassifier(4, 8, 1, output_dim=3, cell='lstm', **wide), data((6, 4), 16),\n"
    "    Sharding(model=2), {\"kernel_hh\": (None, 'model')}, batch_size=8)",
]


@pytest.mark.slow
def test_losses_are_those_of_one_device():
    all_on_devices(8, textwrap.dedent(NETWORKS) + textwrap.dedent(CUT), CUTS)


def spec(sharding, path, shape):
    mesh = Mesh([[jax.devices()[0]] * 1], ("data", "model"))
    return sharding.spec(path, shape, mesh)


def test_the_first_rule_that_fits_counts():
    rules = {"fc1/kernel": ("model", None), "kernel": (None, "model"), "bias$": (None,)}
    sharding = Sharding(rules=rules)
    assert spec(sharding, "fc1/kernel/value", (4, 6)) == PartitionSpec("model", None)
    assert spec(sharding, "fc2/kernel/value", (4, 6)) == PartitionSpec(None, "model")
    assert spec(sharding, "fc2/bias", (6,)) == PartitionSpec(None)
    assert spec(sharding, "fc2/scale", (6,)) == PartitionSpec("model")
    assert spec(sharding, "step", ()) == PartitionSpec()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": 0}, "model: expected a positive integer, got 0"),
        ({"fully": "yes"}, "fully: expected True or False"),
        ({"rules": {"fc1": ("rows",)}}, "rules: expected a tuple of 'data', 'model' and None"),
        ({"rules": {"fc1": "model"}}, "rules: expected a tuple of .* for 'fc1', got 'model'"),
        ({"rules": {"fc1": ("model", "model")}}, "rules: expected each axis once for 'fc1'"),
        ({"rules": {"fc(": ("model",)}}, "rules: expected regular expressions, got 'fc.'"),
    ],
)
def test_bad_shardings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Sharding(**options)


def test_a_rule_for_nothing_is_a_fault():
    model = MLP((4, 3), rngs=nnx.Rngs(0))
    state = initialize(model, minimize(supervised(losses.mse_loss), optax.identity()))
    placement = Placement((jax.devices()[0],), Sharding(rules={"fc9": ("model",)}))
    with pytest.raises(ValueError, match="rules: expected patterns of .*fc1/kernel.*, got 'fc9'"):
        placement.place(state)


def test_the_model_axis_divides_the_devices():
    with pytest.raises(ValueError, match="model: expected a divisor of the number of devices, 1"):
        Placement((jax.devices()[0],), Sharding(model=2))
