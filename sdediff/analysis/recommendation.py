"""The result of `recommend`: the best solver and grid, with the measurements behind the choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from sdediff._utils.tables import html_table
from sdediff.solvers import Solver

if TYPE_CHECKING:
    from rich.table import Table

_ROWS_SHOWN = 12


class MeasuredCandidate(NamedTuple):
    """A candidate's solver and grid as text, the median and the rms of its errors over so many starts.

    An error is the rms distance a dimension to the exact flow from one start.
    """

    solver: str
    grid: str
    error: float
    rms: float
    starts: int


@dataclass(frozen=True, eq=False, repr=False)
class Recommendation:
    """The best of the measured candidates, with the evidence.

    solver, times (n + 1,): for sample(model, shape, solver=r.solver, grid=r.times); grid: its name, or the
    times where no name gives them. error, rms: median and root mean square over starts of the rms distance a dimension
    to the exact flow. candidates: all that were measured, best first, those on more starts before those on fewer.
    python: a line to paste, of what was measured. command: the best that has names, of the median `command_error`,
    or None. reference_error: bound of the error of the reference flow, which took `reference_calls` network
    evaluations. of: what the errors are of, "samples" or "latents".
    """

    solver: Solver
    grid: str | tuple[float, ...]
    times: Tensor
    calls: int
    error: float
    rms: float
    candidates: tuple[MeasuredCandidate, ...]
    python: str
    command: str | None
    command_error: float | None
    reference_calls: int
    reference_error: float
    seconds: float
    of: str = "samples"

    def __repr__(self) -> str:
        grid = self.grid if isinstance(self.grid, str) else f"{len(self.times)} times"
        return (
            f"Recommendation({self.solver!r} on {grid}: {self.calls} calls, error {self.error:.2e}, "
            f"rms {self.rms:.2e}, best of {len(self.candidates)}{', of latents' * (self.of == 'latents')})"
        )

    def __rich__(self) -> Table:
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=escape(self._caption()), caption_justify="left")
        for title in self._columns():
            table.add_column(title, justify="right" if title in ("median", "rms", "starts") else "left")
        for at, cells in enumerate(self._rows()):
            table.add_row(*map(escape, cells), style="bold" if at == 0 else None)
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=100, color_system=None, force_terminal=False)
        with console.capture() as captured:
            console.print(self)
        return captured.get() + self.python

    def _repr_html_(self) -> str:
        return html_table(self._columns(), self._rows(), self._caption() + "\n" + self.python)

    def _columns(self) -> tuple[str, ...]:
        return (f"solver at {self.calls} calls", "grid", "median", "rms", "starts")

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (row.solver, row.grid, f"{row.error:.2e}", f"{row.rms:.2e}", str(row.starts))
            for row in self.candidates[:_ROWS_SHOWN]
        ]

    def _caption(self) -> str:
        return (
            f"median and rms over starts of the rms distance a dimension to the exact flow"
            f"{', of latents' * (self.of == 'latents')}\n"
            f"(by {self.reference_calls} calls, itself within {self.reference_error:.1e}); {self.seconds:.0f} s"
        )
