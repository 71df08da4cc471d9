"""What something was made with."""

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
    """A table of settings, versions and machine.

    Args:
        settings: by name.
        about: what is to be said besides.
        versions: of packages, by name; None for what is not there.
        machine: what is known of it, by name.
    """
    told = [(name.replace("_", " "), listed(value)) for name, value in settings.items()]
    told += about
    there = {name: of for name, of in versions.items() if of is not None}
    told += [("versions", listed(there))] if there else []
    told += [(f"machine: {name}", listed(value)) for name, value in machine.items()]
    return Table("Settings, versions and machine.", ["", ""], "ll", told)
