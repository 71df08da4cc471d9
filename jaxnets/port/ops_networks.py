"""Rules for normalization, attention, lookups, distances, losses and packed sequences."""

import ast

from jaxnets.port import layouts
from jaxnets.port.ops_elementwise import elementwise
from jaxnets.port.ops_images import image
from jaxnets.port.rules import (
    Given,
    call,
    known,
    present,
    refuse,
    result,
    rule,
    tensor,
    written,
)
from jaxnets.port.values import (
    ATOM,
    Context,
    Items,
    Plain,
    Refused,
    Tensor,
    Value,
    bound,
    channels_last,
    natural,
    text_of,
)

# ---- Normalization ----


@rule("layer_norm")
def layer_norm(
    context: Context,
    input: Value,
    normalized_shape: Value,
    weight: Given = None,
    bias: Given = None,
    eps: Given = None,
    cudnn_enable: Given = None,
) -> Value:
    """Ports layer normalization over the last axes."""
    shape = known(normalized_shape)
    count = len(shape) if isinstance(shape, tuple | list) else 1
    x = layouts.last(context, tensor(input), count)
    given = {k: v for k, v in (("weight", weight), ("bias", bias)) if present(v) is not None}
    ordered = [weight, bias] if len(given) == 2 else []
    named = {} if len(given) == 2 else given
    text = call(context, "F.layer_norm", x, normalized_shape, *ordered, **named, eps=eps)
    return elementwise(context, text, x)


@rule("rms_norm")
def rms_norm(
    context: Context,
    input: Value,
    normalized_shape: Value,
    weight: Given = None,
    eps: Given = None,
) -> Value:
    """Ports RMS normalization over the last axes."""
    x = layouts.last(context, tensor(input), len(known(normalized_shape)))
    scale = present(weight)
    text = call(context, "F.rms_norm", x, normalized_shape, scale, eps=eps)
    return elementwise(context, text, x)


def _variable(value: Given) -> str | None:
    """Returns the text of a variable, not of its array, so that it can be updated."""
    return None if present(value) is None else written(value).removesuffix("[...]")


@rule("F.batch_norm")
def batch_norm(
    context: Context,
    input: Value,
    running_mean: Value,
    running_var: Value,
    weight: Given = None,
    bias: Given = None,
    training: Given = None,
    momentum: Given = None,
    eps: Given = None,
) -> Value:
    """Ports batch normalization, which updates the running statistics in training mode."""
    x = _channels_last(context, tensor(input))
    statistics = [_variable(running_mean) or "None", _variable(running_var) or "None"]
    options = {"weight": weight, "bias": bias, "training": training, "momentum": momentum}
    given = {k: v for k, v in options.items() if present(v) is not None}
    text = call(context, "F.batch_norm", x, *statistics, **given, eps=eps)
    return elementwise(context, text, x)


def _channels_last(context: Context, x: Tensor) -> Tensor:
    return context.convert(x, channels_last(x.ndim)) if x.ndim > 2 else x


@rule("F.instance_norm")
def instance_norm(context: Context, input: Value, **options: Value) -> Value:
    """Ports instance normalization."""
    x = image(context, input)
    given = {k: v for k, v in options.items() if present(v) is not None}
    return elementwise(context, call(context, "F.instance_norm", x, **given), x)


@rule("F.group_norm", "torch.group_norm")
def group_norm(
    context: Context,
    input: Value,
    num_groups: Value,
    weight: Given = None,
    bias: Given = None,
    eps: Given = None,
    cudnn_enabled: Given = None,
) -> Value:
    """Ports group normalization."""
    x = _channels_last(context, tensor(input))
    options = {"weight": weight, "bias": bias, "eps": eps}
    given = {k: v for k, v in options.items() if present(v) is not None}
    return elementwise(context, call(context, "F.group_norm", x, num_groups, **given), x)


@rule("normalize")
def normalize(
    context: Context, input: Value, p: Given = None, dim: Given = None, eps: Given = None
) -> Value:
    """Ports normalization of vectors along an axis."""
    x = tensor(input)
    x = _outermost(context, x, known(dim, 1) % x.ndim)
    options = {"p": p, "dim": layouts.axis(x, dim if dim is not None else 1), "eps": eps}
    return elementwise(context, call(context, "F.normalize", x, **options), x)


def _outermost(context: Context, x: Tensor, dim: int) -> Tensor:
    """Converts an array so that an axis of PyTorch is its first or last axis."""
    if x.axis(dim) in (0, x.ndim - 1):
        return x
    return context.convert(x, (*(other for other in x.order if other != dim), dim))


# ---- Lookups ----


@rule("F.embedding")
def embedding(
    context: Context, input: Value, weight: Value, padding_idx: Given = None, **others: Value
) -> Value:
    """Ports the lookup of rows in a table."""
    x, table = tensor(input), context.natural(tensor(weight))
    if present(padding_idx) is not None:
        raise Refused("F.embedding with padding_idx", "Use the layer nn.Embedding.")
    return result(context, f"{bound(table, ATOM)}[{written(x)}]", (*x.order, x.ndim))


@rule("one_hot")
def one_hot(context: Context, input: Value, num_classes: Given = None) -> Value:
    """Ports one-hot vectors."""
    x = tensor(input)
    if known(num_classes, -1) == -1:
        raise Refused("the number of classes of F.one_hot depends on the data", "Pass num_classes.")
    text = call(context, "jax.nn.one_hot", x, num_classes, dtype="int")
    return result(context, text, (*x.order, x.ndim))


# ---- Distances ----


@rule("cosine_similarity")
def cosine_similarity(
    context: Context, x1: Value, x2: Value, dim: Given = None, eps: Given = None
) -> Value:
    """Ports the cosine similarity along an axis."""
    (a, b), leader = layouts.align(context, x1, x2)
    place = known(dim, 1) % leader.ndim
    if leader.axis(place) not in (0, leader.ndim - 1):
        a, b = (_outermost(context, tensor(x), place) for x in (x1, x2))
        leader = a
    axis = "-1" if leader.axis(place) else "0"
    text = call(context, "F.cosine_similarity", a, b, dim=axis, eps=eps)
    return result(context, text, layouts.without(leader, [place]))


@rule("pairwise_distance")
def pairwise_distance(
    context: Context,
    x1: Value,
    x2: Value,
    p: Given = None,
    eps: Given = None,
    keepdim: Given = None,
) -> Value:
    """Ports the distances between corresponding rows."""
    (a, b), leader = layouts.align(context, x1, x2)
    if leader.axis(-1) != leader.ndim - 1:
        a, b = (context.natural(tensor(x)) for x in (x1, x2))
        leader = a
    options = {"p": p, "eps": eps, "keepdim": keepdim}
    text = call(context, "F.pairwise_distance", a, b, **options)
    kept = known(keepdim, False)
    order = leader.order if kept else layouts.without(leader, [-1])
    return result(context, text, order)


# ---- Attention ----


@rule("scaled_dot_product_attention")
def scaled_dot_product_attention(
    context: Context,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Given = None,
    dropout_p: Given = None,
    is_causal: Given = None,
    *,
    scale: Given = None,
    enable_gqa: Given = None,
) -> Value:
    """Ports attention, in PyTorch's order of axes."""
    drops = isinstance(dropout_p, Plain) and not (dropout_p.constant and not dropout_p.value)
    given = [tensor(x) for x in (query, key, value)]
    causal = "True" if known(is_causal, False) else None
    naturals = [context.natural(x) for x in given]
    mask = present(attn_mask)
    mask = None if mask is None else context.natural(tensor(mask))
    options = {
        "attn_mask": mask,
        "dropout_p": dropout_p if drops else None,
        "is_causal": causal,
        "scale": present(scale),
        "enable_gqa": "True" if known(enable_gqa, False) else None,
        "rngs": context.rngs() if drops else None,
    }
    return result(context, call(context, "F.scaled_dot_product_attention", *naturals, **options))


refuse(
    "F.multi_head_attention_forward",
    "Use the layer nn.MultiheadAttention.",
    "multi_head_attention_forward",
)


@rule("nn.modules.transformer.generate_square_subsequent_mask")
def later_positions(context: Context, *args: Value, **kwargs: Value) -> Value:
    """Ports the causal mask, with minus infinity for all positions after the query."""
    size = args[-1] if args else kwargs["sz"]
    shape = f"({written(size)}, {written(size)})"
    full = call(context, "jnp.full", shape, f"-{context.use('jnp', 'inf')}")
    return result(context, call(context, "jnp.triu", full, 1))


# ---- Layers around layers ----


def _parametrization(ours: str, *names: str, **added: str) -> None:
    """Registers a wrapper of a layer, with further arguments by name."""

    @rule(*names)
    def apply(context: Context, module: Value, *args: Value, **kwargs: Value) -> Value:
        options = kwargs | {name: Plain(text, None) for name, text in added.items()}
        return Plain(call(context, ours, module, *args, **options), context.result)


_parametrization(
    "layers.WeightNorm", "nn.utils.weight_norm", "nn.utils.parametrizations.weight_norm"
)
_parametrization("layers.SpectralNorm", "nn.utils.parametrizations.spectral_norm", rngs="rngs")
_parametrization("layers.SpectralNorm", "nn.utils.spectral_norm", v_first="True", rngs="rngs")


# ---- Losses ----


def _loss(name: str, *positional: str, classes: bool = False) -> None:
    """Registers a loss of outputs and labels, with options by name."""

    @rule(name)
    def apply(
        context: Context, input: Value, target: Value, *args: Value, **kwargs: Value
    ) -> Value:
        options: dict[str, Value] = dict(zip(positional, args, strict=False)) | kwargs
        dropped = ("size_average", "reduce")
        options = {k: v for k, v in options.items() if k not in dropped and present(v) is not None}
        x, labels = tensor(input), tensor(target)
        if classes and x.ndim > 2:
            x = context.convert(x, channels_last(x.ndim))
        if labels.ndim == x.ndim:
            labels = context.convert(labels, x.order)
        elif classes:
            labels = context.natural(labels)
        text = call(context, f"F.{name}", x, labels, **options)
        order = layouts.without(x, [1]) if classes and x.ndim > 1 else x.order
        return result(context, text, order if context.result.ndim else ())


_AVERAGE = ("size_average", "reduce", "reduction")
_loss(
    *("cross_entropy", "weight", "size_average", "ignore_index", "reduce", "reduction"),
    "label_smoothing",
    classes=True,
)
_loss(
    *("nll_loss", "weight", "size_average", "ignore_index", "reduce", "reduction"),
    classes=True,
)
_loss("binary_cross_entropy", "weight", *_AVERAGE)
_loss("binary_cross_entropy_with_logits", "weight", *_AVERAGE, "pos_weight")
_loss("mse_loss", *_AVERAGE)
_loss("l1_loss", *_AVERAGE)
_loss("smooth_l1_loss", *_AVERAGE, "beta")
_loss("huber_loss", "reduction", "delta", "weight")
_loss("kl_div", *_AVERAGE, "log_target")
_loss("soft_margin_loss", *_AVERAGE)
_loss("multilabel_soft_margin_loss", "weight", *_AVERAGE)
_loss("hinge_embedding_loss", "margin", *_AVERAGE)
_loss("poisson_nll_loss", "log_input", "full", "size_average", "eps", "reduce", "reduction")


def _loss_of_three(name: str, *positional: str) -> None:
    """Registers a loss of three tensors."""

    @rule(name)
    def apply(
        context: Context, a: Value, b: Value, c: Value, *args: Value, **kwargs: Value
    ) -> Value:
        options: dict[str, Value] = dict(zip(positional, args, strict=False)) | kwargs
        dropped = ("size_average", "reduce")
        options = {k: v for k, v in options.items() if k not in dropped and present(v) is not None}
        given = [context.natural(tensor(x)) for x in (a, b, c)]
        return result(context, call(context, f"F.{name}", *given, **options))


_loss_of_three("margin_ranking_loss", "margin", *_AVERAGE)
_loss_of_three("cosine_embedding_loss", "margin", *_AVERAGE)
_loss_of_three("triplet_margin_loss", "margin", "p", "eps", "swap", *_AVERAGE)
_loss_of_three("gaussian_nll_loss", "full", "eps", "reduction")


@rule("ctc_loss")
def ctc_loss(
    context: Context,
    log_probs: Value,
    targets: Value,
    input_lengths: Value,
    target_lengths: Value,
    blank: Given = None,
    reduction: Given = None,
    zero_infinity: Given = None,
) -> Value:
    """Ports the CTC loss, whose log-probabilities are batch first in the port."""
    x = context.convert(tensor(log_probs), (1, 0, 2))
    options = {"blank": blank, "reduction": reduction, "zero_infinity": zero_infinity}
    text = call(context, "F.ctc_loss", x, targets, input_lengths, target_lengths, **options)
    return result(context, text)


# ---- Packed sequences: a pair of padded sequences, batch first, and lengths ----


@rule("nn.utils.rnn.pack_padded_sequence")
def pack_padded_sequence(
    context: Context,
    input: Value,
    lengths: Value,
    batch_first: Given = None,
    enforce_sorted: Given = None,
) -> Value:
    """Ports packing as a pair of padded sequences and lengths."""
    x = context.convert(tensor(input), sequence_order(known(batch_first, False)))
    return Items((x, lengths))


def sequence_order(batch_first: bool) -> tuple[int, ...]:
    """Returns the order of sequences, which are batch first in the port."""
    return natural(3) if batch_first else (1, 0, 2)


def packed(value: Items) -> tuple[str, str]:
    """Returns the texts of the padded sequences and the lengths of packed sequences."""
    text = text_of(value)
    tree = ast.parse(text, mode="eval").body
    if isinstance(tree, ast.Tuple):
        first, second = tree.elts[:2]
        return ast.unparse(first), ast.unparse(second)
    return f"{text}[0]", f"{text}[1]"


@rule("nn.utils.rnn.pad_packed_sequence")
def pad_packed_sequence(
    context: Context,
    sequence: Value,
    batch_first: Given = None,
    padding_value: Given = None,
    total_length: Given = None,
) -> Value:
    """Ports unpacking as the outputs of recurrent layers, which are already padded."""
    if known(padding_value, 0) != 0:
        raise Refused("padding of recurrent outputs by another value than 0", "Pad by 0.")
    context.note("recurrent outputs stay as long as their inputs: pad_packed_sequence is omitted")
    outputs, _ = context.result
    order = sequence_order(known(batch_first, False))
    return Items((result(context, text_of(sequence), order, value=outputs), Plain("None", None)))


@rule("nn.utils.rnn.pad_sequence")
def pad_sequence(
    context: Context,
    sequences: Value,
    batch_first: Given = None,
    padding_value: Given = None,
    padding_side: Given = None,
) -> Value:
    """Refuses padding of a list of sequences."""
    raise Refused(
        "sequences of several lengths", "Pad them before, and give the network their lengths."
    )
