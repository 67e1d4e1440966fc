"""What somebody may have meant by a word that is not known. Pure; every message about such a word ends with it."""

import difflib
from collections.abc import Iterable

_NEAR = 0.7  # of 1: from here on two words are more likely a slip than two meanings


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """`: did you mean X?` when one of `known` is near, whatever its case; else nothing."""
    by_lower = {word.lower(): word for word in known}
    near = difflib.get_close_matches(typed.lower(), by_lower, n=1, cutoff=_NEAR)
    return f": did you mean {by_lower[near[0]]}?" if near else ""
