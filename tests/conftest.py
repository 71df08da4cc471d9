"""Settings of all tests: strict promotion of dtypes and ranks, and fast, cached compilation."""

import functools
import gc
import os
import signal
import sys
from pathlib import Path

import hypothesis
import jax
import pytest

from jaxnets.kernels import native
from tests import kernels, quick_compilation, resources, tier

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiled programs are cached on disk, for other workers and later runs.
_cache = Path(os.environ.get("JAXNETS_TEST_CACHE", Path(__file__).parent.parent / ".cache" / "xla"))
_cache.mkdir(mode=0o700, parents=True, exist_ok=True)  # kernels require a private folder
_RESOURCES = _cache.parent / "resources"
jax.config.update("jax_compilation_cache_dir", str(_cache))
os.environ["JAXNETS_CACHE"] = str(_cache)  # for the commands that tests run
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

# Hundreds of processes import the package. Without cached bytecode, each would compile it again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Tests must not find the data sets of the user.
os.environ.pop("JAXNETS_DATA", None)

# Limits the memory of oneDNN, which would cache primitives for a thousand shapes.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")

# Shells make background processes ignore Ctrl-C, which some tests send to child processes.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "jaxnets", max_examples=20, deadline=None, derandomize=True, print_blob=True
)
hypothesis.settings.register_profile(
    "thorough", hypothesis.settings.get_profile("jaxnets"), max_examples=200
)


# Most programs run once on small arrays, so optimizing them would take longer than it saves. Some
# comparisons with torch, and processes that are started without `quick_compilation.environment`,
# use XLA's optimizations as users do.
jax.config.update("jax_disable_most_optimizations", True)
quick_compilation.install()


def pytest_collection_finish():
    """Makes garbage collection rare: tracing creates many objects, but little garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


def _optimized():
    """Enables XLA's optimizations, as in users' programs."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


optimized = pytest.fixture(_optimized, scope="module")
optimized_once = pytest.fixture(_optimized)


def pytest_addoption(parser):
    parser.addoption(
        "--measured", metavar="DIR", help="write the differences from torch into this folder"
    )
    parser.addoption(
        "--resources",
        action="store_true",
        help="print each module's CPU seconds, compilations and memory",
    )
    parser.addoption(
        "--thorough", action="store_true", help="more examples, more seeds, longer runs"
    )


def pytest_configure(config):
    tier.thorough = config.getoption("--thorough")
    hypothesis.settings.load_profile("thorough" if tier.thorough else "jaxnets")
    config.pluginmanager.register(resources.Memory())
    if config.getoption("--resources"):
        config.pluginmanager.register(resources.Recorder(_RESOURCES))


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--resources"):
        terminalreporter.write_line(resources.table(_RESOURCES))


@pytest.fixture
def vectors_of_32_bytes(monkeypatch, tmp_path):
    """Compiles kernels again for vectors of 32 bytes, as on processors without AVX-512."""
    monkeypatch.setenv("CXX", f"{kernels.QUICK_COMPILER} -DBYTES=32 -mno-avx512f")
    monkeypatch.setenv("JAXNETS_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "_load", functools.cache(native._load.__wrapped__))
    jax.clear_caches()
