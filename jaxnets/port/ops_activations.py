"""Rules for activations, softmax and dropout."""

from jaxnets.port import layouts
from jaxnets.port.dtypes import dtype_text
from jaxnets.port.ops_elementwise import elementwise
from jaxnets.port.rules import Given, call, known, result, rule, tensor, written
from jaxnets.port.values import ATOM, Binding, Context, Plain, Refused, Tensor, Value, bound


def _activation(function: str, name: str, *parameters: str) -> None:
    """Registers an activation with numeric parameters, which are passed on if given."""

    @rule(name)
    def apply(context: Context, input: Value, *args: Value, **kwargs: Value) -> Value:
        x = tensor(input)
        kwargs.pop("inplace", None)
        args = args[: len(parameters)]  # the next argument would be inplace
        return elementwise(context, call(context, function, x, *args, **kwargs), x)


for _function, _name, *_parameters in (
    ("jax.nn.relu", "relu"),
    ("jax.nn.relu6", "relu6"),
    ("F.leaky_relu", "leaky_relu", "negative_slope"),
    ("jax.nn.elu", "elu", "alpha"),
    ("jax.nn.selu", "selu"),
    ("jax.nn.celu", "celu", "alpha"),
    ("jax.nn.silu", "silu"),
    ("jax.nn.mish", "mish"),
    ("jax.nn.sigmoid", "sigmoid"),
    ("jax.nn.sigmoid", "expit"),
    ("jax.nn.log_sigmoid", "logsigmoid"),
    ("jax.nn.soft_sign", "softsign"),
    ("jax.nn.hard_sigmoid", "hardsigmoid"),
    ("jax.nn.hard_swish", "hardswish"),
    ("F.hardtanh", "hardtanh", "min_val", "max_val"),
    ("F.hardshrink", "hardshrink", "lambd"),
    ("F.softshrink", "softshrink", "lambd"),
    ("F.tanhshrink", "tanhshrink"),
    ("F.threshold", "threshold", "threshold", "value"),
):
    _activation(_function, _name, *_parameters)


@rule("gelu")
def gelu(context: Context, input: Value, *, approximate: Given = None) -> Value:
    """Ports GELU, exact by default."""
    x = tensor(input)
    exact = "False" if known(approximate, "none") == "none" else None
    return elementwise(context, call(context, "jax.nn.gelu", x, approximate=exact), x)


@rule("softplus")
def softplus(context: Context, input: Value, beta: Given = None, threshold: Given = None) -> Value:
    """Ports softplus; thresholds of 20 and more have no effect in float32 and are dropped."""
    x = tensor(input)
    if known(beta, 1) == 1 and known(threshold, 20) >= 20:
        return elementwise(context, call(context, "jax.nn.softplus", x), x)
    text = call(context, "F.softplus", x, beta=beta, threshold=threshold)
    return elementwise(context, text, x)


@rule("prelu")
def prelu(context: Context, input: Value, weight: Value) -> Value:
    """Ports PReLU, with one slope or one for each channel."""
    x, slopes = tensor(input), tensor(weight)
    many = slopes.shape not in ((), (1,))
    if many and x.ndim > 2 and x.axis(1) != x.ndim - 1:
        x = layouts.last(context, layouts.permuted(x, (0, *range(2, x.ndim), 1)))
        x = layouts.permuted(x, (0, x.ndim - 1, *range(1, x.ndim - 1)))
    return elementwise(context, call(context, "F.prelu", x, slopes), x)


@rule("rrelu")
def rrelu(
    context: Context,
    input: Value,
    lower: Given = None,
    upper: Given = None,
    training: Given = None,
    inplace: Given = None,
) -> Value:
    """Ports RReLU in evaluation mode: leaky ReLU with the mean of both limits."""
    if known(training, False):
        raise Refused("random slopes of F.rrelu in training", "Use leaky_relu.")
    x = tensor(input)
    slope = (known(lower, 1 / 8) + known(upper, 1 / 3)) / 2
    return elementwise(context, call(context, "F.leaky_relu", x, slope), x)


@rule("glu")
def glu(context: Context, input: Value, dim: Given = None) -> Value:
    """Ports GLU: one half times the sigmoid of the other half."""
    x = tensor(input)
    place = known(dim, -1) % x.ndim
    axis = None if x.axis(place) == x.ndim - 1 else layouts.axis(x, place)
    return result(context, call(context, "jax.nn.glu", x, axis), x.order)


def _softmax(function: str, name: str, sign: str = "") -> None:
    @rule(name)
    def apply(
        context: Context,
        input: Value,
        dim: Given = None,
        _stacklevel: Given = None,
        dtype: Given = None,
    ) -> Value:
        x = tensor(input)
        place = known(dim)
        if place is None:
            place = 0 if x.ndim in (0, 1, 3) else 1
        place %= max(x.ndim, 1)
        axis = None if x.axis(place) == x.ndim - 1 else layouts.axis(x, place)
        argument = f"-{bound(x, Binding.UNARY)}" if sign else written(x)
        if dtype is not None and known(dtype) not in (None, x.dtype):
            argument = f"{bound(x, ATOM)}.astype({dtype_text(context, dtype)})"
        return elementwise(context, call(context, function, argument, axis=axis), x)


_softmax("jax.nn.softmax", "softmax")
_softmax("jax.nn.log_softmax", "log_softmax")
_softmax("jax.nn.softmax", "softmin", "-")


@rule("gumbel_softmax")
def gumbel_softmax(
    context: Context,
    logits: Value,
    tau: Given = None,
    hard: Given = None,
    eps: Given = None,
    dim: Given = None,
) -> Value:
    """Ports softmax of logits with Gumbel noise."""
    x = tensor(logits)
    place = known(dim, -1) % x.ndim
    axis = None if x.axis(place) == x.ndim - 1 else str(x.axis(place) - x.ndim)
    options = {"tau": tau, "hard": hard, "dim": axis, "rngs": f"{context.rngs()}()"}
    return elementwise(context, call(context, "F.gumbel_softmax", x, **options), x)


# ---- Dropout ----


def _dropout(layer: str, *names: str) -> None:
    @rule(*names)
    def apply(
        context: Context,
        input: Value,
        p: Given = None,
        training: Given = None,
        inplace: Given = None,
        train: Given = None,
    ) -> Value:
        return dropped(context, tensor(input), layer, p, training if train is None else train)


def dropped(context: Context, x: Tensor, layer: str, p: Given, training: Given) -> Tensor:
    """Returns the call of a dropout layer, which is added to the module as an attribute."""
    if training is not None and _is_constant(training, False):
        return x
    if p is not None and _is_constant(p, 0):
        return x
    rate = written(p) if p is not None else "0.1" if layer == "AlphaDropout" else "0.5"
    if layer != "Dropout" and x.ndim > 2:
        x = context.convert(x, (0, *range(2, x.ndim), 1))
    if training is None or _is_constant(training, True):
        context.note("F.dropout without training=self.training is active in evaluation mode too")
        attribute = context.layer("dropout", f"layers.{layer}({rate}, rngs=rngs)")
        return elementwise(context, f"{attribute}({written(x)}, deterministic=False)", x)
    attribute = context.layer("dropout", f"layers.{layer}({rate}, rngs=rngs)")
    return elementwise(context, f"{attribute}({written(x)})", x)


def _is_constant(value: Value, wanted: object) -> bool:
    return isinstance(value, Plain) and value.constant and value.value == wanted


_dropout("Dropout", "dropout")
_dropout("Dropout1d", "dropout1d")
_dropout("Dropout2d", "dropout2d", "feature_dropout")
_dropout("Dropout3d", "dropout3d")
_dropout("AlphaDropout", "alpha_dropout", "feature_alpha_dropout")
