"""Error against the exact flow at a given number of calls: every deterministic solver of ours and of the peers.

Sixty-four starts at the process's T, the same for all; each system moves them to the lowest level by its own grid and
ends with the denoiser there, and the calls of the network are counted, that one included. The error is the median over
the starts of the rms distance to the flow's end, which a tight integration gives. "Best peer" is the least error over
every peer's samplers, grids and options at that number of calls; ours is held to what `auto` chooses.

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
from pathlib import Path
from typing import Any

import torch
from overhead import PEERS
from peers.entries import MAKERS
from peers.frame import TOLERANCES, Denoiser, Entry, Setting, Spent
from record import RESULTS, show, versions, write
from torch import Tensor

import sdediff as sd
from sdediff.analysis import auto
from sdediff.benchmark import machine

TASKS = ("ring_unequal", "gmm64", "gmm768", "digits-vp")
CALLS = (5, 8, 10, 15, 20, 50)
STARTS = 64
# The network's own time rules there: entries are screened on so many starts, and the best of each system run on all.
SCREEN, KEPT = {"digits-vp": 8}, 3
# (calls, share of the best peer's error, tasks out of four); above the best peer on none, but where excused.
GATES = ((10, 0.65, 3), (20, 0.5, 3))
EXCUSED = {5: ("gmm768",)}

Row = dict[str, Any]


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
    ends = sd.levels(model.sde, [model.sde.T, model.sde.t_min])
    z = torch.randn((STARTS, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (z * ends[0].sigma).to(dtype)
    exact = sd.sample(model, x=x, progress=False, **fine)
    low, high = ends[1].kappa, ends[0].kappa
    return Setting(name, model, x, low, high, Denoiser(model, low, high), exact)


def ours() -> list[Entry]:
    """Every registered deterministic solver on its default grid, the adaptive ones over tolerances."""
    rows = []
    for name, info in sd.list_solvers().items():
        if info.stochastic or info.corrector:
            continue
        if info.calls is None:
            if {"rtol", "atol"} <= set(getattr(sd.solver(name), "__dataclass_fields__", {})):
                rows.append(Entry("ours", name, functools.partial(_adaptive, name), TOLERANCES, True))
            continue
        rows.append(Entry("ours", name, functools.partial(_sampled, name), default=True))
    return rows


def _counted(at: Setting) -> sd.ScoreModel:
    return at.model.map_net(at.net.counted)


def _sampled(solver: str, at: Setting, calls: int) -> Tensor | None:
    try:
        return sd.sample(_counted(at), x=at.x, solver=solver, calls=calls, progress=False)
    except ValueError as error:
        if "too few" in str(error) or "at least" in str(error):
            return None
        raise


def _adaptive(name: str, at: Setting, tolerance: float) -> Tensor:
    used = sd.solver(name, rtol=tolerance, atol=tolerance)
    return sd.sample(_counted(at), x=at.x, solver=used, progress=False)


@functools.cache
def _chosen(name: str, calls: int) -> tuple[sd.Solver, Tensor]:
    """The solver and times that `auto` takes for a task and a number of calls, measured on starts of its own."""
    at = setting(name)
    return auto(at.model, tuple(at.x.shape), calls=calls, dtype=at.x.dtype, progress=False)


def auto_entry() -> Entry:
    """What `auto` picks; its measuring is not counted, since it is done once a model and number of calls."""

    def run(at: Setting, calls: int) -> Tensor | None:
        solver, times = _chosen(at.name, calls)
        return sd.sample(_counted(at), x=at.x, solver=solver, grid=times, progress=False)

    return Entry("ours", "auto", run, default=True)


def entries(systems: Iterable[str]) -> tuple[list[Entry], dict[str, str]]:
    """Every entry of the systems, and why a peer is missing."""
    rows: list[Entry] = [auto_entry(), *ours()] if "ours" in systems else []
    missing = {}
    for system, make in MAKERS.items():
        if system in systems:
            try:
                rows += make()
            except ImportError as error:
                missing[system] = str(error)
    return rows, missing


def evaluate(entry: Entry, at: Setting, budgets: Iterable[int]) -> list[Row]:
    """A row a budget that the entry can meet: calls made, error."""
    found = []
    if entry.tolerances:
        reached = [_once(entry, at, tolerance, max(budgets)) for tolerance in entry.tolerances]
        for budget in budgets:
            fits = [row for row in reached if row and row["calls"] <= budget]
            if fits:
                found.append({**min(fits, key=lambda row: row["error"]), "budget": budget})
        return found
    for budget in budgets:
        row = _once(entry, at, budget, budget)
        if row:
            found.append(row | {"budget": budget})
    return found


def _once(entry: Entry, at: Setting, asked: Any, limit: int) -> Row | None:
    at.net.begin(limit)
    row = {"task": at.name, "system": entry.system, "name": entry.name, "default": entry.default}
    if entry.tolerances:
        row["tolerance"] = asked
    if entry.name == "auto":
        solver, times = _chosen(at.name, asked)
        row["chosen"] = {"solver": repr(solver), "times": times.tolist()}
        at.net.begin(limit)
    try:
        with torch.no_grad():
            x = entry.run(at, asked)
    except Spent:
        # Adaptive runs at too tight a tolerance end here; a fixed one would be an entry that cannot count.
        return (
            None if entry.tolerances else row | {"calls": at.net.calls, "error": None, "why": "more calls than asked"}
        )
    except Exception as error:
        return row | {"calls": at.net.calls, "error": None, "why": f"{type(error).__name__}: {error}"[:200]}
    if x is None:
        return None
    value = at.error(x)
    return row | {"calls": at.net.calls, "error": value if math.isfinite(value) else None}


def sweep(name: str, rows: list[Entry], budgets: list[int], log: Any = None) -> list[Row]:
    """Every entry on one task; where the network is slow, screened on few starts first."""
    at, kept = setting(name), {(e.system, e.name): set(budgets) for e in rows}
    if name in SCREEN:
        few = at.first(SCREEN[name])
        screened = [row for e in rows for row in evaluate(e, few, budgets) if row["error"] is not None]
        kept = {key: set() for key in kept}
        for budget, system in itertools.product(budgets, {e.system for e in rows}):
            best = [r for r in screened if r["budget"] == budget and r["system"] == system]
            for row in sorted(best, key=lambda r: r["error"])[:KEPT]:
                kept[row["system"], row["name"]].add(budget)
        kept["ours", "auto"] = set(budgets)
    found = []
    for i, entry in enumerate(rows):
        found += evaluate(entry, at, sorted(kept[entry.system, entry.name])) if kept[entry.system, entry.name] else []
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
    parser.add_argument("--systems", nargs="+", default=["ours", *MAKERS], choices=["ours", *MAKERS])
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
    made, missing = entries(chosen.systems)
    rows: list[Row] = []
    for name in chosen.tasks:
        began = time.perf_counter()
        rows += sweep(name, made, sorted(chosen.calls))
        print(f"{name}: {len(made)} entries, {time.perf_counter() - began:.0f} s", flush=True)
    for why in sorted({f"{r['system']} {r['name']}: {r['why']}" for r in rows if r.get("why")}):
        print(f"failed: {why}")
    rows = _merged(chosen.json, rows) if chosen.add else rows
    print(*table(rows), sep="\n")
    for peer, why in missing.items():
        print(f"skipped: {peer} ({why})")
    held = gates(rows)
    for name, value, kept in held:
        print(f"gate: {name}: {value}: {'held' if kept else 'FAILED'}")
    write(chosen.json, {
        "starts": STARTS, "machine": machine(), "skipped": missing,
        "versions": {"sdediff": sd.__version__, **versions(["torch", "numpy", *PEERS])},
        "solvers": {e.name: repr(sd.solver(e.name)) for e in made if e.system == "ours" and e.name != "auto"},
        "rows": rows, "gates": [dict(zip(("gate", "shares", "held"), row, strict=True)) for row in held],
    })  # fmt: skip
    _drawn(rows, chosen.json.with_suffix(".png"))
    return 0 if all(row[-1] for row in held) else 1


if __name__ == "__main__":
    sys.exit(main())
