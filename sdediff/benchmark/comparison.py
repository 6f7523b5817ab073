"""`compare`: what changed between two results of a sweep, beyond the noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from sdediff._utils.checks import number
from sdediff._utils.errors import InputError
from sdediff.benchmark.cells import OK, REAL_DATA, Cell, full_name
from sdediff.benchmark.report import Report
from sdediff.benchmark.significance import difference, holm, noisy, rises_with_quality

if TYPE_CHECKING:
    from rich.table import Table

_ERRORS = ("error_median", "error_rms", "other_mode")
Key = tuple[str, str, str, str | None, int | None, float | None]


@dataclass(frozen=True)
class Change:
    """One quality of one solver at one budget, in A and in B.

    before, after: means over seeds, or counts of network evaluations for "calls"; None where it does not run. p:
    adjusted over all comparisons (Holm 1979). verdict: worse, better, or unchanged.
    """

    task: str
    library: str
    solver: str
    grid: str | None
    budget: int | None
    tolerance: float | None
    quality: str
    before: float | None
    after: float | None
    p: float
    verdict: str

    def __str__(self) -> str:
        at = f"{self.budget} calls" if self.tolerance is None else f"tolerance {self.tolerance:g}"
        values = " -> ".join("does not run" if v is None else f"{v:.3g}" for v in (self.before, self.after))
        name = full_name(self.library, self.solver)
        return f"{self.task}, {name} at {at}: {self.quality} {values}, {self.verdict} (p {self.p:.1g})"


@dataclass(frozen=True)
class Comparison:
    """What changed from A to B. changes: every comparison, those of least p first; level: of significance.

    only_in_a, only_in_b: solvers and budgets that the other does not hold.
    """

    changes: tuple[Change, ...]
    only_in_a: tuple[Key, ...]
    only_in_b: tuple[Key, ...]
    level: float

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What is worse in B beyond the noise."""
        return tuple(change for change in self.changes if change.verdict == "worse")

    @property
    def improvements(self) -> tuple[Change, ...]:
        """What is better in B beyond the noise."""
        return tuple(change for change in self.changes if change.verdict == "better")

    def __str__(self) -> str:
        same = len(self.changes) - len(self.regressions) - len(self.improvements)
        return (
            f"{len(self.changes)} comparisons: {len(self.regressions)} worse, {len(self.improvements)} better, "
            f"{same} within the noise at the level {self.level:g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def table(self) -> Table:
        """What changed beyond the noise, as a rich table: what is worse first."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        table = Table("", "task", "solver", "at", "quality", "A", "B", "p", box=box.SIMPLE_HEAD, pad_edge=False)
        for change in (*self.regressions, *self.improvements):
            name = full_name(change.library, change.solver)
            at = f"{change.budget}" if change.tolerance is None else f"{change.tolerance:g}"
            values = ["does not run" if v is None else f"{v:.3g}" for v in (change.before, change.after)]
            cells = (change.verdict, change.task, name, at, change.quality, *values, f"{change.p:.1g}")
            table.add_row(*map(escape, cells))
        return table


def compare(a: Report | str | Path, b: Report | str | Path, *, level: float = 0.01) -> Comparison:
    """What changed from A to B, two results of `bench` or their folders, and whether by more than the noise.

    Solvers at the same task, grid and budget are compared in every quality: errors against the flow by their logarithm,
    shares of other modes, distances, and the network evaluations counted. Seeds that both hold are compared pair by
    pair. level: the probability of any false change among all comparisons. What no longer runs is worse.
    InputError: nothing in common, a folder without a sweep, a level outside of (0, 1).
    """
    level = number("level", level)
    if not 0 < level < 1:
        raise InputError(f"level={level}: give a probability in (0, 1), such as 0.01")
    first, second = (_groups(side if isinstance(side, Report) else Report.load(side)) for side in (a, b))
    first, second = _with_refused(first, list(second)), _with_refused(second, list(first))
    keys = [key for key in first if key in second]
    if not keys:
        raise InputError("A and B hold no solver at the same task, grid and budget: run the same sweep twice")
    certain = [change for key in keys for change in _counted(key, first[key], second[key])]
    pairs = [(key, quality) for key in keys for quality in _qualities(first[key], second[key])]
    tested = [_tested(key, quality, first[key], second[key]) for key, quality in pairs]
    adjusted = holm([change.p for change in tested])
    judged = [_judged(change, p, level) for change, p in zip(tested, adjusted, strict=True)]
    only_in_a, only_in_b = (
        tuple(key for key in one if key not in other) for one, other in ((first, second), (second, first))
    )
    changes = sorted((*certain, *judged), key=lambda change: change.p)
    return Comparison(tuple(changes), only_in_a, only_in_b, level)


def _groups(report: Report) -> dict[Key, list[Cell]]:
    groups: dict[Key, list[Cell]] = {}
    for cell in report.cells:
        if cell.library != REAL_DATA:
            groups.setdefault(cell.key, []).append(cell)
    return groups


def _with_refused(groups: dict[Key, list[Cell]], keys: Iterable[Key]) -> dict[Key, list[Cell]]:
    """The groups, and for keys that have none that of cells without a grid: what did not run has no grid to name."""
    found = dict(groups)
    for key in keys:
        bare = (*key[:3], None, *key[4:])
        if key not in found and bare in groups and not _ran(groups[bare]):
            found[key] = groups[bare]
            found.pop(bare, None)
    return found


def _ran(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.status == OK]


def _counted(key: Key, a: Sequence[Cell], b: Sequence[Cell]) -> list[Change]:
    """What needs no statistics: what ran in one alone, and numbers of calls of what is not adaptive."""
    runs = [_ran(side) for side in (a, b)]
    if not all(runs):
        if not any(runs):
            return []
        before, after = (1.0 if ran else None for ran in runs)
        return [Change(*key, "runs", before, after, 0.0, "worse" if after is None else "better")]
    before, after = (fmean(cell.calls or 0 for cell in ran) for ran in runs)
    if before == after or key[4] is None:
        return []
    return [Change(*key, "calls", before, after, 0.0, "worse" if after > before else "better")]


def _qualities(a: Sequence[Cell], b: Sequence[Cell]) -> list[str]:
    sides = [_ran(side) for side in (a, b)]
    if not all(sides):
        return []
    names = [name for name in _ERRORS if all(getattr(side[0], name) is not None for side in sides)]
    return names + [name for name in sides[0][0].distances if name in sides[1][0].distances]


def _tested(key: Key, quality: str, a: Sequence[Cell], b: Sequence[Cell]) -> Change:
    """The comparison with its own p-value."""
    sides = [{c.seed: value for c in _ran(side) if (value := noisy(c, quality)) is not None} for side in (a, b)]
    if not all(sides):
        return Change(*key, quality, None, None, 1.0, "unchanged")
    before, after = (fmean(item.value for item in side.values()) for side in sides)
    change, p = difference(*sides)
    if quality.startswith("error"):
        before, after = math.exp(before), math.exp(after)
    worse = (change > 0) != rises_with_quality(quality)
    return Change(*key, quality, before, after, p, "worse" if worse else "better")


def _judged(change: Change, p: float, level: float) -> Change:
    return replace(change, p=p, verdict=change.verdict if p < level else "unchanged")
