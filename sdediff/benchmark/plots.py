"""Quality against network evaluations, as a picture: a column a task, error above, distance below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sdediff.analysis.figures import COLOURS, MARKERS, with_room
from sdediff.benchmark.rows import Quality, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Diverging values would dominate the axis: they are clipped at this multiple of the floor.
_ERROR_SPAN, _DISTANCE_SPAN = 1e6, 1e2
# The solvers for which a column of the legend has room.
_TALL = 40


class _Style(NamedTuple):
    color: str
    marker: str
    linestyle: Literal["-", "--"]
    shift: float


def draw(rows: Sequence[Row], distance: str) -> Figure:
    """The figure: calls and quality on log axes, one line a solver, the distance of real data as the floor.

    distance: the name of the distance that is shown.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    floors = {row.task: row.quality[distance] for row in rows if row.real}
    names = list(dict.fromkeys(row.task for row in rows))
    lines = _lines([row for row in rows if not row.real])
    figure = Figure(figsize=(2.6 + 5.0 * len(names), 8.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(names), squeeze=False, sharex="col")
    styles = _styles(lines)
    for column, task in enumerate(names):
        of_task = {name: [row for row in line if row.task == task] for name, line in lines.items()}
        floor = floors.get(task, Quality(0.0, None))
        _panel(axes[0][column], of_task, "error_median", styles)
        _panel(axes[1][column], of_task, distance, styles, floor.value)
        _floor(axes[1][column], floor)
        axes[0][column].set_title(task, fontweight="bold")
        axes[1][column].set_xlabel("network evaluations")
        _ticks(axes[1][column], of_task)
    axes[0][0].set_ylabel("error against the exact flow\n(rms a dimension, median)")
    axes[1][0].set_ylabel(f"distance to the truth\n({distance})")
    _legend(figure, styles)
    return with_room(figure)


def _lines(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of every line: those of a solver, or of a solver and grid where its calls repeat on several grids."""
    lines: dict[str, list[Row]] = {}
    several = {row.name for row in rows for other in rows if row.at == other.at and row.grid != other.grid}
    for row in rows:
        lines.setdefault(f"{row.name} {row.grid}" if row.name in several else row.name, []).append(row)
    return lines


def _styles(lines: dict[str, list[Row]]) -> dict[str, _Style]:
    """Full lines for deterministic solvers, dashed for stochastic ones; a small shift separates error bars."""
    names = list(lines)
    deterministic = {name for name, line in lines.items() if not line[0].stochastic}
    middle = (len(names) - 1) / 2
    return {
        name: _Style(
            COLOURS[i % len(COLOURS)],
            MARKERS[i % len(MARKERS)],
            "-" if name in deterministic else "--",
            (i - middle) * 0.012,
        )
        for i, name in enumerate(names)
    }


def _panel(
    axes: Axes, lines: dict[str, list[Row]], quantity: str, styles: dict[str, _Style], floor: float = 0.0
) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(True, which="major", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    lines = {name: [row for row in line if quantity in row.quality] for name, line in lines.items()}
    found = [row.quality[quantity].value for line in lines.values() for row in line]
    values = [value for value in found if value > 0]
    if not values:
        axes.text(0.5, 0.5, "no solver has a value", ha="center", va="center", transform=axes.transAxes)
        return
    span = _ERROR_SPAN if quantity == "error_median" else _DISTANCE_SPAN
    top = span * (floor if floor > 0 else min(values))
    for name, style in styles.items():
        points = sorted(lines[name], key=lambda row: row.calls or 0)
        if points:
            _line(axes, points, quantity, style, top)
    if max(values) > top:
        axes.set_ylim(top=top * 1.6)
        axes.text(0.99, 0.985, "at this edge: larger still", ha="right", va="top", fontsize=8, transform=axes.transAxes)


def _line(axes: Axes, points: list[Row], quantity: str, style: _Style, top: float) -> None:
    shift = math.exp(style.shift)
    calls = [(row.calls or 0) * (1.0 if quantity == "error_median" else shift) for row in points]
    # An unbiased distance may be negative, which a log axis cannot show.
    found = [row.quality[quantity] for row in points]
    values = [min(quality.value, top) if quality.value > 0 else math.nan for quality in found]
    line: dict[str, Any] = {
        "color": style.color, "marker": style.marker, "linestyle": style.linestyle,
        "markersize": 6.5, "linewidth": 1.5, "markeredgecolor": "white", "markeredgewidth": 0.5,
    }  # fmt: skip
    # The lower arm may not reach zero on a log axis.
    spread = [0.0 if v == top else q.std_error or 0.0 for v, q in zip(values, found, strict=True)]
    low = [min(s, 0.9 * v) for s, v in zip(spread, values, strict=True)]
    axes.errorbar(calls, values, yerr=(low, spread), capsize=2, elinewidth=0.9, **line)


def _floor(axes: Axes, floor: Quality) -> None:
    value, error = floor.value, floor.std_error or 0.0
    if value <= 0:
        return
    axes.axhline(value, color="black", linewidth=1.2, zorder=1.5)
    axes.axhspan(max(value - error, value * 0.1), value + error, color="black", alpha=0.1, linewidth=0, zorder=1)
    axes.set_ylim(bottom=min(axes.get_ylim()[0], 0.55 * value))
    axes.text(
        0.01, value, "real data", fontsize=8, va="top", transform=axes.get_yaxis_transform()
    )  # fmt: skip


def _ticks(axes: Axes, lines: dict[str, list[Row]]) -> None:
    """The budgets, or the calls counted by adaptive solvers, as plain numbers far enough apart to be read."""
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    budgets = sorted({row.budget or row.calls or 1 for line in lines.values() for row in line})
    shown: list[int] = []
    for value in budgets:
        if not shown or value > 1.25 * shown[-1]:
            shown.append(value)
    axes.xaxis.set_major_locator(FixedLocator([float(v) for v in shown]))
    axes.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, styles: dict[str, _Style]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=s.color, marker=s.marker, linestyle=s.linestyle, label=name, markersize=6, linewidth=1.5)
        for name, s in styles.items()
    ]
    figure.legend(
        handles=handles, loc="outside right upper", frameon=False, fontsize=9, ncols=math.ceil(len(handles) / _TALL),
        title="full line: deterministic\ndashed: stochastic", title_fontsize=8, alignment="left",
    )  # fmt: skip
