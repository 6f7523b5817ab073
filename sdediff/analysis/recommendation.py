"""The result of `recommend`: the best solver and grid, with the measurements behind the choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from sdediff._utils.tables import html_table, plain_text
from sdediff.solvers import Solver

if TYPE_CHECKING:
    from rich.table import Table

_ROWS_SHOWN = 12


class MeasuredCandidate(NamedTuple):
    """A candidate's solver and grid as text, the median, rms and quantile 0.9 of its errors over so many starts.

    An error is the rms distance a dimension to the exact flow from one start; a stochastic solver has none. distance:
    the energy distance of its samples to the data with its standard error, where there are data. gaussian: the exact W2
    distance over the root of the dimensions on Gaussian data, where that was computed.
    """

    solver: str
    grid: str
    error: float | None
    rms: float | None
    starts: int
    q90: float | None = None
    distance: float | None = None
    distance_error: float | None = None
    gaussian: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Recommendation:
    """The best of the measured candidates, with the evidence.

    solver, times (n + 1,): for sample(model, shape, solver=r.solver, grid=r.times); grid: its name, or the
    times where no name gives them. error, rms: median and root mean square over starts of the rms distance a dimension
    to the exact flow, None for a stochastic solver. by: what it was chosen by. candidates: all that were measured, best
    first, those on more starts before those on fewer.
    python: a line to paste, of what was measured. command: the best that has names, of the median `command_error`,
    or None. reference_error: bound of the error of the reference flow, which took `reference_calls` network
    evaluations. of: what the errors are of, "samples" or "latents".
    """

    solver: Solver
    grid: str | tuple[float, ...]
    times: Tensor
    calls: int
    error: float | None
    rms: float | None
    candidates: tuple[MeasuredCandidate, ...]
    python: str
    command: str | None
    command_error: float | None
    reference_calls: int
    reference_error: float
    seconds: float
    of: str = "samples"
    by: str = "both"

    def __repr__(self) -> str:
        grid = self.grid if isinstance(self.grid, str) else f"{len(self.times)} times"
        figures = "" if self.error is None else f", error {self.error:.2e}, rms {self.rms:.2e}"
        first = self.candidates[0]
        if self.by == "distance" and first.distance is not None:
            figures += f", distance {first.distance:.2e}"
        figures += f", best of {len(self.candidates)}{', of latents' * (self.of == 'latents')}"
        return f"Recommendation({self.solver!r} on {grid}: {self.calls} calls{figures})"

    def __rich__(self) -> Table:
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=escape(self._caption()), caption_justify="left")
        for title in self._columns():
            text = title == "grid" or title.startswith("solver")
            table.add_column(title, justify="left" if text else "right", no_wrap=not text)
        for at, cells in enumerate(self._rows()):
            table.add_row(*map(escape, cells), style="bold" if at == 0 else None)
        return table

    def __str__(self) -> str:
        return plain_text(self, 100) + self.python

    def _repr_html_(self) -> str:
        return html_table(self._columns(), self._rows(), self._caption() + "\n" + self.python)

    def _columns(self) -> tuple[str, ...]:
        more = [title for title, shown in (("to the data", self._measured), ("Gaussian", self._exact)) if shown]
        return (f"solver at {self.calls} calls", "grid", "median", "q90", "rms", *more, "starts")

    def _rows(self) -> list[tuple[str, ...]]:
        return [self._cells(row) for row in self.candidates[:_ROWS_SHOWN]]

    def _cells(self, row: MeasuredCandidate) -> tuple[str, ...]:
        figures = [_short(row.error), _short(row.q90), _short(row.rms)]
        if self._measured:
            figures.append("" if row.distance is None else f"{row.distance:.2g}+-{row.distance_error:.1g}")
        if self._exact:
            figures.append(_short(row.gaussian))
        return (row.solver, row.grid, *figures, str(row.starts))

    @property
    def _measured(self) -> bool:
        return any(row.distance is not None for row in self.candidates)

    @property
    def _exact(self) -> bool:
        return any(row.gaussian is not None for row in self.candidates)

    def _caption(self) -> str:
        lines = [
            "median, quantile 0.9 and rms over starts of the rms distance a dimension to the exact flow"
            + ", of latents" * (self.of == "latents"),
            f"(by {self.reference_calls} calls, itself within {self.reference_error:.1e}); {self.seconds:.0f} s",
        ]
        if self._measured:
            lines.append("to the data: energy distance of the samples")
        if self._exact:
            lines.append("Gaussian: exact W2 a root dimension on Gaussian data of the same covariance")
        return "\n".join(lines)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.2e}"
