"""The code on a Markdown page."""

import re


def blocks(page: str, language: str) -> list[str]:
    """What stands between the fences of a language."""
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)
