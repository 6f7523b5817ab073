"""Names that users write: what to say of one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(given: str, names: Iterable[str], what: str) -> str:
    """One sentence for an unknown name: what was given and the names closest to it."""
    known = sorted(names)
    close = difflib.get_close_matches(given, known, n=3, cutoff=0.4) or known
    return f"unknown {what} {given!r}: did you mean {', '.join(close)}?"
