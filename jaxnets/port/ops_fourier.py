"""Rules for Fourier transforms and complex numbers."""

from jaxnets.port import layouts
from jaxnets.port.ops_elementwise import elementwise
from jaxnets.port.rules import Given, call, known, refuse, result, rule, simple, tensor
from jaxnets.port.values import Binding, Context, Value, bound


def _one_axis(name: str) -> None:
    @rule(f"fft.{name}")
    def apply(
        context: Context,
        input: Value,
        n: Given = None,
        dim: Given = None,
        norm: Given = None,
    ) -> Value:
        x = tensor(input)
        place = x.axis(known(dim, -1))
        axis = None if place == x.ndim - 1 else str(place)
        text = call(context, f"jnp.fft.{name}", x, n, axis=axis, norm=norm)
        return result(context, text, x.order)


for _name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"):
    _one_axis(_name)


def _several_axes(name: str, two: bool) -> None:
    @rule(f"fft.{name}")
    def apply(
        context: Context,
        input: Value,
        s: Given = None,
        dim: Given = None,
        norm: Given = None,
    ) -> Value:
        x = tensor(input)
        dims = known(dim, (-2, -1) if two else None)
        axes = None if dims is None else str(tuple(x.axis(one) for one in dims))
        if dims is None:
            x = context.natural(x)
        if axes == str((x.ndim - 2, x.ndim - 1)) and two:
            axes = None
        text = call(context, f"jnp.fft.{name}", x, s, axes=axes, norm=norm)
        return result(context, text, x.order)


for _name in ("fft2", "ifft2", "rfft2", "irfft2"):
    _several_axes(_name, two=True)
for _name in ("fftn", "ifftn", "rfftn", "irfftn"):
    _several_axes(_name, two=False)


def _shift(name: str) -> None:
    @rule(f"fft.{name}")
    def apply(context: Context, input: Value, dim: Given = None) -> Value:
        x = tensor(input)
        axes = None if dim is None or known(dim) is None else layouts.axes(x, dim)
        return elementwise(context, call(context, f"jnp.fft.{name}", x, axes), x)


_shift("fftshift")
_shift("ifftshift")


def _frequencies(name: str) -> None:
    @rule(f"fft.{name}")
    def apply(context: Context, n: Value, d: Given = None) -> Value:
        return result(context, call(context, f"jnp.fft.{name}", n, d))


_frequencies("fftfreq")
_frequencies("rfftfreq")


@rule("torch.complex")
def complex_(context: Context, real: Value, imag: Value) -> Value:
    """Ports complex numbers from real and imaginary parts."""
    (a, b), leader = layouts.align(context, real, imag)
    return elementwise(context, call(context, "lax.complex", a, b), leader)


@rule("polar")
def polar(context: Context, abs: Value, angle: Value) -> Value:
    """Ports complex numbers from absolute values and angles."""
    (r, a), leader = layouts.align(context, abs, angle)
    turn = call(context, "jnp.exp", f"1j * {bound(a, Binding.PRODUCT + 1)}")
    text = f"{bound(r, Binding.PRODUCT)} * {turn}"
    return elementwise(context, text, leader, Binding.PRODUCT)


@rule("view_as_real")
def view_as_real(context: Context, input: Value) -> Value:
    """Ports real and imaginary parts along a new last axis."""
    x = tensor(input)
    text = call(context, "tensors.view_as_real", x)
    return result(context, text, (*x.order, x.ndim))


@rule("view_as_complex")
def view_as_complex(context: Context, input: Value) -> Value:
    """Ports complex numbers from a last axis of size 2."""
    x = layouts.last(context, tensor(input))
    if simple(x.text):
        text = call(context, "lax.complex", f"{x.text}[..., 0]", f"{x.text}[..., 1]")
    else:
        parts = call(context, "jnp.unstack", x, axis=-1)
        text = call(context, "lax.complex", f"*{parts}")
    return result(context, text, layouts.without(x, [-1]))


refuse("short-time Fourier transforms", "Use jax.scipy.signal.stft.", "stft", "istft")
