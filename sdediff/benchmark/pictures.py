"""More pictures of a sweep: quality against time with its Pareto front, the ranking, orders, and sheets of samples."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sdediff.analysis.figures import COLOURS, MARKERS, with_room
from sdediff.benchmark.ranking import Place, places
from sdediff.benchmark.rows import Row
from sdediff.benchmark.slopes import slope

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The budget that a ranking is shown for, the rows it shows, and the orders whose slopes are drawn.
_USUAL, _RANKED, _ORDERS = 10, 24, (1, 2, 3, 4)
# The lines whose legend has room inside of a panel.
_FEW = 14
# What is larger than the least by this factor has diverged.
_SPAN = 1e4


def against_time(rows: Sequence[Row], distance: str) -> Figure:
    """Error above and distance below, against milliseconds a sample; a line joins what nothing faster is better than.

    A column a task. A colour and marker stand for a solver, and sizes grow with the network evaluations.
    """
    tasks = _tasks(rows)
    names = list(dict.fromkeys(row.label for row in rows if not row.real))
    figure, panels = _panels(2, len(tasks), 8.6)
    for column, task in enumerate(tasks):
        for line, quality in enumerate(("error_median", distance)):
            of_task = [row for row in rows if row.task == task and not row.real and row.ms and quality in row.quality]
            axes = panels[line][column]
            _log(axes, "milliseconds a sample" if line else "")
            for row in of_task:
                at = names.index(row.label)
                value, error = row.quality[quality]
                if value > 0:
                    size = 3 + 1.6 * math.log2(row.calls or 1)
                    axes.errorbar(
                        row.ms, value, yerr=([min(error or 0.0, 0.9 * value)], [error or 0.0]), linestyle="",
                        color=COLOURS[at % len(COLOURS)], marker=MARKERS[at % len(MARKERS)], markersize=size,
                        elinewidth=0.8, label=row.label,
                    )  # fmt: skip
            _clip(axes, [row.quality[quality].value for row in of_task])
            best = front([(row.ms or 0.0, row.quality[quality].value) for row in of_task])
            axes.step(*zip(*best, strict=True), where="post", color="black", linewidth=1.2, zorder=1) if best else None
        panels[0][column].set_title(task, fontweight="bold")
    panels[0][0].set_ylabel("error against the exact flow\n(rms a dimension, median)")
    panels[1][0].set_ylabel(f"distance to the truth\n({distance})")
    return _with_legend(figure, panels, "a larger mark: more calls\nblack: the Pareto front")


def _clip(axes: Axes, values: Sequence[float]) -> None:
    """Leave what diverges out of sight: it would dominate the axis."""
    least = min((value for value in values if value > 0), default=1.0)
    if max(values, default=0.0) > _SPAN * least:
        axes.set_ylim(top=_SPAN * least)
        axes.text(0.99, 0.98, "larger ones are not shown", ha="right", va="top", fontsize=8, transform=axes.transAxes)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, quality > 0) that no other is at most as costly and better than, by rising cost."""
    found: list[tuple[float, float]] = []
    for cost, value in sorted(point for point in points if point[1] > 0):
        if not found or value < found[-1][1]:
            found.append((cost, value))
    return found


def ranked(rows: Sequence[Row], distance: str) -> Figure:
    """The ranking at one number of calls: by error for what follows the flow, by distance for all; intervals of 95 %.

    Beside each solver stand the places that it may have, given these intervals.
    """
    tasks = _tasks(rows)
    most = max((sum(row.task == task and row.budget is not None for row in rows) for task in tasks), default=1)
    figure, panels = _panels(2, len(tasks), min(11.0, 4.0 + 0.12 * most))
    for column, task in enumerate(tasks):
        budgets = {row.budget for row in rows if row.task == task and row.budget is not None}
        budget = min(budgets, key=lambda count: abs(count - _USUAL), default=None)
        for line, quality in enumerate(("error_median", distance)):
            found = places([row for row in rows if row.task == task and row.budget == budget], quality)
            _ranking(panels[line][column], found[:_RANKED])
            panels[line][column].set_xlabel(("error against the exact flow", distance)[line])
        panels[0][column].set_title(f"{task}, {budget} calls", fontweight="bold")
    return with_room(figure)


def _ranking(axes: Axes, found: Sequence[Place]) -> None:
    axes.grid(True, axis="x", color="#dddddd", linewidth=0.8)
    positive = all(place.value > 0 for place in found)
    if positive and found:
        _log_x(axes)
    for i, place in enumerate(found):
        low = min(place.half_width, 0.9 * place.value) if positive else place.half_width
        axes.errorbar(
            place.value, i, xerr=([low], [place.half_width]), marker="o", markersize=5, capsize=3,
            color=COLOURS[0] if place.first == 1 else "#555555",
        )  # fmt: skip
    axes.set_yticks(range(len(found)), [f"{place.label}  {place.places}" for place in found], fontsize=8)
    axes.set_ylim(max(len(found), 1) - 0.5, -0.5)


def orders(rows: Sequence[Row]) -> Figure:
    """Error against network evaluations of what follows the flow, with the slope of its last two budgets; log axes."""
    tasks = [task for task in _tasks(rows) if any(row.task == task and row.error for row in rows)]
    counted = [len({(row.name, row.grid) for row in rows if row.task == task and row.error}) for task in tasks]
    figure, panels = _panels(1, max(len(tasks), 1), 5.2 + 0.085 * max((n for n in counted if n > _FEW), default=0))
    for column, task in enumerate(tasks):
        axes = panels[0][column]
        _log(axes, "network evaluations")
        lines: dict[str, list[tuple[int, float]]] = {}
        for row in rows:
            if row.task == task and row.error and row.budget is not None:
                lines.setdefault(f"{row.name} {row.grid or ''}".strip(), []).append((row.calls or 0, row.error))
        for i, (name, points) in enumerate(lines.items()):
            fitted = slope(points)
            label = name if fitted is None else f"{name}: {fitted:.1f}"
            axes.plot(
                *zip(*sorted(points), strict=True), label=label, color=COLOURS[i % len(COLOURS)],
                marker=MARKERS[i % len(MARKERS)], markersize=5,
            )  # fmt: skip
        _guides(axes)
        axes.set_title(task, fontweight="bold")
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.12)} if len(lines) > _FEW else {"loc": "lower left"}
        axes.legend(fontsize=6.5, ncols=2, title="slope of the last two", title_fontsize=7, **place)
    panels[0][0].set_ylabel("error against the exact flow\n(rms a dimension, median)")
    return with_room(figure)


def _guides(axes: Axes) -> None:
    """Thin lines of the slopes of orders, from the left upper corner."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for order in _ORDERS:
        axes.plot([left, right], [high, high * (left / right) ** order], color="#bbbbbb", linewidth=0.7, zorder=0)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def samples(sheets: Sequence[dict[str, Any]], task: str) -> Figure | None:
    """The sheets of a task: a row a solver, a column a number of calls; None where it has none."""
    from matplotlib.image import imread

    shown = [sheet for sheet in sheets if sheet["task"] == task]
    if not shown:
        return None
    solvers = list(dict.fromkeys(sheet["solver"] for sheet in shown))
    counts = sorted({sheet["calls"] for sheet in shown})
    figure, panels = _panels(len(solvers), len(counts), 0.72 * len(solvers) + 0.4, 2.4)
    for axes in (axes for line in panels for axes in line):
        axes.set_axis_off()
    for sheet in shown:
        axes = panels[solvers.index(sheet["solver"])][counts.index(sheet["calls"])]
        axes.imshow(imread(io.BytesIO(base64.b64decode(sheet["png"].partition(",")[2]))), cmap="gray")
        axes.set_title(f"{sheet['solver']}, {sheet['calls']} calls", fontsize=7, pad=2)
    return figure


def every(rows: Sequence[Row], distance: str, sheets: Sequence[dict[str, Any]]) -> Iterator[tuple[str, Figure]]:
    """The pictures that these rows have, by the names of their files."""
    if any(row.ms for row in rows):
        yield "seconds.png", against_time(rows, distance)
    yield "ranking.png", ranked(rows, distance)
    if any(row.error for row in rows):
        yield "orders.png", orders(rows)
    for task in _tasks(rows):
        found = samples(sheets, task)
        if found is not None:
            yield f"samples-{task}.png", found


def _tasks(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.task for row in rows))


def _log(axes: Axes, label: str) -> None:
    _log_x(axes)
    axes.set_yscale("log")
    axes.grid(True, which="major", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(label)


def _log_x(axes: Axes) -> None:
    """A log axis with plain numbers at 1, 2 and 5, over more than 300 times at powers of ten alone."""
    from matplotlib.ticker import LogLocator, NullFormatter

    def number(value: float, _: float) -> str:
        low, high = axes.get_xlim()
        text = f"{value:g}"
        return text if high <= 300 * low or text.strip("0.") == "1" or "1e" in text else ""

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=9))
    axes.xaxis.set_major_formatter(number)
    axes.xaxis.set_minor_formatter(NullFormatter())


def _panels(lines: int, columns: int, height: float, width: float = 4.6) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.4 + width * columns, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(lines, columns, squeeze=False)


def _with_legend(figure: Figure, panels: Any, title: str) -> Figure:
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    for axes in (axes for line in panels for axes in line):
        for drawn, name in zip(*axes.get_legend_handles_labels(), strict=True):
            point = drawn.lines[0]
            handles[name] = Line2D([], [], linestyle="", marker=point.get_marker(), color=point.get_color())
    figure.legend(
        list(handles.values()), list(handles), loc="outside right upper", frameon=False, fontsize=8, title=title,
        title_fontsize=8, alignment="left", ncols=1 + len(handles) // 34,
    )  # fmt: skip
    return with_room(figure)
