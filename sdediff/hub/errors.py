"""What a model folder is refused for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from sdediff._utils.errors import Error


class HubError(Error, ValueError):
    """A model, its folder or its name cannot be used: the message names the file, what is wrong and the mend."""


def near(name: str, names: Iterable[str]) -> str:
    """The tail of an error about an unknown name: the nearest of `names`, or all of them."""
    valid = sorted(names)
    found = difflib.get_close_matches(name, valid, n=2, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, found))}?" if found else f"write one of {', '.join(valid)}"
