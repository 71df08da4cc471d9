"""Native kernels for recurrent layers compared with XLA's operations, and their compilation."""

import contextlib
import functools
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from jaxnets import fit, layers, losses, optimizers
from jaxnets.data import Dataset, Split
from jaxnets.kernels import native, recurrence
from jaxnets.kernels.rewrite import explain, with_kernels
from jaxnets.layers.bptt import Direction
from jaxnets.models import RecurrentClassifier
from jaxnets.training.fingerprint import _digest
from tests import quick_compilation, test_kernels_conv_pool, test_kernels_linear, tier
from tests.kernels import QUICK_COMPILER, assert_close, calls

#: By name: the layer and its options.
KINDS = {
    "lstm": (layers.LSTM, {}),
    "gru": (layers.GRU, {}),
    "tanh": (layers.RNN, {}),
    "relu": (layers.RNN, {"nonlinearity": "relu"}),
}
#: Batch, steps, inputs, hidden units: incomplete blocks of rows and vectors of units.
SHAPES = [
    (64, 6, 28, 128),
    (37, 5, 5, 13),
    (131, 3, 3, 16),
    (7, 11, 9, 40),
    (4, 16, 1, 1),
    (1, 5, 3, 150),
    (2, 6, 20, 7),
]


@pytest.fixture
def every(monkeypatch):
    """Uses kernels for all sizes that they support."""
    monkeypatch.setattr(recurrence, "_LEAST_STEPS", 1)
    monkeypatch.setattr(recurrence, "_LEAST_STEPS_OF_FEW", 1)


def make(kind, inputs, hidden, dtype=jnp.float32, **options):
    layer, own = KINDS[kind]
    return layer(inputs, hidden, **own, **options, rngs=nnx.Rngs(0), param_dtype=dtype)


def sequences(batch, time, inputs, dtype=np.float32):
    return np.random.default_rng(0).normal(size=(batch, time, inputs)).astype(dtype)


def everything(layer, x, way=with_kernels, *, given_state=False, padded=False):
    """Outputs, final states, and the gradients with respect to all inputs."""
    graphdef, parameters = nnx.split(layer)
    batch, time, _ = x.shape
    shape = (layer.num_layers * (1 + layer.bidirectional), batch, layer.hidden_size)
    states = [
        jnp.cos(jnp.arange(np.prod(shape)).reshape(shape) + n).astype(x.dtype) for n in (0, 1)
    ]
    initial = None if not given_state else states if layer.gate_count == 4 else states[0]
    lengths = np.arange(batch) * 7 % time + 1 if padded else None

    def run(parameters, x, initial):
        outputs, final = nnx.merge(graphdef, parameters)(x, initial, lengths=lengths)
        weighted = [jnp.sin(a).sum() for a in (outputs, *jax.tree.leaves(final))]
        return sum(weighted), (outputs, final)

    gradient = jax.value_and_grad(way(run), argnums=(0, 1, 2), has_aux=True)
    return jax.jit(gradient)(parameters, x, initial)


def plainly(function):
    return function


def outputs_of(layer, way=with_kernels):
    return jax.jit(way(lambda x: layer(x)[0]))


def test_here_the_kernels_are_in_use():
    assert native.status() == "in use"


SINGLE, DOUBLE = (np.float32, 3e-6), (np.float64, 1e-13)
EVERY = [(kind, shape, *dtype) for kind in KINDS for shape in SHAPES for dtype in (SINGLE, DOUBLE)]
#: LSTM and GRU in float64 for every shape; the other cells, and float32, for some.
SOME = [
    *((kind, shape, *DOUBLE) for kind in ("lstm", "gru") for shape in SHAPES),
    *((kind, SHAPES[at], *DOUBLE) for kind in ("tanh", "relu") for at in (1, 2, 5)),
    *((kind, SHAPES[at], *SINGLE) for kind, at in [("lstm", 0), ("gru", 1), ("tanh", 3)]),
]


@pytest.mark.parametrize("case", tier.by_tier(tier.usually(SOME, SOME[::6]), EVERY))
def test_equal_to_xla(case, every):
    kind, shape, dtype, tolerance = case
    batch, _, inputs, hidden = shape
    options = {"bidirectional": batch in (2, 7, 37), "bias": batch != 7}
    given = {"given_state": batch != 64, "padded": batch in (2, 7, 131)}
    with jax.enable_x64(dtype == np.float64):
        layer, x = make(kind, inputs, hidden, dtype, **options), sequences(*shape[:3], dtype)
        assert explain(layer, x)
        assert_close(
            everything(layer, x, **given), everything(layer, x, plainly, **given), tolerance
        )


@pytest.mark.parametrize("kind", KINDS)
def test_gates_at_their_ends(kind, every):
    """Large inputs saturate; values that are not finite affect only their own example."""
    layer = make(kind, 3, 16)
    answer = outputs_of(layer)
    x = sequences(12, 4, 3) * np.float32([1e-30, 1e-6, 1, 30, 1e4, 1e30] * 2)[:, None, None]
    ours = answer(x)
    np.testing.assert_allclose(ours, outputs_of(layer, plainly)(x), rtol=3e-5, atol=1e-6)
    x[5] = np.nan
    spoilt = answer(x)
    assert np.isnan(spoilt[5]).all()
    np.testing.assert_array_equal(np.delete(spoilt, 5, 0), np.delete(ours, 5, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_small_numbers_keep_their_digits(kind, every):
    layer = make(kind, 3, 16, bias=False)
    x = sequences(12, 1, 3)
    small = outputs_of(layer)(1e-20 * x)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), nnx.state(layer))
        wide = make(kind, 3, 16, jnp.float64, bias=False)
        nnx.update(wide, exact)
        expected = wide(1e-20 * x.astype(np.float64))[0]
    np.testing.assert_allclose(small, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_has_the_same_bits_in_every_batch(kind, every):
    """The block of rows, the part and the thread do not matter."""
    answer = outputs_of(make(kind, 5, 24))
    x = sequences(150, 7, 5)
    whole = answer(x)
    for some in (slice(0, 1), slice(4, 6), slice(3, 14), slice(50, 127)):
        np.testing.assert_array_equal(answer(x[some]), whole[some])


@pytest.mark.slow
def test_the_same_bits_for_any_number_of_threads(every):
    """Gradients are sums over parts of the batch, regardless of which thread computes a part."""
    script = """
from tests import test_kernels_recurrence as tests
layer = tests.make("gru", 3, 150, bidirectional=True)
for batch in (1, 70):
    found = tests.everything(layer, tests.sequences(batch, 9, 3), padded=True)
    for array in tests.jax.tree.leaves(found):
        print(hash(tests.np.asarray(array).tobytes()))
"""
    printed = {
        subprocess.run(
            [*command, sys.executable, "-c", script],
            env=quick_compilation.environment() | {"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        ).stdout
        for command in ([], ["taskset", "-c", "0"])
    }
    assert len(printed) == 1


@pytest.mark.parametrize("kind", ["lstm", "tanh"])
def test_many_at_once_have_the_bits_of_one(kind, every):
    answer = outputs_of(make(kind, 5, 24))
    x = sequences(18, 7, 5).reshape(3, 6, 7, 5)
    for one, alone in zip(jax.vmap(answer)(x), x, strict=True):
        np.testing.assert_array_equal(one, answer(alone))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_under_shard_map(kind, every):
    """Replicated parameters and divided data pass shard_map's check of varying values."""
    graphdef, parameters = nnx.split(make(kind, 3, 16, num_layers=2))
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def gradient(parameters, x):
        loss = with_kernels(lambda p: nnx.merge(graphdef, p)(x)[0].sum())
        return jax.grad(loss)(parameters)

    divided = jax.shard_map(gradient, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    x = sequences(6, 5, 3)
    assert calls(divided, parameters, x) == 4
    assert_close(jax.jit(divided)(parameters, x), jax.jit(gradient)(parameters, x), 1e-6)


@pytest.mark.slow
def test_second_derivatives(every):
    layer, x = make("lstm", 3, 5, bidirectional=True), sequences(6, 4, 3)

    def penalty(way):
        run = way(lambda x: (layer(x)[0] ** 2).sum())
        return jax.jit(jax.grad(lambda x: (jax.grad(run)(x) ** 2).sum()))(x)

    assert_close(penalty(with_kernels), penalty(plainly), 1e-5)


def test_what_the_kernels_take():
    def by(batch=8, time=8, dtype=jnp.float32, weights=jnp.float32, size=4, reverse=(False,)):
        kernels = jnp.zeros((24, size), weights), jnp.zeros((size, size), weights)
        initial = (jnp.zeros((batch, size), weights),)
        directions = [Direction(kernels, (None, None), initial)] * len(reverse)
        return recurrence.supports("tanh", reverse, jnp.zeros((batch, time, 24), dtype), directions)

    assert by()
    assert by(batch=1024)
    assert by(reverse=(True,))
    assert by(reverse=(False, True))
    assert not by(reverse=(True, True))
    assert by(batch=1)
    assert not by(batch=1, time=7)
    assert not by(batch=7)
    assert by(size=1000)
    assert not by(size=1001)
    assert not by(dtype=jnp.float16, weights=jnp.float16)
    with jax.enable_x64(True):
        assert by(dtype=jnp.float64, weights=jnp.float64)
        assert not by(dtype=jnp.float64)
    with native.aside():
        assert not by()


def test_a_projection_is_left_to_xla():
    layer, x = make("lstm", 3, 8, proj_size=2), sequences(8, 8, 3)
    assert not explain(layer, x)
    np.testing.assert_allclose(outputs_of(layer)(x), outputs_of(layer, plainly)(x), rtol=1e-6)


def test_inference_stores_no_intermediates():
    """Inference stores no gates; a gradient stores them, and calls the backward kernel."""
    layer, x = make("lstm", 3, 4), jnp.zeros((8, 8, 3))
    answer = with_kernels(lambda x: layer(x)[0].sum())
    kept = "f32[8,8,20]"  # four gates and the state of four units
    assert calls(answer, x) == 1
    assert calls(jax.grad(answer), x) == 2
    assert kept in str(jax.make_jaxpr(jax.grad(answer))(x))
    assert "8x8x20" not in jax.jit(answer).lower(x).as_text()


def test_no_gradient_of_data():
    """The first layer does not compute the gradient of data."""
    graphdef, parameters = nnx.split(make("lstm", 3, 4))

    def run(parameters, x):
        return nnx.merge(graphdef, parameters)(x)[0].sum()

    def made(arguments):
        gradient = jax.grad(with_kernels(run), arguments)
        lines = str(jax.make_jaxpr(gradient)(parameters, jnp.zeros((8, 9, 3)))).splitlines()
        return [line for line in lines if "= ffi_call" in line][-1]

    assert "f32[8,9,3]" not in made(0)
    assert "f32[8,9,3]" in made((0, 1))


def test_a_run_is_the_same_with_them_or_without():
    """`fingerprint` is the same, so a run can continue on a machine without kernels."""
    model = RecurrentClassifier(3, 8, rngs=nnx.Rngs(0))

    def loss(x):
        return losses.cross_entropy(model(x), jnp.zeros(8, jnp.int32))

    x = jnp.zeros((8, 8, 3))
    assert calls(with_kernels(loss), x)
    ours = _digest(loss, x)
    with native.aside():
        assert not calls(with_kernels(loss), x)
        assert _digest(loss, x) == ours


def train(devices=1):
    """The loss of each step."""
    draw = np.random.default_rng(0)
    inputs, labels = draw.normal(size=(200, 12, 6)).astype(np.float32), draw.integers(3, size=200)
    split = Split(inputs, labels.astype(np.int32))
    run = fit(
        RecurrentClassifier(6, 24, 2, output_dim=3, rngs=nnx.Rngs(0)),
        Dataset("random", split, split), loss=losses.cross_entropy,
        optimizer=optimizers.sgd(0.1, momentum=0.9), epochs=2, batch_size=64, devices=devices,
        progress="none",
    )  # fmt: skip
    return run.step_losses


@contextlib.contextmanager
def anew(**environment):
    """Simulates a new process with these variables: kernels and programs are created again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_load", functools.cache(native._load.__wrapped__))
        for name, value in environment.items():
            patch.setenv(name, str(value))
        jax.clear_caches()
        try:
            yield patch
        finally:
            jax.clear_caches()


@pytest.fixture(scope="module")
def by_xla():
    with anew(JAXNETS_NATIVE="off"):
        return train()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The folder in which the compilers of this module cache their output."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def hasty(tmp_path, compiled):
    """A compiler that does not optimize, counts its calls in a file, and caches its output."""
    compiler = tmp_path / "compiler"
    compiler.write_text(f"""#!/bin/sh
echo >> {tmp_path}/count
for made in "$@"; do :; done  # the last argument: the file to make
name=${{made##*/}}
kept="{compiled}/${{name%-*}}"  # without the digest of the command
[ -e "$kept" ] || {{ c++ "$@" -O0 && cp "$made" "$kept"; }} && cp "$kept" "$made"
""")
    compiler.chmod(0o755)
    return compiler


@pytest.mark.slow
def test_training_on_two_devices(by_xla):
    script = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
from tests import test_kernels_recurrence
print(*(float(loss).hex() for loss in test_kernels_recurrence.train(devices=2)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=quick_compilation.environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = [float.fromhex(number) for number in done.stdout.split()]
    np.testing.assert_allclose(found, by_xla, rtol=2e-5)


@pytest.mark.slow
def test_compiled_once_when_asked_for(by_xla, hasty, tmp_path):
    """Damaged kernels are compiled again."""
    cache = tmp_path / "cache"
    environment = {"CXX": hasty, "JAXNETS_CACHE": cache}

    def compilations():
        return len((tmp_path / "count").read_text())

    everything = len(native.LIBRARIES)
    with anew(**environment):
        np.testing.assert_allclose(train(), by_xla, rtol=2e-5)
        made = list(cache.glob("native-*"))
        assert compilations() == len(made) < everything
        (library,) = cache.glob("native-recurrence-*")
        assert native.status() == "in use"
        assert compilations() == everything
    library.write_bytes(b"no library")
    with anew(**environment) as patch:
        patch.setattr(jax.ffi, "register_ffi_target", lambda *_, **__: None)  # only once per name
        assert native.status() == "in use"
    assert compilations() == everything + 1
    assert len(list(cache.glob("native-*"))) == everything


@pytest.mark.slow
def test_vectors_of_64_bytes(every, tmp_path):
    """Vectors of AVX-512; other processors use two instructions for each."""
    with anew(CXX=f"{QUICK_COMPILER} -DBYTES=64", JAXNETS_CACHE=tmp_path / "cache"):
        for dtype, tolerance in (np.float32, 3e-6), (np.float64, 1e-13):
            for kind in KINDS:
                test_equal_to_xla((kind, SHAPES[3], dtype, tolerance), every)
            test_kernels_linear.test_equal_to_one_layer_after_the_other(
                *test_kernels_linear.SHAPES[3], dtype, tolerance
            )
        for count in (3, 21):
            test_kernels_conv_pool.test_outputs_and_gradients_are_those_of_three_layers(
                ((2, 3), 3, 1, (7, 9)), count
            )
    assert [*tmp_path.glob("cache/native-recurrence-*")]


@pytest.mark.slow
def test_without_a_cache_nothing_is_written(hasty, tmp_path):
    with anew(JAXNETS_CACHE="off", CXX=hasty, HOME=tmp_path, TMPDIR=tmp_path) as patch:
        patch.setattr(tempfile, "tempdir", None)
        assert native.status() == "in use"
    assert not list(tmp_path.rglob("*native-*"))


@pytest.fixture
def fresh(monkeypatch):
    """Makes the package check again whether there are kernels."""
    monkeypatch.setattr(native, "_load", native._load.__wrapped__)
    return monkeypatch


def test_reason_for_missing_kernels(fresh, tmp_path):
    fresh.setenv("CXX", "false")
    assert native.status() == "not in use: false failed: 1"
    assert not native.ready("recurrence", jnp.zeros(1))
    fresh.setenv("CXX", str(tmp_path / "nothing"))
    assert native.status().startswith("not in use: [Errno 2] No such file")
    fresh.delenv("CXX")
    fresh.setenv("PATH", str(tmp_path))
    assert native.status().startswith("not in use: there is no C++ compiler: no g++, clang++ or")
    fresh.setattr(native, "_processor", lambda: "sse2 avx fma")
    assert native.status() == "not in use: the processor has no avx2"
    fresh.setattr(native.platform, "machine", lambda: "aarch64")
    assert native.status() == "not in use: they are for Linux on x86-64"
    fresh.setattr(jax, "default_backend", lambda: "gpu")
    assert native.status() == "not in use: they are for CPUs, and JAX computes on gpu"
    fresh.setenv("JAXNETS_NATIVE", "off")
    assert native.status() == "not in use: JAXNETS_NATIVE is off"


def test_a_compiler_that_says_what_is_wrong(fresh, tmp_path):
    (tmp_path / "linear.cc").write_text("int x = ;\n")
    fresh.setattr(native, "_SOURCES", tmp_path)
    assert "expected primary-expression" in native.status()
