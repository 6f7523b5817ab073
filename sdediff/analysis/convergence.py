"""Order and stability of a solver, measured by exact analyses at several numbers of steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.analysis.gaussian import Analysis, analyse
from sdediff.grids.grids import GridLike
from sdediff.sde.base import LinearSDE
from sdediff.solvers import Solver, SolverError


def order(
    solver: str | Solver,
    sde: LinearSDE,
    steps: Sequence[int] = (40, 80, 160),
    *,
    grid: GridLike | None = None,
    spectrum: Sequence[float] | Tensor = (1.0,),
    mean: float | Sequence[float] | Tensor = 0.0,
    start: float | None = None,
    stop: float | None = None,
) -> float:
    """The measured order on Gaussian data: the slope of the log error over the last two of rising `steps`.

    The error is the rms transfer error, for a stochastic solver the W2 distance, from the exact marginal at the
    start and without the denoising call. The other arguments as in `analyse`. Infinite for a solver that is exact
    here; steps whose error is round-off are left out.
    """
    if len(steps) < 2 or any(a >= b for a, b in itertools.pairwise(steps)):
        raise InputError(f"steps={steps!r}: give at least two, rising")
    errors: list[float] = []
    for n in steps:
        analysis = analyse(
            solver, sde, grid, spectrum, n, mean, start=start, stop=stop, denoise=False, prior="exact"
        )  # fmt: skip
        transfer = analysis.transfer_error
        errors.append(analysis.w2 if transfer is None else transfer.square().mean().sqrt().item())
    above_rounding = [(n, error) for n, error in zip(steps, errors, strict=True) if error > 1e-11]
    if len(above_rounding) < 2:
        return math.inf
    (few, large), (many, small) = above_rounding[-2:]
    return math.log(large / small) / math.log(many / few)


class Stability(NamedTuple):
    """The fewest steps whose output stays bounded, their largest step in lam, and the growth there."""

    steps: int
    step: float
    growth: float


def stability(
    solver: str | Solver,
    sde: LinearSDE,
    *,
    grid: GridLike | None = None,
    spectrum: Sequence[float] | Tensor = (1.0,),
    mean: float | Sequence[float] | Tensor = 0.0,
    start: float | None = None,
    stop: float | None = None,
    prior: str = "sigma",
    limit: float = 2.0,
    most: int = 1024,
) -> Stability:
    """The fewest steps at which no eigenvalue's output is wider than `limit` times the widest of the truth.

    Twice as many steps must be bounded too. Runs end without the denoising call; the other arguments as in
    `analyse`. SolverError where `most` steps are too few.
    """

    def at(n: int) -> Analysis:
        return analyse(solver, sde, grid, spectrum, n, mean, start=start, stop=stop, denoise=False, prior=prior)

    def bounded(n: int) -> bool:
        return at(n).growth <= limit and at(2 * n).growth <= limit

    low, high = 0, 1
    while not bounded(high):
        low, high = high, 2 * high
        if high > most:
            raise SolverError(
                f"{solver!r} is still unbounded at {low} steps: raise most={most}, or take another grid"
            )  # fmt: skip
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if bounded(middle) else (middle, high)
    analysis = at(high)
    lam = sde.lam(analysis.times.clamp(max=sde.t_max))
    return Stability(high, lam.diff().max().item(), analysis.growth)
