import ctypes
import os
import platform
import subprocess
import sys

import pytest

import jaxnets
from jaxnets import compilation

SCRIPT = """
import jax
from jaxnets.compilation import keep_programs
{before}
keep_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(jax.config.jax_compilation_cache_dir)
jax.jit(lambda x: jax.numpy.linalg.qr(jax.numpy.sin(x @ x))[0])(jax.numpy.ones((9, 9)))
"""

FAULTS = """
import resource
import jax, jax.numpy as jnp
from jaxnets import keep_memory

for _ in range({times}):
    keep_memory()
weights = jnp.ones((1024, 4))
program = jax.jit(lambda x: (x + 1) @ weights).lower(jnp.ones((10 * 1024, 1024))).compile()
assert program.memory_analysis().temp_size_in_bytes >= 40 * 2**20
x = jnp.ones((10 * 1024, 1024))
for _ in range(30):  # the heap finds its size
    program(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    program(x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
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


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_programs_that_others_could_have_written_are_removed(tmp_path, monkeypatch, mode):
    cache = tmp_path / "cache"
    cache.mkdir(mode=mode)
    for name, bits in {
        "a-cache": 0o644,
        "b-cache": 0o664,
        "c-atime": 0o646,
        "other": 0o666,
    }.items():
        (cache / name).touch()
        (cache / name).chmod(bits)
    (cache / "link-cache").symlink_to("a-cache")
    foreign = set()
    if not os.geteuid():
        (cache / "d-cache").touch()
        os.chown(cache / "d-cache", 12345, 12345)
    if mode & 0o011:  # others can come to what they can write to
        foreign = {"b-cache", "c-atime", "link-cache"}
    every = {"a-cache", "b-cache", "c-atime", "link-cache", "other"}
    compilation._remove_foreign_programs(cache)
    assert {path.name for path in cache.iterdir()} == every - foreign


def test_a_folder_that_others_can_write_to_keeps_no_programs(tmp_path):
    cache = tmp_path / "open"
    cache.mkdir()
    cache.chmod(0o777)
    clean = {"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu", "JAXNETS_CACHE": str(cache)}
    command = [sys.executable, "-c", SCRIPT.format(before="")]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    said = "is not used as a cache: other users can write to it (mode 0777, until chmod go-w)"
    assert done.stderr == f"jaxnets: {cache} {said}; JAXNETS_CACHE names another\n"
    assert not [*cache.iterdir()]


def page_faults(times):
    """Of ten runs of a program that needs 40 MB, after so many calls of ``keep_memory``."""
    clean = {"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", FAULTS.format(times=times)]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for the malloc of glibc")
def test_memory_that_is_kept_is_not_mapped_again():
    without, kept = page_faults(times=0), page_faults(times=2)
    assert without > 10 * 40 * 2**20 / os.sysconf("SC_PAGE_SIZE") * 0.9
    assert kept < without / 5


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_memory_without_mallopt(monkeypatch, system):
    def opened(name):
        assert system == "linux"
        return object()  # a C library other than glibc

    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(ctypes, "CDLL", opened)
    jaxnets.keep_memory()
