"""Declared and measured order of every registered solver, and the exact Gaussian error of the stochastic ones.

Deterministic: the slope of the median error of 128 paths of a nonlinear mixture over two doublings of the steps, under
VP, sub-VP and VE. Stochastic: the relative error of the variance at 100 and 200 steps under VP, from one run of
impulses; nothing where a solver is not linear in x and the noise.

    python benchmarks/orders.py [--only dpmpp_2m ...]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import sdediff as sd
from sdediff.benchmark import machine, versions
from sdediff.testing import ReferenceFlow, measured_order
from sdediff.testing.gaussian import exact_moments

RESULTS = Path(__file__).parent / "results"
PROCESSES = {"VP": sd.VP(), "SubVP": sd.SubVP(), "VE": sd.VE(t_min=1e-3)}
WITHIN = 0.15


def row(name: str, references: dict[str, ReferenceFlow]) -> dict[str, Any]:
    """A solver's line."""
    used = sd.solver(name)
    line: dict[str, Any] = {"solver": name, "repr": repr(used), "calls": used.calls, "declared": used.order}
    if used.order is not None:
        line["measured"] = {key: measured_order(used, reference=flow) for key, flow in references.items()}
        line["held"] = all(abs(v - used.order) <= WITHIN for v in line["measured"].values())
    elif used.stochastic and not used.corrector and not used.adaptive:
        found = [exact_moments(used, PROCESSES["VP"], n) for n in (100, 200)]
        line["variance"] = None if None in found else [v[1] for v in found if v is not None]
        line["strong_order"] = used.strong_order
    return line


def main() -> None:
    """Prints the table and writes results/orders.json; exit status 1 where a declared order is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+")
    given = parser.parse_args()
    rows, references = [], {key: ReferenceFlow.of(process) for key, process in PROCESSES.items()}
    print(f"{'solver':30s}{'calls':>6s}{'declared':>10s}{'VP':>8s}{'SubVP':>8s}{'VE':>8s}")
    for name in given.only or sd.list_solvers():
        rows.append(line := row(name, references))
        calls = line["calls"] or "-"
        if "measured" in line:
            figures = "".join(f"{v:8.2f}" for v in line["measured"].values())
            print(
                f"{name:30s}{calls!s:>6s}{line['declared']:>10d}{figures}{'' if line['held'] else '  MISSED'}",
                flush=True,
            )
        elif line.get("variance"):
            coarse, fine = line["variance"]
            print(
                f"{name:30s}{calls!s:>6s}{'-':>10s}  variance {coarse:+.3%} at 100 steps, {fine:+.3%} at 200",
                flush=True,
            )
        else:
            print(f"{name:30s}{calls!s:>6s}{'-':>10s}", flush=True)
    record = {"rows": rows, "machine": machine(), "versions": versions()}
    if not given.only:
        (RESULTS / "orders.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(not all(line.get("held", True) for line in rows))


if __name__ == "__main__":
    main()
