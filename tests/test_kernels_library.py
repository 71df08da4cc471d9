"""The cache of compiled libraries, and the handling of files that others could have written."""

import ctypes
import errno
import json
import os
import re
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jaxnets import compilation
from jaxnets.kernels import library, native
from jaxnets.kernels.library import Failed, open_library

NAME = "native-answer-0.so"
FUNCTIONS = ("answer",)


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """Compiled libraries, by the name of their function."""

    def compiled(function, value):
        folder = tmp_path_factory.mktemp("code")
        (folder / "a.c").write_text(f"int {function}(void) {{ return {value}; }}\n")
        command = ["cc", "-shared", "-fPIC", "-o", folder / "a.so", folder / "a.c"]
        subprocess.run(command, check=True)
        return folder / "a.so"

    return {"answer": compiled("answer", 42), "other": compiled("other", 1)}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache folder; messages are repeated in each test."""
    monkeypatch.setenv("JAXNETS_CACHE", str(tmp_path / "cache"))
    compilation._said.clear()
    return tmp_path / "cache"


@pytest.fixture
def make(tmp_path, code, cache):
    """Opens the library, and returns how often the compiler has run."""
    compiler, count = tmp_path / "compiler", tmp_path / "count"
    script = f'#!/bin/sh\necho >> {count}\nfor last; do :; done\ncp {code["answer"]} "$last"\n'
    compiler.write_text(script)
    compiler.chmod(0o755)

    def opened():
        found = open_library([str(compiler)], [], NAME, FUNCTIONS)
        assert found.opened.answer() == 42
        return count.read_text().count("\n")

    return opened


def beside(cache):
    return cache / f".{NAME}.json"


def kept_whole(cache, code):
    """Asserts that the folder has only the library and the file that identifies it."""
    assert sorted(path.name for path in cache.iterdir()) == [beside(cache).name, NAME]
    assert (cache / NAME).read_bytes() == code["answer"].read_bytes()
    assert not any(path.is_symlink() for path in cache.iterdir())


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o777])
def test_the_cache_is_private(make, cache, code, umask):
    before = os.umask(umask)
    try:
        assert [make(), make()] == [1, 1]
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.iterdir()} == {0o600}
    kept_whole(cache, code)


def belongs_to_another(path):
    if os.geteuid():
        path.chmod(0o666)  # instead of another owner, which only root can set
    else:
        os.chown(path, 12345, 12345)


def changed(change):
    return lambda cache, code: (cache / NAME).write_bytes(change((cache / NAME).read_bytes()))


def linked(cache, code):
    (cache / NAME).unlink()
    (cache / NAME).symlink_to(code["answer"])


def piped(cache, code):
    (cache / NAME).unlink()
    os.mkfifo(cache / NAME)


def planted(cache, code):
    """Replaces the library by another one, with its size and SHA-256 in the file next to it."""
    other = code["other"].read_bytes()
    (cache / NAME).write_bytes(other)
    beside(cache).write_text(json.dumps(library._measured(other)))


ATTACKS = {
    "truncated": changed(lambda code: code[:-1]),
    "cut to a page": changed(lambda code: code[:4096]),
    "empty": changed(lambda code: b""),
    "zeroed tail": changed(lambda code: code[:-4000] + bytes(4000)),
    "a bit flipped": changed(lambda code: code[:5000] + bytes([code[5000] ^ 1]) + code[5001:]),
    "no library": changed(lambda code: b"no library"),
    "owner": lambda cache, code: belongs_to_another(cache / NAME),
    "owner beside": lambda cache, code: belongs_to_another(beside(cache)),
    "group": lambda cache, code: (cache / NAME).chmod(0o660),
    "others": lambda cache, code: (cache / NAME).chmod(0o602),
    "group beside": lambda cache, code: beside(cache).chmod(0o660),
    "nothing beside": lambda cache, code: beside(cache).unlink(),
    "nonsense beside": lambda cache, code: beside(cache).write_text("[" * 100_000),
    "no text beside": lambda cache, code: beside(cache).write_bytes(b"\xff"),
    "link": linked,
    "pipe": piped,
    "without the function": planted,
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_modified_library_is_compiled_again(make, cache, code, attack):
    assert make() == 1
    attack(cache, code)
    assert [make(), make()] == [2, 2]
    kept_whole(cache, code)


FOLDERS = {
    "owner": (belongs_to_another, "it belongs to user 12345|other users can write to it"),
    "group": (lambda path: path.chmod(0o770), "other users can write to it .mode 0770"),
    "others": (lambda path: path.chmod(0o1777), "other users can write to it .mode 1777"),
}


@pytest.mark.parametrize(("act", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_others_can_write_to_is_not_used(make, cache, caplog, act, message):
    make()
    act(cache)
    assert [make(), make()] == [2, 3]
    (said,) = caplog.records  # once
    assert said.getMessage().startswith(f"jaxnets: {cache} is not used as a cache: ")
    caplog.clear()
    compilation._said.clear()
    assert compilation.folder() is None
    assert re.search(message, caplog.text)


def test_threads_that_say_the_same_at_once_say_it_once(cache, caplog):
    start = threading.Barrier(8)

    def say(_):
        start.wait()
        compilation.say_once("heard once")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(say, range(8)))
    assert caplog.messages == ["jaxnets: heard once"]


def test_a_full_disk_is_not_used(make, cache, caplog, monkeypatch):
    make()
    monkeypatch.setattr(compilation, "_LEAST_ROOM", 2**70)
    assert [make(), make()] == [2, 3]
    (said,) = caplog.records
    assert f"{cache} is not used as a cache: its disk is full; JAXNETS_CACHE" in said.getMessage()


def test_a_library_that_cannot_be_kept_is_open_all_the_same(make, cache, code, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert make() == 1
    assert not list(cache.iterdir())
    assert make() == 2
    kept_whole(cache, code)


@pytest.mark.parametrize(
    "variables",
    [
        {"JAXNETS_CACHE": "file"},
        {"JAXNETS_CACHE": "file/below"},
        {"JAXNETS_CACHE": "/proc/nothing"},
        {"JAXNETS_CACHE": "loop"},
        {"JAXNETS_CACHE": "", "XDG_CACHE_HOME": "file"},
        {"JAXNETS_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "file"},
    ],
)
def test_where_there_can_be_no_folder_it_is_compiled(make, tmp_path, monkeypatch, variables):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value) if value else "")
    assert compilation.folder() is None
    assert make() == 1


def test_another_process_at_the_same_moment(make, cache, code):
    """Files of a killed process with the same id, and of running processes, do no harm."""
    cache.mkdir(mode=0o700)
    (cache / f"{NAME}.{os.getpid()}").mkdir()
    old, new = cache / ".partial-native-a", cache / ".partial-native-b"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, time.time() - 2 * library.MEMORY))
    assert [make(), make()] == [1, 1]
    assert new.exists()  # another process may be writing it
    assert not old.exists()


def test_what_is_open_does_not_depend_on_its_file(make, cache):
    make()
    held = open_library(["none"], [], NAME, FUNCTIONS).opened
    os.truncate(cache / NAME, 0)
    assert held.answer() == 42


def test_two_libraries_are_two(make, cache, code):
    compiler = cache.parent / "other"
    compiler.write_text(f'#!/bin/sh\nfor last; do :; done\ncp {code["other"]} "$last"\n')
    compiler.chmod(0o755)
    make()
    other = open_library([str(compiler)], [], "native-other-0.so", ["other"]).opened
    assert (other.other(), make()) == (1, 1)


def test_without_files_in_memory_a_scratch_copy_is_opened(make, monkeypatch, tmp_path):
    monkeypatch.setattr(library, "_MEMORY_FILES", False)
    monkeypatch.setattr(library.tempfile, "tempdir", str(tmp_path))
    assert [make(), make()] == [1, 1]
    assert not list(tmp_path.glob("jaxnets-*"))


def test_where_nothing_can_be_opened_the_reason_is_said(make, monkeypatch, tmp_path):
    def refused(path):
        raise OSError(f"{path}: failed to map segment from shared object")

    class Noexec:
        f_flag, f_bavail, f_frsize = os.ST_NOEXEC, 2**30, 4096

    monkeypatch.setattr(ctypes, "CDLL", refused)
    monkeypatch.setattr(os, "statvfs", lambda path: Noexec)
    monkeypatch.setattr(library.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(Failed, match=f"{tmp_path} is mounted noexec; TMPDIR names another"):
        make()


# -- invalid compilers ---------------------------------------------------------------------------


def compiler(tmp_path, script):
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return [str(path)]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "failed: 3$"),
        ("exit 0", "made no library$"),
        ('mkdir "$3"', "made no library$"),
        (r"printf '\377\376 error: \033[31mred\a\n' >&2; exit 1", "failed: .. error: .*red.$"),
        ("yes error | tr -d '\\n' | head -c 300000 >&2; exit 1", "failed: (error){40}$"),
        ("kill -9 $$", "failed: -9$"),
    ],
)
def test_a_compiler_that_fails_is_one_line(tmp_path, cache, script, message):
    with pytest.raises(Failed, match=message) as failed:
        open_library(compiler(tmp_path, script), ["x"], NAME, FUNCTIONS)
    assert str(failed.value).isprintable()
    assert not list(cache.iterdir())


def test_a_compiler_without_the_functions(tmp_path, code, cache):
    made = compiler(tmp_path, f'cp {code["other"]} "$2"')
    with pytest.raises(Failed, match=f"the compiled {NAME} has no function answer"):
        open_library(made, [], NAME, FUNCTIONS)
    assert not list(cache.iterdir())


def test_a_compiler_that_hangs_is_ended_and_remembered(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(library, "PATIENCE", 0.2)
    monkeypatch.setattr(library.tempfile, "tempdir", str(tmp_path))
    hanging = compiler(
        tmp_path, f"sleep 1000 & echo $! > {tmp_path}/child; echo >> {tmp_path}/n; wait"
    )
    message = f"took more than 0.2 s; the next try is in an hour, or without {cache}/"

    def failing():
        with pytest.raises(Failed, match=message):
            open_library(hanging, [], NAME, FUNCTIONS)
        return (tmp_path / "n").read_text().count("\n")

    assert [failing(), failing()] == [1, 1]
    wait_for_the_end_of(int((tmp_path / "child").read_text()))
    monkeypatch.setattr(library, "_too_slow", set())  # as in another process
    assert failing() == 1
    (memory,) = cache.iterdir()
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    os.utime(memory, (0, time.time() - library.MEMORY))
    assert failing() == 2
    monkeypatch.setattr(library, "_too_slow", set())
    memory.chmod(0o666)  # others cannot switch the kernels off
    assert failing() == 3
    assert not list(tmp_path.glob("jaxnets-*"))


def wait_for_the_end_of(process):
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    raise AssertionError("the compiler's child is still there")


# -- variables -----------------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch, cache):
    """Makes the package check again whether there are kernels."""
    monkeypatch.setattr(native, "_load", native._load.__wrapped__)
    return monkeypatch


@pytest.mark.parametrize("word", ["off", "OFF", "0", "no", "No", "false"])
def test_words_for_off(fresh, word):
    fresh.setenv("JAXNETS_NATIVE", word)
    assert native.status() == "not in use: JAXNETS_NATIVE is off"
    fresh.setenv("JAXNETS_CACHE", word)
    assert compilation.folder() is None


@pytest.mark.parametrize("word", ["on", "ON", "1", "yes", "true", ""])
def test_words_for_on(fresh, word, tmp_path):
    fresh.setenv("JAXNETS_NATIVE", word)
    assert native.check_switch()
    fresh.setenv("JAXNETS_CACHE", word)
    fresh.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compilation.folder() == tmp_path / "jaxnets"


@pytest.mark.parametrize("word", ["perhaps", "2", "o n", "x" * 1000])
def test_other_words_are_refused(fresh, word):
    fresh.setenv("JAXNETS_NATIVE", word)
    with pytest.raises(ValueError, match="JAXNETS_NATIVE: expected on or off, got '") as refused:
        native.status()
    assert len(str(refused.value)) < 100


@pytest.mark.parametrize("command", ["g++ 'x", 'g++ "', "g++ \\"])
def test_invalid_compiler_command(fresh, caplog, command):
    fresh.setenv("CXX", command)
    assert native.status().startswith("not in use: CXX is not a command: No ")
    assert not native.ready("recurrence", np.zeros(1, np.float32))
    (said,) = caplog.records
    message = "jaxnets: native kernels are not in use: CXX is not a command"
    assert said.getMessage().startswith(message)


@pytest.mark.slow
def test_what_is_said_is_one_line_of_a_run(tmp_path):
    script = """
import jax, jax.numpy as jnp
from flax import nnx
from jaxnets import kernels
from jaxnets.layers import LSTM
layer = LSTM(3, 4, rngs=nnx.Rngs(0))
print(jax.jit(kernels.with_kernels(lambda x: layer(x)[0]))(jnp.zeros((8, 8, 3))).shape)
"""
    environment = {**os.environ, "CXX": "g++ 'x", "JAXNETS_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "(8, 8, 4)\n"
    line = "jaxnets: native kernels are not in use: CXX is not a command: No closing quotation\n"
    assert done.stderr == line
