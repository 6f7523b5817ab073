"""What methods of inverse problems sample, against the exact posterior: every method with several solvers.

Three measurements of mixtures whose posterior is known in closed form (target M's first coordinate, y = 0.9 with noise
0.2 and y = 0 with noise 0.5; three cosines of an 8-dimensional mixture), the exact denoiser, VP, 100 steps uniform in
t. A row gives |mean - exact mean| and trace cov / exact trace of each measurement, with their standard errors in the
record. "exact score" is the posterior's own score: the solver's bias, which no method is to be blamed for. The gate:
with the ancestral solver every figure within 0.05 of those that were computed independently. DPS at scale 1 misses it:
over 60 runs its trace at y = 0 is 3.319 +- 0.009, by its formulas in plain code 3.317 +- 0.010, and a run spreads by
0.07 about that; the independent figure is 3.15 of one run (tests/inverse/test_dps_statistics.py). Other ends of
the times give 3.25 to 4.16, other tables of beta 2.93 to 3.54 (24 runs each, +- 0.02).

    python benchmarks/inverse.py [--samples 4000] [--json benchmarks/results/inverse.json]
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, Gate, judged, versions, write

import sdediff as sd
from sdediff import inverse, targets
from sdediff.benchmark import machine

SOLVERS = ("ancestral", "euler_maruyama", "dpmpp_2m_sde", "ddim", "dpmpp_2m", "heun")
# Method and options; the figures computed independently (4,000 samples, +-.03), a pair for each measurement, nan where
# only the mean is known.
METHODS: dict[str, tuple[str, dict[str, Any], tuple[float, ...]]] = {
    "exact score": ("", {}, (0.02, 0.99, 0.01, 0.96, 0.01, 0.84)),
    "dps, scale 1": ("dps", {"scale": 1.0}, (0.05, 1.24, 0.32, 3.15, 0.78, 1.03)),
    "dps, scale 0.3": ("dps", {"scale": 0.3}, (0.28, 0.98, 0.65, 0.76, 0.14, 0.69)),
    "pigdm": ("pigdm", {}, (0.26, 0.98, 0.15, 1.04, 0.15, 0.97)),
    "tmpd": ("tmpd", {}, (0.23, 0.96, 0.31, 1.08, 0.12, 0.92)),
    "diffpir": ("diffpir", {}, (0.30, 0.93, 0.21, 1.02, 0.04, 0.44)),
    "ddrm": ("ddrm", {}, (0.23, 0.96, 0.14, 0.92, 0.06, 0.64)),
    "replacement": ("replacement", {}, (0.23, 0.93, 0.63, 0.74)),
    "repaint x20": ("repaint", {"resamplings": 20}, (0.19, 0.96, 0.68, 0.83)),
    "mcg": ("mcg", {}, (1.06, math.nan, 0.63, math.nan)),
}
# Methods that are published as a step of their own, whose solver that is.
OWN = {"diffpir": sd.solver("renoise", zeta=1.0), "ddrm": None}


def eight() -> targets.Mixture:
    """m_k = cos(k + i), C_k = (.1 + .05 k) I + .1 a a^T with a = sin(i + k), i = 0..7, weights .2, .3, .5."""
    i, parts = torch.arange(8).double(), []
    for k in range(3):
        a = torch.sin(i + k)
        values, vectors = torch.linalg.eigh((0.1 + 0.05 * k) * torch.eye(8).double() + 0.1 * torch.outer(a, a))
        parts.append((torch.cos(k + i), (values - values[0]).clamp(min=0), vectors, values[0]))
    means, variances, bases, floors = (torch.stack(v) for v in zip(*parts, strict=True))
    return targets.Mixture(torch.tensor([0.2, 0.3, 0.5]).double(), means, variances, bases, floors)


def problems() -> list[tuple[targets.Mixture, inverse.Problem]]:
    """The three mixtures with their measurements."""
    first = inverse.Matrix(torch.tensor([[1.0, 0.0]]).double())
    cosines = inverse.Matrix(torch.stack([torch.cos((j + 1) * torch.arange(8).double()) / 2 for j in range(3)]))
    m = sd.target("target_m")
    return [
        (m, inverse.Problem(first, torch.tensor([0.9]).double(), 0.2)),
        (m, inverse.Problem(first, torch.tensor([0.0]).double(), 0.5)),
        (eight(), inverse.Problem(cosines, torch.tensor([0.5, -0.2, 0.1]).double(), 0.3)),
    ]


def figures(name: str, solver: str, samples: int) -> tuple[list[float], list[float]]:
    """Distance of the means and ratio of the traces, a pair for each measurement; and their standard errors."""
    by, options, _ = METHODS[name]
    found: list[float] = []
    errors: list[float] = []
    run: dict[str, Any] = {"steps": 100, "grid": "uniform", "dtype": torch.float64}
    for mixture, problem in problems():
        exact, _ = targets.posterior(mixture, problem.operator.matrix, problem.y[0], problem.noise)
        if not by:
            x = sd.sample(exact.model(sd.VP()), (samples, mixture.dim), solver=solver, **run)
        else:
            used = OWN[by] if by in OWN and solver == "ancestral" else solver
            x = inverse.solve(mixture.model(sd.VP()), problem, samples, by=by, solver=used, **run, **options)
        trace, squares = exact.cov.trace(), (x - x.mean(0)).square().sum(1)
        found += [(x.mean(0) - exact.mean).norm().item(), (torch.cov(x.T).trace() / trace).item()]
        errors += [(squares.mean() / samples).sqrt().item(), (squares.std() / trace / samples**0.5).item()]
    return found, errors


def main() -> None:
    """Measure, print the table, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--json", type=Path, default=RESULTS / "inverse.json")
    arguments = parser.parse_args()
    began, rows, gates = time.process_time(), [], []
    print(f"{'method':15} {'solver':15} |mean|, trace: y = .9 | y = 0 | 8-D")
    for name, (by, _, known) in METHODS.items():
        for solver in SOLVERS:
            if solver != "ancestral" and (by == "ddrm" or (by == "repaint" and solver not in ("ddim", "dpmpp_2m"))):
                continue
            found, errors = figures(name, solver, arguments.samples)
            label = {"diffpir": "renoise", "ddrm": "its own"}.get(by, solver) if solver == "ancestral" else solver
            rows.append({"method": name, "solver": label, "figures": found, "errors": errors})
            pairs = " | ".join(f"{a:.2f} {b:.2f}" for a, b in zip(found[::2], found[1::2], strict=True))
            print(f"{name:15} {label:15} {pairs}", flush=True)
            if solver == "ancestral":
                worst = max(abs(a - b) for a, b in zip(found, known, strict=False) if b == b)
                gates.append(Gate(f"{name}: largest difference from the independent figures", worst, 0.05))
    record = {
        "samples": arguments.samples, "rows": rows, "gates": judged(gates), "machine": machine(),
        "cpu_seconds": round(time.process_time() - began), "versions": versions(["torch", "numpy"]),
    }  # fmt: skip
    write(arguments.json, record)


if __name__ == "__main__":
    main()
