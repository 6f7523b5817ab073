"""Error against the exact flow at a given number of calls: every deterministic solver of ours and of the peers.

Sixty-four starts at the process's T, the same for all; each system moves them to the lowest level by its own grid and
ends with the denoiser there, and the calls of the network are counted, that one included. The error is the median over
the starts of the rms distance to the flow's end, which a tight integration gives. "Best peer" is the least error over
every peer's samplers, grids and options at that number of calls; ours is held to what `auto` chooses.

Peers run through the package's own contenders, as they are shipped: diffusers' levels are float32.

Mixtures run under EDM's process (sigma 80 to 0.002) in float64; the digits network, eps under VP, in float32.

    python benchmarks/quality.py [--tasks gmm64 ...] [--calls 10 20 ...] [--systems ours k-diffusion ...] [--add]
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import math
import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from overhead import PEERS
from record import RESULTS, show, versions, write
from torch import Tensor

import sdediff as sd
from sdediff.analysis import auto
from sdediff.benchmark import Contender, ContenderError, Finish, contend, machine, resolve_contenders
from sdediff.benchmark.contenders import errors, installed, missing

TASKS = ("ring_unequal", "gmm64", "gmm768", "digits-vp")
CALLS = (5, 8, 10, 15, 20, 50)
STARTS = 64
# The network's own time rules there: entries are screened on so many starts, and the best of each system run on all.
SCREEN, KEPT = {"digits-vp": 8}, 3
# (calls, share of the best peer's error, tasks out of four); above the best peer on none, but where excused.
GATES = ((10, 0.65, 3), (20, 0.5, 3))
EXCUSED = {5: ("gmm768",)}

SYSTEMS = ("k_diffusion", "diffusers", "azula", "flow_matching", "torchdiffeq")
# From hardly any control to what fifty calls can hold.
TOLERANCES = tuple(10 ** (1 - k / 2) for k in range(9))

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Setting:
    """A task as every system meets it: states x (B, ...) at the process's T, and where the exact flow takes them."""

    name: str
    model: sd.ScoreModel
    x: Tensor
    exact: Tensor = field(repr=False)

    def first(self, count: int) -> Setting:
        """The same task on its first starts."""
        return Setting(self.name, self.model, self.x[:count], self.exact[:count])

    def error(self, x: Tensor) -> float:
        """The median over the starts of the rms distance, over coordinates, to the exact flow's own end."""
        return errors(x, self.exact).median().item()


@functools.cache
def setting(name: str) -> Setting:
    """A task with its starts, its denoiser, and the exact flow's ends."""
    if name in sd.models():
        model, dtype = sd.load(name), torch.float32
        shape: tuple[int, ...] = (1, 8, 8)
        # A rough network: a high order does not pay, many steps do.
        fine = {"solver": "dpmpp_2m", "calls": 600}
    else:
        target = sd.target(name)
        # The data's mean and covariance, as a model's folder has them.
        stats = sd.statistics(target.sample(8192, seed=1))
        model, dtype, shape = dataclasses.replace(target.model(sd.EDM()), stats=stats), torch.float64, target.shape
        fine = {"solver": sd.solver("ode", method="DOP853", rtol=1e-9, atol=1e-9)}
    z = torch.randn((STARTS, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (z * sd.level(model.sde, float(model.sde.T)).sigma).to(dtype)
    return Setting(name, model, x, sd.sample(model, x=x, progress=False, **fine))


@dataclass(frozen=True)
class Ours(Contender):
    """A registered solver on its default grid, held to the rules of the others."""

    name: str = ""
    tolerance: float | None = None
    library = "ours"

    @property
    def adaptive(self) -> bool:
        return self.tolerance is not None

    def run(self, model: sd.ScoreModel, x_T: Tensor, calls: int, seed: int) -> Finish:
        options = {"rtol": self.tolerance, "atol": self.tolerance} if self.adaptive else {}
        budget = {} if self.adaptive else {"calls": calls}
        return Finish(sd.sample(model, x=x_T, solver=sd.solver(self.name, **options), progress=False, **budget))


def ours() -> list[Contender]:
    """Every registered deterministic solver, the adaptive ones over tolerances."""
    rows: list[Contender] = []
    for name, info in sd.list_solvers().items():
        if info.stochastic or info.corrector:
            continue
        if info.calls is not None:
            rows.append(Ours(name))
        elif {"rtol", "atol"} <= set(getattr(sd.solver(name), "__dataclass_fields__", {})):
            rows.append(Ours(name, TOLERANCES[0]))
    return rows


@functools.cache
def _chosen(name: str, calls: int) -> tuple[sd.Solver, Tensor]:
    """The solver and times that `auto` takes for a task and a number of calls, measured on starts of its own."""
    at = setting(name)
    return auto(at.model, tuple(at.x.shape), calls=calls, dtype=at.x.dtype, progress=False)


@dataclass(frozen=True)
class Auto(Contender):
    """What `auto` picks; its measuring is not counted, since it is done once a model and number of calls."""

    task: str
    library, name = "ours", "auto"

    def run(self, model: sd.ScoreModel, x_T: Tensor, calls: int, seed: int) -> Finish:
        solver, times = _chosen(self.task, calls)
        return Finish(sd.sample(model, x=x_T, solver=solver, grid=times, progress=False))


def entries(systems: Iterable[str]) -> tuple[list[Contender], dict[str, str]]:
    """Every deterministic contender of the systems, and why a peer is missing."""
    rows: list[Contender] = [Auto(""), *ours()] if "ours" in systems else []
    absent = {}
    for system in SYSTEMS:
        if system in systems and installed(system):
            rows += [contender for contender in resolve_contenders([f"{system}:all"]) if not contender.stochastic]
        elif system in systems:
            absent[system] = missing(system)
    return rows, absent


@functools.cache
def _usual() -> frozenset[str]:
    """The labels of what a library runs by default."""
    return frozenset(c.label for system in SYSTEMS if installed(system) for c in resolve_contenders([system]))


def evaluate(entry: Contender, at: Setting, budgets: Iterable[int]) -> list[Row]:
    """A row a budget that the entry can meet: calls made, error."""
    found = []
    if entry.adaptive:
        held = [dataclasses.replace(entry, tolerance=value) for value in TOLERANCES]  # type: ignore[type-var]
        reached = [_once(one, at, max(budgets)) for one in held]
        for budget in budgets:
            fits = [row for row in reached if row and row["error"] is not None and row["calls"] <= budget]
            if fits:
                found.append({**min(fits, key=lambda row: row["error"]), "budget": budget})
        return found
    for budget in budgets:
        row = _once(entry, at, budget)
        if row:
            found.append(row | {"budget": budget})
    return found


def _once(entry: Contender, at: Setting, calls: int) -> Row | None:
    row: Row = {"task": at.name, "system": entry.library, "name": entry.name}
    row["default"] = entry.library == "ours" or entry.label in _usual()
    if entry.adaptive:
        row["tolerance"] = entry.tolerance  # type: ignore[attr-defined]
    if isinstance(entry, Auto):
        entry = Auto(at.name)
        solver, times = _chosen(at.name, calls)
        row["chosen"] = {"solver": repr(solver), "times": times.tolist()}
    try:
        outcome = contend(entry, at.model, at.x, calls, repeat=False)
    except ContenderError as error:
        # Adaptive runs at too tight a tolerance end here; a fixed one would be an entry that cannot count.
        spent = entry.adaptive and error.rule == "calls"
        return None if spent else row | {"calls": calls, "error": None, "why": str(error)}
    except ValueError as error:
        if "too few" in str(error) or "at least" in str(error):
            return None
        return row | {"calls": calls, "error": None, "why": f"{type(error).__name__}: {error}"[:200]}
    except Exception as error:
        return row | {"calls": calls, "error": None, "why": f"{type(error).__name__}: {error}"[:200]}
    value = at.error(outcome.x)
    row |= {"calls": outcome.calls, "error": value if math.isfinite(value) else None}
    return row | ({"notes": list(outcome.notes)} if outcome.notes else {})


def sweep(name: str, rows: list[Contender], budgets: list[int], log: Any = None) -> list[Row]:
    """Every entry on one task; where the network is slow, screened on few starts first."""
    at, kept = setting(name), {(e.library, e.name): set(budgets) for e in rows}
    if name in SCREEN:
        few = at.first(SCREEN[name])
        screened = [row for e in rows for row in evaluate(e, few, budgets) if row["error"] is not None]
        kept = {key: set() for key in kept}
        for budget, system in itertools.product(budgets, {e.library for e in rows}):
            best = [r for r in screened if r["budget"] == budget and r["system"] == system]
            for row in sorted(best, key=lambda r: r["error"])[:KEPT]:
                kept[row["system"], row["name"]].add(budget)
        kept["ours", "auto"] = set(budgets)
    found = []
    for i, entry in enumerate(rows):
        found += evaluate(entry, at, sorted(kept[entry.library, entry.name])) if kept[entry.library, entry.name] else []
        show(i + 1, len(rows))
    return found


def least(rows: list[Row], task: str, budget: int, ours: bool, name: str = "") -> Row | None:
    """The row of least error, of ours or of the peers."""
    fits = [
        r for r in rows
        if r["task"] == task and r["budget"] == budget and r["error"] is not None
        and (r["system"] == "ours") == ours and (not name or r["name"] == name)
    ]  # fmt: skip
    return min(fits, key=lambda r: r["error"], default=None)


def table(rows: list[Row]) -> list[str]:
    """Best peer, auto and the best of ours at each number of calls, with auto's share of the best peer."""
    lines = [f"{'task':13s}{'calls':>6s}{'best peer':>10s}  {'':42s}{'auto':>9s}{'share':>7s}{'ours':>10s}"]
    for task, budget in sorted({(r["task"], r["budget"]) for r in rows}):
        peer, chosen, own = (
            least(rows, task, budget, False),
            least(rows, task, budget, True, "auto"),
            least(rows, task, budget, True),
        )
        name = f"{peer['system']} {peer['name']}" if peer else "none"
        values = [f"{r['error']:.2e}" if r else "" for r in (peer, chosen, own)]
        share = f"{chosen['error'] / peer['error']:.2f}" if chosen and peer else ""
        lines.append(
            f"{task:13s}{budget:6d}{values[0]:>10s}  {name:42s}{values[1]:>9s}{share:>7s}{values[2]:>10s}  "
            f"{own['name'] if own else ''}"
        )
    return lines


def gates(rows: list[Row]) -> list[tuple[str, str, bool]]:
    """What must hold of `auto`: (gate, the shares, held); only where every task has been run."""
    found = []
    for budget, bound, needed in (*GATES, (5, math.inf, 0)):
        shares = {}
        for task in TASKS:
            peer, chosen = least(rows, task, budget, False), least(rows, task, budget, True, "auto")
            if peer and chosen:
                shares[task] = chosen["error"] / peer["error"]
        if len(shares) < len(TASKS):
            continue
        above = [p for p, share in shares.items() if share > 1 and p not in EXCUSED.get(budget, ())]
        few = sum(share <= bound for share in shares.values()) < needed
        label = f"{budget} calls: at most {bound:g} of the best peer on {needed}, above it on none"
        if not needed:
            label = f"{budget} calls: above the best peer on none but {', '.join(EXCUSED[budget])}"
        found.append((label, ", ".join(f"{p} {v:.2f}" for p, v in shares.items()), not (above or few)))
    return found


def draw(rows: list[Row], path: Path) -> None:
    """Error against calls: a dot an entry, a line the best of each system, and auto."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = [p for p in TASKS if any(r["task"] == p for r in rows)]
    figure, axes = pyplot.subplots(1, len(tasks), figsize=(4.2 * len(tasks), 4.2), squeeze=False)
    systems = sorted({r["system"] for r in rows}, key=lambda s: (s != "ours", s))
    for axis, task in zip(axes[0], tasks, strict=True):
        here = [r for r in rows if r["task"] == task and r["error"] is not None]
        for colour, system in enumerate(systems):
            own = [r for r in here if r["system"] == system and r["name"] != "auto"]
            axis.scatter([r["budget"] for r in own], [r["error"] for r in own], s=5, alpha=0.25, color=f"C{colour}")
            budgets = sorted({r["budget"] for r in own})
            best = [min(r["error"] for r in own if r["budget"] == b) for b in budgets]
            label = "best of our named ones" if system == "ours" else f"best of {system}"
            axis.plot(budgets, best, color=f"C{colour}", label=label, lw=1.2)
        chosen = sorted((r["budget"], r["error"]) for r in here if r["name"] == "auto")
        if chosen:
            axis.plot(*zip(*chosen, strict=True), "k.--", label="auto", lw=1.4)
        axis.set(title=task, xscale="log", yscale="log", xlabel="calls")
        axis.set_xticks(CALLS, [str(c) for c in CALLS])
        axis.minorticks_off()
        errors = [r["error"] for r in here]
        axis.set_ylim(min(errors) / 2, 3)
    axes[0][0].set_ylabel("median error against the exact flow")
    axes[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"written: {path.name}")


def _drawn(rows: list[Row], path: Path) -> None:
    try:
        draw(rows, path)
    except ImportError:
        print("no plot: matplotlib is not installed; `--draw` makes it from the record")


def _merged(path: Path, fresh: list[Row]) -> list[Row]:
    """The record's rows with those of the same task, system and budget replaced."""
    done = {(r["task"], r["system"], r["budget"]) for r in fresh}
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    return [r for r in kept if (r["task"], r["system"], r["budget"]) not in done] + fresh


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--calls", nargs="+", type=int, default=list(CALLS))
    parser.add_argument("--systems", nargs="+", default=["ours", *SYSTEMS], choices=["ours", *SYSTEMS])
    parser.add_argument("--add", action="store_true", help="keep the record's other rows")
    parser.add_argument("--draw", action="store_true", help="only draw the record that is there")
    parser.add_argument("--json", type=Path, default=RESULTS / "quality.json", help="where the record goes")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write, draw; exit status 1 when a gate fails."""
    chosen = _options()
    if chosen.draw:
        draw(json.loads(chosen.json.read_text())["rows"], chosen.json.with_suffix(".png"))
        return 0
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    made, absent = entries(chosen.systems)
    rows: list[Row] = []
    for name in chosen.tasks:
        began = time.perf_counter()
        rows += sweep(name, made, sorted(chosen.calls))
        print(f"{name}: {len(made)} entries, {time.perf_counter() - began:.0f} s", flush=True)
    for why in sorted({f"{r['system']} {r['name']}: {r['why']}" for r in rows if r.get("why")}):
        print(f"failed: {why}")
    rows = _merged(chosen.json, rows) if chosen.add else rows
    print(*table(rows), sep="\n")
    for peer, why in absent.items():
        print(f"skipped: {peer} ({why})")
    held = gates(rows)
    for name, value, kept in held:
        print(f"gate: {name}: {value}: {'held' if kept else 'FAILED'}")
    write(chosen.json, {
        "starts": STARTS, "machine": machine(), "skipped": absent,
        "versions": {"sdediff": sd.__version__, **versions(["torch", "numpy", *PEERS])},
        "solvers": {e.name: repr(sd.solver(e.name)) for e in made if e.library == "ours" and e.name != "auto"},
        "rows": rows, "gates": [dict(zip(("gate", "shares", "held"), row, strict=True)) for row in held],
    })  # fmt: skip
    _drawn(rows, chosen.json.with_suffix(".png"))
    return 0 if all(row[-1] for row in held) else 1


if __name__ == "__main__":
    sys.exit(main())
