"""One batch on several devices: the losses are the same for any network."""

import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from jaxnets.training.placement import Placement, one_device, place
from tests.quick_compilation import environment


def on_devices(count, code):
    """Runs code in a separate process with virtual CPU devices; returns its output."""
    head = f"""
        import jax
        jax.config.update("jax_num_cpu_devices", {count})
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_compilation_cache_dir", {jax.config.jax_compilation_cache_dir!r})
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        """
    script = textwrap.dedent(head) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    return done


def all_on_devices(count, head, cases):
    """Runs all cases after the same head in one process, and reports those that fail."""
    each = """
        import sys, traceback

        failures = 0
        for case in cases:
            try:
                exec(case, dict(globals()))
            except Exception:
                print("in", case, file=sys.stderr)
                traceback.print_exc()
                failures += 1
        sys.exit(failures)
        """
    on_devices(count, f"{textwrap.dedent(head)}cases = {cases!r}{textwrap.dedent(each)}")


NETWORKS = """
    import jax.numpy as jnp, numpy as np
    from flax import nnx
    from jaxnets import fit, layers, losses, metrics, optimizers
    from jaxnets.data import Dataset, Split, StreamedSplit
    from jaxnets.models import MLP, LeNet, RecurrentClassifier

    draw = np.random.default_rng(0)
    wide = {"param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}

    def data(shape, count=27, stream=False):
        labels = draw.integers(3, size=count).astype(np.int32)
        split = Split(draw.normal(size=(count, *shape)), labels)
        return Dataset("drawn", StreamedSplit(split) if stream else split, split.take(7))

    def losses_of(model, data, **options):
        settings = dict(loss=losses.cross_entropy, optimizer=optimizers.sgd(0.05, momentum=0.9))
        settings |= dict(epochs=2, batch_size=10, progress="none") | options
        return fit(model, data, **settings)

    def same(model, data, **options):
        alone = losses_of(model, data, devices=1, **options)
        shared = losses_of(model, data, devices=3, **options)
        np.testing.assert_allclose(shared.step_losses, alone.step_losses, rtol=1e-12)
        np.testing.assert_allclose(shared.test.loss, alone.test.loss, rtol=1e-12)
        assert (shared.test.correct, shared.test.total) == (alone.test.correct, alone.test.total)
        assert shared.history[0].train_accuracy == alone.history[0].train_accuracy
        for one, other in zip(alone.history, shared.history):
            for part in ("train", "test"):
                of_one, of_other = getattr(one, part), getattr(other, part)
                assert of_one.keys() == of_other.keys()
                for name in of_one:
                    np.testing.assert_allclose(of_other[name], of_one[name], rtol=1e-9)
        np.testing.assert_allclose(shared.history[0].train_loss, alone.history[0].train_loss)
        for one, other in zip(*(jax.tree.leaves(r.state.parameters) for r in (alone, shared))):
            np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-12)
    """


SHARED = [
    "same(MLP((4, 8, 3), **wide), data((4,)))",
    "same(MLP((4, 8, 3), **wide), data((4,), stream=True), accumulate=2)",
    "def r2(outputs, labels):\n"
    "    return metrics.r_squared()(outputs, jax.nn.one_hot(labels, 3, dtype=outputs.dtype))\n"
    "measures = {'top2': metrics.top_k(2), 'confusion': metrics.confusion(3),\n"
    "    'f1': metrics.f1(3), 'perplexity': metrics.perplexity(), 'r2': r2}\n"
    "same(MLP((4, 8, 3), **wide), data((4,)), metrics=measures)",
    # with class weights, the loss is not a mean over the examples
    "import functools\n"
    "weighted = functools.partial(losses.cross_entropy, weight=jnp.array([1.0, 5.0, 0.2]))\n"
    "same(MLP((4, 8, 3), **wide), data((4,)), loss=weighted)",
    # a sum over the examples, and a count of some of them
    "import functools\n"
    "added = functools.partial(losses.cross_entropy, reduction='sum')\n"
    "some = lambda x, y: (((x.argmax(-1) == y) & (y > 0)).sum(), (y > 0).sum())\n"
    "same(MLP((4, 8, 3), **wide), data((4,)), loss=added, correct=some,\n"
    "    optimizer=optimizers.sgd(0.001))",
    "same(LeNet(1, 3, **wide), data((28, 28, 1), 10))",
    "same(RecurrentClassifier(4, 5, 2, output_dim=3, cell='lstm', **wide), data((6, 4), 20))",
    "same(RecurrentClassifier(4, 5, 2, output_dim=3, cell='gru', **wide), data((6, 4), 20))",
    # the same masks on any number of devices, and an output without an axis of examples
    "class Norm(nnx.Module):\n"
    "    def __init__(self):\n"
    "        self.dropout = layers.Dropout(0.5, rngs=nnx.Rngs(0))\n"
    "        self.mlp = MLP((4, 3), **wide)\n"
    "    def __call__(self, x):\n"
    "        made = self.mlp(self.dropout(x))\n"
    "        return made, (made**2).mean()\n"
    "def two(outputs, labels):\n"
    "    return losses.cross_entropy(outputs[0], labels) + outputs[1]\n"
    "same(Norm(), data((4,)), loss=two, correct=lambda o, y: (o[0].argmax(-1) == y).sum())",
    "same(nnx.Sequential(layers.Linear(4, 8, **wide),\n"
    "    layers.BatchNorm1d(8, **wide), layers.Linear(8, 3, **wide),\n"
    "    layers.BatchNorm1d(3, track_running_stats=False, **wide)),\n"
    "    data((4,)))",
    "from jaxnets.averaging import averaged, ema\n"
    "from jaxnets.training import minimize, supervised\n"
    "step = ema(minimize(supervised(losses.cross_entropy), optimizers.sgd(0.05)), 0.5)\n"
    "examples, settings = data((4,)), dict(epochs=1, batch_size=10, progress='none')\n"
    "model = MLP((4, 8, 3), **wide)\n"
    "runs = [fit(model, examples, step, devices=n, **settings) for n in (1, 3)]\n"
    "one, other = (averaged(run)(examples.test.inputs) for run in runs)\n"
    "np.testing.assert_allclose(other, one, rtol=1e-9)",
]  # fmt: skip


def test_losses_are_those_of_one_device_also_of_batches_that_do_not_divide():
    all_on_devices(3, textwrap.dedent(NETWORKS), SHARED[:1])


@pytest.mark.slow
def test_losses_of_other_networks_are_those_of_one_device():
    all_on_devices(3, textwrap.dedent(NETWORKS), SHARED[1:])


def test_a_batch_is_read_by_parts_in_order_where_it_divides():
    place = Placement((jax.devices()[0],) * 3)
    np.testing.assert_array_equal(place.own_rows(np.arange(10)), np.arange(10))
    assert place.shards == 3


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (0, "devices: expected a positive integer, got 0"),
        (100, "devices: expected at most .*, the number of CPU devices.*got 100"),
        ([], "devices: expected a number, or a sequence of jax.Device"),
        ("two", "devices: expected a number, or a sequence of jax.Device"),
    ],
)
def test_bad_devices_are_named(devices, message):
    with pytest.raises(ValueError, match=message):
        place(devices)


def test_a_device_that_is_named_twice_is_a_fault():
    with pytest.raises(ValueError, match="devices: expected each device once, got .*CpuDevice"):
        place([jax.devices()[0]] * 2)


def test_one_cpu_is_the_default():
    assert place(None) == one_device()
