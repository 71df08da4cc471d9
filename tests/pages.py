"""The code on a Markdown page."""

import re


def blocks(page: str, language: str) -> list[str]:
    """The contents of the code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)
