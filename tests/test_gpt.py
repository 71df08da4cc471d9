"""GPT: its cache, the checkpoints that it loads, and its recipe's windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets.compare import twin
from jaxnets.data import load, text
from jaxnets.interop import load_torch, read_torch
from jaxnets.models import GPT
from jaxnets.models.gpt import gpt2_weights
from jaxnets.models.positions import sinusoidal_positions

TOKENS = np.random.default_rng(0).integers(11, size=(2, 12)).astype(np.int32)


def small(seed=0, **options):
    model = GPT(11, 8, 2, 2, 8, rngs=nnx.Rngs(seed), **options)
    model.eval()
    return model


def test_what_is_read_piece_by_piece_has_the_logits_of_a_call():
    model = small()
    call, advance = jax.jit(lambda t: model(t)), jax.jit(lambda t, c: model.advance(t, c))
    logits, cache = advance(TOKENS[:, :5], None)
    found = [logits]
    for place in range(5, 8):
        logits, cache = advance(TOKENS[:, place : place + 1], cache)
        found.append(logits)
    np.testing.assert_allclose(np.concatenate(found, 1), call(TOKENS[:, :8]), atol=1e-6)
    for place in range(8, 12):  # the block is full, and shifts
        logits, cache = advance(TOKENS[:, place : place + 1], cache)
        np.testing.assert_allclose(
            logits[:, 0], call(TOKENS[:, place - 7 : place + 1])[:, -1], atol=1e-6
        )
    assert int(cache.size) == 8


def test_a_checkpoint_of_nanogpt_loads(tmp_path):
    model, network = small(), twin(small(1))
    state = {f"_orig_mod.{name}": value for name, value in network.state_dict().items()}
    for number in range(2):  # in versions without flash attention
        mask = torch.ones(8, 8).tril().view(1, 1, 8, 8)
        state[f"_orig_mod.transformer.h.{number}.attn.bias"] = mask
    torch.save({"model": state, "model_args": {"n_layer": 2}, "iter_num": 7}, tmp_path / "ckpt.pt")
    load_torch(model, tmp_path / "ckpt.pt", rename={"*.attn.bias": None})
    network.eval()
    expected = network(torch.tensor(TOKENS[:, :8])).detach()
    np.testing.assert_allclose(model(TOKENS[:, :8]), expected, rtol=1e-4, atol=1e-5)
    assert model.lm_head.weight is model.transformer.wte.embedding


def test_a_checkpoint_of_hugging_face_loads(tmp_path):
    model, network = small(approximate="tanh"), twin(small(1, approximate="tanh"))
    state = {}
    for name, value in network.state_dict().items():
        conv1d = name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))
        if name != "lm_head.weight":
            short = name.removeprefix("transformer.")
            state[short] = value.T.contiguous() if conv1d else value
    state["h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
    state["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(state, tmp_path / "pytorch_model.bin")
    load_torch(model, gpt2_weights(read_torch(tmp_path / "pytorch_model.bin").arrays))
    network.eval()
    expected = network(torch.tensor(TOKENS[:, :8])).detach()
    np.testing.assert_allclose(model(TOKENS[:, :8]), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="arrays: expected the arrays of a GPT-2 by name"):
        gpt2_weights({"weight": np.zeros(2)})


def test_initial_values_are_those_of_gpt_2():
    model = GPT(200, 32, 2, 4, 64, rngs=nnx.Rngs(0))
    parts = model.transformer
    for array, std in (
        (parts.wte.embedding, 0.02),
        (parts.h[1].attn.c_attn.kernel, 0.02),
        (parts.h[1].mlp.c_proj.kernel, 0.01),
        (parts.h[0].attn.c_proj.kernel, 0.01),
    ):
        assert float(array[...].std()) == pytest.approx(std, rel=0.05)
    assert not parts.h[0].mlp.c_fc.bias[...].any()
    assert (parts.ln_f.scale[...] == 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_embd": 9}, "n_embd: expected a multiple of 2 heads, got 9"),
        ({"dropout": 1.0}, "dropout: expected a number in .0, 1., got 1.0"),
        ({"approximate": "erf"}, "approximate: expected one of none, tanh, got"),
        ({"tie_weights": 1}, "tie_weights: expected"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GPT(**({"vocab_size": 11, "n_head": 2, "n_embd": 8, "rngs": nnx.Rngs(0)} | options))


def test_too_many_tokens_are_refused():
    expected = r"tokens: expected integers \[batch, time\] with time up to 8, got"
    with pytest.raises(ValueError, match=expected):
        small()(TOKENS)
    with pytest.raises(ValueError, match=expected):
        small().advance(TOKENS, None)


def test_windows_overlap_by_the_stride(tmp_path):
    split = text.windows(np.arange(10, dtype=np.int32), 4, stride=3)
    np.testing.assert_array_equal(split.inputs[:, 0], [0, 3])
    np.testing.assert_array_equal(split.labels[:, -1], [4, 7])
    (tmp_path / "input.txt").write_text("abcdefgh" * 40)
    data = load("text", data_dir=tmp_path, window=8, stride=5)
    assert data.train.inputs.shape == ((287 - 8) // 5 + 1, 8)
    assert len(data.test) == 31 // 8
    with pytest.raises(ValueError, match="stride: expected a positive integer, got 0"):
        load("text", data_dir=tmp_path, stride=0)


def test_positions_are_those_of_the_paper():
    found = sinusoidal_positions(50, 7)
    assert found[9, 4] == pytest.approx(np.sin(9 / 10000 ** (4 / 7)))
    assert found[9, 5] == pytest.approx(np.cos(9 / 10000 ** (4 / 7)))
    assert jnp.asarray(found).dtype == np.float32
