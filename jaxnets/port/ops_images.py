"""Rules for convolutions, pools, resizing and padding of channels-last images."""

from jaxnets.port.rules import (
    Given,
    call,
    known,
    pair,
    present,
    result,
    rule,
    several,
    simple,
    tensor,
    word,
    written,
)
from jaxnets.port.values import (
    ATOM,
    Context,
    Plain,
    Refused,
    Tensor,
    Value,
    bound,
    channels_last,
)


def image(context: Context, value: Value, axes: int | None = None) -> Tensor:
    """Converts a batch of images, sequences or volumes to channels last."""
    x = tensor(value)
    if x.ndim < 3 or (axes is not None and x.ndim != axes + 2):
        raise Refused(
            f"an input of {x.ndim} axes, without a batch", "Add a batch axis: x[None], then [0]."
        )
    return context.convert(x, channels_last(x.ndim))


# ---- Convolutions ----


def _options(**options: Given) -> dict[str, Given]:
    """Returns the options that are not known to have their default values."""
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "output_padding": 0}
    found: dict[str, Given] = {}
    for name, value in options.items():
        plain = isinstance(value, Plain) and value.constant
        if value is not None and not (plain and value.value == defaults.get(name)):  # type: ignore[union-attr]
            found[name] = value
    return found


def _convolution(axes: int) -> None:
    @rule(f"conv{axes}d")
    def apply(
        context: Context,
        input: Value,
        weight: Value,
        bias: Given = None,
        stride: Given = None,
        padding: Given = None,
        dilation: Given = None,
        groups: Given = None,
    ) -> Value:
        x = image(context, input, axes)
        kernel = context.convert(tensor(weight), (*range(2, axes + 2), 1, 0))
        options = _options(stride=stride, padding=padding, dilation=dilation, groups=groups)
        text = call(context, f"F.conv{axes}d", x, kernel, present(bias), **options)
        return result(context, text, x.order)

    @rule(f"conv_transpose{axes}d")
    def apply_transposed(
        context: Context,
        input: Value,
        weight: Value,
        bias: Given = None,
        stride: Given = None,
        padding: Given = None,
        output_padding: Given = None,
        groups: Given = None,
        dilation: Given = None,
    ) -> Value:
        x = image(context, input, axes)
        if known(groups, 1) != 1:
            raise Refused("F.conv_transpose with groups", "Use the layer nn.ConvTranspose instead.")
        kernel = context.convert(tensor(weight), (*range(2, axes + 2), 0, 1))
        flipped = call(context, "jnp.flip", kernel, "0" if axes == 1 else str(tuple(range(axes))))
        options = _options(
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            dilation=dilation,
        )
        text = call(context, f"F.conv_transpose{axes}d", x, flipped, present(bias), **options)
        return result(context, text, x.order)


for _axes in (1, 2, 3):
    _convolution(_axes)


# ---- Pools ----


def _pool(name: str, axes: int) -> None:
    @rule(f"{name}{axes}d")
    def apply(context: Context, input: Value, *args: Value, **kwargs: Value) -> Value:
        x = image(context, input, axes)
        text = call(context, f"F.{name}{axes}d", x, *args, **kwargs)
        if isinstance(context.result, tuple):
            return pair(context, text, x.order)
        return result(context, text, x.order)


for _name in ("max_pool", "avg_pool", "lp_pool", "adaptive_max_pool", "max_unpool"):
    for _axes in (1, 2, 3):
        _pool(_name, _axes)


def _adaptive_mean(axes: int) -> None:
    @rule(f"adaptive_avg_pool{axes}d")
    def apply(context: Context, input: Value, output_size: Value) -> Value:
        """Ports adaptive pooling; a single output position is the mean of the image."""
        x = image(context, input, axes)
        if all(size == 1 for size in context.result.shape[2:]) and _ones(output_size):
            over = "1" if axes == 1 else str(tuple(range(1, axes + 1)))
            text = f"{bound(x, ATOM)}.mean({over}, keepdims=True)"
            return result(context, text, x.order)
        text = call(context, f"F.adaptive_avg_pool{axes}d", x, output_size)
        return result(context, text, x.order)


def _ones(size: Value) -> bool:
    value = known(size)
    return value == 1 or (isinstance(value, tuple | list) and set(value) == {1})


for _axes in (1, 2, 3):
    _adaptive_mean(_axes)


# ---- Sizes and positions ----


@rule("interpolate", "upsample")
def interpolate(context: Context, input: Value, *args: Value, **kwargs: Value) -> Value:
    """Ports resizing."""
    x = image(context, input)
    kwargs = {k: v for k, v in kwargs.items() if not (isinstance(v, Plain) and v.text == "None")}
    kept = list(args)
    while kept and isinstance(kept[-1], Plain) and kept[-1].text == "None":
        kept.pop()
    return result(context, call(context, "F.interpolate", x, *kept, **kwargs), x.order)


@rule("upsample_nearest")
def upsample_nearest(
    context: Context, input: Value, size: Given = None, scale_factor: Given = None
) -> Value:
    """Ports resizing by nearest neighbours."""
    x = image(context, input)
    text = call(context, "F.interpolate", x, size=size, scale_factor=scale_factor)
    return result(context, text, x.order)


@rule("upsample_bilinear")
def upsample_bilinear(
    context: Context, input: Value, size: Given = None, scale_factor: Given = None
) -> Value:
    """Ports bilinear resizing with aligned corners."""
    x = image(context, input)
    options = {"size": size, "scale_factor": scale_factor, "mode": word("bilinear")}
    text = call(context, "F.interpolate", x, **options, align_corners=True)
    return result(context, text, x.order)


@rule("grid_sample")
def grid_sample(context: Context, input: Value, grid: Value, *args: Value, **kw: Value) -> Value:
    """Ports sampling an image at the positions of a grid."""
    x, places = image(context, input), context.natural(tensor(grid))
    return result(context, call(context, "F.grid_sample", x, places, *args, **kw), x.order)


@rule("affine_grid")
def affine_grid(context: Context, theta: Value, size: Value, align_corners: Given = None) -> Value:
    """Ports the sampling positions of an affine map; the size argument is reordered."""
    matrix = context.natural(tensor(theta))
    sizes = several((size,))
    ours = [sizes[0], *sizes[2:], sizes[1]]
    shape = f"({', '.join(written(one) for one in ours)})"
    options = {"align_corners": align_corners}
    return result(context, call(context, "F.affine_grid", matrix, shape, **options))


_PADS = {"constant": None, "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@rule("pad")
def pad(
    context: Context, input: Value, pad: Value, mode: Given = None, value: Given = None
) -> Value:
    """Ports padding; PyTorch lists the amounts from the last axis backwards."""
    x, amounts = tensor(input), several((pad,))
    numbers = [known(amount) for amount in amounts]
    if not any(numbers) and all(isinstance(a, Plain) and a.constant for a in amounts):
        return x
    pairs = {x.ndim - 1 - i: 2 * i for i in range(len(numbers) // 2)}
    if min(numbers) < 0:
        return _cut_and_padded(context, x, numbers, pairs, value)
    widths = []
    for dim in x.order:
        at = pairs.get(dim)
        widths.append(
            "(0, 0)" if at is None else f"({written(amounts[at])}, {written(amounts[at + 1])})"
        )
    how = _PADS[known(mode, "constant")]
    fill = value if value is not None and known(value) not in (None, 0) else None
    options = {"mode": None if how is None else word(how), "constant_values": fill}
    text = call(context, "jnp.pad", x, f"({', '.join(widths)}{',' * (x.ndim == 1)})", **options)
    return result(context, text, x.order)


def _cut_and_padded(
    context: Context, x: Tensor, numbers: list[int], pairs: dict[int, int], value: Given
) -> Tensor:
    """Ports padding with some negative amounts."""
    if not simple(x.text):
        raise Refused("negative padding of an expression", "Assign it to a variable first.")
    widths = []
    for dim in x.order:
        at = pairs.get(dim)
        low, high = (0, 0) if at is None else (numbers[at], numbers[at + 1])
        widths.append(f"({low}, {high}, 0)")
    fill = present(value)
    start = call(context, "jnp.array", "0" if fill is None else fill, f"{x.text}.dtype")
    text = call(context, "lax.pad", x, start, f"({', '.join(widths)})")
    return result(context, text, x.order)


def _on_images(*names: str) -> None:
    for name in names:

        @rule(name)
        def apply(
            context: Context, input: Value, *args: Value, function: str = f"F.{name}", **kw: Value
        ) -> Value:
            x = image(context, input)
            return result(context, call(context, function, x, *args, **kw), x.order)


_on_images("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "local_response_norm")


@rule("F.unfold")
def unfold(context: Context, input: Value, *args: Value, **kwargs: Value) -> Value:
    """Ports windows of an image, with the elements of a window in PyTorch's order."""
    x = image(context, input)
    text = call(context, "F.unfold", x, *args, **kwargs)
    return result(context, text, (0, 2, 1))


@rule("fold")
def fold(context: Context, input: Value, *args: Value, **kwargs: Value) -> Value:
    """Ports the sum of windows to an image."""
    x = context.convert(tensor(input), (0, 2, 1))
    text = call(context, "F.fold", x, *args, **kwargs)
    return result(context, text, (0, 2, 3, 1))
