"""`Rows`: counts and sums over a result that is read a row group at a time, whatever its size."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sdediff.jobs.scoring import BAD_ROW, FAILED
from sdediff.jobs.tables import row_groups

_SUMMED = ("log_prob", "bits_per_dim", "calls", "tightening")
_SQUARED = ("std_error", "dequantisation_error")


@dataclass(eq=False)
class Rows:
    """The rows of a result: statuses, the numbers of those left out, and sums of columns over those that are ok."""

    statuses: Counter[str] = field(default_factory=Counter)
    bad: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    reason: str = ""
    sums: dict[str, float] = field(default_factory=dict)
    squares: dict[str, float] = field(default_factory=dict)

    def mean(self, name: str) -> float | None:
        """The mean of a column; None where a value is missing or not finite, or there is none."""
        size = self.statuses.get("ok", 0)
        total = self.sums.get(name, math.nan)
        return total / size if size and math.isfinite(total) else None

    def std_error(self, path: Path, name: str) -> float | None:
        """The standard error of a column's mean, by a second pass over the file."""
        size, mean = self.statuses.get("ok", 0), self.mean(name)
        if mean is None or size < 2:
            return None
        groups = row_groups(path, [name, "status"])
        parts = [math.fsum((_good(group)[name] - mean) ** 2) for group in groups]
        return math.sqrt(math.fsum(parts) / (size - 1) / size)


def survey(path: Path) -> Rows:
    """One pass over a result. Sums are exact within a row group and between groups."""
    rows = Rows()
    sums: dict[str, list[float]] = {}
    squares: dict[str, list[float]] = {}
    for group in row_groups(path):
        statuses, index = group["status"], group["index"].astype(np.int64)
        for number, status in zip(index, statuses, strict=True):
            if status == BAD_ROW:
                rows.bad.append(int(number))
            elif status.startswith(f"{FAILED}: "):
                rows.failed.append(int(number))
                rows.reason = rows.reason or status
        # One count for all failures: their messages may all differ.
        rows.statuses.update(FAILED if status.startswith(f"{FAILED}: ") else status for status in statuses)
        good = _good(group)
        for name in _SUMMED:
            if name in good:
                sums.setdefault(name, []).append(_sum(good[name]))
        if "solver_error" in good:
            sums.setdefault("solver_error", []).append(_sum(abs(good["solver_error"])))
        for name in _SQUARED:
            if name in good:
                squares.setdefault(name, []).append(_sum(good[name] ** 2))
    rows.sums = {name: _sum(np.array(parts)) for name, parts in sums.items()}
    rows.squares = {name: _sum(np.array(parts)) for name, parts in squares.items()}
    return rows


def _good(group: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The rows of a group that are ok."""
    good = np.array([status == "ok" for status in group["status"]], bool)
    return {name: values[good] for name, values in group.items() if name != "status"}


def _sum(values: np.ndarray) -> float:
    """The exactly rounded sum; NaN where a value is missing or infinite."""
    return math.fsum(values) if np.isfinite(values).all() else math.nan
