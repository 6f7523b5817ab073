"""Does the sampler matter beyond twenty steps, and do ancestral, SDE and plain ODE samplers differ most?

From a result of `sdediff bench`: the distances to the data of each family of samplers at each number of calls, beside
that of real data. A sampler "differs" where its distance is above that of real data by more than two standard errors
of their difference, over the seeds of both. Without --folder the default sweep is run first.

    python benchmarks/samplers.py [--folder bench-results] [--json benchmarks/results/samplers.json]
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path
from typing import Any

import record

import sdediff as sd
from sdediff.benchmark import Report, Row

FAMILIES = {
    "ODE": ("ddim", "euler", "heun", "dpmpp_2m"),
    "ancestral": ("ancestral", "ddpm"),
    "SDE": ("euler_maruyama", "reverse_diffusion"),
    "with correctors": ("predictor_corrector", "annealed_langevin"),
}
NAMES = ("frechet[pca32]", "energy")


def differs(row: Row, real: Row, name: str) -> bool:
    """Whether samples are further from the data than real data are, beyond the noise."""
    own, floor = row.quality[name], real.quality[name]
    error = math.hypot(own.std_error or 0.0, floor.std_error or 0.0)
    return own.value - floor.value > 2 * error


def lines(report: Report) -> list[dict[str, Any]]:
    """A line a task, number of calls, family and distance: the range of the distances, and how many differ."""
    found = []
    for task in report.tasks:
        [real] = [row for row in report.rows if row.task == task and row.real]
        budgets = sorted({row.budget for row in report.rows if row.task == task and row.budget is not None})
        for budget in budgets:
            for family, solvers in FAMILIES.items():
                rows = [r for r in report.rows if (r.task, r.budget) == (task, budget) and r.solver in solvers]
                for name in NAMES:
                    values = [row.quality[name].value for row in rows]
                    far = [row.solver for row in rows if differs(row, real, name)]
                    found.append({
                        "task": task, "calls": budget, "family": family, "distance": name, "least": min(values),
                        "most": max(values), "real": real.quality[name].value, "differ": far, "of": len(rows),
                    })  # fmt: skip
    return found


def verdicts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is left of both claims: samplers that differ from real data at 20 calls and more, and the spread before."""
    late = [row for row in rows if row["calls"] >= 20 and row["family"] != "with correctors"]
    spread = {}
    for calls in sorted({row["calls"] for row in rows}):
        frechet = [row for row in rows if row["calls"] == calls and row["distance"] == NAMES[0]]
        plain = [row for row in frechet if row["family"] != "with correctors"]
        best = {(row["task"], row["family"]): row["least"] for row in plain}
        tasks = {row["task"] for row in plain}
        between = [max(v for (t, _), v in best.items() if t == task) / min(v for (t, _), v in best.items() if t == task)
                   for task in tasks]  # fmt: skip
        within = [row["most"] / row["least"] for row in plain]
        spread[calls] = {"between families": max(between), "within a family": max(within)}
    return {"differ at 20 and more": sorted({(r["task"], r["calls"], s) for r in late for s in r["differ"]}),
            "largest ratio of Frechet distances": spread}  # fmt: skip


def main() -> int:
    """Print the table and record it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a finished result of sdediff bench")
    parser.add_argument("--json", type=Path, default=record.RESULTS / "samplers.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Report.load(given.folder) if given.folder else sd.bench(out=folder)
        rows, about = lines(report), dict(report.circumstances)
    for row in rows:
        if row["distance"] == NAMES[0]:
            print(f"{row['task']:12}{row['calls']:4}  {row['family']:16}{row['least']:8.2f} to {row['most']:8.2f}"
                  f"  real {row['real']:.2f}  differ: {', '.join(row['differ']) or 'none'}")  # fmt: skip
    found = verdicts(rows)
    print(*(f"{key}: {value}" for key, value in found.items()), sep="\n")
    about.pop("git", None)
    record.write(given.json, {"script": "benchmarks/samplers.py", **about, "verdicts": found, "rows": rows})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
