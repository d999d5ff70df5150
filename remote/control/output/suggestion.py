"""What somebody who misspelt a name meant."""

from collections.abc import Iterable

_LONGEST = 100
"""Comparing takes the square of the length."""


def suggestion(wanted: str, known: Iterable[str], most: int = 1) -> str:
    """`did you mean ...?` with at most so many names, or nothing when none is close."""
    import difflib

    close = difflib.get_close_matches(wanted[:_LONGEST], list(known), n=most, cutoff=0.7)
    return f"did you mean {' or '.join(f'`{name}`' for name in close)}?" if close else ""
