"""Which solver and grid for so many calls on this model? Measured, not guessed."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.progress import track
from sdediff.analysis.candidates import Candidate, Member, Wanted, field
from sdediff.analysis.measure import Paths, paths, tune
from sdediff.analysis.report import Recommendation, Row
from sdediff.analysis.tuning import spectrum, tuned
from sdediff.grids.grids import GRIDS
from sdediff.model.data_statistics import Statistics, statistics
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.plan import plan
from sdediff.solvers import Solver, SolverError

# Starts that every candidate is screened on, and starts of their own that grids are tuned on.
_SCREEN, _TUNE = 8, 24
# Tuning a grid of n moves costs n^2 calls a try: so many calls are spent on paths, and none where grids are long.
_CALLS, _MOST = 1500, 24
# Tries of the first search, on half of those starts, and of the second; so many solvers have one at least.
_ROUGH, _TRIES, _LEAD = 3, 9, 3


def recommend(
    model: ScoreModel,
    data: Tensor | Statistics | None = None,
    calls: int = 10,
    shape: Sequence[int] | None = None,
    candidates: Sequence[Wanted] | None = None,
    seed: int = 0,
    *,
    starts: int = 48,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = True,
    cond: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
) -> Recommendation:
    """The solver and grid with the least median error on this model at so many network calls, by measurement.

    From `starts` starts of the prior each candidate is compared with a fine solution: all on 8 starts, the
    best twelfth on all, then grids tuned for the best solvers, adopted where they measure better. Unless stop
    is given, grids may end above t_min, and the denoising call jumps from there. shape: of one sample, by
    default the card's or the data's. data: samples (N, ...) or their statistics, for tuned grids.
    candidates: solvers, or pairs (solver, name of a grid). The rest as in `sample`.
    """
    began = time.perf_counter()
    if starts < 1:
        raise ValueError(f"starts={starts}: at least one is needed")
    size = _shape(model, data, shape)
    where: dict[str, Any] = {"seed": seed, "start": start, "stop": stop, "denoise": denoise, "cond": cond}
    fine = max(200, 16 * calls)
    every = paths(model, (starts + _TUNE, *size), fine, dtype=dtype, device=device, progress=progress, **where)
    stats = _statistics(model, data, every)
    measured = _Measured(every.rows(0, starts), every.rows(starts, starts + _TUNE), stats, progress)
    ranked = measured.choose(measured.finalists(candidates, calls))
    (error, best), named = ranked[0], [v for _, v in ranked if _has_name(every, v, calls)]
    grid = best.grid if _has_name(every, best, calls) else tuple(best.times.tolist())
    rows = sorted(measured.rows, key=lambda row: (-row.starts, row.error))
    return Recommendation(
        best.member.solver, grid, best.times, calls, error, tuple(rows), _python(best.member, grid, calls),
        next((line for v in named if (line := _command(model, v, calls))), None),
        fine, every.unsure, time.perf_counter() - began,
    )  # fmt: skip


def _has_name(on: Paths, candidate: Candidate, calls: int) -> bool:
    """Whether the grid's name alone gives these times back."""
    ends = {key: on.options[key] for key in ("stop", "denoise")}
    if candidate.grid not in GRIDS:
        return False
    return torch.equal(
        plan(on.model, candidate.member.solver, calls=calls, grid_=candidate.grid, **ends).times, candidate.times
    )


class _Measured:
    """The measurements of one recommendation."""

    def __init__(self, on: Paths, own: Paths, stats: Statistics, progress: bool | None) -> None:
        self.on, self.own, self.stats, self.progress = on, own, stats, progress
        self.scale = float(f"{stats.std:.3g}")
        self.rows: list[Row] = []

    def finalists(self, wanted: Sequence[Wanted] | None, calls: int) -> list[tuple[float, Candidate]]:
        """Every candidate on a few starts, the best twelfth of them on all."""
        asked = field(self.on, calls, wanted, self.scale)
        few = self.on.rows(0, min(_SCREEN, len(self.on.x)))
        screened = sorted(
            ((few.error(v.member.solver, v.times), v) for v in self._track(asked, "screening")), key=lambda v: v[0]
        )
        if math.isinf(screened[0][0]):
            raise SolverError(f"no candidate gives finite samples at {calls} calls: give more calls")
        kept = max(8, -(-len(screened) // 12))
        self.rows += [Row(v.member.label, v.grid, error, len(few.x)) for error, v in screened[kept:]]
        return sorted(
            (self._add(v) for v in self._track([v for _, v in screened[:kept]], "measuring")), key=lambda v: v[0]
        )

    def choose(self, finalists: list[tuple[float, Candidate]]) -> list[tuple[float, Candidate]]:
        """The finalists and tuned grids of their leaders: a short search for each, a long one for the best third."""
        new, rough, half = [], [], self.own.rows(0, _TUNE // 2)
        for leader in self._track(self._leaders(finalists), "tuning"):
            spectral = self._spectral(leader)
            new += spectral
            rough += self._searched(half, [leader, *spectral], _ROUGH)
        rough.sort(key=lambda v: self.own.error(v.member.solver, v.times))
        kept = max(2, len(rough) // 3)
        for first in self._track(rough[:kept], "tuning further"):
            new += self._searched(self.own, [first], _TRIES)
        return sorted([*finalists, *(self._add(v) for v in [*new, *rough[kept:]])], key=lambda v: v[0])

    def _leaders(self, finalists: list[tuple[float, Candidate]]) -> list[Candidate]:
        """A grid of each of the best solvers, and of the best one in the eps basis: of the best grid's rank."""
        firsts: dict[Solver, Candidate] = {}
        for _, v in finalists:
            first = firsts.setdefault(v.member.solver, v)
            # A search can lower an early end, but not raise one.
            if self._early(v) and not self._early(first):
                firsts[v.member.solver] = v
        ranked = list(firsts.values())
        # Short grids are tuned in no time, and there the order of the candidates may still turn.
        most = max(_LEAD, min(8, 500 // len(ranked[0].times) ** 2))
        eps = [v for v in ranked[most:] if getattr(v.member.solver, "basis", "") == "eps"]
        return [v for v in (*ranked[:most], *eps[:1]) if 2 <= len(v.times) - 1 <= _MOST]

    def _early(self, candidate: Candidate) -> bool:
        return candidate.times[-1].item() > self.on.stop

    def _spectral(self, fixed: Candidate) -> list[Candidate]:
        """The solver on a grid tuned on Gaussian data of this spectrum."""
        early, sde = self._early(fixed), self.on.model.sde
        ends, values = (fixed.times[0].item(), self.on.stop), spectrum(self.stats, 64)
        try:
            times = tuned(sde, len(fixed.times) - 1 + early, *ends, spectrum=values, solver=fixed.member.solver)  # type: ignore[arg-type]
        except SolverError:  # not linear, or it needs what Gaussian data lack: its own paths remain
            return []
        return [fixed._replace(grid="tuned to the spectrum", times=times[:-1] if early else times)]

    def _searched(self, on: Paths, starts: list[Candidate], tries: int) -> list[Candidate]:
        """The solver on a grid tuned from these to paths that nothing is measured on, where it is short enough."""
        n = len(starts[0].times) - 1
        tries = min(tries, _CALLS // (n * n))
        if tries < _ROUGH:
            return []
        times = tune(on, n, starts[0].member.solver, {v.grid: v.times for v in starts}, tries)
        return [starts[0]._replace(grid="tuned to paths", times=times)]

    def _add(self, candidate: Candidate) -> tuple[float, Candidate]:
        error = self.on.error(candidate.member.solver, candidate.times)
        self.rows.append(Row(candidate.member.label, candidate.grid, error, len(self.on.x)))
        return error, candidate

    def _track(self, items: list[Any], what: str) -> Iterator[Any]:
        return track(items, len(items), what, self.progress)


def _shape(model: ScoreModel, data: Tensor | Statistics | None, given: Sequence[int] | None) -> tuple[int, ...]:
    known: Any = given or (model.card.get("data") or {}).get("shape")
    for source in (data, model.stats):
        if known is None and source is not None:
            known = source.mean.shape if isinstance(source, Statistics) else source.shape[1:]
    if known is None:
        raise ValueError("the model's card does not say the shape of a sample: give shape=, such as (1, 8, 8)")
    return tuple(known)


def _statistics(model: ScoreModel, data: Tensor | Statistics | None, on: Paths) -> Statistics:
    given = data if data is not None else model.stats
    if given is None:
        given = on.end.cpu()
    return given if isinstance(given, Statistics) else statistics(given)


def _python(used: Member, grid: str | tuple[float, ...], calls: int) -> str:
    if isinstance(grid, str):
        return f'sd.sample(model, shape, solver={used.python}, grid="{grid}", calls={calls})'
    inner = ", ".join(f"{t:.6g}" for t in grid[1:-1])
    return f"sd.sample(model, shape, solver={used.python}, grid=[{grid[0]!r}, {inner}, {grid[-1]!r}])"


def _command(model: ScoreModel, candidate: Candidate, calls: int) -> str | None:
    if candidate.member.command is None:
        return None
    name = model.card.get("name", "MODEL")
    return f"sdediff sample {name} {candidate.member.command} --grid {candidate.grid} --calls {calls}"


_KNOWN: weakref.WeakKeyDictionary[ScoreModel, dict[Any, tuple[Solver, Tensor]]] = weakref.WeakKeyDictionary()
# Starts that no sample of a user's has, unless by asking for this seed.
_SEED = 0x5DED1FF


def auto(
    model: ScoreModel,
    shape: Sequence[int],
    calls: int | None = None,
    steps: int | None = None,
    *,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = True,
    **options: Any,
) -> tuple[Solver, Tensor]:
    """The recommended solver and its times (n + 1,) for states (B, ...), measured once a model and budget.

    calls, or steps moves at one call each, 20 where neither is given. Measured on starts of its own, so
    nothing is learnt from the samples to come. options as in `recommend`.
    """
    budget = calls if calls is not None else (20 if steps is None else steps) + denoise
    key = (tuple(shape[1:]), budget, start, stop, denoise, tuple(sorted(options.get("cond") or ())))
    known = _KNOWN.setdefault(model, {})
    if key not in known:
        ends = {"start": start, "stop": stop, "denoise": denoise}
        found = recommend(model, calls=budget, shape=shape[1:], **{"seed": _SEED, **ends, **options})
        known[key] = found.solver, found.times
    used, times = known[key]
    return used, times.clone()
