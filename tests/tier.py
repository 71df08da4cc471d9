"""How much is tried: the usual tests take minutes, ``pytest --thorough`` takes an hour."""

import hypothesis
import pytest

#: Set by ``--thorough`` before any test is imported.
thorough = False


def examples(few):
    """Hypothesis' settings: so many examples, and ten times as many with ``--thorough``."""
    return hypothesis.settings(max_examples=few * 10 if thorough else few)


def by_tier(usual, deep):
    """The first value, or with ``--thorough`` the second."""
    return deep if thorough else usual


def usually(names, chosen, values=None):
    """Parameters: those of the chosen names run each time, the others with ``-m slow``.

    They are the names themselves, or these values.
    """
    marks = [() if name in chosen else pytest.mark.slow for name in names]
    each = zip(names if values is None else values, marks, strict=True)
    return [pytest.param(value, marks=mark) for value, mark in each]


def one_in(count, cases):
    """Parameters: one of so many cases runs each time, the others with ``-m slow``."""
    made = []
    for number, case in enumerate(cases):
        values, marks, name = (
            (case.values, case.marks, case.id) if hasattr(case, "marks") else ((case,), (), None)
        )
        marks = (*marks, *[pytest.mark.slow] * (number % count > 0))
        made.append(pytest.param(*values, marks=marks, id=name))
    return made
