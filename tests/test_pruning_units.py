import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import fit, interop, losses, optimizers, pruning, runs
from jaxnets.changes import Change
from jaxnets.data import Dataset, Split
from jaxnets.layers import (
    LSTM,
    BatchNorm2d,
    ChannelShuffle,
    Conv2d,
    ConvTranspose2d,
    Embedding,
    GroupNorm,
    Linear,
    MaxPool2d,
    TransformerEncoderLayer,
    flatten,
)
from jaxnets.models import MLP, LeNet


class Branches(nnx.Module):
    """Residuals, a concatenation, depthwise and grouped convolutions, stock layers, statistics."""

    def __init__(self, *, rngs):
        self.stem = Conv2d(2, 6, 3, padding=1, rngs=rngs)
        self.norm = BatchNorm2d(6)
        self.deep = Conv2d(6, 6, 3, padding=1, groups=6, bias=False, rngs=rngs)
        self.grouped = nnx.Conv(6, 4, (1, 1), feature_group_count=2, rngs=rngs)
        self.stock = nnx.BatchNorm(4, rngs=rngs)
        self.back = nnx.Conv(4, 6, (1, 1), rngs=rngs)
        self.up = ConvTranspose2d(10, 4, 2, stride=2, rngs=rngs)
        self.pool = MaxPool2d(4)
        self.fc1 = nnx.Linear(4 * 2 * 2, 5, rngs=rngs)
        self.fc2 = Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.norm(self.stem(x)))
        wide = jnp.tanh(self.stock(self.grouped(self.deep(x))))
        x = jnp.concatenate([x + self.back(wide), wide], axis=-1)
        x = self.pool(self.up(x))
        return self.fc2(jax.nn.sigmoid(self.fc1(flatten(x))))


class Lines(nnx.Module):
    """A gate of two halves, a transposed kernel and a recurrent layer over steps."""

    def __init__(self, *, rngs):
        self.words = Embedding(7, 6, rngs=rngs)
        self.both = Linear(6, 8, rngs=rngs)
        self.tied = nnx.Param(jax.random.normal(rngs.params(), (5, 4)))
        self.lstm = LSTM(5, 4, bidirectional=True, rngs=rngs)
        self.head = Linear(8, 2, rngs=rngs)

    def __call__(self, tokens):
        x, gate = jnp.split(self.both(self.words(tokens)), 2, axis=-1)
        x = (x * jax.nn.sigmoid(gate)) @ self.tied[...].T
        return self.head(self.lstm(x)[0][:, -1])


def images(channels=2, batch=3, size=4, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(batch, size, size, channels)), "f4")


def outputs(model, *inputs):
    model.eval()
    return nnx.jit(lambda model, *inputs: model(*inputs))(model, *inputs)


def zeroed(model, readers):
    """A copy with zeros in weights that read some units; ``readers`` has the indices by name."""
    copy = nnx.clone(model)
    variables = dict(pruning.sizes.variables(copy))
    for name, index in readers.items():
        value = np.array(variables[name][...])
        value[index] = 0
        variables[name].set_value(jnp.asarray(value))
    return copy


@pytest.mark.slow
def test_units_go_with_all_that_depends_on_them():
    model = Branches(rngs=nnx.Rngs(0))
    model.train()
    nnx.jit(lambda model, x: model(x))(model, images(seed=1))  # updates the statistics
    keep = {"stem": [0, 1], "grouped": [1], "fc1": [4, 0], "up": [0, 1, 3]}
    smaller = pruning.remove_units(model, images(), keep)
    readers = {
        "grouped.kernel": np.s_[:, :, [2]],  # the last of three in each group
        "back.kernel": np.s_[:, :, [0, 2]],
        "up.kernel": np.s_[:, :, [2, 5, 6, 8]],
        "fc1.kernel": list(range(8, 12)),  # flattened by channel
        "fc2.kernel": [1, 2, 3],
    }
    expected = outputs(zeroed(model, readers), images())
    assert jnp.allclose(outputs(smaller, images()), expected, rtol=1e-5, atol=1e-6)
    sizes = smaller.norm.num_features, smaller.deep.groups, smaller.grouped.out_features
    assert sizes == (4, 4, 2)
    assert smaller.fc1.kernel.shape == (12, 2)
    assert model.fc1.kernel.shape == (16, 5)


@pytest.mark.slow
def test_gates_embeddings_transposed_kernels_and_recurrent_layers_follow():
    model, tokens = Lines(rngs=nnx.Rngs(0)), jnp.asarray([[1, 4, 2], [0, 6, 5]])
    keep = {"words": [0, 1, 4], "both": [0, 2, 3], "lstm": [1, 2]}
    smaller = pruning.remove_units(model, tokens, keep)
    readers = {
        "both.kernel": [2, 3, 5],
        "tied": np.s_[:, [1]],
        "head.kernel": [0, 3, 4, 7],
        "lstm.kernel_hh_l0": [0, 3],
        "lstm.kernel_hh_l0_reverse": [0, 3],
    }
    expected = outputs(zeroed(model, readers), tokens)
    assert jnp.allclose(outputs(smaller, tokens), expected, rtol=1e-5, atol=1e-6)
    assert (smaller.lstm.hidden_size, smaller.words.embedding_dim) == (2, 3)


def test_the_weakest_are_removed_and_what_goes_together_is_compared_together():
    model = MLP((4, 6, 6, 2), rngs=nnx.Rngs(0))
    smaller = pruning.remove_units(model, jnp.ones((2, 4)), amount=0.5)
    for name in ("fc1", "fc2"):
        layer = nnx.clone(getattr(model, name))
        pruning.ln_structured(layer, "weight", 0.5, n=2, dim=0)
        kept = np.asarray(layer.kernel[...]).any(0)
        assert jnp.array_equal(getattr(model, name).bias[kept], getattr(smaller, name).bias[...])
    assert smaller.features == (4, 3, 3, 2)
    assert smaller.options == {"features": (4, 3, 3, 2), "output": "logits"}
    only = pruning.remove_units(model, jnp.ones((2, 4)), amount=1, layers=["fc2"], n=1)
    assert only.features == (4, 6, 5, 2)


def test_masks_become_smaller_with_their_weights():
    model = MLP((4, 6, 2), rngs=nnx.Rngs(0))
    pruning.l1_unstructured(model.fc2, "weight", 0.5)
    smaller = pruning.remove_units(model, jnp.ones((2, 4)), {"fc1": [0, 2, 5]})
    kept = pruning.weights.Weight.of(smaller.fc2, "weight").mask
    assert np.array_equal(kept, pruning.weights.Weight.of(model.fc2, "weight").mask[:, [0, 2, 5]])


@pytest.mark.slow
def test_a_smaller_lenet_trains_is_saved_read_and_written_for_pytorch(tmp_path):
    rng = np.random.default_rng(0)
    digits = rng.random((16, 28, 28, 1), np.float32)
    data = Dataset("digits", split := Split(digits, np.arange(16, dtype=np.int32) % 10), split)
    model = LeNet(rngs=nnx.Rngs(0))
    half = pruning.remove_units(model, digits, amount=0.5)
    settings = {"loss": losses.cross_entropy, "optimizer": optimizers.adam(1e-3), "batch_size": 16}
    run = fit(half, data, epochs=1, progress="none", **settings)
    run.save(tmp_path / "run")
    change = Change("pruning", pruning.structure(model, run.model))
    assert json.loads(json.dumps(change.record())) == change.record()
    runs.write_changed(tmp_path / "new", tmp_path / "run", run.model, change)
    saved = runs.read(tmp_path / "new")
    assert type(saved.model) is LeNet
    assert (saved.model.conv2.in_channels, saved.model.fc1.in_features) == (3, 200)
    assert jnp.array_equal(outputs(saved.model, digits), outputs(run.model, digits))
    state = interop.to_torch(saved.model)
    assert state["conv2.weight"].shape == (8, 3, 5, 5)
    assert state["fc1.weight"].shape == (60, 200)


def test_duplicates_become_one_and_opposites_where_the_activation_is_odd():
    class Net(nnx.Module):
        def __init__(self, activation):
            self.activation = activation
            self.conv = Conv2d(2, 5, 3, rngs=nnx.Rngs(0))
            self.norm = BatchNorm2d(5)
            self.fc = Linear(20, 3, rngs=nnx.Rngs(1))

        def __call__(self, x):
            return self.fc(flatten(self.activation(self.norm(self.conv(x)))))

    for activation, left in ((jnp.tanh, 3), (jax.nn.relu, 4)):
        model = Net(activation)
        kernel, bias = np.array(model.conv.kernel[...]), np.array(model.conv.bias[...])
        kernel[..., 2], bias[2] = kernel[..., 0], bias[0]
        kernel[..., 4], bias[4] = -kernel[..., 1], -bias[1]
        model.conv.kernel[...], model.conv.bias[...] = jnp.asarray(kernel), jnp.asarray(bias)
        merged = pruning.merge_units(model, images())
        assert merged.conv.out_channels == merged.norm.num_features == left
        same = jnp.allclose(outputs(merged, images()), outputs(model, images()), atol=1e-6)
        assert same


def test_a_layer_that_keeps_the_shape_can_be_removed():
    class Deep(nnx.Module):
        def __init__(self):
            layers = [Linear(3, 3, rngs=nnx.Rngs(k)) for k in range(3)]
            self.blocks = nnx.List(layers)
            self.head = Linear(3, 2, rngs=nnx.Rngs(3))

        def __call__(self, x):
            for block in self.blocks:
                x = x + jnp.tanh(block(x))
            return self.head(x)

    model, x = Deep(), jnp.ones((2, 3))
    shallower = pruning.remove_layers(model, x, "blocks.1")
    assert pruning.structure(model, shallower) == {"identity": ["blocks.1"]}
    again = pruning.restructured(Deep(), {"identity": ["blocks.1"]})
    assert jnp.array_equal(outputs(again, x), outputs(shallower, x))
    with pytest.raises(ValueError, match="expected layers that do not change the shape, got head"):
        pruning.remove_layers(model, x, ["head"])
    with pytest.raises(ValueError, match=r"layers: expected layers of the network \(blocks.0"):
        pruning.remove_layers(model, x, "blocks.9")
    with pytest.raises(ValueError, match="layers: expected names of layers"):
        pruning.remove_layers(model, x, [])
    with pytest.raises(ValueError, match="model: expected an nnx.Module"):
        pruning.remove_layers(3, x, "head")
    with pytest.raises(ValueError, match="x: expected a floating-point array"):
        pruning.remove_layers(model, jnp.ones((2, 4)), "head")


class Refusing(nnx.Module):
    """Layers whose units cannot be removed, each for another reason."""

    def __init__(self, *, rngs):
        self.normed = Conv2d(2, 4, 1, rngs=rngs)
        self.norm = GroupNorm(2, 4)
        self.shuffled = Conv2d(4, 4, 1, rngs=rngs)
        self.shuffle = ChannelShuffle(2)
        self.code = Conv2d(4, 3, 1, rngs=rngs)
        self.parts = Linear(48, 5, rngs=rngs)
        self.mean = Linear(3, 4, rngs=rngs)
        self.head = Linear(2, 3, rngs=rngs)

    def __call__(self, x):
        x = self.shuffle(self.shuffled(self.norm(self.normed(x))))
        x = jnp.reshape(self.code(x), (-1, 48))
        x = self.mean(self.parts(x)[:, 1:4])
        return self.head(jnp.stack([x.mean(-1), x.mean(-1)], -1))


@pytest.mark.parametrize(
    ("keep", "why"),
    [
        ({"normed": 2}, "normed, whose units cannot: the network computes reduce_sum over them"),
        ({"code": 2}, "code, whose units cannot: the network's code contains their number"),
        ({"parts": 2}, "parts, whose units cannot: the network selects some of them by index"),
        ({"mean": 2}, "mean, whose units cannot: the network computes reduce_sum over them"),
        ({"head": 2}, "head, whose units cannot: they are the network's outputs"),
        ({"conv9": 2}, r"keep: expected layers with weights \(.*head.*\), got 'conv9'"),
        ({"shuffled": 9}, "keep: expected units of shuffled, from 0 to 1, or their number"),
        ({"shuffled": [0, 0]}, "keep: expected units of shuffled"),
        ({}, "keep: expected units by the layer's name"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_layers_name(keep, why):
    with pytest.raises(ValueError, match=why):
        pruning.remove_units(Refusing(rngs=nnx.Rngs(0)), images(), keep)


@pytest.mark.slow
def test_what_cannot_be_removed_is_left_whole_where_nobody_names_it():
    model = Refusing(rngs=nnx.Rngs(0))
    smaller = pruning.remove_units(model, images(), amount=0.5)
    assert sorted(pruning.structure(model, smaller)["shapes"]) == [
        "code.kernel",
        "shuffled.bias",
        "shuffled.kernel",
    ]
    layer = TransformerEncoderLayer(8, 2, 16, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 8)), "f4")
    half = pruning.remove_units(layer, x, amount=0.5)
    assert half.linear1.out_features == half.linear2.in_features == 8
    with pytest.raises(ValueError, match="self_attn, whose units cannot"):
        pruning.remove_units(layer, x, amount=0.5, layers="self_attn")


def test_bad_arguments_are_refused_in_a_sentence():
    model, x = MLP((4, 3, 2), rngs=nnx.Rngs(0)), jnp.ones((2, 4))
    for arguments, options, message in (
        ((model, x), {}, "keep: expected either keep or amount, got none"),
        ((model, x, {"fc1": 1}), {"amount": 0.5}, "keep: expected either keep or amount, got both"),
        ((model, x), {"amount": 1.2}, r"amount: expected a fraction in \[0, 1\]"),
        ((model, x), {"amount": 1.0}, "amount: expected an amount that leaves units of fc1"),
        ((model, x), {"amount": 0.5, "layers": "conv*"}, "layers: expected names of layers with"),
        ((model, x), {"amount": 0.5, "layers": 3}, "layers: expected a pattern of names"),
        ((model, x), {"amount": 0.5, "n": 0}, "n: expected a number"),
        ((model, jnp.ones((2, 5))), {"amount": 0.5}, "inputs: expected a batch of examples of 4"),
        ((model, "x"), {"amount": 0.5}, "inputs: expected an array"),
        (("x", x), {"amount": 0.5}, "model: expected an nnx.Module"),
        ((Linear(4, 2, rngs=nnx.Rngs(0)), x), {"amount": 0.5}, "layers: expected layers whose"),
    ):
        with pytest.raises(ValueError, match=message):
            pruning.remove_units(*arguments, **options)
    with pytest.raises(ValueError, match="keep: expected the same units for layers that are added"):
        pruning.remove_units(Branches(rngs=nnx.Rngs(0)), images(), {"stem": [0], "back": [1]})
    with pytest.raises(ValueError, match="model: expected a network with weights of two axes"):
        pruning.pruned(BatchNorm2d(3), 0.5)
    with pytest.raises(ValueError, match="atol: expected"):
        pruning.merge_units(model, x, atol=-1)
    with pytest.raises(ValueError, match="changes: expected arrays of this network, got"):
        pruning.restructured(model, {"shapes": {"fc9.kernel": [2, 2]}})
