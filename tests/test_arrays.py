import numpy as np
import pytest

from jaxnets.arrays import InputError, check_floats, check_positive, check_seed
from jaxnets.optional import require


def test_an_input_error_is_one_sentence_and_a_value_error():
    error = InputError("lr", "a positive number", -0.1)
    assert isinstance(error, ValueError)
    assert str(error) == "lr: expected a positive number, got -0.1"


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


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True, None])
def test_check_positive_refuses(value):
    with pytest.raises(ValueError, match="epochs: expected a positive integer, got"):
        check_positive("epochs", value)


@pytest.mark.parametrize("value", [-1, 2**32, 1.0, False, "0"])
def test_check_seed_refuses(value):
    with pytest.raises(ValueError, match="seed: expected an integer from 0 to 4294967295, got"):
        check_seed("seed", value)


def test_require_names_the_extra():
    with pytest.raises(ImportError, match=r"reading needs nowhere.*jaxnets\[torch\]"):
        require("nowhere", extra="torch", feature="reading")


def test_require_does_not_hide_a_broken_package(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("import nowhere_either")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nowhere_either"):
        require("broken", extra="torch", feature="reading")
