"""Exact analyses as pictures: bias against the eigenvalue, error against calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sdediff.analysis.gaussian import Analysis, analyse
from sdediff.sde.base import LinearSDE
from sdediff.solvers import Solver, solver

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by hue and lightness, and by marker for those who see no hue.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a4bbf", "#8c6d1f", "#17becf", "#555555")
_MARKERS = "osD^vPX<"


def plot_spectrum(analyses: Mapping[str, Analysis], path: str | Path) -> Path:
    """Writes, against the data's eigenvalue, the output's deviation over the true one and its distance to it.

    A PNG with a line an analysis, by its label; returns the path.
    """
    figure, (left, right) = _figure(2)
    for style, (label, found) in zip(_styles(len(analyses)), analyses.items(), strict=True):
        order = found.spectrum.argsort()
        values = found.spectrum[order].tolist()
        ratio = (found.variance / found.exact_variance).sqrt()[order]
        gap = (found.variance.sqrt() - found.exact_variance.sqrt()).square() + found.bias.square()
        left.plot(values, ratio.tolist(), label=f"{label}, {found.calls} calls", **style._asdict())
        right.plot(values, gap.sqrt()[order].clamp(min=1e-16).tolist(), **style._asdict())
    left.axhline(1.0, color="black", linewidth=1.0, zorder=1)
    left.set_ylabel("standard deviation over the true one")
    right.set_ylabel("2-Wasserstein distance to the truth")
    right.set_yscale("log")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("variance of the data (eigenvalue)")
    return _written(figure, left, path)


def plot_convergence(
    solvers: Mapping[str, str | Solver],
    sde: LinearSDE,
    path: str | Path,
    calls: Sequence[int] = (5, 10, 20, 40, 80),
    spectrum: Any = None,
    **options: Any,
) -> Path:
    """Writes the 2-Wasserstein distance to the truth against network calls, a line a solver, as a PNG.

    From the exact marginal at the start, so that the prior's mismatch is no floor. spectrum: by default 1e-3
    to 1; options as in `analyse`. Returns the path.
    """
    values = torch.logspace(-3, 0, 13, dtype=torch.float64) if spectrum is None else spectrum
    figure, (axes,) = _figure(1)
    for style, (label, kind) in zip(_styles(len(solvers)), solvers.items(), strict=True):
        made = solver(kind)
        least = made.spent(1) or 1
        found = [
            analyse(made, sde, spectrum=values, calls=n, prior="exact", **options) for n in calls if n >= least
        ]  # fmt: skip
        axes.plot([v.calls for v in found], [max(v.w2, 1e-16) for v in found], label=label, **style._asdict())
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(calls), [str(n) for n in calls])
    axes.minorticks_off()
    axes.set_xlabel("network calls")
    axes.set_ylabel("2-Wasserstein distance to the truth")
    return _written(figure, axes, path)


class _Style(NamedTuple):
    color: str
    marker: str
    markersize: float = 5.0
    linewidth: float = 1.5


def _styles(count: int) -> list[_Style]:
    return [_Style(_COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)]) for i in range(count)]


def _figure(columns: int) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 4.5 * columns, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    every = figure.subplots(1, columns, squeeze=False)[0]
    for axes in every:
        axes.grid(True, which="major", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, every


def _written(figure: Figure, labelled: Axes, path: str | Path) -> Path:
    handles, labels = labelled.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, fontsize=9, ncols=2)
    figure.savefig(path, format="png", dpi=130)
    return Path(path)
