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
    config = cast(Any, jax.config)
    if config.jax_compilation_cache_dir or (kept := folder()) is None:
        return
    config.update("jax_compilation_cache_dir", str(kept))
    config.update("jax_persistent_cache_min_compile_time_secs", 0.01)


def folder() -> Path | None:
    """The folder of what is compiled, made if it is not there; None if nothing is kept."""
    given = os.environ.get(VARIABLE)
    if given == "off":
        return None
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    found = Path(given) if given else Path(caches) / "jaxnets"
    with contextlib.suppress(OSError):
        found.mkdir(parents=True, exist_ok=True)
    return found if os.access(found, os.W_OK) else None
