"""Grids made for a solver: interior times that minimise its error on Gaussian data, or on a model's own paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.analysis.gaussian import eigenvalues
from sdediff.analysis.response import NotLinear, gaussian_model
from sdediff.grids.grids import grid
from sdediff.model.data_statistics import Statistics, statistics
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Counter
from sdediff.sampling.plan import Plan
from sdediff.sampling.run import Run
from sdediff.sde.base import LinearSDE, kept
from sdediff.solvers import Solver, SolverError, solver

# The member of the family on which the Gaussian error foretells the true one best.
RELIABLE: dict[str, Any] = {"points": 3, "basis": "eps", "variable": "rho"}
# Where a search begins; each is a fixed grid, so the result is never worse than these by its own measure.
STARTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("log_snr", {}), ("karras", {}), ("angle", {}), ("angle", {"power": 2.0}), ("angle", {"power": 3.0}),
    ("time_shift", {"shift": 1.0}),
)  # fmt: skip

# A last per mille of a proxy is worth no time.
_ENOUGH = 1e-3

Residuals = Callable[[Tensor], np.ndarray]


def spectrum(data: Any, count: int = 256) -> Tensor:
    """The variances (D,) of data (N, ...), or of its Statistics, along its principal directions, falling, float64.

    Of more than `count` dimensions, evenly many quantiles.
    """
    stats = data if isinstance(data, Statistics) else statistics(data)
    rest = torch.full((stats.dims.numel() - len(stats.variances),), stats.rest, dtype=torch.float64)
    values = torch.cat([stats.variances.cpu(), rest])
    if len(values) <= count:
        return values
    return values[torch.linspace(0, len(values) - 1, count).round().long()]


def fixed_grids(sde: LinearSDE, n: int, start: float, stop: float, sigma_data: float = 1.0) -> dict[str, Tensor]:
    """The fixed grids of STARTS with n moves, by a readable name."""
    begin = min(start, sde.t_max)
    found = {}
    for kind, options in STARTS:
        extra = {"sigma_data": sigma_data} if kind == "angle" else {}
        times = grid(kind, sde, n, begin, stop, **options, **extra)
        times[0] = start
        found[kind + "".join(f"{'^' if key == 'power' else ' '}{value:g}" for key, value in options.items())] = times
    return found


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
    in eps over rho. Variances from the largest down to the mean / widen come on top, since the clusters of
    real data are narrower than their spread; widen=1 leaves them out. A grid function:
    sample(grid="tuned") or sample(grid=functools.partial(tuned, spectrum=...)).
    """
    begin, end = sde.T if start is None else float(start), sde.t_min if stop is None else float(stop)
    values = tuple(widened(spectrum, widen).tolist())
    used = _deterministic(solver)
    return _tuned(sde, n, begin, end, values, used).clone()


def widened(spectrum: Sequence[float] | Tensor, widen: float) -> Tensor:
    """The spectrum with as many variances again (24 at least), log-spaced from its largest down to its mean / widen."""
    values = eigenvalues(spectrum)
    if not 1 <= widen < math.inf:
        raise InputError(f"widen={widen}: a factor of at least 1, such as 30")
    if widen == 1:
        return values
    low, high = math.log10(values.mean().item() / widen), math.log10(values.max().item())
    return torch.cat([values, torch.logspace(low, high, max(24, len(values)), dtype=torch.float64)])


def _deterministic(kind: str | Solver | None) -> Solver:
    used = solver("adams", **RELIABLE) if kind is None else solver(kind)
    if used.stochastic or not used.moves or used.adaptive:
        raise NotLinear(f"{used!r} does not follow the flow on a grid: tune one for a deterministic solver")
    return used


@kept
def _tuned(sde: LinearSDE, n: int, start: float, stop: float, values: tuple[float, ...], used: Solver) -> Tensor:
    spread = torch.tensor(values, dtype=torch.float64)
    model = gaussian_model(sde, torch.zeros_like(spread), spread.sqrt())
    ends = sde.marginal([start, stop])
    before, after = (a**2 * spread + s**2 for a, s in zip(ends.scale, ends.std, strict=True))
    x = before.sqrt()[None]

    def residuals(times: Tensor) -> np.ndarray:
        return (_end(model, used, times, x) - after.sqrt()).numpy()[0]

    return search(residuals, sde, list(fixed_grids(sde, n, start, stop).values()))


def _end(model: ScoreModel, used: Solver, times: Tensor, x: Tensor) -> Tensor:
    """The state at the grid's last time."""
    with torch.no_grad():
        *_, end = Run(model, Plan(used, times, False), x, Counter()).states()
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

    The search runs over the logarithms of the gaps in lam, so every grid that it meets falls strictly: Gauss
    and Newton's method, with slopes by nudging a gap by so much. smooth: the price of neighbouring gaps
    that differ by a factor e, in the best start's rms; without one a grid answers to the proxy's quirks.
    evaluations: at most so many grids are tried from each start, slopes apart. stop: where the grids end
    above it, their ends move too, no further down than it.
    """
    from scipy.optimize import least_squares

    last = starts[0][-1].item()
    shape = _Gaps(sde, starts[0][0].item(), last if stop is None else min(stop, last), stop is not None and stop < last)
    scored = sorted(
        ((float(np.sqrt(np.mean(residuals(times) ** 2))), shape.of(times)) for times in starts), key=lambda v: v[0]
    )
    scored = [v for v in scored if math.isfinite(v[0])]
    if not scored:
        raise SolverError("the solver's result is not finite on any fixed grid: it cannot be tuned here")
    if len(scored[0][1]) == 0:
        return starts[0]

    def cost(gaps: np.ndarray) -> np.ndarray:
        times = shape.times(gaps)
        found = residuals(times) / (scored[0][0] or 1.0)
        found = found / math.sqrt(len(found))
        # Gaps below float64's resolution are no grid: such a try is as bad as any.
        good = bool((times.diff() < 0).all()) and bool(np.isfinite(found).all())
        # The gap below a free end is no step, so no neighbour either.
        bend = np.diff(gaps) if shape.early else np.diff(gaps, append=1.0)
        return np.append(found if good else np.full_like(found, 1e3), smooth * bend)

    def slopes(gaps: np.ndarray) -> np.ndarray:
        here = cost(gaps)
        return np.stack([(cost(gaps + nudge * unit) - here) / nudge for unit in np.eye(len(gaps))], 1)

    limits = {"ftol": _ENOUGH, "xtol": _ENOUGH, "max_nfev": evaluations}
    ends = [least_squares(cost, gaps, slopes, **limits) for _, gaps in scored[:tries]]
    return shape.times(min(ends, key=lambda found: found.cost).x)


class _Gaps(NamedTuple):
    """Grids from `first` to `last` as n - 1 numbers: 1 + the logarithms of their gaps in lam over the last one.

    Where they end early, n numbers: the gap from their own end to `last` counts as one more.
    The search takes the size of its first step from its start, which the 1 keeps away from zero.
    """

    sde: LinearSDE
    first: float
    last: float
    early: bool

    def of(self, times: Tensor) -> np.ndarray:
        times = torch.cat([times, times.new_tensor([self.last])]) if self.early else times
        gaps = np.log(np.diff(self.sde.lam(times.clamp(max=self.sde.t_max)).numpy()))
        return 1 + gaps[:-1] - gaps[-1]

    def times(self, gaps: np.ndarray) -> Tensor:
        low, high = self.sde.lam([min(self.first, self.sde.t_max), self.last]).tolist()
        share = np.exp(np.append(gaps, 1.0) - max(gaps.max(), 1.0))
        lam = low + (high - low) * np.cumsum(share)[:-1] / share.sum()
        inner = self.sde.t_of_lam(torch.from_numpy(lam)).tolist()
        return torch.tensor([self.first, *inner, *([] if self.early else [self.last])], dtype=torch.float64)
