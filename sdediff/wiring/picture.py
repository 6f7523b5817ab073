"""The picture of a check: errors by noise level, and the gap of every reading of the output."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sdediff._utils.errors import InputError
from sdediff.wiring.judgement import NEARLY, RIGHT, LevelRow
from sdediff.wiring.readings import Reading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST = 1e-4
_OWN, _OTHER, _FREE, _GAUSSIAN = "#d55e00", "#8fb8d0", "#0072b2", "#555555"


def draw(levels: Sequence[LevelRow], readings: Sequence[Reading], predicts: str, verdict: str) -> Figure:
    """Two panels: the error against sigma/alpha, and the gaps. InputError: no levels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not levels:
        raise InputError("the network was not evaluated, there is nothing to draw: check it on at least 50 rows")
    figure = Figure(figsize=(11.0, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _errors(left, levels, predicts)
    _gaps(right, readings, predicts)
    figure.suptitle("\n".join(textwrap.wrap(verdict, 120)), fontsize=10, x=0.01, ha="left")
    return figure


def _errors(axes: Axes, levels: Sequence[LevelRow], predicts: str) -> None:
    kappas = [row.kappa for row in levels]
    curves = (
        ("the best Gaussian denoiser", [row.gaussian for row in levels], _GAUSSIAN, "s", "--"),
        ("the best linear reading of the output", [row.free for row in levels], _FREE, "D", "-"),
        (f"the output read as {predicts}", [row.error for row in levels], _OWN, "o", "-"),
    )
    for at, (label, values, colour, marker, style) in enumerate(curves):
        size = 8 if at == 1 else 5
        axes.plot(kappas, values, label=label, color=colour, marker=marker, markersize=size, linestyle=style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("noise level sigma/alpha")
    axes.set_ylabel("denoising error over the data's variance")
    axes.grid(True, which="major", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9)


def _gaps(axes: Axes, readings: Sequence[Reading], predicts: str) -> None:
    readings = readings[::-1]
    widths = [max(reading.gap, _LEAST * 1.5) for reading in readings]
    colours = [_OWN if reading.predicts == predicts else _OTHER for reading in readings]
    axes.barh([reading.predicts for reading in readings], widths, color=colours, left=_LEAST, zorder=2)
    for at, reading in enumerate(readings):
        axes.text(max(reading.gap, _LEAST * 1.5) * 1.25, at, f"{reading.gap:.2g}", va="center", fontsize=9)
    axes.axvspan(_LEAST, RIGHT, color="#009e73", alpha=0.14, linewidth=0, zorder=0)
    axes.axvspan(RIGHT, NEARLY, color="#e69f00", alpha=0.14, linewidth=0, zorder=0)
    axes.set_xscale("log")
    axes.set_xlim(_LEAST, 8.0)
    axes.set_xlabel("gap to the best linear reading (green: right, yellow: nearly)")
    axes.set_title("the same output read as", fontsize=10)
