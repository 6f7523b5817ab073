"""Which solver and grid for so many network evaluations on this model? `recommend` measures and chooses."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import whole
from sdediff._utils.errors import InputError
from sdediff._utils.progress import track
from sdediff.analysis.candidates import Candidate, CandidateLike, NamedSolver, candidates_for
from sdediff.analysis.model_paths import Paths, paths, tune
from sdediff.analysis.recommendation import MeasuredCandidate, Recommendation
from sdediff.analysis.tuning import spectrum, tuned
from sdediff.grids.grids import GRIDS
from sdediff.model.data_card import check_source
from sdediff.model.data_statistics import Statistics, statistics
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.sampling.run import make_plan
from sdediff.solvers import Solver, SolverError

# The number of starts that every candidate is screened on, and of separate starts that grids are tuned on.
_SCREENING_STARTS, _TUNING_STARTS = 8, 24
# Tuning a grid of n steps takes n^2 calls a try: the calls that a search on paths may take, and the longest grid tuned.
_TUNING_CALLS, _MOST_STEPS = 1500, 24
# Tries of the first search, on half of the tuning starts, and of the second; the fewest solvers that are tuned.
_FIRST_TRIES, _SECOND_TRIES, _FEWEST_LEADERS = 3, 9, 3
# The seed of the starts that `auto` measures on: samples drawn with another seed share no noise with them.
_AUTO_SEED = 0x5DED1FF

Ranked = list[tuple[float, Candidate]]


def recommend(
    model: ScoreModel,
    sample_shape: Sequence[int] | None = None,
    *,
    calls: int = 10,
    data: Tensor | Statistics | None = None,
    candidates: Sequence[CandidateLike] | None = None,
    starts: int = 48,
    seed: int = 0,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = True,
    cond: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
) -> Recommendation:
    """The solver and grid with the least median error on this model at so many network evaluations, by measurement.

    From `starts` starts of the prior each candidate is compared with a fine solution: all on 8 starts, the
    best twelfth on all, then grids tuned for the best solvers, adopted where they measure better. Unless stop
    is given, grids may end above t_min, and the denoising call jumps from there. sample_shape: of one sample, by
    default the card's or the data's. data: samples (N, ...) or their statistics, for tuned grids.
    candidates: solvers, or pairs (solver, name of a grid). The other arguments as in `sample`.
    """
    began = time.perf_counter()
    check_model(model)
    calls, starts = whole("calls", calls, 1), whole("starts", starts, 1)
    shape = _sample_shape(model, data, sample_shape)
    if data is not None:
        check_source(model, data)
    reference_calls = max(200, 16 * calls)
    reference = paths(
        model, (starts + _TUNING_STARTS, *shape), reference_calls, seed=seed, start=start, stop=stop, denoise=denoise,
        cond=cond, dtype=dtype, device=device, progress=progress,
    )  # fmt: skip
    measured, tuning = reference.subset(0, starts), reference.subset(starts, starts + _TUNING_STARTS)
    selection = _Selection(measured, tuning, _statistics(model, data, reference), progress)
    ranked = selection.with_tuned_grids(selection.finalists(candidates, calls))
    named = [candidate for _, candidate in ranked if _has_name(reference, candidate, calls)]
    error, best = ranked[0]
    grid = best.grid if named and named[0] is best else tuple(best.times.tolist())
    rows = sorted(selection.rows, key=lambda row: (-row.starts, row.error))
    commands = (_command(model, candidate, calls) for candidate in named)
    return Recommendation(
        best.named.solver, grid, best.times, calls, error, tuple(rows),
        _python(best.named, grid, calls), next((line for line in commands if line), None),
        reference_calls, reference.reference_error, time.perf_counter() - began,
    )  # fmt: skip


def auto(
    model: ScoreModel,
    shape: Sequence[int],
    calls: int | None = None,
    steps: int | None = None,
    *,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = True,
    cond: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
) -> tuple[Solver, Tensor]:
    """The recommended solver and its times (n + 1,) for states of shape (B, ...); every call measures anew.

    The budget is calls, or steps at one call each, by default 20. Measured on starts of its own, so that the choice
    does not depend on the samples to come. The other arguments as in `recommend`.
    """
    budget = calls if calls is not None else (20 if steps is None else steps) + denoise
    best = recommend(
        model, shape[1:], calls=budget, seed=_AUTO_SEED, start=start, stop=stop, denoise=denoise,
        cond=cond, dtype=dtype, device=device, progress=progress,
    )  # fmt: skip
    return best.solver, best.times


def _has_name(reference: Paths, candidate: Candidate, calls: int) -> bool:
    """Whether sampling with the name of the grid gives these times."""
    if candidate.grid not in GRIDS:
        return False
    stop, denoise = reference.options["stop"], reference.options["denoise"]
    planned = make_plan(
        reference.model, candidate.named.solver, calls=calls, grid=candidate.grid, stop=stop, denoise=denoise
    )  # fmt: skip
    return torch.equal(planned.times, candidate.times)


class _Selection:
    """The measurements of one recommendation: rows collects every candidate measured."""

    def __init__(self, on: Paths, tuning: Paths, stats: Statistics, progress: bool | None) -> None:
        self.on, self.tuning, self.stats, self.progress = on, tuning, stats, progress
        self.scale = float(f"{stats.std:.3g}")
        self.rows: list[MeasuredCandidate] = []

    def finalists(self, wanted: Sequence[CandidateLike] | None, calls: int) -> Ranked:
        """Measure every candidate on a few starts, and the best twelfth of them on all."""
        every = candidates_for(self.on, calls, wanted, self.scale)
        few = self.on.subset(0, min(_SCREENING_STARTS, len(self.on.x)))
        screened = sorted(
            ((few.error(c.named.solver, c.times), c) for c in self._track(every, "screening")), key=_error
        )  # fmt: skip
        if math.isinf(screened[0][0]):
            raise SolverError(f"no candidate gives finite samples at {calls} calls: give more calls")
        count = max(8, -(-len(screened) // 12))
        self.rows += [MeasuredCandidate(c.named.label, c.grid, error, len(few.x)) for error, c in screened[count:]]
        best = [candidate for _, candidate in screened[:count]]
        return sorted((self._measure(c) for c in self._track(best, "measuring")), key=_error)

    def with_tuned_grids(self, finalists: Ranked) -> Ranked:
        """The finalists and tuned grids of their leaders: a short search for each, a long one for the best third."""
        new: list[Candidate] = []
        rough: list[Candidate] = []
        half = self.tuning.subset(0, _TUNING_STARTS // 2)
        for leader in self._track(self._leaders(finalists), "tuning"):
            spectral = self._tuned_to_spectrum(leader)
            new += spectral
            rough += self._tuned_to_paths(half, [leader, *spectral], _FIRST_TRIES)
        rough.sort(key=lambda c: self.tuning.error(c.named.solver, c.times))
        count = max(2, len(rough) // 3)
        for first in self._track(rough[:count], "tuning further"):
            new += self._tuned_to_paths(self.tuning, [first], _SECOND_TRIES)
        return sorted([*finalists, *(self._measure(c) for c in [*new, *rough[count:]])], key=_error)

    def _leaders(self, finalists: Ranked) -> list[Candidate]:
        """A grid of each of the best solvers, and of the best one in the eps basis, best first."""
        firsts: dict[Solver, Candidate] = {}
        for _, candidate in finalists:
            first = firsts.setdefault(candidate.named.solver, candidate)
            # A search can lower an early end, but not raise one.
            if self._ends_early(candidate) and not self._ends_early(first):
                firsts[candidate.named.solver] = candidate
        ranked = list(firsts.values())
        # Short grids are tuned quickly, and with few steps the order of the solvers may still change.
        most = max(_FEWEST_LEADERS, min(8, 500 // len(ranked[0].times) ** 2))
        eps = [c for c in ranked[most:] if getattr(c.named.solver, "basis", "") == "eps"]
        return [c for c in (*ranked[:most], *eps[:1]) if 2 <= len(c.times) - 1 <= _MOST_STEPS]

    def _ends_early(self, candidate: Candidate) -> bool:
        return candidate.times[-1].item() > self.on.stop

    def _tuned_to_spectrum(self, leader: Candidate) -> list[Candidate]:
        """The leader's solver on a grid tuned on Gaussian data with the variances of the data."""
        early, sde = self._ends_early(leader), self.on.model.sde
        start, solver = leader.times[0].item(), leader.named.solver
        try:
            times = tuned(
                sde, len(leader.times) - 1 + early, start, self.on.stop,  # type: ignore[arg-type]
                spectrum=spectrum(self.stats, 64), solver=solver,
            )  # fmt: skip
        except SolverError:  # not linear, or it needs what Gaussian data lack: tuning on paths remains
            return []
        return [leader._replace(grid="tuned to the spectrum", times=times[:-1] if early else times)]

    def _tuned_to_paths(self, on: Paths, starts: list[Candidate], tries: int) -> list[Candidate]:
        """The solver on a grid tuned from these to paths that serve for tuning only, where it is short enough."""
        steps = len(starts[0].times) - 1
        tries = min(tries, _TUNING_CALLS // (steps * steps))
        if tries < _FIRST_TRIES:
            return []
        times = tune(on, starts[0].named.solver, steps, {c.grid: c.times for c in starts}, tries)
        return [starts[0]._replace(grid="tuned to paths", times=times)]

    def _measure(self, candidate: Candidate) -> tuple[float, Candidate]:
        error = self.on.error(candidate.named.solver, candidate.times)
        self.rows.append(MeasuredCandidate(candidate.named.label, candidate.grid, error, len(self.on.x)))
        return error, candidate

    def _track(self, items: list[Candidate], label: str) -> Iterator[Candidate]:
        return track(items, len(items), label, self.progress)


def _error(measured: tuple[float, Candidate]) -> float:
    return measured[0]


def _sample_shape(model: ScoreModel, data: Tensor | Statistics | None, given: Sequence[int] | None) -> tuple[int, ...]:
    shape: Any = given or (model.card.get("data") or {}).get("shape")
    for source in (data, model.stats):
        if shape is None and source is not None:
            shape = source.mean.shape if isinstance(source, Statistics) else source.shape[1:]
    if shape is None:
        raise InputError(
            "the model's card does not say the shape of a sample: give sample_shape=, such as (1, 8, 8)"
        )  # fmt: skip
    return tuple(shape)


def _statistics(model: ScoreModel, data: Tensor | Statistics | None, reference: Paths) -> Statistics:
    source = data if data is not None else model.stats
    if source is None:
        source = reference.end.cpu()
    return source if isinstance(source, Statistics) else statistics(source)


def _python(named: NamedSolver, grid: str | tuple[float, ...], calls: int) -> str:
    if isinstance(grid, str):
        return f'sd.sample(model, shape, solver={named.python}, grid="{grid}", calls={calls})'
    inner = ", ".join(f"{t:.6g}" for t in grid[1:-1])
    return f"sd.sample(model, shape, solver={named.python}, grid=[{grid[0]!r}, {inner}, {grid[-1]!r}])"


def _command(model: ScoreModel, candidate: Candidate, calls: int) -> str | None:
    if candidate.named.command is None:
        return None
    name = model.card.get("name", "MODEL")
    return f"sdediff sample {name} {candidate.named.command} --grid {candidate.grid} --calls {calls}"
