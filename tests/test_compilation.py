import subprocess
import sys

import pytest

SCRIPT = """
import jax
from jaxnets.compilation import keep_programs
{before}
keep_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(jax.config.jax_compilation_cache_dir)
jax.jit(lambda x: jax.numpy.linalg.qr(jax.numpy.sin(x @ x))[0])(jax.numpy.ones((9, 9)))
"""


def folder_in_use(before="", **environment):
    clean = {"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, "-c", SCRIPT.format(before=before)]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME", "JAXNETS_CACHE"])
def test_programs_are_kept_in_the_users_cache(tmp_path, variable):
    places = {"HOME": ".cache/jaxnets", "XDG_CACHE_HOME": "jaxnets", "JAXNETS_CACHE": "."}
    place = tmp_path / places[variable]
    assert folder_in_use(**{"HOME": str(tmp_path), variable: str(tmp_path)}) == str(place)
    assert [*place.glob("jit_*")]


def test_off_keeps_nothing(tmp_path):
    assert folder_in_use(HOME=str(tmp_path), JAXNETS_CACHE="off") == "None"
    assert not [*tmp_path.iterdir()]


def test_a_cache_that_jax_has_stays(tmp_path):
    before = 'jax.config.update("jax_compilation_cache_dir", "/own")'
    assert folder_in_use(before, HOME=str(tmp_path)) == "/own"


def test_a_folder_that_cannot_be_made_is_no_fault(tmp_path):
    (tmp_path / "file").touch()
    assert folder_in_use(HOME=str(tmp_path), JAXNETS_CACHE=str(tmp_path / "file" / "x")) == "None"
