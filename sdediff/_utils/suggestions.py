"""Names that users write: what to say of one that is not known, and what lies behind one on a higher floor."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from typing import Any


def nearest(given: str, names: Iterable[str], what: str) -> str:
    """One sentence for an unknown name: what was given and the names closest to it."""
    known = sorted(names)
    close = difflib.get_close_matches(given, known, n=3, cutoff=0.4) or known
    return f"unknown {what} {given!r}: did you mean {', '.join(close)}?"


def late(place: str) -> Any:
    """What "module:name" stands for, imported when it is needed: a name here may be made of what builds on it."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
