"""A table of settings, versions and machine."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxnets.pages.blocks import Table
from jaxnets.pages.wording import listed


def settings_table(
    settings: Mapping[str, Any],
    about: Sequence[tuple[str, str]],
    versions: Mapping[str, Any],
    machine: Mapping[str, Any],
) -> Table:
    """Returns a table of settings, versions and machine.

    Args:
        settings: the settings, by name.
        about: further rows, as (name, value).
        versions: the versions of packages, by name; None for packages that are not installed.
        machine: properties of the machine, by name.
    """
    rows = [(name.replace("_", " "), listed(value)) for name, value in settings.items()]
    rows += about
    installed = {name: of for name, of in versions.items() if of is not None}
    rows += [("versions", listed(installed))] if installed else []
    rows += [(f"machine: {name}", listed(value)) for name, value in machine.items()]
    return Table("Settings, versions and machine.", ["", ""], "ll", rows)
