"""The commands of ``jaxnets``. Thin: each reads flags, calls the library, prints."""
