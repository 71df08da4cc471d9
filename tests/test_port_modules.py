"""The classes of torch.nn compared with ours, constructed and called as the port writes them."""

import ast
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import layers
from jaxnets.interop import load_torch
from jaxnets.port import modules
from jaxnets.port.values import Context, Items, Plain, Refused, Tensor, natural, text_of
from tests import tier

from .port_expressions import flat, flat_results, in_order, last_channels

NAMES = {"jax": jax, "jnp": jnp, "layers": layers, "functools": functools}


@pytest.fixture(autouse=True, scope="module")
def promotion():
    with jax.numpy_rank_promotion("allow"):
        yield


def value_of(node):
    if isinstance(node, ast.Tuple | ast.List):
        kind = tuple if isinstance(node, ast.Tuple) else list
        return Items(tuple(map(value_of, node.elts)), ast.unparse(node), kind)
    return Plain(ast.unparse(node), ast.literal_eval(node), constant=True)


def constructed(text, layer):
    """Our constructor for that of a class of torch.nn."""
    call = ast.parse(text, mode="eval").body
    row = modules.find(type(layer))
    args = [value_of(node) for node in call.args]
    kwargs = {keyword.arg: value_of(keyword.value) for keyword in call.keywords}
    return row.construct(args, kwargs, Context(result=layer)).text


def called(layer, inputs, orders, *, writing):
    row = modules.find(type(layer))
    tensors = [
        Tensor(f"x{number}", tuple(x.shape), order, x.dtype)
        for number, (x, order) in enumerate(zip(inputs, orders, strict=True))
    ]
    result = layer(*(x.clone() for x in inputs))
    context = Context(result=result, writing=writing)
    return row.call([Plain("layer", layer), *tensors], {}, context), result


IMAGE, VECTORS, SEQUENCES = (2, 4, 5, 6), (3, 4), (2, 3, 4)
CASES = [
    ("ReLU(inplace=True)", IMAGE, "layers.ReLU()"),
    ("ReLU(True)", VECTORS, "layers.ReLU()"),
    ("LeakyReLU(0.2, inplace=True)", IMAGE, "layers.LeakyReLU(0.2)"),
    ("Identity(3, name='x')", IMAGE, "layers.Identity(3, name='x')"),
    ("Dropout(0.0)", IMAGE, "layers.Dropout(0.0, rngs=rngs)"),
    ("Linear(4, 3)", VECTORS, "layers.Linear(4, 3, rngs=rngs)"),
    ("Linear(4, 3, bias=False, device=None)", SEQUENCES, None),
    ("Conv2d(4, 3, 3, padding=1)", IMAGE, "layers.Conv2d(4, 3, 3, padding=1, rngs=rngs)"),
    ("Conv1d(3, 2, kernel_size=2)", SEQUENCES, None),
    ("ConvTranspose2d(4, 3, 2, stride=2)", IMAGE, None),
    ("MaxPool2d(2)", IMAGE, "layers.MaxPool2d(2)"),
    ("AdaptiveAvgPool2d((1, 1))", IMAGE, "layers.AdaptiveAvgPool2d((1, 1))"),
    ("BatchNorm2d(4)", IMAGE, "layers.BatchNorm2d(4)"),
    ("BatchNorm1d(4)", VECTORS, None),
    ("BatchNorm1d(3)", SEQUENCES, None),
    ("GroupNorm(2, 4)", IMAGE, "layers.GroupNorm(2, 4)"),
    ("LayerNorm(4)", SEQUENCES, "layers.LayerNorm(4)"),
    ("LayerNorm((4, 5, 6))", IMAGE, ("(4, 5, 6), channels_last=False", "(5, 6, 4)")),
    ("LayerNorm([3, 4], eps=1e-6)", SEQUENCES, ("(3, 4), eps=1e-06", "(4, 3), eps=1e-06")),
    ("PReLU(4)", IMAGE, "layers.PReLU(4)"),
    ("Softmax(dim=-1)", VECTORS, "layers.Softmax(-1)"),
    ("Softmax(dim=1)", IMAGE, ("functools.partial(jax.nn.softmax, axis=1)", "layers.Softmax(-1)")),
    ("LogSoftmax(1)", VECTORS, "layers.LogSoftmax(1)"),
    ("LogSoftmax(2)", SEQUENCES, None),
    ("GLU(1)", IMAGE, None),
    ("Flatten()", IMAGE, ("(lambda x: x.reshape(len(x), -1))", "layers.Flatten()")),
    ("Flatten()", VECTORS, "layers.Flatten()"),
    ("Unflatten(1, (2, 3, 2))", (2, 12), None),
    ("LSTM(4, 3, batch_first=True)", SEQUENCES, "layers.LSTM(4, 3, rngs=rngs)"),
    ("LSTM(4, 3, 1, True, False, 0.0, True)", SEQUENCES, None),
    ("GRU(input_size=4, hidden_size=3)", SEQUENCES, None),
    ("RNN(4, 3, nonlinearity='relu', batch_first=True)", SEQUENCES, None),
    ("GRUCell(4, 3)", VECTORS, "layers.GRUCell(4, 3, rngs=rngs)"),
    ("TransformerEncoderLayer(4, 2, 8, 0.0)", SEQUENCES, None),
]


@pytest.mark.parametrize("case", tier.one_in(2, CASES), ids=lambda case: f"{case[0]} of {case[1]}")
def test_a_layer(case):
    text, shape, expected = case
    torch.manual_seed(0)
    layer = eval(f"torch.nn.{text}")
    x = torch.from_numpy(np.random.default_rng(0).normal(size=shape)).float()
    tried = dict.fromkeys([natural(x.ndim), last_channels(x.ndim)])
    for number, order in enumerate(tried):
        called(layer, [x], [order], writing=False)
        ours = constructed(text, layer)
        if expected is not None:
            wanted = expected if isinstance(expected, str) else expected[number]
            assert wanted in ours
        made = eval(ours, NAMES | {"rngs": nnx.Rngs(0)})
        if isinstance(made, nnx.Module):
            load_torch(made, layer.state_dict())
            made.eval()
        layer.eval()
        value, result = called(layer, [x], [order], writing=True)
        given = {"layer": made, "x0": jnp.asarray(in_order(x, order))}
        for own, theirs in zip(flat(value), flat_results(result), strict=True):
            np.testing.assert_allclose(
                np.asarray(eval(own.text, NAMES | given)),
                in_order(theirs.detach(), own.order),
                rtol=1e-5,
                atol=1e-6,
                err_msg=text_of(value),
            )


def test_attention_takes_the_batch_first():
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(4, 2)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 2, 4))).float()
    made = eval(constructed("MultiheadAttention(4, 2)", layer), NAMES | {"rngs": nnx.Rngs(0)})
    load_torch(made, layer.state_dict())
    value, (outputs, weights) = called(layer, [x, x, x], [natural(3)] * 3, writing=True)
    y = jnp.asarray(x.numpy())
    ours = eval(text_of(value), {"layer": made, "jnp": jnp, "x0": y, "x1": y, "x2": y})
    assert value.items[0].order == (1, 0, 2)
    np.testing.assert_allclose(in_order(ours[0], (1, 0, 2)), outputs.detach(), atol=1e-6)
    np.testing.assert_allclose(ours[1], weights.detach(), atol=1e-6)


def test_an_embedding_adds_the_last_axis():
    layer = torch.nn.Embedding(5, 3)
    value, _ = called(layer, [torch.zeros(2, 4, dtype=torch.int64)], [(1, 0)], writing=True)
    assert (value.text, value.order) == ("layer(x0)", (1, 0, 2))


def test_packed_sequences_are_a_pair():
    layer = torch.nn.LSTM(4, 3, batch_first=True)
    x, lengths = torch.zeros(2, 5, 4), torch.tensor([5, 3])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    given = Items((Tensor("x", (2, 5, 4), natural(3), x.dtype), Plain("lengths", lengths)))
    row = modules.find(torch.nn.LSTM)
    value = row.call([Plain("layer", layer), given], {}, Context(result=layer(packed)))
    assert text_of(value) == "layer(x, lengths=lengths)"
    named = row.call(
        [Plain("layer", layer), Items(given.items, "packed")], {}, Context(result=layer(packed))
    )
    assert text_of(named) == "layer(packed[0], lengths=packed[1])"


def test_a_loss_is_a_function_with_its_options():
    layer, plain = torch.nn.CrossEntropyLoss(label_smoothing=0.1), torch.nn.MSELoss()
    text = constructed("CrossEntropyLoss(label_smoothing=0.1)", layer)
    assert text == "functools.partial(F.cross_entropy, label_smoothing=0.1)"
    assert constructed("MSELoss()", plain) == "F.mse_loss"
    x, labels = torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64)
    value, _ = called(layer, [x, labels], [last_channels(4), natural(3)], writing=True)
    assert value.text == "layer(x0, x1)"


def test_what_has_no_batch_is_refused():
    layer = torch.nn.Conv2d(3, 2, 1)
    with pytest.raises(Refused, match="without a batch"):
        called(layer, [torch.zeros(3, 4, 4)], [natural(3)], writing=True)
    with pytest.raises(Refused, match="without a batch"):
        called(torch.nn.GRU(4, 2), [torch.zeros(3, 4)], [natural(2)], writing=True)


def test_only_classes_of_torch_have_rows():
    class Linear(torch.nn.Module):
        pass

    assert modules.find(Linear) is None
    assert modules.find(torch.nn.Linear).parameters["weight"] == ("kernel", (1, 0))
