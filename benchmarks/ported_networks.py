"""The time of training steps of PyTorch networks that `jaxnets port` rewrites.

    python benchmarks/ported_networks.py
    python benchmarks/ported_networks.py --network swin --rounds 3

The networks are those of `tests/port_zoo`, with larger sizes. A step
is the forward pass, the backward pass of the mean square of all outputs, and the update of SGD with
momentum. Each competitor is a separate process with all cores, and they take turns (`turns.py`):

- jaxnets: a jitted step of the port, `kernels.with_kernels(loss)` differentiated and updated by
  Optax.
- XLA: the same without kernels.
- torch eager: a step of the original network.

Writes `benchmarks/results/ported_networks.json` after each network and keeps those that are not
measured again, if they are of the same machine and versions.
"""

import datetime
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import machine
import numpy as np
import turns
from own_networks import recorded

sys.path.insert(0, str(Path(__file__).parent.parent))

NAMES = ["jaxnets", "XLA", "torch eager"]
STEPS = 10  # of a round
LR, MOMENTUM = 1e-3, 0.9


class Ported(NamedTuple):
    """A network and its inputs.

    Attributes:
        path: module and name of the class.
        inputs: the shape of each input in PyTorch's layout; a string such as "32x16:500" has
            integers below 500.
        options: the arguments of the class.
    """

    path: str
    inputs: list[str]
    options: dict[str, Any] | None = None


ZOO = "tests.port_zoo."
NETWORKS = {
    "diffusion-u-net": Ported(f"{ZOO}diffusion_unet:DiffusionUNet", ["16x1x28x28", "16"]),
    "style-transfer": Ported(f"{ZOO}style_net:StyleNet", ["8x3x64x64"]),
    "crnn": Ported(f"{ZOO}crnn:CRNN", ["16x1x32x64"]),
    "conformer": Ported(f"{ZOO}conformer:ConformerBlock", ["16x100x96"]),
    "volumes": Ported(f"{ZOO}volumes:VolumeCNN", ["8x1x16x32x32"]),
    "convnext": Ported(
        f"{ZOO}convnext:ConvNeXt", ["16x3x64x64"], {"depths": [2, 2], "dims": [48, 96]}
    ),
    "swin": Ported(
        f"{ZOO}swin:SwinBlock",
        ["16x256x96"],
        {"dim": 96, "resolution": 16, "num_heads": 3, "window_size": 8, "shift_size": 4},
    ),
    "densenet": Ported(
        f"{ZOO}densenet:DenseNet",
        ["32x3x32x32"],
        {"growth": 12, "block_config": (6, 6), "num_first": 24},
    ),
    "unet-bilinear": Ported(f"{ZOO}unet_bilinear:UNet", ["8x3x64x64"], {"width": 16}),
    "vit": Ported(
        f"{ZOO}vit:VisionTransformer",
        ["32x3x32x32"],
        {"img_size": 32, "dim": 96, "depth": 4, "num_heads": 3},
    ),
    "mixer": Ported(
        f"{ZOO}nhwc:Mixer", ["32x3x32x32"], {"image": 32, "patch": 4, "dim": 96, "depth": 4}
    ),
    "translator": Ported(
        f"{ZOO}transformer:Translator",
        ["24x32:500", "24x32:500"],
        {"src_vocab": 500, "tgt_vocab": 500, "emb": 128, "heads": 4},
    ),
    "llama": Ported(f"{ZOO}llama:Decoder", ["16x16:256"], {"vocab": 256, "dim": 128, "n_heads": 4}),
    "seq2seq": Ported(
        f"{ZOO}seq2seq:Seq2Seq",
        ["32x16:500", "32x16:500"],
        {"vocabulary": 500, "hidden_size": 128},
    ),
    "word-lstm": Ported(
        f"{ZOO}word_lm:RecurrentLM", ["35x20:1000"], {"words": 1000, "emb": 128, "hid": 128}
    ),
    "conv-lstm": Ported(f"{ZOO}orders:ConvLSTM", ["8x8x1x24x24"], {"channels": 1, "hidden": 16}),
    "sentence-cnn": Ported(
        f"{ZOO}recommenders:SentenceCNN",
        ["50x40:2000"],
        {"vocab": 2000, "dim": 100, "kinds": 64, "sizes": (3, 4, 5)},
    ),
    "wavenet": Ported(
        f"{ZOO}wavenet:WaveNet",
        ["8x1x1000"],
        {"layers": 6, "blocks": 2, "residual": 32, "skip": 64, "classes": 64},
    ),
    "speech-net": Ported(f"{ZOO}volumes:SpeechNet", ["16x1x4000"], {"n_out": 10, "width": 32}),
    "point-net": Ported(f"{ZOO}pointnet:PointNetCls", ["32x3x256"]),
    "siren": Ported(f"{ZOO}fields:Siren", ["4096x2"], {"hidden": 128}),
    "graph-attention": Ported(
        f"{ZOO}graphs:GraphAttention", ["500x128", "500x500:2"], {"n_in": 128, "n_out": 64}
    ),
}


def main() -> None:
    parser = turns.parser(__doc__, rounds=7, seconds=None, out="ported_networks", networks=NETWORKS)
    options = parser.parse_args()
    if options.competitor:
        with turns.failures_printed():
            turns.serve(run_of(options))
        return
    rows = {row["network"]: row for row in recorded(options.out)}
    print(turns.HEAD.format("step"))
    for name in options.network or NETWORKS:
        rows[name] = measured(name, options)
        turns.report(rows[name], "steps")
        machine.write(options.out, [rows[name] for name in NETWORKS if name in rows])


def measured(name: str, options: Any) -> dict:
    """Times the competitors with a network; returns a row of the results."""
    names = [one for one in NAMES if one not in options.without]
    arguments = ["--network", name, "--times", str(STEPS)]
    found = turns.take_turns(__file__, names, arguments, options.rounds)
    batch = int(NETWORKS[name].inputs[0].partition("x")[0])
    row = {"network": name, "batch": batch, "steps": STEPS, "competitors": found}
    return {**row, "date": datetime.date.today().isoformat()}


def run_of(options: Any) -> Callable[[], None]:
    """In a competitor: returns the function of a round."""
    import torch

    network = NETWORKS[options.network[0]]
    module, _, name = network.path.partition(":")
    build = getattr(importlib.import_module(module), name)
    torch.manual_seed(0)
    inputs = tuple(map(drawn, network.inputs))
    if options.competitor == "torch eager":
        return torch_steps(build(**(network.options or {})), inputs, options.times)
    return our_steps(build, network.options or {}, inputs, options)


def drawn(spec: str) -> Any:
    """Returns a random input of PyTorch."""
    import torch

    sizes, _, below = spec.partition(":")
    shape = [int(size) for size in sizes.split("x")]
    return torch.randint(int(below), shape) if below else torch.rand(shape)


def torch_steps(module: Any, inputs: tuple, times: int) -> Callable[[], None]:
    """Returns a function that takes steps with the original network."""
    import torch

    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=LR, momentum=MOMENTUM)

    def run() -> None:
        for _ in range(times):
            optimizer.zero_grad()
            loss = sum(y.square().mean() for y in leaves(module(*inputs)))
            loss.backward()
            optimizer.step()
        loss.item()

    return run


def leaves(outputs: Any) -> list[Any]:
    """Returns the floating-point arrays or tensors in nested outputs."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, list | tuple):
        return [leaf for one in outputs for leaf in leaves(one)]
    return [outputs] if "float" in str(getattr(outputs, "dtype", "")) else []


def our_steps(build: Any, options_of: dict, inputs: tuple, options: Any) -> Callable[[], None]:
    """Returns a function that takes steps with the port."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from jaxnets.kernels import with_kernels
    from jaxnets.port import port

    ported = port(build, inputs, kwargs=options_of)
    graph, weights, rest = nnx.split(ported.build(), nnx.Param, ...)
    arrays = [
        jnp.asarray(x.numpy() if order is None else np.transpose(x.numpy(), order))
        for x, order in zip(inputs, ported.inputs, strict=True)
    ]
    optimizer = optax.sgd(LR, momentum=MOMENTUM)
    # Copied, because the weights may share arrays, which cannot be donated twice.
    state = jax.tree.map(jnp.copy, (weights, optimizer.init(weights), rest))

    def loss_of(weights: Any, rest: Any, *arrays: Any) -> Any:
        model = nnx.merge(graph, weights, rest, copy=True)
        loss = sum(jnp.square(y).mean() for y in leaves(model(*arrays)))
        return loss, nnx.split(model, nnx.Param, ...)[2]

    wrapped = loss_of if options.competitor == "XLA" else with_kernels(loss_of)

    def step(weights: Any, moments: Any, rest: Any, *arrays: Any) -> Any:
        (loss, rest), gradients = jax.value_and_grad(wrapped, has_aux=True)(weights, rest, *arrays)
        updates, moments = optimizer.update(gradients, moments, weights)
        return (optax.apply_updates(weights, updates), moments, rest), loss

    compiled = jax.jit(step, donate_argnums=(0, 1, 2))

    def run() -> None:
        nonlocal state
        for _ in range(options.times):
            state, loss = compiled(*state, *arrays)
        float(loss)

    return run


if __name__ == "__main__":
    main()
