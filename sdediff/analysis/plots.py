"""Plots of exact analyses: the error against the eigenvalue, and against network evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sdediff.analysis.figures import ConvergenceCurve, draw_convergence, draw_spectrum
from sdediff.analysis.gaussian import Analysis, analyse
from sdediff.grids.grids import GridLike
from sdediff.sde.base import LinearSDE
from sdediff.solvers import Solver
from sdediff.solvers import solver as resolve_solver


def plot_spectrum(analyses: Mapping[str, Analysis], path: str | Path) -> Path:
    """Writes, against the data's eigenvalue, the output's deviation over the true one and its distance to it.

    A PNG with one line for each analysis, by its label; returns the path.
    """
    curves = {f"{label}, {analysis.calls} calls": analysis.curve() for label, analysis in analyses.items()}
    return draw_spectrum(curves, path)


def plot_convergence(
    solvers: Mapping[str, str | Solver],
    sde: LinearSDE,
    path: str | Path,
    calls: Sequence[int] = (5, 10, 20, 40, 80),
    *,
    grid: GridLike | None = None,
    spectrum: Sequence[float] | Tensor | None = None,
    mean: float | Sequence[float] | Tensor = 0.0,
    start: float | None = None,
    stop: float | None = None,
) -> Path:
    """Writes the 2-Wasserstein distance to the truth against network evaluations, a line a solver, as a PNG.

    Runs start from the exact marginal, so that the prior's mismatch is no floor, and end without the denoising call.
    spectrum: by default from 1e-3 to 1; the other arguments as in `analyse`. Returns the path.
    """
    values = torch.logspace(-3, 0, 13, dtype=torch.float64) if spectrum is None else spectrum
    curves = {}
    for label, kind in solvers.items():
        solver = resolve_solver(kind)
        least = solver.spent(1) or 1
        analyses = [
            analyse(
                solver, sde, grid, values, None, mean,
                calls=n, start=start, stop=stop, denoise=False, prior="exact",
            )
            for n in calls if n >= least
        ]  # fmt: skip
        curves[label] = ConvergenceCurve([a.calls for a in analyses], [a.w2 for a in analyses])
    return draw_convergence(curves, calls, path)
