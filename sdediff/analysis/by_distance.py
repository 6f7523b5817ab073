"""The choice among stochastic solvers too: by the distance of their samples to data.

A stochastic solver does not follow the flow, so it has no error against it. Candidates are screened by their exact
output on Gaussian data of the data's covariance, and the best are measured by the energy distance to the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff._utils.progress import track
from sdediff.analysis.candidates import Candidate, CandidateLike, NamedSolver, on_grids, wished
from sdediff.analysis.gaussian import exact_distance
from sdediff.analysis.measuring import LEAST, Ranked, with_distance
from sdediff.analysis.model_paths import Errors, Paths
from sdediff.analysis.recommendation import MeasuredCandidate
from sdediff.analysis.tuning import spectrum
from sdediff.model.data_statistics import Statistics
from sdediff.solvers import Langevin, PredictorCorrector, Solver, SolverError
from sdediff.solvers import solver as resolve_solver

# The candidates that are measured, of one solver at most so many, and the eigenvalues of the data that screen them.
_MEASURED, _OF_ONE, _EIGENVALUES = 16, 2, 64
# The strength of the corrector by its usual name.
_USUAL_SNR = 0.16

Item = TypeVar("Item")
# A candidate with its exact distance on Gaussian data, None where that is not defined.
Screened = tuple[float | None, Candidate]


def solvers_with_noise() -> Iterator[NamedSolver]:
    """Stochastic solvers over the strength of their noise, and a few deterministic ones beside them."""
    for eta in (0.3, 0.6, 1.0):
        for name in ("ddim", "dpmpp_2m_sde", "euler_ancestral"):
            yield _named(name, eta=eta)
    for churn in (5.0, 20.0, 40.0):
        yield _named("edm", s_churn=churn)
    for name in ("dpmpp_3m_sde", "er_sde", "sa_solver", "seeds", "dpmpp_sde", "ancestral", "restart"):
        yield _named(name)
    for snr in (0.08, 0.16):
        named = PredictorCorrector(resolve_solver("reverse_diffusion"), Langevin(snr=snr), "corrector")
        yield NamedSolver(named, "predictor_corrector" if snr == _USUAL_SNR else None, {})
    for name in ("ddim", "dpmpp_2m", "unipc", "heun"):
        yield _named(name)
    yield _named("adams", points=3, corrector_points=4, basis="eps", variable="rho")


def _named(kind: str | Solver, **options: float | str) -> NamedSolver:
    return NamedSolver(resolve_solver(kind, **options), kind if isinstance(kind, str) else None, options)


class DistanceSelection:
    """The measurements of one choice by distance: `rows` holds every candidate, best first."""

    def __init__(self, on: Paths, data: Tensor | None, stats: Statistics, progress: bool | None) -> None:
        if data is None or len(data) < LEAST or len(on.x) < LEAST:
            raise InputError(f'by="distance" compares samples with data: give data=, {LEAST} rows or more, and starts')
        self.on, self.data, self.progress = on, data, progress
        self.spectrum, self.scale = spectrum(stats, _EIGENVALUES), float(f"{stats.std:.3g}")
        self.rows: list[MeasuredCandidate] = []

    def ranked(self, wanted: Sequence[CandidateLike] | None, calls: int) -> Ranked:
        """The measured candidates, best first, and `rows` of these and of those that were only screened."""
        candidates = on_grids(self.on, calls, wished(wanted, solvers_with_noise(), _named), self.scale)
        screened = [(self._exact(c), c) for c in self._track(candidates, "screening")]
        chosen, others = _best(screened)
        found = [self._measured(exact, c) for exact, c in self._track(chosen, "measuring")]
        finite = [entry for entry in found if entry is not None]
        if not finite:
            raise SolverError(f"no candidate gives finite samples at {calls} calls: give more calls")
        order = _by_distance([row for _, row, _ in finite])
        self.rows = [finite[i][1] for i in order] + [self._row(c, exact, 0) for exact, c in others]
        return [(finite[i][0], finite[i][2]) for i in order]

    def _exact(self, candidate: Candidate) -> float | None:
        """Its exact distance on Gaussian data, infinite where it diverges; None for a solver that is not linear."""
        return exact_distance(
            candidate.named.solver, self.on.model.sde, candidate.times, self.spectrum,
            denoise=bool(self.on.options["denoise"]),
        )  # fmt: skip

    def _measured(
        self, exact: float | None, candidate: Candidate
    ) -> tuple[Errors, MeasuredCandidate, Candidate] | None:
        """The errors against the flow, NaN of a stochastic solver, and the row with the distance.

        None of what refuses these times, or gives samples that are not finite.
        """
        try:
            x = self.on.run(candidate.named.solver, candidate.times)
        except SolverError:
            return None
        row = with_distance(self._row(candidate, exact, len(x)), x, self.data)
        if row.distance is None:
            return None
        errors = Errors(math.nan, math.nan)
        if not (candidate.named.solver.stochastic or candidate.named.solver.corrector):
            errors = Errors.of(self.on.distances(x))
            row = row._replace(error=errors.median, rms=errors.rms, q90=errors.q90)
        return errors, row, candidate

    def _row(self, candidate: Candidate, exact: float | None, starts: int) -> MeasuredCandidate:
        return MeasuredCandidate(candidate.named.label, candidate.grid, None, None, starts, gaussian=exact)

    def _track(self, items: list[Item], label: str) -> Iterator[Item]:
        return track(items, len(items), label, self.progress)


def _best(screened: list[Screened]) -> tuple[list[Screened], list[Screened]]:
    """What is to be measured, and the others, by rising exact distance.

    Of one solver the best grids; of one that is not linear, whose order nothing says, the first ones.
    """
    known = sorted((entry for entry in screened if entry[0] is not None), key=lambda entry: entry[0] or 0.0)
    unknown = [entry for entry in screened if entry[0] is None]
    taken: dict[Solver, int] = {}
    chosen: list[Screened] = []
    others: list[Screened] = []
    for entry in (*known, *unknown):
        solver = entry[1].named.solver
        full = entry[0] is not None and sum(e[0] is not None for e in chosen) >= _MEASURED
        if full or taken.get(solver, 0) >= _OF_ONE or entry[0] == math.inf:
            others.append(entry)
            continue
        taken[solver] = taken.get(solver, 0) + 1
        chosen.append(entry)
    return chosen, others


def _by_distance(rows: list[MeasuredCandidate]) -> list[int]:
    """The order of choice: what is within a standard error of the least distance by its exact one, then by distance."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].distance or 0.0)
    least = rows[order[0]]
    bar = (least.distance or 0.0) + (least.distance_error or 0.0)
    near = [i for i in order if (rows[i].distance or 0.0) <= bar]
    first = min(near, key=lambda i: math.inf if rows[i].gaussian is None else rows[i].gaussian or 0.0)
    return [first, *(i for i in order if i != first)]
