"""The error of models, their folders and their names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HubError(ValueError):
    """A model, its folder or its name cannot be used: the message names the file, what is wrong and how to mend it."""


def near(name: str, names: Iterable[str]) -> str:
    """The tail of an error about an unknown name: the nearest of `names`, or all of them."""
    valid = sorted(names)
    close = difflib.get_close_matches(name, valid, n=2, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"write one of {', '.join(valid)}"
