"""The extent of the tests: the default takes minutes, ``pytest --thorough`` takes an hour."""

import hypothesis
import pytest

#: Set by ``--thorough`` before any test is imported.
thorough = False


def examples(few):
    """Hypothesis settings with a number of examples, ten times as many with ``--thorough``."""
    return hypothesis.settings(max_examples=few * 10 if thorough else few)


def by_tier(usual, deep):
    """The first value, or with ``--thorough`` the second."""
    return deep if thorough else usual


def usually(names, chosen):
    """Parameters: the chosen ones run each time, the others with ``-m slow``."""
    return [name if name in chosen else slow(name) for name in names]


def one_in(count, cases):
    """Parameters: one of ``count`` cases runs each time, the others with ``-m slow``."""
    return [slow(case) if number % count else case for number, case in enumerate(cases)]


def slow(*values):
    """The values of one case, or a ``pytest.param``; the case runs with ``-m slow``."""
    (case, *_) = values
    if hasattr(case, "marks"):
        return pytest.param(*case.values, marks=[*case.marks, pytest.mark.slow], id=case.id)
    return pytest.param(*values, marks=pytest.mark.slow)
