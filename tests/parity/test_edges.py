"""Edge cases of a layer's inputs: empty batches, other ranks, NaN and infinity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import layers
from jaxnets.interop import load_torch, to_numpy
from jaxnets.kernels.geometry import Geometry
from jaxnets.kernels.rewrite import with_kernels
from jaxnets.kernels.xla_convolution import by_xla_operations
from tests import tier
from tests.parity.oracle import assert_equal, check_layer, images_first, images_last

RNGS = nnx.Rngs(0)


class OurFirst(nnx.Module):
    """Returns the first output of a layer, whose inputs are all the same."""

    def __init__(self, layer, inputs=1):
        self.layer, self.inputs = layer, inputs

    def __call__(self, x):
        return self.layer(*[x] * self.inputs)[0]


class TorchFirst(torch.nn.Module):
    def __init__(self, layer, inputs=1):
        super().__init__()
        self.layer, self.inputs = layer, inputs

    def forward(self, x):
        return self.layer(*[x] * self.inputs)[0]


def pair(name, *arguments, **options):
    """Our layer and torch's of the same name, with the same arguments."""
    theirs = getattr(torch.nn, name)(*arguments, **options)
    make = getattr(layers, name)
    draws = bool(list(theirs.parameters())) or name.startswith("Dropout")
    return make(*arguments, **options, **({"rngs": RNGS} if draws else {})), theirs


def recurrent(name, **options):
    ours = getattr(layers, name)(3, 4, **options, rngs=RNGS)
    return OurFirst(ours), TorchFirst(getattr(torch.nn, name)(3, 4, batch_first=True, **options))


def cell(name):
    ours, theirs = pair(name, 3, 4)
    return OurFirst(ours), TorchFirst(theirs)


def attention():
    ours = layers.MultiheadAttention(4, 2, rngs=RNGS)
    return OurFirst(ours, 3), TorchFirst(torch.nn.MultiheadAttention(4, 2, batch_first=True), 3)


def encoder():
    ours = layers.TransformerEncoderLayer(4, 2, 8, 0.0, rngs=RNGS)
    theirs = torch.nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True)
    return layers.TransformerEncoder(ours, 2), torch.nn.TransformerEncoder(theirs, 2)


def evaluating(ours, theirs):
    ours.eval()
    return ours, theirs.eval()


IMAGES = {
    "conv2d": lambda: pair("Conv2d", 3, 4, 3, padding=1),
    "conv2d in groups": lambda: pair("Conv2d", 3, 3, 3, 2, 1, groups=3),
    "conv2d of many": lambda: pair("Conv2d", 3, 16, 3, padding=1, padding_mode="reflect"),
    "conv transpose2d": lambda: pair("ConvTranspose2d", 3, 4, 3, 2),
    "max pool": lambda: pair("MaxPool2d", 2),
    "max pool that overlaps": lambda: pair("MaxPool2d", 3, 2, 1),
    "avg pool": lambda: pair("AvgPool2d", 2),
    "adaptive avg pool": lambda: pair("AdaptiveAvgPool2d", 3),
    "batch norm": lambda: pair("BatchNorm2d", 3),
    "batch norm that evaluates": lambda: evaluating(*pair("BatchNorm2d", 3)),
    "group norm": lambda: pair("GroupNorm", 1, 3),
    "instance norm": lambda: pair("InstanceNorm2d", 3),
    "instance norm that tracks": lambda: pair("InstanceNorm2d", 3, track_running_stats=True),
    "local response norm": lambda: pair("LocalResponseNorm", 2),
    "layer norm": lambda: (layers.LayerNorm((6, 6, 3)), torch.nn.LayerNorm((3, 6, 6))),
    "prelu": lambda: pair("PReLU", 3),
    "dropout2d": lambda: pair("Dropout2d", 0.5),
    "flatten": lambda: (layers.Flatten(), torch.nn.Flatten()),
}
SEQUENCES = {
    "conv1d": lambda: pair("Conv1d", 3, 4, 3, padding=1),
    "max pool1d": lambda: pair("MaxPool1d", 2),
    "avg pool1d": lambda: pair("AvgPool1d", 3, 2, 1),
    "adaptive avg pool1d": lambda: pair("AdaptiveAvgPool1d", 2),
    "batch norm1d": lambda: pair("BatchNorm1d", 3),
    "layer norm2": lambda: (
        layers.LayerNorm((6, 3), channels_last=True),
        torch.nn.LayerNorm((3, 6)),
    ),
}
ROWS = {
    "linear": (lambda: pair("Linear", 4, 3), [(0, 4), (0, 5, 4), (2, 0, 4)]),
    "layer norm1": (lambda: pair("LayerNorm", 4), [(0, 4), (2, 0, 4)]),
    "rms norm": (lambda: pair("RMSNorm", 4), [(0, 4), (2, 0, 4)]),
    "lstm": (lambda: recurrent("LSTM"), [(0, 5, 3)]),
    "lstm with a projection": (lambda: recurrent("LSTM", proj_size=2), [(0, 5, 3)]),
    "gru": (lambda: recurrent("GRU", num_layers=2, bidirectional=True), [(0, 5, 3)]),
    "rnn": (lambda: recurrent("RNN", bias=False), [(0, 5, 3)]),
    "lstm cell": (lambda: cell("LSTMCell"), [(0, 3)]),
    "gru cell": (lambda: pair("GRUCell", 3, 4), [(0, 3)]),
    "rnn cell": (lambda: pair("RNNCell", 3, 4), [(0, 3)]),
    "attention": (attention, [(0, 3, 4), (2, 0, 4), (0, 0, 4)]),
    "encoder": (encoder, [(0, 3, 4), (2, 0, 4)]),
    "dropout": (lambda: pair("Dropout", 0.5), [(0, 4), (2, 0)]),
    "glu": (lambda: pair("GLU"), [(0, 4)]),
    "softmax": (lambda: pair("Softmax", -1), [(0, 4), (2, 0)]),
    "log softmax": (lambda: pair("LogSoftmax", 0), [(0, 4), (2, 0)]),
    **{
        name: (lambda name=name: pair(name), [(0, 4), (2, 0)])
        for name in ("ReLU", "ELU", "GELU", "Softplus", "Hardtanh", "Hardswish", "Identity")
    },
}
EMPTY = [
    *((name, make, (0, 3, 6, 6), True) for name, make in IMAGES.items()),
    *((name, make, (0, 3, 6), True) for name, make in SEQUENCES.items()),
    *((name, make, shape, False) for name, (make, shapes) in ROWS.items() for shape in shapes),
    ("batch norm1d", SEQUENCES["batch norm1d"], (0, 3), True),
    ("batch norm1d", SEQUENCES["batch norm1d"], (2, 3, 0), True),
    ("group norm", IMAGES["group norm"], (0, 3), True),
]


@pytest.mark.parametrize(
    ("name", "make", "shape", "image"), tier.one_in(2, [pytest.param(*each) for each in EMPTY])
)
def test_empty_batches_as_in_torch(name, make, shape, image):
    ours, theirs = make()
    to_ours, from_ours = (images_last, images_first) if image else (lambda a: a,) * 2
    check_layer(ours, theirs, np.zeros(shape, np.float32), to_ours=to_ours, from_ours=from_ours)


def test_an_empty_batch_is_counted_and_leaves_the_statistics():
    ours, theirs = pair("BatchNorm1d", 3)
    ours(jnp.zeros((0, 3)))
    theirs(torch.zeros(0, 3))
    for name, value in to_numpy(ours).items():
        assert_equal(value, theirs.state_dict()[name], name)
    ours.eval()
    ours(jnp.zeros((0, 3)))
    assert int(ours.num_batches_tracked[...]) == 1


#: Layers, mainly those that may multiply by zeros, for [2, 3, 6, 6] or [2, 3, 6].
SPREADING = {
    **{name: IMAGES[name] for name in ("conv2d", "conv2d in groups", "conv2d of many")},
    **{name: IMAGES[name] for name in ("max pool that overlaps", "avg pool", "adaptive avg pool")},
    "conv2d of 5x5": lambda: pair("Conv2d", 3, 2, 5, padding=2),
    "conv2d that widens": lambda: pair("Conv2d", 3, 20, 3),
    "conv transpose2d": lambda: pair("ConvTranspose2d", 3, 4, 3, 2),
    "batch norm that evaluates": IMAGES["batch norm that evaluates"],
    "group norm": lambda: pair("GroupNorm", 3, 3),
    "local response norm": IMAGES["local response norm"],
    "prelu": IMAGES["prelu"],
    "conv1d": SEQUENCES["conv1d"],
}
#: The index of an invalid value in PyTorch's layout, and the value.
PLACES = {
    "middle": ((1, 1, 3, 3), np.inf),
    "corner": ((0, 0, 0, 0), np.nan),
    "last": ((1, 2, 5, 5), -np.inf),
}


def inputs_of(name):
    shape = (2, 3, 6) if name == "conv1d" else (2, 3, 6, 6)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def spoil(array, place):
    """Sets an element to a value that is not finite; the index is clipped to the shape."""
    index, value = PLACES[place]
    array[tuple(min(i, n - 1) for i, n in zip(index, array.shape, strict=False))] = value


@pytest.mark.parametrize("place", tier.usually(PLACES, ["corner"]))
@pytest.mark.parametrize("name", tier.one_in(3, SPREADING))
def test_nan_and_infinities_are_where_torch_has_them(name, place):
    inputs = inputs_of(name)
    spoil(inputs, place)
    check_layer(*SPREADING[name](), inputs, to_ours=images_last, from_ours=images_first)


@pytest.mark.parametrize("place", tier.usually(PLACES, ["corner"]))
def test_a_pool_in_one_pass_sees_it_where_torch_does(place):
    conv, theirs = pair("Conv2d", 3, 4, 3)
    load_torch(conv, theirs.state_dict())
    inputs = inputs_of("conv2d")
    spoil(inputs, place)
    pooled = torch.max_pool2d(torch.relu(theirs(torch.tensor(inputs))), 2)
    pool = layers.MaxPool2d(2)
    found = jax.jit(with_kernels(lambda x: pool(jax.nn.relu(conv(x)))))(images_last(inputs))
    assert_equal(images_first(found), pooled, "outputs")


@pytest.mark.parametrize("place", tier.usually(PLACES, ["corner"]))
@pytest.mark.parametrize("name", ["conv2d of 5x5", "conv2d that widens", "conv1d"])
def test_nan_in_gradients_is_where_torch_has_it(name, place):
    ours, theirs = SPREADING[name]()
    load_torch(ours, theirs.state_dict())
    x = torch.tensor(inputs_of(name), requires_grad=True)
    outputs = theirs(x)
    cotangent = np.ones(outputs.shape, np.float32)
    spoil(cotangent, place)
    outputs.backward(torch.tensor(cotangent))
    pull_back = jax.jit(lambda x, d: jax.vjp(ours, x)[1](d)[0])
    found = pull_back(images_last(x.detach().numpy()), images_last(cotangent))
    assert_equal(images_first(found), x.grad, "input gradient")


def test_a_batch_of_gradients_looks_once_for_what_is_not_finite():
    geometry = Geometry((1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1))
    kernel = SPREADING["conv2d"]()[0].kernel[...]

    def ours(x):
        return by_xla_operations(geometry, False, x, kernel)

    def gradient(x):
        return jax.grad(lambda x: ours(x[None]).sum())(x)

    x = jnp.ones((2, 6, 6, 3), jnp.float32)
    program = str(jax.make_jaxpr(jax.vmap(gradient))(x))
    assert program.count("cond[") > str(jax.make_jaxpr(ours)(x)).count("cond[") > 0
    assert "select_n" not in program
    one_by_one = jnp.stack([jax.jit(gradient)(image) for image in x])
    np.testing.assert_allclose(jax.jit(jax.vmap(gradient))(x), one_by_one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 4)])
@pytest.mark.parametrize("name", ["Dropout2d", "Dropout"])
@pytest.mark.filterwarnings("ignore:dropout2d")  # by torch, for ranks other than that of images
def test_dropout_takes_the_ranks_that_torch_takes(name, shape):
    ours, theirs = getattr(layers, name)(1.0, rngs=RNGS), getattr(torch.nn, name)(1.0)
    inputs = np.ones(shape, np.float32)
    inputs[0, 0] = np.nan  # multiplied by a mask, it would stay NaN
    check_layer(ours, theirs, inputs, to_ours=images_last, from_ours=images_first)
