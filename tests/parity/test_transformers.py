"""Transformers and sequence-to-sequence networks compared with PyTorch's: outputs and training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.compare import twin
from jaxnets.data import Dataset, Split, epoch_plan
from jaxnets.interop import to_numpy
from jaxnets.models import GPT, Seq2Seq, TransformerClassifier, TransformerSeq2Seq, ViT
from jaxnets.models.seq2seq import shifted, teacher_forcing
from jaxnets.training import fit, minimize, supervised
from tests import tier
from tests.parity.oracle import assert_equal, copy_weights

TOKENS, TIME = 11, 6
MODELS = {
    "gpt": lambda **made: GPT(TOKENS, 8, 1, 2, 8, **made),
    "gpt-tanh-untied": lambda **made: GPT(
        TOKENS, 8, 1, 2, 8, bias=False, tie_weights=False, approximate="tanh", **made
    ),
    "classifier": lambda **made: TransformerClassifier(
        TOKENS, 8, 2, 1, 16, norm_first=True, output_dim=4, **made
    ),
    "vit": lambda **made: ViT(8, 4, 1, 2, 8, 16, in_channels=2, num_classes=4, **made),
    "seq2seq": lambda **made: Seq2Seq(TOKENS, 5, 7, **made),
    "transformer-seq2seq": lambda **made: TransformerSeq2Seq(TOKENS, 8, 2, 1, 16, **made),
}


def rows(count, time, draw, full=False):
    """Rows of tokens of random lengths, padded with 0."""
    tokens = draw.integers(1, TOKENS, size=(count, time)).astype(np.int32)
    if not full:
        tokens[np.arange(time)[None, :] >= draw.integers(1, time + 1, size=(count, 1))] = 0
    return tokens


def task(name, count, dtype):
    draw = np.random.default_rng(0)
    if name == "vit":
        return draw.normal(size=(count, 8, 8, 2)).astype(dtype), draw.integers(4, size=count)
    if name == "classifier":
        return rows(count, TIME, draw), draw.integers(4, size=count)
    return rows(count, TIME, draw), rows(count, 5 if "seq2seq" in name else TIME, draw)


def inputs_of(name, inputs, labels):
    if name == "vit":
        return (torch.tensor(inputs).permute(0, 3, 1, 2),)
    if "seq2seq" in name:
        return torch.tensor(inputs), torch.tensor(np.array(shifted(jnp.asarray(labels))))
    return (torch.tensor(inputs),)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_training_equals_torch_in_float64(name):
    model = MODELS[name](rngs=nnx.Rngs(0), param_dtype=np.float64)
    network = twin(model).double()
    copy_weights(model, network)
    inputs, labels = task(name, 11, np.float64)
    labels = labels.astype(np.int32)
    ignore = 0 if "seq2seq" in name else -100
    objective = teacher_forcing if ignore == 0 else supervised(losses.cross_entropy)
    split = Split(inputs, labels)
    result = fit(
        model, Dataset("drawn", split, split), minimize(objective, optimizers.adam(0.01)),
        epochs=1, batch_size=4, seed=1, progress="none",
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    plan, torch_losses = epoch_plan(11, 4, seed=1, epoch=0), []
    for chosen in [*plan.full, plan.rest]:
        optimizer.zero_grad()
        outputs = network(*inputs_of(name, inputs[chosen], labels[chosen]))
        expected = torch.tensor(labels[chosen]).long().flatten()
        loss = torch.nn.functional.cross_entropy(
            outputs.flatten(0, -2), expected, ignore_index=ignore
        )
        loss.backward()
        optimizer.step()
        torch_losses.append(loss.item())
    np.testing.assert_allclose(result.step_losses, torch_losses, rtol=1e-10)
    expected = network.state_dict()
    for key, value in to_numpy(result.model).items():
        np.testing.assert_allclose(value, expected.pop(key).numpy(), rtol=1e-6, atol=1e-9)
    assert not expected


@pytest.mark.parametrize("name", tier.one_in(2, MODELS))
def test_outputs_equal_torch_in_float32(name):
    model = MODELS[name](rngs=nnx.Rngs(0))
    network = twin(model)
    copy_weights(model, network)
    model.eval()
    network.eval()
    inputs, labels = task(name, 5, np.float32)
    ours = (inputs, shifted(jnp.asarray(labels))) if "seq2seq" in name else (inputs,)
    outputs = jax.jit(lambda *given: model(*given))(*map(jnp.asarray, ours))
    assert_equal(outputs, network(*inputs_of(name, inputs, labels)), name)
