"""`auto` on four targets that nothing in the package was tuned on, beside every published solver and grid.

The targets are mixtures whose score is exact, each under another process; they are made here, from fixed seeds, and
serve for nothing else. 256 starts, the same for all. Published are every fixed-grid deterministic sampler of
k-diffusion, diffusers, azula, flow_matching and torchdiffeq with its options, and the registered solvers of papers on
the published grids. `auto` chooses on starts of its own.

    python benchmarks/held_out.py [--only spiral ...] [--calls 5 10 20]

A ratio is auto's figure over the least of all published ones, its standard error that of 200 paired bootstrap draws of
the starts. Rows of targets that are not run again are kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from quality import SYSTEMS
from record import RESULTS, versions, write
from torch import Tensor

import sdediff as sd
from sdediff.analysis import recommend
from sdediff.analysis.selection import AUTO_SEED
from sdediff.benchmark import Contender, Finish, Outcome, contend, machine, resolve_contenders
from sdediff.benchmark.contenders import errors, exact_end, installed
from sdediff.targets import Mixture, low_rank_mixture, mixture

CALLS, STARTS, DRAWS = (5, 10, 20), 256, 200
# Of the paper's or another library's own; `angle` and its grid are this package's.
GRIDS = ("log_snr", "karras", "quadratic", "uniform")
OWN = {"angle", "adams", "renoise"}
FLOW: dict[str, Any] = {"solver": sd.solver("ode", method="DOP853", rtol=1e-9, atol=1e-9)}


def spiral() -> Mixture:
    """Forty narrow Gaussians along two turns of a spiral in the plane."""
    turns = torch.linspace(1.5, 4 * math.pi, 40, dtype=torch.float64)
    points = torch.stack([turns * turns.cos(), turns * turns.sin()], 1) / 8
    return mixture(points, torch.linspace(0.03, 0.1, 40, dtype=torch.float64))


def scales() -> Mixture:
    """Twelve Gaussians in 16 dimensions whose deviations run from .03 to 1, other dimensions in each."""
    at = torch.Generator().manual_seed(1201)
    deviations = 0.03 * (1 / 0.03) ** torch.rand(12, 16, generator=at, dtype=torch.float64)
    weights = torch.rand(12, generator=at, dtype=torch.float64) + 0.2
    return mixture(0.6 * torch.randn(12, 16, generator=at, dtype=torch.float64), deviations, weights / weights.sum())


def cube() -> Mixture:
    """Twenty-seven Gaussians of unequal weights on a grid in three dimensions."""
    axis = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    weights = 1.0 + torch.arange(27, dtype=torch.float64) % 5
    return mixture(torch.cartesian_prod(axis, axis, axis), 0.12, weights / weights.sum())


def pictures() -> Mixture:
    """Sixteen Gaussians of rank 10 over a floor of .08 as 16x16 images."""
    return low_rank_mixture(256, 16, 10, floor=0.08, seed=1202, shape=(1, 16, 16))


TARGETS: dict[str, tuple[Callable[[], Mixture], Any]] = {
    "spiral": (spiral, sd.VP()), "scales": (scales, sd.EDM()), "cube": (cube, sd.Cosine()),
    "pictures": (pictures, sd.RectifiedFlow()),
}  # fmt: skip


@dataclass(eq=False)
class Held:
    """A target's model, its starts (STARTS, ...) at T and the ends of the flow by the time at which they stand."""

    name: str
    model: sd.ScoreModel
    x: Tensor
    ends: dict[float, Tensor | None] = field(default_factory=dict)

    def errors(self, outcome: Outcome) -> Tensor | None:
        """The errors (STARTS,) where the contender ended; None where it does not say where."""
        at = -1.0 if outcome.time_end is None else round(outcome.time_end, 9)
        if at not in self.ends:
            self.ends[at] = exact_end(outcome, self.model, self.x, **FLOW)
        exact = self.ends[at]
        return None if exact is None else errors(outcome.x, exact)


def held(name: str) -> Held:
    """A target under its process, with the statistics of data as a model's folder has them."""
    make, process = TARGETS[name]
    target = make()
    model = dataclasses.replace(target.model(process), stats=sd.statistics(target.sample(8192, seed=1)))
    z = torch.randn((STARTS, *target.shape), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return Held(name, model, z * sd.level(model.sde, float(model.sde.T)).sigma)


@dataclass(frozen=True)
class Named(Contender):
    """A registered solver of a paper on a published grid."""

    solver: str
    grid: str
    library = "sdediff"

    @property
    def name(self) -> str:
        return f"{self.solver}:{self.grid}"

    def run(self, model: sd.ScoreModel, x_T: Tensor, calls: int, seed: int) -> Finish:
        return Finish(sd.sample(model, x=x_T, solver=self.solver, grid=self.grid, calls=calls, progress=False))


def published() -> list[Contender]:
    """Every deterministic sampler on a fixed grid: of other libraries, and of papers as they are registered here."""
    rows: list[Contender] = []
    for name, info in sd.list_solvers().items():
        adaptive = hasattr(sd.solver(name), "rtol")
        if not (info.stochastic or info.corrector or adaptive or name in OWN):
            rows += [Named(name, grid) for grid in GRIDS]
    for system in SYSTEMS:
        if installed(system):
            found = resolve_contenders([f"{system}:all"])
            rows += [contender for contender in found if not (contender.stochastic or contender.adaptive)]
    return rows


def measured(at: Held, calls: int) -> Iterator[tuple[str, Tensor]]:
    """The label of every published contender that runs, and its errors."""
    for contender in published():
        try:
            found = at.errors(contend(contender, at.model, at.x, calls, repeat=False))
        except Exception:  # too few calls for it, a process that it does not take: no row
            continue
        if found is not None and bool(torch.isfinite(found).all()):
            yield contender.label, found


def figure(values: Tensor, kind: str) -> Tensor:
    """The median or the rms over the last axis."""
    return values.median(-1).values if kind == "median" else values.square().mean(-1).sqrt()


def compared(auto: Tensor, others: dict[str, Tensor], kind: str) -> dict[str, Any]:
    """Auto's figure, the best of the others, their ratio and its standard error over starts."""
    best = min(others, key=lambda label: figure(others[label], kind).item())
    rows = torch.randint(len(auto), (DRAWS, len(auto)), generator=torch.Generator().manual_seed(3))
    drawn = figure(auto[rows], kind) / figure(others[best][rows], kind)
    value, least = figure(auto, kind).item(), figure(others[best], kind).item()
    return {"auto": value, "best": least, "of": best, "ratio": value / least, "std_error": drawn.std().item()}


def row(at: Held, calls: int) -> dict[str, Any]:
    """One target at one number of calls."""
    began = time.process_time()
    chosen = recommend(at.model, tuple(at.x.shape[1:]), calls=calls, seed=AUTO_SEED, dtype=at.x.dtype, progress=False)
    spent = time.process_time() - began
    ends = sd.sample(at.model, x=at.x, solver=chosen.solver, grid=chosen.times, progress=False)
    at.ends.setdefault(0.0, sd.sample(at.model, x=at.x, progress=False, **FLOW))
    own, others = errors(ends, at.ends[0.0]), dict(measured(at, calls))
    return {
        "target": at.name, "process": repr(at.model.sde), "calls": calls, "contenders": len(others),
        **{kind: compared(own, others, kind) for kind in ("median", "rms")},
        "chosen": {"solver": repr(chosen.solver), "times": chosen.times.tolist()}, "seconds": round(spent, 1),
    }  # fmt: skip


def gates(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The bars: never above 1.05 (median) and 1.2 (rms) by more than two standard errors; half on three at 10 calls."""
    found = []
    for kind, bound in (("median", 1.05), ("rms", 1.2)):
        over = [r for r in rows if r[kind]["ratio"] > bound + 2 * r[kind]["std_error"]]
        above = [f"{r['target']} at {r['calls']}: {r[kind]['ratio']:.2f} +- {r[kind]['std_error']:.2f}" for r in over]
        found.append({"gate": f"{kind} at most {bound} and two standard errors", "above": above, "held": not above})
    halves = [r["target"] for r in rows if r["calls"] == 10 and r["median"]["ratio"] <= 0.5]
    found.append({"gate": "at most half at 10 calls on three of four", "on": halves, "held": len(halves) >= 3})
    return found


def main() -> int:
    """Measure, print, write; exit status 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--calls", nargs="+", type=int, default=list(CALLS))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    path = RESULTS / "held_out.json"
    for name in given.only:
        at = held(name)
        for calls in given.calls:
            line = row(at, calls)
            rows = json.loads(path.read_text())["rows"] if path.exists() else []
            rows = [r for r in rows if (r["target"], r["calls"]) != (name, calls)] + [line]
            rows.sort(key=lambda r: (list(TARGETS).index(r["target"]), r["calls"]))
            for kind in ("median", "rms"):
                found = line[kind]
                print(f"{name:9s}{calls:4d} {kind:7s} auto {found['auto']:.2e}  {found['of']:44s}{found['best']:.2e}"
                      f"  ratio {found['ratio']:.2f} +- {found['std_error']:.2f}", flush=True)  # fmt: skip
            record = {"starts": STARTS, "machine": machine(), "rows": rows, "gates": gates(rows)}
            kept = ["torch", "numpy", "k-diffusion", "diffusers", "azula", "flow-matching", "torchdiffeq"]
            write(path, record | {"versions": {"sdediff": sd.__version__, **versions(kept)}})
    verdicts = gates(json.loads(path.read_text())["rows"])
    print(*(f"gate: {g['gate']}: {'held' if g['held'] else 'FAILED'} {g.get('above', g.get('on'))}" for g in verdicts),
          sep="\n")  # fmt: skip
    return 0 if all(g["held"] for g in verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
