"""What distinguishes computations, and what does not."""

import functools
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.cli import main
from jaxnets.training.computation import digest, digest_of, primitives
from jaxnets.training.fingerprint import differences

X = jax.ShapeDtypeStruct((4, 8), jnp.float32)
IMAGES = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
KEY = jax.random.key(3)
LARGE = np.arange(5000.0, dtype=np.float32)


def with_rules(slope, kind):
    """The identity, with a gradient of ``slope``."""
    if kind == "jvp":
        made = jax.custom_jvp(lambda x: x)
        made.defjvp(lambda primals, tangents: (primals[0], slope * tangents[0]))
    else:
        made = jax.custom_vjp(lambda x: x)
        made.defvjp(lambda x: (x, None), lambda _, d: (slope * d,))
    return jax.grad(lambda x: made(x).sum())


def convolved(x, window=3):
    kernel = jnp.ones((window, window, 3, 4))
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def kept_for(policy):
    return jax.grad(lambda x: jax.checkpoint(lambda y: jnp.sin(y) * y, policy=policy)(x).sum())


def asked(number, shape=X):
    return lambda x: jax.pure_callback(lambda y: np.asarray(y) * number, shape, x)


def at(place, by):
    changed = LARGE.copy()
    changed[place] += by
    return lambda x: x[0, 0] + changed


#: Functions and their arguments, all of which are different computations.
DIFFERENT = {
    "sine": (jnp.sin, X),
    "cosine": (jnp.cos, X),
    "a number": (lambda x: x * 2, X),
    "another": (lambda x: x * 3, X),
    "nearly": (lambda x: x * np.float32(2 + 2e-7), X),
    "zero": (lambda x: x * 0.0, X),
    "minus zero": (lambda x: x * -0.0, X),
    "other dtype": (lambda x: x * 2, jax.ShapeDtypeStruct((4, 8), jnp.bfloat16)),
    "other shape": (lambda x: x * 2, jax.ShapeDtypeStruct((4, 9), jnp.float32)),
    "constants": (lambda x: x[0, 0] + LARGE, X),
    "one in their middle": (at(2500, 1), X),
    "another in their middle": (at(2500, 2), X),
    "elsewhere": (at(2501, 1), X),
    "static": (lambda x: x[:2], X),
    "another range": (lambda x: x[1:3], X),
    "an axis": (lambda x: x.sum(0), X),
    "both": (lambda x: x.sum(), X),
    "order": (lambda x: x[0] - x[1], X),
    "other order": (lambda x: x[1] - x[0], X),
    "outputs": (lambda x: (x[1], x[0]), X),
    "other outputs": (lambda x: (x[0], x[1]), X),
    "scan": (lambda x: jax.lax.scan(lambda c, y: (c + y, c), x[0], x), X),
    "another scan": (lambda x: jax.lax.scan(lambda c, y: (c + 2 * y, c), x[0], x), X),
    "reverse": (lambda x: jax.lax.scan(lambda c, y: (c + y, c), x[0], x, reverse=True), X),
    "while": (lambda x: jax.lax.while_loop(lambda x: x.sum() < 3, lambda x: x + 1, x), X),
    "longer": (lambda x: jax.lax.while_loop(lambda x: x.sum() < 4, lambda x: x + 1, x), X),
    "cond": (lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x), X),
    "other branches": (lambda x: jax.lax.cond(x[0, 0] > 0, jnp.cos, jnp.sin, x), X),
    "platforms": (lambda x: jax.lax.platform_dependent(x, cpu=jnp.sin, default=jnp.cos), X),
    "convolution": (convolved, IMAGES),
    "other window": (functools.partial(convolved, window=5), IMAGES),
    "pool": (
        lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME"),
        IMAGES,
    ),
    "gather": (lambda x: x[jnp.array([1, 2]), :3].at[0].set(1.0), X),
    "scatter": (lambda x: x[jnp.array([1, 2]), :3].at[0].add(1.0), X),
    "sort": (jnp.sort, X),
    "precise": (lambda x: jnp.einsum("ij,kj->ik", x, x, precision="highest"), X),
    "less so": (lambda x: jnp.einsum("ij,kj->ik", x, x), X),
    "draw": (lambda x: x + jax.random.normal(KEY, (4, 8)), X),
    "other key": (lambda x: x + jax.random.normal(jax.random.key(4), (4, 8)), X),
    "other generator": (lambda x: x + jax.random.normal(jax.random.key(3, impl="rbg"), (4, 8)), X),
    "custom": (with_rules(2.0, "jvp"), X),
    "other slope": (with_rules(3.0, "jvp"), X),
    "by hand": (with_rules(-2.0, "vjp"), X),
    "other slope by hand": (with_rules(-3.0, "vjp"), X),
    "kept": (kept_for(jax.checkpoint_policies.everything_saveable), X),
    "not kept": (kept_for(jax.checkpoint_policies.nothing_saveable), X),
    "asked": (asked(2), X),
    "asked another": (asked(3), X),
    "called": (lambda x: jax.ffi.ffi_call("a", X)(x, n=np.float32(2)), X),
    "called with another": (lambda x: jax.ffi.ffi_call("a", X)(x, n=np.float32(3)), X),
    "called otherwise": (lambda x: jax.ffi.ffi_call("b", X)(x, n=np.float32(2)), X),
    "decomposed": (lambda x: jnp.linalg.qr(x)[0], X),
    "transformed": (lambda x: jnp.fft.fft(x), X),
    "mapped": (jax.vmap(lambda x: jnp.cumsum(x)), X),
    "attention": (
        lambda q: jax.nn.dot_product_attention(q, q, q),
        jax.ShapeDtypeStruct((2, 4, 2, 8), jnp.float32),
    ),
}


def digests():
    return {name: digest(function, *given) for name, (function, *given) in DIFFERENT.items()}


@pytest.fixture(scope="module")
def known():
    return digests()


def test_no_two_computations_are_the_same(known):
    assert len(set(known.values())) == len(known)


def settings_of_printing():
    """Yields JAX's settings that affect printing, with other values than the current ones."""
    for name, value in jax.config.values.items():
        if "pprint" in name or "traceback" in name:
            yield name, not value if isinstance(value, bool) else value
    yield "jax_pprint_use_color", True


def test_no_setting_of_how_things_are_printed_changes_them(known):
    before = dict(jax.config.values)
    flipped = {name: value for name, value in settings_of_printing() if before[name] is not value}
    assert len(flipped) > 1
    for name, value in flipped.items():
        jax.config.update(name, value)
    try:
        with np.printoptions(precision=1, threshold=3, edgeitems=1, floatmode="fixed", sign="+"):
            assert digests() == known
    finally:
        for name in flipped:
            jax.config.update(name, before[name])


CHILD = """
import json, sys
from tests.test_training_computation import digests
with open(sys.argv[1], "w") as file:
    json.dump(digests(), file)
"""


def run_in(terminal, command, **environment):
    """Runs a command whose output goes to a terminal, or into a pipe."""
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment}
    root = Path(__file__).parent.parent
    if not terminal:
        subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
        return
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, cwd=root, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as child:
        os.close(theirs)
        printed = b""
        try:
            while part := os.read(ours, 4096):
                printed += part
        except OSError:  # the child has closed it
            pass
    os.close(ours)
    assert child.returncode == 0, printed.decode(errors="replace")


@pytest.mark.slow
def test_another_process_on_a_terminal_has_the_same(tmp_path):
    both = []
    for terminal, seed in ((True, "1"), (False, "2")):
        file = tmp_path / f"{seed}.json"
        run_in(terminal, [sys.executable, "-c", CHILD, str(file)], PYTHONHASHSEED=seed)
        both.append(json.loads(file.read_text()))
    assert both[0] == both[1]


@pytest.mark.slow
def test_a_run_begun_on_a_terminal_goes_on_in_a_pipe(tmp_path, capsys):
    folder = str(tmp_path / "run")
    run = [sys.executable, "-m", "jaxnets", "train", "linear-regression", "--epochs", "1"]
    run_in(True, [*run, "--save-every", "5", "--out", folder])
    assert main(["train", "--resume", folder, "--epochs", "2", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("test loss")


def scaled(number):
    def function_with_a_long_name(x):  # whose names do not affect the result
        return x * number

    return function_with_a_long_name


def test_names_and_places_are_no_part_of_a_computation(known):
    def of(function):
        return digest(function, X)

    assert of(scaled(2)) == known["a number"]
    assert of(scaled(3)) == known["another"]
    assert of(jax.jit(scaled(2))) == of(jax.jit(lambda given: given * 2))
    with jax.disable_jit():
        assert of(jax.jit(scaled(2))) == of(jax.jit(scaled(2)))
    with jax.named_scope("somewhere"):
        assert of(scaled(2)) == known["a number"]


def test_a_constant_is_one_wherever_jax_keeps_it(known):
    before = jax.config.jax_use_simplified_jaxpr_constants
    jax.config.update("jax_use_simplified_jaxpr_constants", not before)
    try:
        assert digest(lambda x: x[0, 0] + LARGE, X) == known["constants"]
    finally:
        jax.config.update("jax_use_simplified_jaxpr_constants", before)
    assert digest(lambda x: x[0, 0] + jnp.asarray(LARGE), X) == known["constants"]


def test_what_a_callback_remembers_is_no_part_of_it():
    seen = []

    def remember(x):
        seen.append(x)

    def function(x):
        jax.debug.callback(remember, x)
        return x

    before = digest(function, X)
    seen.append(1)
    assert digest(function, X) == before


def test_values_are_told_apart():
    values = [
        [1], [1.0], [True], ["1"], [[1]], [1, 1], [None], [], {}, {"a": 1}, {"a": 2}, {"b": 1},
        {1, 2}, {1, 3}, jax.random.key(1), jax.random.key(2), np.float32(1), np.int8(1),
        np.zeros((2, 3)), np.zeros((3, 2)), np.float64("nan"), jnp.float32, np.dtype("float32"),
        jax.P("a"), jax.P("b"), jax.lax.Precision.HIGH, jax.lax.Precision.HIGHEST, b"a", "a",
        scaled(1), scaled(2), functools.partial(scaled, 1), functools.partial(scaled, 2),
    ]  # fmt: skip
    assert len({digest_of(value) for value in values}) == len(values)
    itself = [1]
    itself.append(itself)
    assert digest_of(itself) == digest_of(itself)
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})


def test_the_operations_of_a_computation():
    traced = jax.make_jaxpr(DIFFERENT["scan"][0])(jnp.zeros((4, 8)))
    assert {"scan", "add"} <= set(primitives(traced))


VERSIONS = {"versions": {"jax": "1"}}


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        # a run that was saved in an earlier format of the description
        ({"loss": {"computes": "a"}}, {"loss": {"computes": "b"}, "form": 2}, []),
        ({"seed": 1}, {"seed": 2, "form": 2}, ["seed is 2, was 1"]),
        ({"data.train": "5 examples"}, {"data.train": "5 examples, checksum 1", "form": 2}, []),
        (
            {"data.train": "5 examples, checksum 2"},
            {"data.train": "5 examples, checksum 1", "form": 2},
            ["data.train is 5 examples, checksum 1, was 5 examples, checksum 2"],
        ),
        (
            {"data.train": "5 examples", "form": 2},
            {"data.train": "5 examples, checksum 1", "form": 2},
            ["data.train is 5 examples, checksum 1, was 5 examples"],
        ),
        (
            {"loss": {"computes": "a"}, "form": 2, **VERSIONS},
            {"loss": {"computes": "b"}, "form": 2, **VERSIONS},
            ["loss computes something else"],
        ),
        (
            {"loss": {"computes": "a"}, "form": 2, **VERSIONS},
            {"loss": {"computes": "b"}, "form": 2},
            [],
        ),
    ],
)
def test_runs_of_other_versions_are_compared_by_what_stays_the_same(before, now, found):
    assert differences(before, now) == found
