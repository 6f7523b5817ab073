"""The exact output of a solver on Gaussian data, from one run on unit impulses instead of Monte Carlo."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdediff._utils.checks import known, real_tensor, shown
from sdediff._utils.errors import Error, InputError, StepsWarning
from sdediff._utils.tables import html_table
from sdediff.analysis.figures import SpectrumCurve, draw_spectrum
from sdediff.analysis.response import gaussian_model, impulse_response
from sdediff.grids.grids import GridLike
from sdediff.model.data_statistics import Statistics
from sdediff.sde.base import SDE, LinearSDE, linear
from sdediff.sde.checks import check_process
from sdediff.solvers import Solver, SolverError
from sdediff.solvers import solver as resolve_solver

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table


@dataclass(frozen=True, eq=False, repr=False)
class Analysis:
    """A solver's exact output on Gaussian data, beside the truth; tensors (D,) float64 have an entry an eigenvalue.

    gain: of x_T; exact_gain: the probability flow's. mean, variance: of the output; exact_mean,
    exact_variance: of the data at the last time, or of clean data after the denoising jump. start_std: the
    true deviation at the first time. times (n + 1,); calls: network evaluations.
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
        """The number of steps on the grid."""
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

    def __repr__(self) -> str:
        return (
            f"Analysis({self.solver!r}, {self.sde!r}: {len(self.spectrum)} eigenvalues, {self.steps} steps, "
            f"{self.calls} calls, W2 {self.w2:.3g})"
        )

    def _repr_html_(self) -> str:
        return html_table(_COLUMNS, self._rows(), self._caption())

    def table(self) -> Table:
        """One row for each eigenvalue, as a rich table."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=escape(self._caption()))
        for title in _COLUMNS:
            table.add_column(title, justify="right")
        for row in self._rows():
            table.add_row(*row)
        return table

    def plot(self, path: str | Path) -> Path:
        """Writes the error against the eigenvalue as a PNG; returns its path."""
        return draw_spectrum({f"{self.solver!r}, {self.calls} calls": self.curve()}, path)

    def curve(self) -> SpectrumCurve:
        """The output's deviation over the true one and its W2 distance, by rising eigenvalue."""
        ascending = self.spectrum.argsort()
        ratio = (self.variance / self.exact_variance).sqrt()[ascending]
        squared = (self.variance.sqrt() - self.exact_variance.sqrt()).square() + self.bias.square()
        return SpectrumCurve(self.spectrum[ascending].tolist(), ratio.tolist(), squared.sqrt()[ascending].tolist())

    def _caption(self) -> str:
        return f"{self.solver!r}: {self.calls} calls, W2 {self.w2:.3g}"

    def _rows(self) -> list[tuple[str, ...]]:
        columns = (
            self.spectrum, self.gain, self.exact_gain, self.bias,
            self.variance, self.exact_variance, self.relative_error,
        )  # fmt: skip
        return [
            tuple(f"{value:.4g}" for value in row)
            for row in zip(*(column.tolist() for column in columns), strict=True)
        ]  # fmt: skip


_COLUMNS = ("eigenvalue", "gain", "exact", "mean error", "variance", "exact", "relative error")


def analyse(
    solver: str | Solver,
    sde: LinearSDE,
    grid: GridLike | None = None,
    spectrum: Sequence[float] | Tensor = (1.0,),
    steps: int | None = None,
    mean: float | Sequence[float] | Tensor = 0.0,
    *,
    calls: int | None = None,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = True,
    prior: str = "sigma",
) -> Analysis:
    """The exact output of a solver on Gaussian data with these variances and means, by impulse response.

    spectrum (D,): the data's variances; grid, steps, calls, start, stop, denoise as in `sample`. With denoise=False
    the output is compared with p_t at the last time. prior: "sigma" starts as `sample` does, from N(0, sigma^2 I);
    "exact" from the true marginal. NotLinear on a solver that is not linear in x and its noise (adaptive,
    norm-based Langevin).
    """
    check_process(sde)
    values, solver = eigenvalues(spectrum), resolve_solver(solver)
    means = real_tensor("mean", mean)
    if means.shape not in ((), (1,), values.shape) or not bool(torch.isfinite(means).all()):
        raise InputError(f"mean={shown(mean)}: give a finite number, or one for each of {len(values)} variances")
    means = means.expand(values.shape)
    if not known(prior, ("sigma", "exact")):
        raise InputError(f"prior={shown(prior)}: write 'sigma' for N(0, sigma_T^2 I) or 'exact' for the true marginal")
    if not sde.linear:
        raise SolverError(f"{type(sde).__name__} does not give alpha and sigma: exact answers need both")
    model = replace(gaussian_model(sde, means, values.sqrt()), stats=_stats(means, values))
    response = impulse_response(
        solver, model, len(values), grid=grid, steps=steps, calls=calls, start=start, stop=stop, denoise=denoise
    )
    ends = sde.marginal(response.times[[0, -1]])
    (alpha, last_alpha), (sigma, last_sigma) = ends.scale.tolist(), ends.std.tolist()
    if denoise:
        last_alpha, last_sigma = 1.0, 0.0
    before, after = alpha**2 * values + sigma**2, last_alpha**2 * values + last_sigma**2
    start_variance = before if prior == "exact" else torch.full_like(before, sigma**2)
    shift = response.gain * alpha * means if prior == "exact" else 0.0
    variance = response.gain**2 * start_variance + response.kicks.square().sum(0)
    return Analysis(
        solver, sde, response.times, response.calls, values, response.gain, (after / before).sqrt(),
        response.offset + shift, last_alpha * means, variance, after, before.sqrt(),
    )  # fmt: skip


def _stats(mean: Tensor, values: Tensor) -> Statistics | None:
    """Statistics for solvers that whiten; above 1024 dimensions the matrix of directions would be too large."""
    if len(values) > 1024:
        return None
    axes = torch.eye(len(values), dtype=torch.float64)
    return Statistics(mean, values, axes, values, values.min().item())


def eigenvalues(spectrum: Sequence[float] | Tensor) -> Tensor:
    """Variances as float64 (D,); ValueError where they are empty or not positive."""
    values = real_tensor("spectrum", spectrum).detach().reshape(-1).cpu()
    if not len(values) or not bool((torch.isfinite(values) & (values > 0)).all()):
        raise InputError(f"spectrum={shown(spectrum)}: give the data's variances along its axes, all positive")
    return values


def exact_distance(
    solver: Solver,
    sde: SDE,
    grid: GridLike | None,
    values: Sequence[float] | Tensor,
    *,
    calls: int | None = None,
    denoise: bool = True,
) -> float | None:
    """The W2 distance of `analyse` over the root of the dimensions; infinite where it diverges, None of no linear map.

    Adaptive solvers and those that scale by norms are no linear maps.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StepsWarning)
            found = analyse(solver, linear(sde), grid, values, calls=calls, denoise=denoise)
    except (Error, ValueError):
        return None
    distance = found.w2 / math.sqrt(len(found.spectrum))
    return distance if math.isfinite(distance) else math.inf
