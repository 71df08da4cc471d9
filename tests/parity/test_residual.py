"""Residual networks compared with PyTorch's: outputs, gradients, statistics, checkpoints."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import compare, losses
from jaxnets.interop import load_torch, to_torch
from jaxnets.models import CifarResNet, ResNet
from tests import tier
from tests.parity.oracle import assert_equal

KW = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
NETWORKS = {
    "option A": (lambda: CifarResNet(8, 5, **KW), (2, 3, 8, 8)),
    "option B": (lambda: CifarResNet(14, 5, 1, shortcut="B", **KW), (3, 1, 8, 8)),
    "resnet-18": (lambda: ResNet(18, 5, **KW), (4, 3, 40, 40)),
}


@pytest.mark.parametrize("name", tier.usually(NETWORKS, ["option B"]))
def test_outputs_gradients_and_statistics_equal_torch(name):
    build, shape = NETWORKS[name]
    ours = build()
    theirs = compare.twin(ours).double()
    ours.train()
    draw = np.random.default_rng(0)
    images, labels = draw.normal(size=shape), draw.integers(0, 5, shape[0])
    load_torch(ours, theirs.state_dict())
    x = torch.tensor(images, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(theirs(x), torch.tensor(labels))
    loss.backward()
    graph, parameters, others = nnx.split(ours, nnx.Param, ...)

    @jax.jit
    def value_and_gradients(parameters, images, others):
        def loss_of(parameters, images, others):
            model = nnx.merge(graph, parameters, others, copy=True)
            loss = losses.cross_entropy(model(images), jnp.asarray(labels))
            return loss, nnx.state(model)

        return jax.value_and_grad(loss_of, (0, 1), has_aux=True)(parameters, images, others)

    inputs = jnp.asarray(images.transpose(0, 2, 3, 1))
    (ours_loss, after), (gradients, by_images) = value_and_gradients(parameters, inputs, others)
    assert_equal(np.asarray(ours_loss), loss.detach().numpy(), np.float64)
    assert_equal(np.asarray(by_images).transpose(0, 3, 1, 2), x.grad.numpy(), np.float64)
    nnx.update(ours, gradients)
    for key, value in to_torch(ours).items():
        if key in dict(theirs.named_parameters()):
            expected = dict(theirs.named_parameters())[key].grad
            assert_equal(value.numpy(), expected.numpy(), np.float64)
    nnx.update(ours, after)
    for key, value in to_torch(ours).items():
        assert_equal(value.numpy(), theirs.state_dict()[key].numpy(), np.float64)


def test_a_checkpoint_of_parallel_training_loads(tmp_path):
    theirs = compare.twin(CifarResNet(8, 5, rngs=nnx.Rngs(1)))
    state = OrderedDict((f"module.{name}", value) for name, value in theirs.state_dict().items())
    torch.save({"state_dict": state, "best_prec1": 91.7}, tmp_path / "resnet8.th")
    ours = CifarResNet(8, 5, rngs=nnx.Rngs(0))
    load_torch(ours, tmp_path / "resnet8.th")
    ours.eval()
    theirs.eval()
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.tensor(images).permute(0, 3, 1, 2))
    np.testing.assert_allclose(nnx.jit(ours)(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_sizes_are_those_of_the_papers_and_of_torchvision():
    def parameters(build):
        shapes = jax.tree.leaves(nnx.state(nnx.eval_shape(build), nnx.Param))
        return sum(leaf.size for leaf in shapes)

    assert parameters(lambda: CifarResNet(20, rngs=nnx.Rngs(0))) == 269_722
    assert parameters(lambda: CifarResNet(56, rngs=nnx.Rngs(0))) == 853_018
    assert parameters(lambda: ResNet(18, rngs=nnx.Rngs(0))) == 11_689_512
    assert parameters(lambda: ResNet(34, rngs=nnx.Rngs(0))) == 21_797_672
    names = set(to_torch(ResNet(18, rngs=nnx.Rngs(0))))
    assert {"layer2.0.downsample.1.running_mean", "layer4.1.bn2.weight", "fc.bias"} <= names
    assert not any("layer1.0.downsample" in name for name in names)


MESSAGES = [
    (lambda: CifarResNet(21, **KW), "depth: expected 6n [+] 2, such as 20, 32, 44 or 56, got 21"),
    (lambda: CifarResNet(shortcut="C", **KW), "shortcut: expected one of A, B"),
    (lambda: ResNet(50, **KW), "depth: expected 18 or 34, got 50"),
    (
        lambda: CifarResNet(8, **KW)(jnp.zeros((1, 8, 8, 1))),
        r"images: expected .* \[batch, height, width, 3\]",
    ),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
