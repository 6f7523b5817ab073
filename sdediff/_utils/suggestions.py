"""Names that users write: what to say of one that is not known, and what lies behind one on a higher floor."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable
from typing import Any

from sdediff._utils.checks import shown
from sdediff._utils.synonyms import BY_KIND, UI_GRIDS

# What other libraries put around a name: k-diffusion's sample_dpmpp_2m, diffusers' DDIMScheduler, v_prediction.
_AFFIX = re.compile(r"^(sample|k)|(scheduler|sampler|prediction|predictor|pred|corrector|gpu)$")


def nearest(given: str, names: Iterable[str], what: str) -> str:
    """One sentence for an unknown name: what was given, and the name here that is meant or those closest to it.

    what: the kind of name, such as "solver" or "option of ddim", by whose first word other libraries' names are known.
    """
    return f"unknown {what} {shown(given)}: {meant(given, names, what)}"


def meant(given: str, names: Iterable[str], what: str = "") -> str:
    """The end of such a sentence."""
    known = sorted(names)
    solver, grid = _solver_and_grid(given, known) if what == "solver" else (_resolved(given, known, what), None)
    if solver and grid:
        return f"that is solver={_written(solver)}, grid={_written(grid)} here"
    if solver:
        return f"that is {_written(solver)} here"
    close = _close(given, known, 3)
    if close:
        return f"did you mean {', '.join(map(repr, close))}?"
    return f"write {'one of ' if len(known) > 1 else ''}{', '.join(known)}"


def hint(given: str, names: Iterable[str]) -> str:
    """The same for names that are too many to list: "; did you mean 'x'?", or nothing where none is close."""
    close = _close(given, names, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def parse_ui_name(given: str, solvers: Iterable[str]) -> tuple[str, str | None] | None:
    """The solver, and the grid or None, of a name in other interfaces: "DPM++ 2M Karras" -> ("dpmpp_2m", "karras").

    solvers: the names here. None where it is no such name, or where an option is needed to mean the same.
    """
    solver, grid = _solver_and_grid(given, solvers)
    return None if solver is None or " " in f"{solver}{grid}" else (solver, grid)


def _solver_and_grid(given: str, solvers: Iterable[str]) -> tuple[str | None, str | None]:
    """Both as our names, each with the option that it needs behind a space."""
    known, key = list(solvers), _plain(given)
    alone = given if given in known else _resolved(given, known, "solver")
    if alone:
        return alone, None
    for word in UI_GRIDS:
        # Names with a grid are k-diffusion's, whose euler and heun integrate over sigma/alpha.
        solver = _resolved("sample" + key.removesuffix(_plain(word)), known, "solver")
        if solver:
            return solver, _THEIRS["grid"].get(_plain(word), [word])[0]
    return None, None


def _resolved(given: str, names: Iterable[str], what: str) -> str | None:
    """The one of `names` that is meant, with the option that it needs behind a space."""
    known, theirs = {_plain(name): name for name in names}, _THEIRS.get(what.partition(" ")[0], {})
    whole = _plain(given)
    for key in (whole, _AFFIX.sub("", whole)) if theirs else (whole,):
        for target in (key, *theirs.get(key, ())):
            name, space, option = target.partition(" ")
            if _plain(name) in known:
                return known[_plain(name)] + space + option
    return None


def _close(given: str, names: Iterable[str], n: int) -> list[str]:
    known = {_plain(name): name for name in names}
    return [known[key] for key in difflib.get_close_matches(_plain(given), known, n=n, cutoff=0.4)]


def _written(target: str) -> str:
    name, _, option = target.partition(" ")
    return f"{name!r} with {option}" if option else repr(name)


def _plain(name: Any) -> str:
    """Without case and separators: DPM-Solver++(2M), "DPM++ 2M" and dpmpp_2m are one."""
    return re.sub(r"[\W_]+", "", str(name).lower().replace("++", "pp")).replace("dpmsolverpp", "dpmpp")


def _by_theirs(ours: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for target, others in ours.items():
        for other in others:
            table.setdefault(_plain(other), []).append(target)
    return table


_THEIRS = {kind: _by_theirs(ours) for kind, ours in BY_KIND.items()}


def late(place: str) -> Any:
    """What "module:name" stands for, imported when it is needed: a name here may be made of what builds on it."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
