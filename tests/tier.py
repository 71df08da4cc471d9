"""How much is tried: the usual tests take minutes, ``pytest --thorough`` takes an hour."""

import hypothesis

#: Set by ``--thorough`` before any test is imported.
thorough = False


def examples(few):
    """Hypothesis' settings: so many examples, and ten times as many with ``--thorough``."""
    return hypothesis.settings(max_examples=few * 10 if thorough else few)


def by_tier(usual, deep):
    """The first value, or with ``--thorough`` the second."""
    return deep if thorough else usual
