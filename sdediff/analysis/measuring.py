"""The measurement behind a recommendation: candidates screened, measured, tuned and confirmed on a model's paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import known, shown
from sdediff._utils.errors import InputError
from sdediff._utils.progress import track
from sdediff.analysis.candidates import Candidate, CandidateLike, candidates_for, printable
from sdediff.analysis.model_paths import Errors, Paths, tune
from sdediff.analysis.recommendation import MeasuredCandidate
from sdediff.analysis.tuning import spectrum, tuned
from sdediff.metrics import energy_distance
from sdediff.model.data_statistics import Statistics
from sdediff.sde.base import linear
from sdediff.solvers import Solver, SolverError

# The number of starts that every candidate is screened on, and of separate starts that grids are tuned on.
_SCREENING_STARTS, TUNING_STARTS = 8, 24
# The number of starts that the best of these are measured on, and how many of them by each figure then on all.
_MEASURING_STARTS, _CONFIRMED = 48, 4
# Tuning a grid of n steps takes n^2 calls a try: the calls that a search on paths may take, and the longest grid tuned.
_TUNING_CALLS, _MOST_STEPS = 1500, 24
# Tries of the first search, on half of the tuning starts, and of the second; the fewest solvers that are tuned.
_FIRST_TRIES, _SECOND_TRIES, _FEWEST_LEADERS = 3, 9, 3

# The fewest samples and rows of data that have a distance, and the most rows that are used.
LEAST, MOST = 20, 4096

Measured = tuple[Errors, Candidate]
Ranked = list[Measured]


class Selection:
    """The measurements of one recommendation: `table` holds every candidate measured, by its key."""

    def __init__(
        self, on: Paths, tuning: Paths, stats: Statistics, progress: bool | None, by: str = "both", data: Any = None
    ) -> None:
        self.by, self.data = by, data
        self.whole = on
        self.on = on if len(on.x) <= _MEASURING_STARTS else on.subset(0, _MEASURING_STARTS)
        self.tuning, self.stats, self.progress = tuning, stats, progress
        self.scale = float(f"{stats.std:.3g}")
        self.table: dict[int, tuple[MeasuredCandidate, Candidate]] = {}

    def rows(self, ranked: Ranked) -> list[MeasuredCandidate]:
        """The table, those ranked first and in their order, the others by the number of starts and the median."""
        first = [self.table.pop(id(candidate))[0] for _, candidate in ranked]
        others = (row for row, _ in self.table.values())
        return [*first, *sorted(others, key=lambda row: (-row.starts, row.error))]

    def finalists(self, wanted: Sequence[CandidateLike] | None, calls: int) -> Ranked:
        """Measure every candidate on a few starts, and the best twelfth of them, by either figure, on more."""
        every = candidates_for(self.on, calls, wanted, self.scale)
        few = self.on.subset(0, min(_SCREENING_STARTS, len(self.on.x)))
        screened = sorted((self._measure(c, few) for c in self._track(every, "screening")), key=_median)
        if math.isinf(_median(screened[0])):
            raise SolverError(f"no candidate gives finite samples at {calls} calls: give more calls")
        count = max(8, -(-len(screened) // 12))
        best = [*screened[:count], *sorted(screened[count:], key=_rms)[: count // 4]]
        return sorted((self._measure(c, self.on) for c in self._track([c for _, c in best], "measuring")), key=_median)

    def confirmed(self, ranked: Ranked) -> Ranked:
        """The best by the median, by the rms and by what is asked, measured on all starts, in the order of choice."""
        if len(self.whole.x) > len(self.on.x):
            keys = (_median, _rms, KEYS[self.by])
            best = {id(c): c for key in keys for _, c in sorted(ranked, key=key)[:_CONFIRMED]}
            ranked = [self._measure(c, self.whole) for c in self._track(list(best.values()), "confirming")]
        return by_choice(ranked, self.by)

    def with_tuned_grids(self, finalists: Ranked) -> Ranked:
        """The finalists and tuned grids of their leaders: a short search for each, a long one for the best third."""
        new: list[Candidate] = []
        rough: list[Candidate] = []
        half = self.tuning.subset(0, TUNING_STARTS // 2)
        for leader in self._track(self._leaders(finalists), "tuning"):
            spectral = self._tuned_to_spectrum(leader)
            new += spectral
            rough += self._tuned_to_paths(half, [leader, *spectral], _FIRST_TRIES)
        rough.sort(key=lambda c: self.tuning.error(c.named.solver, c.times))
        count = max(2, len(rough) // 3)
        for first in self._track(rough[:count], "tuning further"):
            new += self._tuned_to_paths(self.tuning, [first], _SECOND_TRIES)
        return sorted([*finalists, *(self._measure(c, self.on) for c in [*new, *rough[count:]])], key=_median)

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
                linear(sde), len(leader.times) - 1 + early, start, self.on.stop,
                spectrum=spectrum(self.stats, 64), solver=solver,
            )  # fmt: skip
        except SolverError:  # not linear, or it needs what Gaussian data lack: tuning on paths remains
            return []
        return [
            leader._replace(grid="tuned to the spectrum", times=printable(times[:-1] if early else times, self.on.stop))
        ]

    def _tuned_to_paths(self, on: Paths, starts: list[Candidate], tries: int) -> list[Candidate]:
        """The solver on a grid tuned from these to paths that serve for tuning only, where it is short enough."""
        steps = len(starts[0].times) - 1
        tries = min(tries, _TUNING_CALLS // (steps * steps))
        if tries < _FIRST_TRIES:
            return []
        times = tune(on, starts[0].named.solver, steps, {c.grid: c.times for c in starts}, tries)
        return [starts[0]._replace(grid="tuned to paths", times=printable(times, self.on.stop))]

    def _measure(self, candidate: Candidate, on: Paths) -> Measured:
        x = on.run(candidate.named.solver, candidate.times)
        errors = Errors.of(on.distances(x))
        row = MeasuredCandidate(candidate.named.label, candidate.grid, errors.median, errors.rms, len(on.x), errors.q90)
        if on is self.whole:
            row = with_distance(row, x, self.data)
        self.table[id(candidate)] = row, candidate
        return errors, candidate

    def _track(self, items: list[Candidate], label: str) -> Iterator[Candidate]:
        return track(items, len(items), label, self.progress)


def _median(measured: Measured) -> float:
    return measured[0].median


def _rms(measured: Measured) -> float:
    return measured[0].rms


def _both(measured: Measured) -> float:
    return _median(measured) * _rms(measured) ** 2


def _q90(measured: Measured) -> float:
    return measured[0].q90


# What a solver is chosen by: median times squared rms serves all starts, but not at any cost to most of them.
KEYS: dict[str, Callable[[Measured], float]] = {"both": _both, "median": _median, "q90": _q90, "rms": _rms}


def check_by(by: str) -> str:
    """What a solver is chosen by, a name of KEYS or "distance"; InputError otherwise."""
    if not known(by, (*KEYS, "distance")):
        raise InputError(f"by={shown(by)}: write one of {', '.join(KEYS)} or distance")
    return by


def by_choice(measured: list[Measured], by: str = "both") -> list[Measured]:
    """Best first by one of KEYS."""
    return sorted(measured, key=KEYS[by])


def with_distance(row: MeasuredCandidate, x: Tensor, data: Tensor | None) -> MeasuredCandidate:
    """The row with the energy distance of samples x (N, ...) to data (M, ...); as it is without 20 rows of both."""
    if data is None or min(len(x), len(data)) < LEAST or not bool(torch.isfinite(x).all()):
        return row
    found = energy_distance(x.cpu(), data[:MOST])
    return row._replace(distance=found.value, distance_error=found.std_error)
