"""Recommendations that the commands keep: in the model's folder, or in the user's cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdediff._utils.errors import InputError
from sdediff._utils.files import expanded

if TYPE_CHECKING:
    from sdediff.analysis import Recommendation
    from sdediff.model.score_model import ScoreModel


def recommended(
    name: str,
    model: ScoreModel,
    size: Sequence[int],
    calls: int,
    *,
    candidates: Sequence[Any] | None = None,
    starts: int = 256,
    seed: int | None = None,
    cond: dict[str, Any] | None = None,
    refresh: bool = False,
    check: bool = True,
    by: str = "both",
    data: Any = None,
) -> Recommendation:
    """The recommendation of `sdediff.recommend`, kept in a file; without --solver and --seed the one that auto takes.

    name: MODEL as it was written. Says on stderr why it cannot be kept, where it cannot.
    """
    from sdediff.analysis import recommend
    from sdediff.analysis.selection import AUTO_SEED
    from sdediff.model.identity import identity

    options: dict[str, Any] = {"calls": calls, "candidates": candidates, "starts": starts, "check": check, "cond": cond}
    options |= {"by": by, "data": data}
    options["seed"] = AUTO_SEED if seed is None else seed
    folder = folder_for(name)
    try:
        identity(model)
        folder.mkdir(parents=True, exist_ok=True)
    except (InputError, OSError) as error:
        print(f"sdediff: the recommendation is not kept: {error}", file=sys.stderr)
        return recommend(model, tuple(size), **options)
    return recommend(model, tuple(size), **options, keep=folder, refresh=refresh)


def folder_for(name: str) -> Path:
    """Where recommendations on a model are kept: in its own folder where that may be written, else in the cache."""
    place = expanded(name)
    if (place / "config.json").is_file() and os.access(place, os.W_OK):
        return place / "recommendations"
    own, general = os.environ.get("SDEDIFF_CACHE"), os.environ.get("XDG_CACHE_HOME")
    cache = Path(own) if own else Path(general or Path.home() / ".cache") / "sdediff"
    return cache / "recommendations"
