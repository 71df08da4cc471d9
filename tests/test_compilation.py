import ctypes
import json
import os
import platform
import subprocess
import sys

import pytest

import jaxnets
from jaxnets import compilation

#: Caches programs in a separate process for each case. A parent process imports JAX for all.
CASES = """
import json, os, sys, tempfile, warnings
import jax
from jaxnets.compilation import keep_programs

warnings.simplefilter("ignore")  # JAX's, of forks: it has no threads yet

def run(before, environment):
    os.environ.clear()
    os.environ.update(environment)
    exec(before)
    keep_programs()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    print(jax.config.jax_compilation_cache_dir, flush=True)
    jax.jit(lambda x: jax.numpy.linalg.qr(jax.numpy.sin(x @ x))[0])(jax.numpy.ones((9, 9)))

found = []
for case in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        if not (child := os.fork()):
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            warnings.resetwarnings()
            run(*case)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found.append([code, *(file.seek(0) or file.read() for file in (out, err))])
print(json.dumps(found))
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


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The folder and the output of the process of each case."""
    folder = tmp_path_factory.mktemp("kept")
    for name in ("HOME", "XDG_CACHE_HOME", "JAXNETS_CACHE", "off", "own", "file", "open"):
        (folder / name).mkdir()
    (folder / "file" / "file").touch()
    (folder / "open").chmod(0o777)
    environments = {
        **{name: {name: folder / name} for name in ("HOME", "XDG_CACHE_HOME", "JAXNETS_CACHE")},
        "off": {"JAXNETS_CACHE": "off"},
        "own": {},
        "file": {"JAXNETS_CACHE": folder / "file" / "file" / "x"},
        "open": {"JAXNETS_CACHE": folder / "open"},
    }
    before = {"own": 'jax.config.update("jax_compilation_cache_dir", "/own")'}
    cases = [
        (before.get(name, ""), {"HOME": str(folder / name)} | {k: str(v) for k, v in own.items()})
        for name, own in environments.items()
    ]
    command = [sys.executable, "-c", CASES, json.dumps(cases)]
    clean = {"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    found = {}
    for name, (code, out, err) in zip(environments, json.loads(done.stdout), strict=True):
        assert code == 0, err
        found[name] = folder / name, out.strip(), err
    return found


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME", "JAXNETS_CACHE"])
@pytest.mark.slow
def test_programs_are_kept_in_the_users_cache(kept, variable):
    places = {"HOME": ".cache/jaxnets", "XDG_CACHE_HOME": "jaxnets", "JAXNETS_CACHE": "."}
    folder, printed, said = kept[variable]
    assert (printed, said) == (str(folder / places[variable]), "")
    assert [*(folder / places[variable]).glob("jit_*")]


@pytest.mark.slow
def test_off_keeps_nothing(kept):
    folder, *told = kept["off"]
    assert told == ["None", ""]
    assert not [*folder.iterdir()]


@pytest.mark.slow
def test_a_cache_that_jax_has_stays(kept):
    assert kept["own"][1:] == ("/own", "")


@pytest.mark.slow
def test_a_folder_that_cannot_be_made_is_no_fault(kept):
    assert kept["file"][1:] == ("None", "")


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
    if mode & 0o011:  # others can reach the files that they can write to
        foreign = {"b-cache", "c-atime", "link-cache"}
    every = {"a-cache", "b-cache", "c-atime", "link-cache", "other"}
    compilation._remove_foreign_programs(cache)
    assert {path.name for path in cache.iterdir()} == every - foreign


@pytest.mark.slow
def test_a_folder_that_others_can_write_to_keeps_no_programs(kept):
    folder, printed, said = kept["open"]
    assert printed == "None"
    why = "is not used as a cache: other users can write to it (mode 0777, until chmod go-w)"
    assert said == f"jaxnets: {folder} {why}; JAXNETS_CACHE names another\n"
    assert not [*folder.iterdir()]


def page_faults(times):
    """Page faults of ten runs of a 40 MB program, after a number of calls of ``keep_memory``."""
    clean = {"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", FAULTS.format(times=times)]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for the malloc of glibc")
@pytest.mark.slow
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
