"""Packages that only some features need."""

import importlib
from types import ModuleType


def require(package: str, *, extra: str, feature: str) -> ModuleType:
    """Imports an optional package, or says which pip extra installs it.

    Args:
        package: the name to import, such as ``torch``.
        extra: the extra of jaxnets that installs it.
        feature: what needs it, for the message.

    Returns:
        The imported module.

    Raises:
        ImportError: if the package is not installed; the message gives the command to run.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise ImportError(
            f"{feature} needs {package}, which is not installed: "
            f"pip install -e '.[{extra}]' in a clone of jaxnets"
        ) from error
