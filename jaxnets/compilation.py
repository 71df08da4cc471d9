"""Compiled programs kept on disk, so that the next start finds them."""

import contextlib
import os
from pathlib import Path
from typing import Any, cast

import jax

VARIABLE = "JAXNETS_CACHE"


def keep_programs() -> None:
    """Keeps what is compiled in this process in the user's cache folder, for later ones.

    The folder is that of the environment variable ``JAXNETS_CACHE``, of which ``off`` keeps
    nothing; else ``jaxnets`` in ``XDG_CACHE_HOME`` or in ``~/.cache``. A cache that JAX has been
    given already stays as it is, and where the folder cannot be written to, nothing is kept.

    The command line and the examples call this; importing jaxnets changes no setting.
    """
    given, config = os.environ.get(VARIABLE), cast(Any, jax.config)
    if given == "off" or config.jax_compilation_cache_dir:
        return
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(given) if given else Path(caches) / "jaxnets"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.01)
