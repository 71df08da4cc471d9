import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets.arrays import (
    InputError,
    as_array,
    check_bool,
    check_choice,
    check_float_dtype,
    check_floats,
    check_function,
    check_integer,
    check_number,
    check_path,
    check_positive,
    check_seed,
    entries,
    narrowed,
    printable,
    shown,
)
from jaxnets.optional import require
from jaxnets.training.progress import reporter


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("Wörter, 数字, नमस्ते, می\u200cخواهم, 👩\u200d🔬", None),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x9b31m\x07\x08\x7f", r"\x9b31m\x07\x08\x7f"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\rb\nc\td", r"a\rb\nc\td"),
        ("\u202egnp.exe\u2028\ufeff", r"\u202egnp.exe\u2028\ufeff"),
        ("\udc80", r"\udc80"),
        ("x" * 1000, "x" * 100 + "…" + "x" * 99),
        (3, "3"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text, expected):
    assert printable(text) == (text if expected is None else expected)


def test_lines_of_a_text_may_remain():
    assert printable("a\n\tb\r\x1b", lines=True) == "a\n\tb" + r"\r\x1b"
    assert printable("\x1b" * 300, limit=None) == r"\x1b" * 300


def test_what_progress_says_is_fit_for_a_terminal(capsys):
    for kind in ("lines", "bar"):
        with reporter(kind, epochs=1, steps=1) as report:
            report.say("stopped: a\x1b[31m[bold]\nb")
        assert r"stopped: a\x1b[31m[bold]" + "\nb" in capsys.readouterr().out


def test_an_error_is_fit_for_a_terminal():
    error = InputError("name\x1b[2J", "a\x9bname", "b\x1b]0;c\x07\nd")
    assert str(error) == r"name\x1b[2J: expected a\x9bname, got b\x1b]0;c\x07\nd"
    assert error.got == "b\x1b]0;c\x07\nd"


def test_an_input_error_is_one_sentence_and_a_value_error():
    error = InputError("lr", "a positive number", -0.1)
    assert isinstance(error, ValueError)
    assert str(error) == "lr: expected a positive number, got -0.1"


class Silent:
    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.ones((100, 3)), "float64[100, 3]"),
        (jnp.ones(4), "float32[4]"),
        (jnp.float32(3), "Array(3., dtype=float32)"),
        ([np.ones(9)] * 2, "[float64[9], float64[9]]"),
        ({"image": np.ones(9)}, "{'image': float64[9]}"),
        (np.zeros(2, "i4,f8"), "[('f0', '<i4'), ('f1', '<f8')][2]"),
        (10**400, "an integer of 1329 bits"),
        (Silent(), "a Silent"),
        (nnx.Linear(1, 1, rngs=nnx.Rngs(0)), "a Linear"),
        ("two\nlines \x1b[31m", r"two\nlines \x1b[31m"),
        ([1] * 999, "[1, 1, 1, 1, 1, 1, ...]"),
    ],
)
def test_what_came_is_shown_in_few_words(value, got):
    assert str(InputError("x", "a number", value)) == f"x: expected a number, got {got}"


def test_a_tensor_of_pytorch_is_shown_by_its_shape():
    tensor = torch.ones(2, 3)
    assert shown(tensor) == "a torch Tensor torch.float32[2, 3]"


def test_a_traced_array_is_shown_by_its_shape():
    seen = []
    jax.eval_shape(lambda x: seen.append(shown({"logits": x})), jnp.ones(3))
    assert seen == ["{'logits': a traced float32[3]}"]


def test_no_message_is_long():
    message = str(InputError("a" * 999, "e" * 999, "g" * 999))
    assert len(message) < 300
    assert re.fullmatch("a+…a+: expected e+…e+, got g{60,}…g{30,}", message)
    assert str(InputError("run", "this", "one; " * 99, whole=True)).endswith("one; " * 99)


@pytest.mark.parametrize(
    ("array", "got"),
    [
        (np.zeros((2, 4), np.float32), r"float32\[2, 4\]"),
        (np.zeros((2, 3, 1), np.float32), r"float32\[2, 3, 1\]"),
        (np.zeros((2, 3), np.uint8), r"uint8\[2, 3\]"),
        ([[1.0, 2.0, 3.0]], "list"),
    ],
)
def test_check_floats_names_shape_and_dtype(array, got):
    with pytest.raises(ValueError, match=rf"x: expected a .* array \[batch, 3\], got {got}"):
        check_floats("x", array, ("batch", 3))


def test_check_floats_accepts_any_size_of_a_named_axis():
    check_floats("x", np.zeros((0, 3), np.float64), ("batch", 3))


@pytest.mark.parametrize("shape", [(), (2,), (3, 2)])
def test_check_floats_of_the_last_axes(shape):
    check_floats("x", np.zeros((*shape, 3)), ("...", 3))
    with pytest.raises(ValueError, match=r"x: expected a .* array \[\.\.\., 3\], got float64\["):
        check_floats("x", np.zeros(shape), ("...", 3))


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True, None])
def test_check_positive_refuses(value):
    with pytest.raises(ValueError, match="epochs: expected a positive integer, got"):
        check_positive("epochs", value)


@pytest.mark.parametrize("value", [-1, 2**32, 1.0, False, "0"])
def test_check_seed_refuses(value):
    with pytest.raises(ValueError, match="seed: expected an integer from 0 to 4294967295, got"):
        check_seed("seed", value)


@pytest.mark.parametrize("value", [3, 3.0, np.float16(3), np.array(3), jnp.float32(3), np.int8(3)])
def test_a_number_may_be_a_scalar_of_numpy_or_jax(value):
    number = check_number("lr", value)
    assert number == 3.0
    assert type(number) is float


@pytest.mark.parametrize(
    "value", ["3", None, True, np.True_, math.nan, math.inf, 10**400, 3j, np.ones(1), [3], object()]
)
def test_check_number_refuses(value):
    with pytest.raises(ValueError, match="lr: expected a finite number, got"):
        check_number("lr", value)


def test_a_traced_number_is_refused():
    with pytest.raises(ValueError, match="lr: expected a finite number, got"):
        jax.jit(lambda value: check_number("lr", value))(1.0)


@pytest.mark.parametrize(
    ("limits", "good", "bad", "message"),
    [
        ({"least": 0}, 0, -1, "a finite number >= 0"),
        ({"above": 0}, 1, 0, "a finite number > 0"),
        ({"most": 1}, 1, 2, "a finite number <= 1"),
        ({"below": 1}, 0, 1, "a finite number < 1"),
        ({"least": 0, "most": 1}, 1, 1.5, r"a number in \[0, 1\]"),
        ({"least": 0, "below": 1}, 0, 1, r"a number in \[0, 1\)"),
        ({"above": -0.5, "most": 1}, 0, -0.5, r"a number in \(-0.5, 1\]"),
        ({"least": 0, "finite": False}, math.inf, math.nan, "a number >= 0"),
    ],
)
def test_the_ends_of_a_number(limits, good, bad, message):
    assert check_number("x", good, **limits) == good
    with pytest.raises(ValueError, match=f"x: expected {message}, got {bad}"):
        check_number("x", bad, **limits)


@pytest.mark.parametrize(
    ("limits", "bad", "message"),
    [
        ({}, 1.0, "an integer"),
        ({"least": 1}, 0, "a positive integer"),
        ({"least": 0}, -1, "an integer >= 0"),
        ({"most": 3}, 4, "an integer <= 3"),
        ({"least": 0, "most": 3}, True, "an integer from 0 to 3"),
    ],
)
def test_the_ends_of_an_integer(limits, bad, message):
    integer = check_integer("k", np.int64(1), **limits)
    assert type(integer) is int
    with pytest.raises(ValueError, match=f"k: expected {message}, got {bad}"):
        check_integer("k", bad, **limits)


def test_a_count_has_32_bits():
    assert check_positive("epochs", 2**31 - 1) == 2**31 - 1
    with pytest.raises(ValueError, match="epochs: expected an integer of 32 bits, got 2147483648"):
        check_positive("epochs", 2**31)


@pytest.mark.parametrize("value", ["no", "False", 0, None, [True]])
def test_check_bool_refuses(value):
    assert check_bool("bias", np.True_) is True
    with pytest.raises(ValueError, match="bias: expected True or False, got"):
        check_bool("bias", value)


@pytest.mark.parametrize("value", ["maximum", "", None, ["max"]])
def test_check_choice_refuses(value):
    assert check_choice("mode", "max", ("min", "max")) == "max"
    with pytest.raises(ValueError, match="mode: expected one of min, max, got"):
        check_choice("mode", value, ("min", "max"))


@pytest.mark.parametrize("value", ["int32", "junk", None, jnp.int8, [], object(), 10**400])
def test_check_float_dtype_refuses(value):
    assert check_float_dtype("dtype", "bfloat16") == jnp.bfloat16
    with pytest.raises(ValueError, match="dtype: expected a floating-point dtype, got"):
        check_float_dtype("dtype", value)


def test_entries_of_what_holds_several():
    assert entries([1, 2]) == entries(np.array([1, 2])) == entries(jnp.array([1, 2])) == (1, 2)
    assert entries("12") is entries(12) is entries(np.ones((1, 1))) is entries(None) is None


@pytest.mark.parametrize("value", ["abc", None, object(), [[1], [1, 2]], 10**400])
def test_as_array_refuses(value):
    with pytest.raises(ValueError, match="labels: expected an array, got"):
        as_array("labels", value)


def test_require_names_the_extra():
    with pytest.raises(ImportError, match=r"reading requires nowhere.*'\.\[torch\]'"):
        require("nowhere", extra="torch", feature="reading")


def test_require_does_not_hide_a_broken_package(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("import nowhere_either")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nowhere_either"):
        require("broken", extra="torch", feature="reading")


def test_a_number_is_one_that_the_dtype_holds():
    with pytest.raises(ValueError, match="lr: expected .* the range of float32, got 1e\\+49"):
        check_number("lr", 1e49)
    with jax.enable_x64(True):
        assert check_number("lr", 1e49) == 1e49


def test_a_path_is_one_in_words():
    assert check_path("out", "a/b") == Path("a/b")
    for value, got in [(3, "3"), (b"a", "b'a'"), ("", "''"), ("a\0", r"'a\\x00'"), (None, "None")]:
        with pytest.raises(ValueError, match=f"^out: expected a folder, got {got}$"):
            check_path("out", value, "a folder")
    with pytest.raises(ValueError, match="^out: expected a folder, got 'x+.*x+': File name too"):
        check_path("out", "x" * 999, "a folder")


@pytest.mark.parametrize(
    ("array", "got"),
    [
        (np.ones(2, ">f4"), r">f4\[2\], which astype\(np.float32\) converts"),
        (np.ones(2, np.longdouble), r"float\d+\[2\], which astype\(np.float32\) converts"),
        (np.ma.ones(2), r"a masked float64\[2\], whose filled\(value\) has no mask"),
        (np.array([object()]), r"object\[1\]"),
        (np.zeros(2, "M8[D]"), r"datetime64\[D\]\[2\]"),
        (np.array(["a"]), r"<U1\[1\]"),
        (np.zeros(2, "i4,f4"), r"\[\('f0', '<i4'\), \('f1', '<f4'\)\]\[2\]"),
        (np.ones(2, np.uint8), r"uint8\[2\] pixels, which transform=ToFloat\(\) converts"),
    ],
)
def test_an_array_that_jax_has_not_is_named_with_the_remedy(array, got):
    with pytest.raises(ValueError, match=rf"^x: expected a floating-point array \[n\], got {got}$"):
        check_floats("x", array, ("n",))


def test_a_tensor_is_named_with_the_remedy():
    tensor = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=r"got a torch Tensor .*detach\(\).cpu\(\).numpy\(\)"):
        check_floats("x", tensor, ("n",))
    with pytest.raises(ValueError, match=r"got a torch Tensor .*detach\(\).cpu\(\).numpy\(\)"):
        as_array("x", tensor)


def test_a_function_is_neither_a_class_nor_one_of_pytorch():
    assert check_function("loss", abs, "a function") is abs
    for value, got in [(3, "3"), (int, "<class 'int'>"), (torch.relu, "PyTorch's <built-in")]:
        with pytest.raises(ValueError, match=f"loss: expected a function, got {got}"):
            check_function("loss", value, "a function")
    with pytest.raises(ValueError, match="loss: expected a function, got PyTorch's MSELoss()"):
        check_function("loss", torch.nn.MSELoss(), "a function")


WIDE = 2**32 + 1  # in 32 bits this is 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([0, WIDE]), r"x: expected numbers that fit into int32, got 4294967297 in row 1"),
        (np.array([[-(2**31) - 1]]), "into int32, got -2147483649 in row 0 .counted from 0."),
        (np.array([3, 2**32], np.uint64), "into uint32, got 4294967296 in row 1"),
        (np.int64(WIDE), "into int32, got 4294967297$"),
        (np.array([1.0, -1e300]), r"into float32, got -1e\+300 in row 1"),
        (np.array([np.nan, 1e39]), r"into float32, got 1e\+39 in row 1"),
        (1e300, r"into float32, got 1e\+300$"),
    ],
)
def test_no_number_changes_where_jax_takes_64_bits_for_32(array, message):
    with pytest.raises(InputError, match=message):
        as_array("x", array)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(as_array("x", array), array)


@pytest.mark.parametrize(
    ("array", "dtype", "fits"),
    [
        ([-1], np.uint8, False),
        ([256], np.uint8, False),
        ([255], np.uint8, True),
        ([2.0**31], np.int32, False),
        ([65520.0], np.float16, False),
        ([np.inf, np.nan, 1e38], np.float32, True),
    ],
)
def test_an_array_is_narrowed_only_where_its_numbers_fit(array, dtype, fits):
    array = np.array(array)
    if fits:
        np.testing.assert_array_equal(narrowed("x", array, dtype), array.astype(dtype))
    else:
        with pytest.raises(InputError, match=f"x: expected numbers that fit into {dtype.__name__}"):
            narrowed("x", array, dtype)
