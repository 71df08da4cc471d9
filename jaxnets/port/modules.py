"""Rules for the classes of torch.nn: constructors, calls and orders of axes."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from jaxnets import layers
from jaxnets.interop.table import LOSSES
from jaxnets.port import layouts
from jaxnets.port.names import is_einops
from jaxnets.port.ops_einops import arranged
from jaxnets.port.ops_images import image
from jaxnets.port.ops_networks import packed, sequence_order
from jaxnets.port.ops_shapes import reshaped
from jaxnets.port.rules import RULES, known, result, several, tensor, written
from jaxnets.port.values import (
    Context,
    Items,
    Plain,
    Refused,
    Tensor,
    Value,
    channels_last,
    natural,
)

#: Rewrites a call of a layer: ``(base, args, kwargs, context) -> result``.
_Call = Callable[[Plain, list[Value], dict[str, Value], Context], Value]
#: Writes a constructor call: ``(arguments by PyTorch's names, order of the input, context) ->
#: text``. None means that the default constructor call applies.
_Made = Callable[[dict[str, Value], tuple[int, ...] | None, Context], str | None]

#: The order of the input in the last call of each layer.
_SEEN: WeakKeyDictionary[Any, tuple[int, ...]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Module:
    """The rule of one class of torch.nn.

    Attributes:
        name: the name of the class.
        reference: the source text of the counterpart, such as ``layers.Conv2d``.
        called: rewrites a call of the layer.
        made: writes the constructor call; None if the counterpart takes the same arguments.
        rngs: whether the counterpart's constructor takes ``rngs``.
        parameters: for PyTorch's parameters and buffers, the name and order in the counterpart.
    """

    name: str
    reference: str
    called: _Call
    made: _Made | None = None
    rngs: bool = False
    parameters: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def call(self, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
        """Rewrites a call of the layer, whose first argument is the layer itself."""
        base, *given = args
        assert isinstance(base, Plain)
        first = next((x for x in (*given, *kwargs.values()) if isinstance(x, Tensor)), None)
        if first is not None and not context.writing and base.value is not None:
            _SEEN[base.value] = first.order
        return self.called(base, given, kwargs, context)

    def construct(self, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
        """Rewrites a constructor call; ``context.result`` is PyTorch's layer, or None."""
        layer = context.result
        given = _by_name(self.name, layer, args, kwargs)
        context.use(self.reference.partition(".")[0])
        if self.made is not None:
            order = _SEEN.get(layer) if layer is not None else None
            text = self.made(given, order, context)
            if text is not None:
                return Plain(text, layer)
        texts = [
            written(value) if isinstance(name, int) else f"{name}={written(value)}"
            for name, value in _positional(given, len(args)).items()
        ]
        if self.rngs:
            texts.append("rngs=rngs")
        return Plain(f"{self.reference}({', '.join(texts)})", layer)


# ---- Arguments of constructors ----

DROPPED = ("inplace", "device", "dtype", "batch_first", "enable_nested_tensor", "mask_check")
_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout")
_NAMES = {
    "LSTM": (*_RECURRENT, "bidirectional", "proj_size"),
    "GRU": (*_RECURRENT, "bidirectional"),
    "RNN": (
        *("input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "batch_first"),
        *("dropout", "bidirectional"),
    ),
    "Rearrange": ("pattern",),
    "Reduce": ("pattern", "reduction"),
}


def _by_name(
    name: str, layer: Any, args: list[Value], kwargs: dict[str, Value]
) -> dict[str, Value]:
    """Returns the arguments by PyTorch's names."""
    import torch

    names = _NAMES.get(name)
    if names is None:
        signature = inspect.signature(getattr(torch.nn, name).__init__)
        names = tuple(list(signature.parameters)[1:])
    if any(isinstance(p, str) and p in ("args", "kwargs") for p in names) and args:
        names = tuple(f"_{i}" for i in range(len(args)))  # Identity takes any arguments
    return dict(zip(names, args, strict=False)) | kwargs


def _positional(given: dict[str, Value], count: int) -> dict[str | int, Value]:
    """Returns the arguments to pass on: positional ones by index, others by name.

    After an argument that is dropped, the remaining arguments are passed by name.
    """
    found: dict[str | int, Value] = {}
    gap = False
    for place, (name, value) in enumerate(given.items()):
        if name in DROPPED:
            gap = True
        else:
            found[place if place < count and not gap else name] = value
    return found


# ---- Calls ----


def _text(base: Plain, *args: Any, **kwargs: Any) -> str:
    texts = [written(arg) for arg in args if arg is not None]
    texts += [f"{name}={written(value)}" for name, value in kwargs.items() if value is not None]
    return f"{base.text}({', '.join(texts)})"


def _alone(
    args: list[Value], kwargs: dict[str, Value], name: str = "input"
) -> tuple[Tensor, list[Value], dict[str, Value]]:
    """Returns the tensor argument of a call and the other arguments."""
    if not args:
        kwargs = dict(kwargs)
        return tensor(kwargs.pop(name, next(iter(kwargs.values())))), [], {}
    return tensor(args[0]), args[1:], kwargs


def _elementwise(
    base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context
) -> Value:
    """Rewrites a call of an elementwise layer, which accepts any order of axes."""
    x, _, _ = _alone(args, kwargs)
    return result(context, _text(base, x), x.order, origin=x.origin)


def _image(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    """Rewrites a call of a layer for images, sequences or volumes, whose input is channels last."""
    x, rest, more = _alone(args, kwargs)
    x = image(context, x, _spatial(base.value))
    text = _text(base, x, *rest, **more)
    if isinstance(context.result, tuple):
        items = enumerate(context.result)
        pairs = (result(context, f"{text}[{i}]", x.order, value=part) for i, part in items)
        return Items(tuple(pairs), text)
    return result(context, text, x.order)


def _spatial(layer: Any) -> int | None:
    """Returns the number of spatial axes from the name of a layer's class, or None."""
    found = re.search(r"([123])d$", type(layer).__name__)
    return int(found[1]) if found else None


def _channels(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    """Rewrites a call of a channels-last layer that also accepts vectors [N, C]."""
    x, _, _ = _alone(args, kwargs)
    x = x if x.ndim <= 2 else image(context, x)
    return result(context, _text(base, x), x.order)


def _last(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    """Rewrites a call of a layer that acts on PyTorch's last axis."""
    x, _, _ = _alone(args, kwargs)
    x = layouts.last(context, x)
    return result(context, _text(base, x), x.order)


def _natural(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    """Rewrites a call of a layer that needs PyTorch's order of axes."""
    given = [context.natural(x) if isinstance(x, Tensor) else x for x in args]
    named = {k: context.natural(x) if isinstance(x, Tensor) else x for k, x in kwargs.items()}
    text = _text(base, *given, **named)
    if isinstance(context.result, tuple):
        items = enumerate(context.result)
        return Items(tuple(result(context, f"{text}[{i}]", value=part) for i, part in items), text)
    return result(context, text)


def _layer_norm(
    base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context
) -> Value:
    """Rewrites a call of LayerNorm, over the last axes or all axes of an image but the batch."""
    x, _, _ = _alone(args, kwargs)
    count = len(base.value.normalized_shape)
    if count == x.ndim - 1 and x.order == channels_last(x.ndim) and count > 1:
        return result(context, _text(base, x), x.order)
    x = layouts.last(context, x, count)
    return result(context, _text(base, x), x.order)


def _softmax(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    x, _, _ = _alone(args, kwargs)
    return result(context, _text(base, x), x.order)


def _unpool(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    given = list(args) + [kwargs[name] for name in ("indices",) if name in kwargs]
    size = given[2] if len(given) > 2 else kwargs.get("output_size")
    x, indices = (image(context, value) for value in given[:2])
    if size is not None and known(size) is not None:
        sizes = several((size,))
        sizes = sizes[2:] if len(sizes) == x.ndim else sizes
        size = Items(tuple(sizes[-(x.ndim - 2) :]))
    return result(context, _text(base, x, indices, output_size=size), x.order)


def _flatten(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    x, _, _ = _alone(args, kwargs)
    shape = tuple(context.result.shape)
    if not _usual_flatten(base.value):
        view = reshaped(context, x, [str(n) for n in shape], shape)
        return view.with_text(_text(base, x if x.order == _flat_order(x) else context.natural(x)))
    return Tensor(_text(base, x), shape, natural(len(shape)), x.dtype)


def _usual_flatten(layer: Any) -> bool:
    return layer is None or (layer.start_dim == 1 and layer.end_dim == -1)


def _flat_order(x: Tensor) -> tuple[int, ...]:
    return natural(x.ndim)


def _unfold(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    x, _, _ = _alone(args, kwargs)
    return result(context, _text(base, image(context, x)), (0, 2, 1))


def _fold(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    x, _, _ = _alone(args, kwargs)
    return result(context, _text(base, context.convert(x, (0, 2, 1))), (0, 2, 3, 1))


def _embedding(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    x, _, _ = _alone(args, kwargs)
    return result(context, _text(base, x), (*x.order, x.ndim))


def _two(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    """Rewrites a call of a layer of two tensors in PyTorch's order."""
    a, b = (context.natural(tensor(x)) for x in (*args, *kwargs.values()))
    return result(context, _text(base, a, b))


# ---- Recurrent layers and attention ----


def _recurrent(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    given = list(args) + [kwargs[name] for name in ("input", "hx") if name in kwargs]
    x, state = given[0], given[1] if len(given) > 1 else None
    if state is not None and isinstance(state, Plain) and state.text == "None":
        state = None
    order = sequence_order(base.value.batch_first)
    lengths = None
    if isinstance(x, Items):
        text, lengths = packed(x)
    else:
        if tensor(x).ndim != 3:
            raise Refused("a sequence without a batch", "Add a batch axis: x[None], then [0].")
        text = written(context.convert(tensor(x), order))
    if isinstance(state, Tensor):
        state = context.natural(state)
    elif isinstance(state, Items) and state.text is None:
        state = Items(tuple(context.natural(tensor(one)) for one in state.items))
    made = _text(base, text, state, lengths=lengths)
    outputs, final = context.result
    first: Value
    if lengths is not None:
        first = Items(
            (result(context, f"{made}[0]", value=outputs[0]), Plain("None", None)), f"{made}[0]"
        )
    else:
        first = result(context, f"{made}[0]", order, value=outputs)
    if isinstance(final, tuple):
        parts = enumerate(final)
        second: Value = Items(
            tuple(result(context, f"{made}[1][{i}]", value=part) for i, part in parts),
            f"{made}[1]",
        )
    else:
        second = result(context, f"{made}[1]", value=final)
    return Items((first, second), made)


def _cell(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    given = list(args) + [kwargs[name] for name in ("input", "hx") if name in kwargs]
    if tensor(given[0]).ndim != 2:
        raise Refused("a step without a batch", "Add a batch axis: x[None], then [0].")
    return _natural(base, given, {}, context)


_ATTENTION = (
    *("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask"),
    *("average_attn_weights", "is_causal"),
)


def _attention(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    given = dict(zip(_ATTENTION, args, strict=False)) | kwargs
    order = sequence_order(base.value.batch_first)
    sequences = [given.pop(name) for name in _ATTENTION[:3]]
    if tensor(sequences[0]).ndim != 3:
        raise Refused("attention without a batch", "Add a batch axis: x[None], then [0].")
    inputs = [context.convert(tensor(x), order) for x in sequences]
    options = {
        name: _in_natural_order(value, context)
        for name, value in given.items()
        if not (isinstance(value, Plain) and value.text == "None")
    }
    text = _text(base, *inputs, **options)
    outputs, weights = context.result
    first = result(context, f"{text}[0]", order, value=outputs)
    second: Value = Plain(f"{text}[1]", None)
    if weights is not None:
        second = result(context, f"{text}[1]", value=weights)
    return Items((first, second), text)


def _batch_first(layer: Any) -> bool:
    """Whether a transformer layer takes batch-first inputs."""
    for name in ("self_attn", "layers", "encoder", "decoder"):
        if hasattr(layer, "batch_first"):
            return bool(layer.batch_first)
        inner = getattr(layer, name, None)
        if inner is not None:
            return _batch_first(inner[0] if name == "layers" else inner)
    return False


_TRANSFORMERS = {
    "TransformerEncoderLayer": ("src", "src_mask", "src_key_padding_mask", "is_causal"),
    "TransformerEncoder": ("src", "mask", "src_key_padding_mask", "is_causal"),
    "TransformerDecoderLayer": ("tgt", "memory"),
    "TransformerDecoder": ("tgt", "memory"),
    "Transformer": ("src", "tgt"),
}


def _transformer(
    base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context
) -> Value:
    order = sequence_order(_batch_first(base.value))
    sequences = ("src", "tgt", "memory")
    names = _TRANSFORMERS[type(base.value).__name__]

    def taken(name: str, value: Value) -> Value:
        if name in sequences:
            return context.convert(tensor(value), order)
        return _in_natural_order(value, context)  # a mask

    places = [*names, *[""] * len(args)]
    given = [taken(name, value) for name, value in zip(places, args, strict=False)]
    named = {name: taken(name, value) for name, value in kwargs.items()}
    return result(context, _text(base, *given, **named), order)


def _in_natural_order(value: Value, context: Context) -> Value:
    return context.natural(value) if isinstance(value, Tensor) else value


# ---- Constructors that depend on the order of the input ----


def _made_softmax(function: str) -> _Made:
    def made(
        given: dict[str, Value], order: tuple[int, ...] | None, context: Context
    ) -> str | None:
        dim = given.get("dim")
        name = function.rpartition(".")[2]
        ours = {"softmax": "Softmax", "log_softmax": "LogSoftmax", "glu": "GLU"}[name]
        place = known(dim, -1)
        if order is None or place is None:
            if place is None:
                raise Refused(f"nn.{ours} without dim", "Pass dim.")
            return None
        number = order.index(place % len(order))
        rank = len(order)
        if natural(rank) == order and (rank < 3 or place in (0, -1)):
            return f"layers.{ours}({'' if dim is None else written(dim)})"
        if rank == 3 or number in (0, rank - 1):
            return f"layers.{ours}({number - rank if number else 0})"
        return f"{context.use('functools', 'partial')}({_used(context, function)}, axis={number})"

    return made


def _used(context: Context, function: str) -> str:
    root, _, rest = function.partition(".")
    return context.use(root, rest)


def _made_layer_norm(
    given: dict[str, Value], order: tuple[int, ...] | None, context: Context
) -> str | None:
    shape = known(given["normalized_shape"])
    count = len(shape) if isinstance(shape, tuple | list) else 1
    if count == 1 or order is None:
        return None
    rest = [f"{name}={written(v)}" for name, v in given.items() if name != "normalized_shape"]
    rest = [text for text in rest if text.partition("=")[0] not in DROPPED]
    sizes = [written(one) for one in several((given["normalized_shape"],))]
    if order == channels_last(len(order)) and count == len(order) - 1:
        sizes = [*sizes[1:], sizes[0]]
        moved = ["channels_last=True"] if count != 3 else []
    else:
        moved = ["channels_last=False"] if count == 3 or len(set(shape)) == 1 else []
    shape_text = f"({', '.join(sizes)})"
    return f"layers.LayerNorm({', '.join([shape_text, *rest, *moved])})"


def _made_flatten(
    given: dict[str, Value], order: tuple[int, ...] | None, context: Context
) -> str | None:
    start, end = known(given.get("start_dim"), 1), known(given.get("end_dim"), -1)
    if order is None:
        return None
    rank = len(order)
    if start == 1 and end in (-1, rank - 1):
        if rank <= 2 or order == channels_last(rank):
            return "layers.Flatten()"
        if order == natural(rank):
            return "(lambda x: x.reshape(len(x), -1))"
    if order != natural(rank):
        raise Refused("nn.Flatten of some axes of an image", "Use torch.flatten in forward.")
    begin, stop = start % rank, end % rank
    before = f"*x.shape[:{begin}], " if begin else ""
    after = f", *x.shape[{stop + 1}:]" if stop + 1 < rank else ""
    return f"(lambda x: x.reshape({before}-1{after}))"


def _called_unflatten(
    base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context
) -> Value:
    x, _, _ = _alone(args, kwargs)
    rank = context.result.ndim
    if x.ndim == 2 and rank >= 3 and base.value.dim % 2 == 1:
        return result(context, _text(base, x), channels_last(rank))
    return result(context, _text(base, context.natural(x)))


def _made_unflatten(
    given: dict[str, Value], order: tuple[int, ...] | None, context: Context
) -> str | None:
    """Writes the constructor call of Unflatten, whose image results are channels last."""
    sizes = [written(one) for one in several((given["unflattened_size"],))]
    place = known(given["dim"])
    if order is None:
        return None
    if len(order) == 2 and place % 2 == 1 and len(sizes) >= 2:
        context.use("jnp")
        view = f"x.reshape(len(x), {', '.join(sizes)})"
        return f"(lambda x: jnp.moveaxis({view}, 1, -1))"
    place %= len(order)
    before = f"*x.shape[:{place}], " if place else ""
    after = f", *x.shape[{place + 1}:]" if place + 1 < len(order) else ""
    return f"(lambda x: x.reshape({before}{', '.join(sizes)}{after}))"


# ---- Layers of einops, which become calls of its functions ----

#: The order of the last result of each layer.
RETURNED: WeakKeyDictionary[Any, tuple[int, ...]] = WeakKeyDictionary()


def _rearranged(
    base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context
) -> Value:
    x, _, _ = _alone(args, kwargs)
    rank = context.result.ndim
    _, order = arranged(base.value.pattern, x.order, RETURNED.get(base.value), rank)
    return result(context, _text(base, x), order)


def _made_rearranged(function: str) -> _Made:
    def made(
        given: dict[str, Value], order: tuple[int, ...] | None, context: Context
    ) -> str | None:
        pattern = known(given.pop("pattern"))
        if order is not None:
            left = RETURNED.get(context.result)
            rank = len(order) if left is None else len(left)
            pattern, _ = arranged(pattern, order, left, rank)
        before, _, after = pattern.partition("->")
        if before.split() == after.split():
            context.use("layers")
            return "layers.Identity()"
        context.use("functools")
        context.use("einops")
        options = "".join(f", {name}={written(value)}" for name, value in given.items())
        return f'functools.partial(einops.{function}, pattern="{pattern}"{options})'

    return made


EINOPS = {
    "Rearrange": Module(
        "Rearrange", "einops.rearrange", _rearranged, _made_rearranged("rearrange")
    ),
    "Reduce": Module("Reduce", "einops.reduce", _rearranged, _made_rearranged("reduce")),
}


# ---- Losses, which become functions ----


def _loss(name: str) -> Module:
    """Returns the rule of a loss class, which becomes a function with the constructor's options."""
    function = LOSSES[name].name.rpartition(".")[2]

    def called(base: Plain, args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
        value = RULES[function](args, kwargs, context)
        assert isinstance(value, Tensor)
        return value.with_text(base.text + value.text.removeprefix(f"F.{function}"))

    def made(given: dict[str, Value], order: tuple[int, ...] | None, context: Context) -> str:
        unused = (*DROPPED, "size_average", "reduce")
        texts = [f"{k}={written(v)}" for k, v in given.items() if k not in unused]
        if not texts:
            return f"F.{function}"
        partial = context.use("functools", "partial")
        return f"{partial}(F.{function}, {', '.join(texts)})"

    return Module(name, f"F.{function}", called, made)


# ---- The table ----

_CONSTANT = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "PReLU", "RMSNorm")
#: For PyTorch's parameters, the name and the order of the axes in the counterpart.
_Names = dict[str, tuple[str, tuple[int, ...]]]
_SCALED: _Names = {"weight": ("scale", (0,)), "bias": ("bias", (0,))}
_STATISTICS: _Names = {"running_mean": ("mean", (0,)), "running_var": ("var", (0,))}


def _recurrent_parameters() -> _Names:
    found: _Names = {}
    for end in ["", *(f"_l{k}{way}" for k in range(8) for way in ("", "_reverse"))]:
        for kind in ("ih", "hh", "hr"):
            found[f"weight_{kind}{end}"] = f"kernel_{kind}{end}", (1, 0)
            found[f"bias_{kind}{end}"] = f"bias_{kind}{end}", (0,)
    return found


_PARAMETERS: dict[str, _Names] = {
    "Linear": {"weight": ("kernel", (1, 0)), "bias": ("bias", (0,))},
    "Conv1d": {"weight": ("kernel", (2, 1, 0)), "bias": ("bias", (0,))},
    "Conv2d": {"weight": ("kernel", (2, 3, 1, 0)), "bias": ("bias", (0,))},
    "Conv3d": {"weight": ("kernel", (2, 3, 4, 1, 0)), "bias": ("bias", (0,))},
    "BatchNorm1d": _SCALED | _STATISTICS,
    "BatchNorm2d": _SCALED | _STATISTICS,
    "BatchNorm3d": _SCALED | _STATISTICS,
    "LayerNorm": _SCALED,
    "RMSNorm": {"weight": ("scale", (0,))},
    "GroupNorm": _SCALED,
    "Embedding": {"weight": ("embedding", (0, 1))},
    "PReLU": {"weight": ("negative_slope", (0,))},
    "MultiheadAttention": {
        "in_proj_weight": ("in_proj_kernel", (1, 0)),
        "in_proj_bias": ("in_proj_bias", (0,)),
    },
    **dict.fromkeys(
        ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"), _recurrent_parameters()
    ),
}

_CALLS: tuple[tuple[_Call, tuple[str, ...]], ...] = (
    (
        _elementwise,
        (
            *("AlphaDropout", "CELU", "Dropout", "ELU", "GELU", "Hardshrink", "Hardsigmoid"),
            *("Hardswish", "Hardtanh", "Identity", "LeakyReLU", "LogSigmoid", "Mish", "RReLU"),
            *("ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign"),
            *("Tanh", "Tanhshrink", "Threshold"),
        ),
    ),
    (
        _image,
        (
            *(f"Conv{n}d" for n in (1, 2, 3)),
            *(f"ConvTranspose{n}d" for n in (1, 2, 3)),
            *(f"{kind}Pool{n}d" for kind in ("Max", "Avg", "LP") for n in (1, 2, 3)),
            *(f"Adaptive{kind}Pool{n}d" for kind in ("Max", "Avg") for n in (1, 2, 3)),
            *("FractionalMaxPool2d", "FractionalMaxPool3d", "BatchNorm2d", "BatchNorm3d"),
            *(f"InstanceNorm{n}d" for n in (1, 2, 3)),
            *(f"{kind}Pad{n}d" for n in (1, 2, 3) for kind in ("Zero", "Constant", "Reflection")),
            *(f"{kind}Pad{n}d" for n in (1, 2, 3) for kind in ("Replication", "Circular")),
            *("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d", "PixelShuffle"),
            *("PixelUnshuffle", "ChannelShuffle", "LocalResponseNorm", "CrossMapLRN2d"),
            *("Softmax2d",),
        ),
    ),
    (
        _channels,
        (
            *("BatchNorm1d", "GroupNorm", "PReLU", "Dropout1d", "Dropout2d", "Dropout3d"),
            "FeatureAlphaDropout",
        ),
    ),
    (_last, ("Linear", "RMSNorm")),
    (_layer_norm, ("LayerNorm",)),
    (_softmax, ("Softmax", "LogSoftmax", "GLU")),
    (_unpool, ("MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d")),
    (_flatten, ("Flatten",)),
    (_unfold, ("Unfold",)),
    (_fold, ("Fold",)),
    (_called_unflatten, ("Unflatten",)),
    (_embedding, ("Embedding",)),
    (_two, ("Bilinear", "CosineSimilarity", "PairwiseDistance")),
    (_recurrent, ("LSTM", "GRU", "RNN")),
    (_cell, ("LSTMCell", "GRUCell", "RNNCell")),
    (_attention, ("MultiheadAttention",)),
    (_transformer, tuple(_TRANSFORMERS)),
)
_MADE: dict[str, _Made] = {
    "Softmax": _made_softmax("jax.nn.softmax"),
    "LogSoftmax": _made_softmax("jax.nn.log_softmax"),
    "GLU": _made_softmax("jax.nn.glu"),
    "LayerNorm": _made_layer_norm,
    "Flatten": _made_flatten,
    "Unflatten": _made_unflatten,
}


def _takes_rngs(ours: Any, name: str) -> bool:
    if any(name.startswith(kind) for kind in _CONSTANT):
        return False
    return "rngs" in inspect.signature(ours.__init__).parameters


def _table() -> dict[str, Module]:
    found = {}
    for called, names in _CALLS:
        for name in names:
            ours = getattr(layers, name, None)
            made = _MADE.get(name)
            if ours is None and made is None:
                continue
            rngs = ours is not None and _takes_rngs(ours, name)
            parameters = _PARAMETERS.get(name, {})
            found[name] = Module(name, f"layers.{name}", called, made, rngs, parameters)
    losses = {name: row.name.rpartition(".")[2] for name, row in LOSSES.items()}
    return found | {name: _loss(name) for name, function in losses.items() if function in RULES}


MODULES: dict[str, Module] = _table()


def find(kind: type) -> Module | None:
    """Returns the rule of a class of torch.nn or of einops, or None."""
    if kind.__name__.startswith("Parametrized") and len(kind.__mro__) > 1:
        return find(kind.__mro__[1])
    if is_einops(kind):
        return EINOPS.get(kind.__name__)
    if not kind.__module__.startswith("torch.nn."):
        return None
    return MODULES.get(kind.__name__)
