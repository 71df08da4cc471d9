"""Imports optional dependencies."""

import importlib
from types import ModuleType


def require(package: str, *, extra: str, feature: str) -> ModuleType:
    """Imports an optional package; if it is missing, the error names the pip extra to install.

    Args:
        package: the name to import, such as ``torch``.
        extra: the extra of jaxnets that installs the package.
        feature: the feature that requires the package, for the error message.

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
            f"{feature} requires {package}, which is not installed: "
            f"pip install -e '.[{extra}]' in a clone of jaxnets"
        ) from error
