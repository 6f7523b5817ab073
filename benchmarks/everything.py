"""The solvers of the package and the samplers of six libraries, all on four tasks: who is best, and by what ratio.

From results of `sdediff bench --config everything.toml`, whose lines are on the page about contenders, and of more
solvers on the same tasks. For each task and number of network evaluations: the five least median errors of
deterministic samplers, the best of ours over the best of each library, the same of the distances of stochastic samplers
to the data, times over the network's own, and what was refused.

    python benchmarks/everything.py FOLDER [FOLDER ...]
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import record

from sdediff.benchmark import Report, Row, machine

TOP = 5
PACKAGES = (
    "sdediff",
    "torch",
    "numpy",
    "diffusers",
    "k-diffusion",
    "azula",
    "flow-matching",
    "torchdiffeq",
    "torchsde",
)


def figure(row: Row, quality: str) -> dict[str, Any]:
    """A row's solver and its value of a quality with the standard error over seeds."""
    value, error = row.quality[quality]
    label = f"{row.label} {row.grid}" if row.grid else row.label
    return {"solver": label, "calls made": row.calls, "value": short(value), "std_error": short(error or 0.0)}


def short(value: float) -> float:
    """Four digits of a number: more would be noise."""
    return float(f"{value:.4g}")


def ranked(rows: Iterable[Row], quality: str) -> list[Row]:
    """The rows with a finite value of a quality, the least first."""
    found = [row for row in rows if quality in row.quality and math.isfinite(row.quality[quality].value)]
    return sorted(found, key=lambda row: row.quality[quality].value)


def table(rows: Sequence[Row], task: str, budget: int, quality: str) -> dict[str, Any] | None:
    """One task at one number of evaluations: the top, and the best of each library over the best of ours."""
    here = ranked((row for row in rows if (row.task, row.budget, row.real) == (task, budget, False)), quality)
    own = next((row for row in here if row.library == "sdediff"), None)
    if own is None:
        return None
    peers = {}
    for row in here:
        if row.library != "sdediff" and row.library not in peers:
            ratio = own.quality[quality].value / row.quality[quality].value
            peers[row.library] = {**figure(row, quality), "ours over it": short(ratio)}
    real = next((row for row in rows if row.real and row.task == task and quality in row.quality), None)
    floor = None if real is None else short(real.quality[quality].value)
    top = [figure(row, quality) for row in here[:TOP]]
    return {
        "task": task, "budget": budget, "quality": quality, "of": len(here), "real data": floor,
        "ours": figure(own, quality), "peers": peers, "top": top,
    }  # fmt: skip


def tables(rows: Sequence[Row], distance: str) -> list[dict[str, Any]]:
    """The tables of all tasks and budgets: errors of what follows the flow, distances of what draws noise."""
    kinds = (("error_median", rows), (distance, [row for row in rows if row.stochastic or row.real]))
    found = []
    for task in dict.fromkeys(row.task for row in rows):
        for budget in sorted({row.budget for row in rows if row.task == task and row.budget is not None}):
            found += [table(part, task, budget, quality) for quality, part in kinds]
    return [one for one in found if one is not None]


def overheads(rows: Sequence[Row], networks: Container[str]) -> dict[str, float]:
    """The median over its rows on networks of each library's time over that inside the network."""
    ratios: dict[str, list[float]] = {}
    for row in rows:
        if row.task in networks and row.ratio is not None and not row.real:
            ratios.setdefault(row.library, []).append(row.ratio)
    return {library: short(median(values)) for library, values in ratios.items()}


def first_seeds(report: Report, seeds: int | None) -> Report:
    """The report of its first seeds alone, finished where all of their cells are there."""
    if seeds is None:
        return report
    counts = Counter(cell.seed for cell in report.cells)
    kept = sorted(counts)[:seeds]
    whole = len({counts[seed] for seed in kept}) == 1 and len(kept) == seeds
    cells = tuple(cell for cell in report.cells if cell.seed in kept)
    return replace(report, cells=cells, finished=report.finished or (whole and len(counts) > seeds))


def main() -> int:
    """Print the tables and record them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="finished results of sdediff bench on the same tasks")
    parser.add_argument("--seeds", type=int, help="the first seeds alone, of a sweep that goes on")
    parser.add_argument("--json", type=Path, default=record.RESULTS / "everything.json")
    given = parser.parse_args()
    reports = [first_seeds(Report.load(folder), given.seeds) for folder in given.folders]
    if not all(report.finished for report in reports):
        parser.error(
            "not finished: run sdediff bench again, it goes on where it was, or take --seeds that are complete"
        )
    rows = [row for report in reports for row in report.rows]
    about = dict(reports[0].circumstances) or {"machine": machine()}
    about["versions"] = {**about.get("versions", {}), **record.versions(PACKAGES)}
    networks = {name for name, model in reports[0].settings["model"].items() if model.get("reference")}
    found = tables(rows, reports[0].distances[0])
    for one in found:
        own = one["ours"]
        print(f"{one['task']} at {one['budget']}, {one['quality']}: {own['solver']} {own['value']:.3g} of ours")
        for library, row in one["peers"].items():
            print(f"    {library:15}{row['solver']:45}{row['value']:9.3g}{row['ours over it']:7.2f}")
    cells = [cell for report in reports for cell in report.cells]
    refused = Counter(f"{c.library}:{c.solver}: {c.status}" for report in reports for c in report.skipped)
    print(*(f"{count} cells: {why}" for why, count in refused.items()), sep="\n")
    about.pop("git", None)
    record.write(given.json, {
        "script": "benchmarks/everything.py", **about, "cells": len(cells), "seeds": max(row.seeds for row in rows),
        "time over the network's": overheads(rows, networks), "skipped": dict(refused), "rows": found,
    })  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
