"""What a solver does to Gaussian data, exactly: one run on unit impulses in place of Monte Carlo."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sdediff._utils.tensors import times64
from sdediff.analysis.response import gaussian_model, impulse_response
from sdediff.grids.grids import GridLike
from sdediff.model.data_statistics import Statistics
from sdediff.sde.base import LinearSDE
from sdediff.solvers import Solver, SolverError, solver

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table


@dataclass(frozen=True, eq=False)
class Analysis:
    """A solver's exact output on Gaussian data, beside the truth; every tensor (D,) float64, an eigenvalue each.

    gain: of x_T; exact_gain: the probability flow's. mean, variance: of the output; exact_mean,
    exact_variance: of the data at the last time, or of clean data after the denoising jump. start_std: the
    true deviation at the first time. times (n + 1,); calls of the network.
    """

    solver: Solver
    sde: LinearSDE
    times: Tensor
    calls: int
    spectrum: Tensor
    gain: Tensor
    exact_gain: Tensor
    mean: Tensor
    exact_mean: Tensor
    variance: Tensor
    exact_variance: Tensor
    start_std: Tensor

    @property
    def steps(self) -> int:
        """Moves on the grid."""
        return len(self.times) - 1

    @property
    def bias(self) -> Tensor:
        """Error of the mean."""
        return self.mean - self.exact_mean

    @property
    def relative_error(self) -> Tensor:
        """Error of the variance over the variance."""
        return self.variance / self.exact_variance - 1

    @property
    def transfer_error(self) -> Tensor | None:
        """rms distance to the flow's own end point, |gain - exact_gain| start_std; None for a stochastic solver."""
        if self.solver.stochastic:
            return None
        return (self.gain - self.exact_gain).abs() * self.start_std

    @property
    def w2(self) -> float:
        """2-Wasserstein distance of the output to the truth, both Gaussian, over all eigenvalues."""
        spread = self.variance.sqrt() - self.exact_variance.sqrt()
        return (self.bias.square() + spread.square()).sum().sqrt().item()

    @property
    def growth(self) -> float:
        """The largest deviation of the output over the largest of the truth: far above 1 where steps are unstable."""
        ratio = (self.variance.max() / self.exact_variance.max()).sqrt().item()
        return ratio if math.isfinite(ratio) else math.inf

    def table(self) -> Table:
        """A row an eigenvalue, as a rich table."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        caption = escape(f"{self.solver!r}: {self.calls} calls, W2 {self.w2:.3g}")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption)
        for title in ("eigenvalue", "gain", "exact", "mean error", "variance", "exact", "relative error"):
            table.add_column(title, justify="right")
        columns = (
            self.spectrum, self.gain, self.exact_gain, self.bias,
            self.variance, self.exact_variance, self.relative_error,
        )  # fmt: skip
        for row in zip(*(column.tolist() for column in columns), strict=True):
            table.add_row(*(f"{value:.4g}" for value in row))
        return table

    def plot(self, path: str | Path) -> Path:
        """Writes the bias against the eigenvalue as a PNG; returns its path."""
        from sdediff.analysis.plots import plot_spectrum

        return plot_spectrum({repr(self.solver): self}, path)


def analyse(
    solver_: str | Solver,
    sde: LinearSDE,
    grid: GridLike | None = None,
    spectrum: Sequence[float] | Tensor = (1.0,),
    steps: int | None = None,
    mean: float | Sequence[float] | Tensor = 0.0,
    *,
    calls: int | None = None,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = False,
    prior: str = "sigma",
) -> Analysis:
    """The exact output of a solver on Gaussian data with these variances and means, by impulse response.

    spectrum (D,): the data's variances; grid, steps (20 unless calls is given), calls, start, stop, denoise
    as in `sample`. prior: "sigma" starts as `sample` does, from N(0, sigma^2 I); "exact" from the true
    marginal. NotLinear on a solver that is not linear in x and its noise (adaptive, norm-based Langevin).
    """
    values, used = eigenvalues(spectrum), solver(solver_)
    centre = times64(mean).expand(values.shape)
    if prior not in ("sigma", "exact"):
        raise ValueError(f"prior={prior!r}: write 'sigma' for N(0, sigma_T^2 I) or 'exact' for the true marginal")
    if not sde.linear:
        raise SolverError(f"{type(sde).__name__} does not give alpha and sigma: exact answers need both")
    steps = 20 if steps is None and calls is None and (grid is None or isinstance(grid, str)) else steps
    model = replace(gaussian_model(sde, centre, values.sqrt()), stats=_stats(centre, values))
    options = {"grid": grid, "steps": steps, "calls": calls, "start": start, "stop": stop, "denoise": denoise}
    found = impulse_response(used, model, len(values), **options)
    ends = sde.marginal(found.times[[0, -1]])
    (alpha, last), (sigma, floor) = ends.scale.tolist(), ends.std.tolist()
    if denoise:
        last, floor = 1.0, 0.0
    before, after = alpha**2 * values + sigma**2, last**2 * values + floor**2
    begun = before if prior == "exact" else torch.full_like(before, sigma**2)
    shift = found.gain * alpha * centre if prior == "exact" else 0.0
    return Analysis(
        used, sde, found.times, found.calls, values, found.gain, (after / before).sqrt(),
        found.offset + shift, last * centre, found.gain**2 * begun + found.kicks.square().sum(0), after, before.sqrt(),
    )  # fmt: skip


def _stats(mean: Tensor, values: Tensor) -> Statistics | None:
    """What a solver that whitens reads; beyond a thousand dimensions the directions would be a large matrix."""
    if len(values) > 1024:
        return None
    axes = torch.eye(len(values), dtype=torch.float64)
    return Statistics(mean, values, axes, values, values.min().item())


def eigenvalues(given: Sequence[float] | Tensor) -> Tensor:
    """Variances as float64 (D,), refused where they are none."""
    values = times64(given).detach().reshape(-1).cpu()
    if not len(values) or not bool((torch.isfinite(values) & (values > 0)).all()):
        raise ValueError(f"spectrum={given!r}: give the data's variances along its axes, all positive")
    return values


def order(solver_: str | Solver, sde: LinearSDE, steps: Sequence[int] = (40, 80, 160), **options: Any) -> float:
    """The measured order on Gaussian data: slope of the log error over the last of rising `steps`.

    The error is the rms transfer error, of a stochastic solver W2 from the true start. options as in
    `analyse`. Infinite for a solver that is exact here; steps whose error is round-off are left out.
    """
    if len(steps) < 2 or any(a >= b for a, b in itertools.pairwise(steps)):
        raise ValueError(f"steps={steps!r}: give at least two, rising")
    errors: list[float] = []
    for n in steps:
        found = analyse(solver_, sde, steps=n, prior="exact", **options)
        transfer = found.transfer_error
        errors.append(found.w2 if transfer is None else transfer.square().mean().sqrt().item())
    good = [(n, e) for n, e in zip(steps, errors, strict=True) if e > 1e-11]
    if len(good) < 2:
        return math.inf
    (n, e), (more, less) = good[-2:]
    return math.log(e / less) / math.log(more / n)


class Stability(NamedTuple):
    """The fewest steps whose output stays bounded, their largest step in lam, and the growth there."""

    steps: int
    step: float
    growth: float


def stability(
    solver_: str | Solver, sde: LinearSDE, *, limit: float = 2.0, most: int = 1024, **options: Any
) -> Stability:
    """The fewest steps at which no eigenvalue's output is wider than `limit` times the widest of the truth.

    Twice as many must be bounded too. options as in `analyse`. SolverError where `most` steps are too few.
    """

    def at(n: int) -> Analysis:
        return analyse(solver_, sde, steps=n, **options)

    low, high = 0, 1
    while not (at(high).growth <= limit and at(2 * high).growth <= limit):
        low, high = high, 2 * high
        if high > most:
            raise SolverError(f"{solver_!r} is unbounded at {low} steps still: raise most={most}, or take another grid")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle).growth <= limit else (middle, high)
    found = at(high)
    lam = sde.lam(found.times.clamp(max=sde.t_max))
    return Stability(high, lam.diff().max().item(), found.growth)
