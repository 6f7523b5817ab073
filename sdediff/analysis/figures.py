"""Drawing of analyses: curves of plain numbers on log axes, written as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours differ in hue and lightness; markers distinguish the lines without colour.
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a4bbf", "#8c6d1f",
    "#17becf", "#b2182b", "#4d9221", "#e69f00", "#555555", "#c51b7d",
)  # fmt: skip
MARKERS = "osD^vPX<>phd"


class SpectrumCurve(NamedTuple):
    """Against rising eigenvalues of the data: the output's deviation over the true one, and its W2 to the truth."""

    eigenvalues: list[float]
    deviation_ratio: list[float]
    distance: list[float]


class ConvergenceCurve(NamedTuple):
    """Against network evaluations: the W2 distance to the truth."""

    calls: list[int]
    distance: list[float]


def draw_spectrum(curves: Mapping[str, SpectrumCurve], path: str | Path) -> Path:
    """Writes two panels against the eigenvalue, a line for each curve; returns the path."""
    figure, (left, right) = _figure(2)
    for style, (label, curve) in zip(_styles(len(curves)), curves.items(), strict=True):
        left.plot(curve.eigenvalues, curve.deviation_ratio, label=label, **style._asdict())
        right.plot(curve.eigenvalues, [max(v, 1e-16) for v in curve.distance], **style._asdict())
    left.axhline(1.0, color="black", linewidth=1.0, zorder=1)
    left.set_ylabel("standard deviation over the true one")
    right.set_ylabel("2-Wasserstein distance to the truth")
    right.set_yscale("log")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("variance of the data (eigenvalue)")
    return _save(figure, left, path)


def draw_convergence(curves: Mapping[str, ConvergenceCurve], ticks: Sequence[int], path: str | Path) -> Path:
    """Writes the distance against network evaluations, a line for each curve; returns the path."""
    figure, (axes,) = _figure(1)
    for style, (label, curve) in zip(_styles(len(curves)), curves.items(), strict=True):
        axes.plot(curve.calls, [max(v, 1e-16) for v in curve.distance], label=label, **style._asdict())
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(ticks), [str(n) for n in ticks])
    axes.minorticks_off()
    axes.set_xlabel("network evaluations")
    axes.set_ylabel("2-Wasserstein distance to the truth")
    return _save(figure, axes, path)


def with_room(figure: Figure) -> Figure:
    """The same figure, in which every log axis that shows one number alone reaches from half to twice of it.

    Matplotlib lets such an axis shrink to the rounding error of its limits, and divides by their difference, 0.
    """
    for axes in figure.axes:
        for axis, limits, widen in (
            (axes.xaxis, axes.get_xlim, axes.set_xlim),
            (axes.yaxis, axes.get_ylim, axes.set_ylim),
        ):
            low, high = sorted(limits())
            if axis.get_scale() == "log" and high < 1.001 * low:
                widen(low / 2, high * 2)
    return figure


class _Style(NamedTuple):
    color: str
    marker: str
    markersize: float = 5.0
    linewidth: float = 1.5


def _styles(count: int) -> list[_Style]:
    return [_Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i in range(count)]


def _figure(columns: int) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 4.5 * columns, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for axes in panels:
        axes.grid(True, which="major", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, panels


def _save(figure: Figure, labelled: Axes, path: str | Path) -> Path:
    handles, labels = labelled.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, fontsize=9, ncols=2)
    with_room(figure).savefig(path, format="png", dpi=130)
    return Path(path)
