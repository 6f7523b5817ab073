"""Grids tuned for a solver: interior times that minimise its error on Gaussian data, or on a model's own paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import number
from sdediff._utils.errors import InputError
from sdediff.analysis.gaussian import eigenvalues
from sdediff.analysis.response import NotLinear, gaussian_model
from sdediff.grids.grids import grid
from sdediff.model.data_statistics import Statistics, statistics
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Counter
from sdediff.sampling.run import Plan, Run
from sdediff.sde.base import LinearSDE
from sdediff.solvers import Solver, SolverError
from sdediff.solvers import solver as resolve_solver

# The Adams solver whose Gaussian error predicts the error on real data best.
RELIABLE: dict[str, Any] = {"points": 3, "basis": "eps", "variable": "rho"}
# A search begins from these fixed grids, so its result is never worse than they are by its own measure.
STARTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("log_snr", {}), ("karras", {}), ("angle", {}), ("angle", {"power": 2.0}), ("angle", {"power": 3.0}),
    ("time_shift", {"shift": 1.0}),
)  # fmt: skip

# Relative tolerance of the search: the objective is a proxy, so more digits are not worth their time.
_TOLERANCE = 1e-3

Residuals = Callable[[Tensor], np.ndarray]


def spectrum(data: Any, count: int = 256) -> Tensor:
    """The variances (D,) of data (N, ...), or of its Statistics, along its principal directions, falling, float64.

    Where there are more than `count` dimensions, `count` evenly spaced quantiles of them.
    """
    stats = data if isinstance(data, Statistics) else statistics(data)
    remaining = torch.full((stats.dims.numel() - len(stats.variances),), stats.rest, dtype=torch.float64)
    values = torch.cat([stats.variances.cpu(), remaining])
    if len(values) <= count:
        return values
    return values[torch.linspace(0, len(values) - 1, count).round().long()]


def fixed_grids(sde: LinearSDE, steps: int, start: float, stop: float, sigma_data: float = 1.0) -> dict[str, Tensor]:
    """The fixed grids of STARTS with so many steps, by a readable name."""
    begin = min(start, sde.t_max)
    grids = {}
    for kind, options in STARTS:
        extra = {"sigma_data": sigma_data} if kind == "angle" else {}
        times = grid(kind, sde, steps, begin, stop, **options, **extra)
        times[0] = start
        grids[kind + "".join(f"{'^' if key == 'power' else ' '}{value:g}" for key, value in options.items())] = times
    return grids


def tuned(
    sde: LinearSDE,
    n: int,
    start: float | None = None,
    stop: float | None = None,
    *,
    spectrum: Sequence[float] | Tensor = (1.0,),
    solver: str | Solver | None = None,
    widen: float = 30.0,
) -> Tensor:
    """n + 1 times whose interior minimises a solver's rms distance to the exact flow of Gaussian data.

    spectrum (D,): the data's variances, `spectrum(data)`; solver: deterministic, by default Adams of 3 points
    in eps over rho. Variances from the largest down to the mean / widen are added, since the clusters of
    real data are narrower than their spread; widen=1 adds none. A grid function: sample(grid="tuned") or
    sample(grid=functools.partial(tuned, spectrum=...)). Every call searches anew, tenths of a second to seconds:
    to use one grid often, keep the times.
    """
    start = sde.T if start is None else number("start", start)
    stop = sde.t_min if stop is None else number("stop", stop)
    used = _deterministic(solver)
    variances = widened(spectrum, widen)
    model = gaussian_model(sde, torch.zeros_like(variances), variances.sqrt())
    ends = sde.marginal([start, stop])
    before, after = (alpha**2 * variances + sigma**2 for alpha, sigma in zip(ends.scale, ends.std, strict=True))
    x = before.sqrt()[None]

    def residuals(times: Tensor) -> np.ndarray:
        return (_end(model, used, times, x) - after.sqrt()).numpy()[0]

    return search(residuals, sde, list(fixed_grids(sde, n, start, stop).values()))


def widened(spectrum: Sequence[float] | Tensor, widen: float) -> Tensor:
    """The spectrum and as many more variances (at least 24), log-spaced from its largest down to its mean / widen."""
    values = eigenvalues(spectrum)
    if not 1 <= widen < math.inf:
        raise InputError(f"widen={widen}: a factor of at least 1, such as 30")
    if widen == 1:
        return values
    low, high = math.log10(values.mean().item() / widen), math.log10(values.max().item())
    return torch.cat([values, torch.logspace(low, high, max(24, len(values)), dtype=torch.float64)])


def _deterministic(kind: str | Solver | None) -> Solver:
    solver = resolve_solver("adams", **RELIABLE) if kind is None else resolve_solver(kind)
    if solver.stochastic or solver.corrector or solver.adaptive:
        raise NotLinear(f"{solver!r} does not follow the flow on a grid: tune one for a deterministic solver")
    return solver


def _end(model: ScoreModel, solver: Solver, times: Tensor, x: Tensor) -> Tensor:
    """The state at the grid's last time."""
    with torch.no_grad():
        *_, end = Run(model, Plan(solver, times, False), x, Counter()).states(check=False)
    return end.x


def search(
    residuals: Residuals,
    sde: LinearSDE,
    starts: Sequence[Tensor],
    tries: int = 2,
    evaluations: int = 40,
    smooth: float = 0.01,
    nudge: float = 1e-5,
    stop: float | None = None,
) -> Tensor:
    """The times with the least sum of squared residuals, from the best `tries` of the grids in `starts`.

    The Gauss-Newton search runs over the logarithms of the gaps in lam, so every grid that it tries falls strictly;
    derivatives are differences of size `nudge` in a gap. smooth: the penalty on neighbouring gaps that differ by a
    factor e, in units of the best start's rms; without it a grid overfits the proxy. evaluations: the most grids
    tried from each start, derivatives not counted. stop: where the grids end above it, their ends are moved too, at
    most down to it.
    """
    from scipy.optimize import least_squares

    last = starts[0][-1].item()
    free_end = stop is not None and stop < last
    gaps = _Gaps(sde, starts[0][0].item(), last if stop is None else min(stop, last), free_end)
    errors = [float(np.sqrt(np.mean(residuals(times) ** 2))) for times in starts]
    ranked = sorted((pair for pair in zip(errors, starts, strict=True) if math.isfinite(pair[0])), key=_first)
    if not ranked:
        raise SolverError("the solver's result is not finite on any fixed grid: it cannot be tuned here")
    scale, points = ranked[0][0] or 1.0, [gaps.encode(times) for _, times in ranked[:tries]]
    if len(points[0]) == 0:
        return starts[0]

    def cost(point: np.ndarray) -> np.ndarray:
        times = gaps.decode(point)
        relative = residuals(times) / scale
        relative = relative / math.sqrt(len(relative))
        # Gaps below the resolution of float64 give no valid grid: such a point gets a large cost.
        valid = bool((times.diff() < 0).all()) and bool(np.isfinite(relative).all())
        # The gap below a free end is no step, so it is not compared with its neighbour.
        bend = np.diff(point) if gaps.free_end else np.diff(point, append=1.0)
        return np.append(relative if valid else np.full_like(relative, 1e3), smooth * bend)

    def jacobian(point: np.ndarray) -> np.ndarray:
        centre = cost(point)
        return np.stack([(cost(point + nudge * unit) - centre) / nudge for unit in np.eye(len(point))], 1)

    limits = {"ftol": _TOLERANCE, "xtol": _TOLERANCE, "max_nfev": evaluations}
    solutions = [least_squares(cost, point, jacobian, **limits) for point in points]
    return gaps.decode(min(solutions, key=_cost).x)


def _first(pair: tuple[float, Tensor]) -> float:
    return pair[0]


def _cost(solution: Any) -> float:
    return float(solution.cost)


class _Gaps(NamedTuple):
    """Encodes grids from `first` to `last` as n - 1 numbers: 1 + the logarithms of their gaps in lam over the last gap.

    With a free end, as n numbers: the gap between their own end and `last` counts as one more.
    The search scales its first step by the size of its start, which the 1 keeps away from zero.
    """

    sde: LinearSDE
    first: float
    last: float
    free_end: bool

    def encode(self, times: Tensor) -> np.ndarray:
        times = torch.cat([times, times.new_tensor([self.last])]) if self.free_end else times
        logs = np.log(np.diff(self.sde.lam(times.clamp(max=self.sde.t_max)).numpy()))
        return 1 + logs[:-1] - logs[-1]

    def decode(self, point: np.ndarray) -> Tensor:
        low, high = self.sde.lam([min(self.first, self.sde.t_max), self.last]).tolist()
        share = np.exp(np.append(point, 1.0) - max(point.max(), 1.0))
        lam = low + (high - low) * np.cumsum(share)[:-1] / share.sum()
        inner = self.sde.t_of_lam(torch.from_numpy(lam)).tolist()
        return torch.tensor([self.first, *inner, *([] if self.free_end else [self.last])], dtype=torch.float64)
