"""Cross entropy by a native kernel compared with XLA's operations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import losses
from jaxnets.kernels import explain, native, with_kernels
from jaxnets.kernels.cross_entropy import cross_entropy, supports
from jaxnets.losses.classification import class_losses
from tests.kernels import assert_close

kernel = cross_entropy(class_losses)
#: Shapes of logits: one class, incomplete vectors, several vectors, more than one part.
SHAPES = [(3, 1), (64, 10), (2, 5, 65), (3, 20000)]


@pytest.fixture(scope="module", autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


def examples(shape, dtype=np.float64):
    draw = np.random.default_rng(0)
    labels = draw.integers(shape[-1], size=shape[:-1])
    return jnp.asarray(draw.normal(0.0, 4.0, shape), dtype), jnp.asarray(labels, np.int32)


def everything(function, logits, labels):
    made, pull_back = jax.vjp(lambda logits: function(logits, labels), logits)
    return made, *pull_back(jnp.cos(made))


def check(shape, dtype=np.float64, tolerance=1e-14):
    both = jax.jit(lambda *given: [everything(one, *given) for one in (kernel, class_losses)])
    assert_close(*both(*examples(shape, dtype)), tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_to_xla(shape):
    check(shape)


def test_equal_to_xla_in_single_precision():
    check((7, 65), np.float32, 3e-6)


def test_large_logits():
    """The maximum is subtracted, however large; infinite losses stay infinite."""
    logits, labels = examples((6, 20))
    logits = (logits * np.array([1e-30, 1, 1e3, 1e9, 1e12, 1e-3])[:, None]).at[0, 3].set(-jnp.inf)
    labels = labels.at[0].set(3)
    ours, theirs = kernel(logits, labels), class_losses(logits, labels)
    assert np.isposinf(ours[0])
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)


def test_what_is_not_finite_spoils_its_example_alone():
    logits, labels = examples((9, 20))
    clean = everything(kernel, logits, labels)
    bad = logits.at[2, 1].set(jnp.nan).at[4, 19].set(jnp.inf).at[6].set(-jnp.inf)
    for ours, theirs in zip(everything(kernel, bad, labels), clean, strict=True):
        assert np.isnan(ours[2:7:2]).all()
        rest = [np.delete(array, slice(2, 7, 2), 0) for array in (ours, theirs)]
        np.testing.assert_array_equal(*rest)


def test_an_example_has_the_same_bits_in_every_batch():
    logits, labels = examples((600, 65))
    whole = everything(kernel, logits, labels)
    for some in (slice(0, 1), slice(250, 270)):
        for one, all_of_it in zip(
            everything(kernel, logits[some], labels[some]), whole, strict=True
        ):
            np.testing.assert_array_equal(one, all_of_it[some])


def test_second_derivatives():
    logits, labels = examples((4, 3))

    @functools.partial(jax.jit, static_argnums=0)
    def second(function, logits):
        def squares(logits):
            return (jax.grad(lambda x: function(x, labels).sum())(logits) ** 2).sum()

        return jax.grad(squares)(logits)

    assert_close(second(kernel, logits), second(class_losses, logits), 1e-13)


def test_the_loss_reaches_the_kernel():
    """Ignored and invalid labels have the same effect as without kernels."""
    logits, labels = examples((64, 10))
    assert explain(losses.cross_entropy, logits, labels) == ["class losses of 64 × 10"]
    odd = labels.at[3].set(-100)

    def gradient(wrap):
        def loss(logits, labels):
            return wrap(losses.cross_entropy)(logits, labels)

        return jax.jit(jax.value_and_grad(loss))

    ours, theirs = gradient(with_kernels), gradient(lambda function: function)
    for given in (labels, odd, odd.at[5].set(10)):
        assert_close(ours(logits, given), theirs(logits, given), 1e-14)


def test_what_the_kernel_takes():
    def by(logits=(4, 3), labels=(4,), dtype=np.float32, integers=np.int32):
        return supports(jnp.zeros(logits, dtype), jnp.zeros(labels, integers))

    assert by()
    assert by((2, 4, 3), (2, 4), np.float64, np.int64)
    assert not by((3,), ())
    assert not by((0, 3), (0,))
    assert not by(dtype=jnp.float16)
    assert not by(integers=np.float32)
    with native.aside():
        assert not by()


@pytest.mark.slow
def test_without_avx_512(vectors_of_32_bytes):
    check((64, 10))
    check((7, 65), np.float32, 3e-6)


@pytest.mark.parametrize(("dtype", "most"), [("bfloat16", 256), ("float32", 2**24)])
def test_only_where_the_dtype_of_the_logits_represents_every_label(dtype, most):
    labels = jax.ShapeDtypeStruct((2,), np.int32)
    logits = [jax.ShapeDtypeStruct((2, classes), dtype) for classes in (most, most + 1)]
    ready = native.ready("cross_entropy", logits[0])
    assert [supports(one, labels) for one in logits] == [ready, False]


def test_the_largest_class_in_bfloat16():
    logits, labels = examples((6, 256), "bfloat16")
    labels = labels.at[:3].set(255)
    np.testing.assert_allclose(
        np.asarray(kernel(logits, labels), np.float32),
        np.asarray(class_losses(logits, labels), np.float32),
        rtol=2e-2,
    )
