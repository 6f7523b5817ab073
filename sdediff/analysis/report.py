"""A recommendation and its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from sdediff.solvers import Solver

if TYPE_CHECKING:
    from rich.table import Table


class Row(NamedTuple):
    """A candidate measured: solver and grid in words, median error (rms a dimension), on how many starts."""

    solver: str
    grid: str
    error: float
    starts: int


@dataclass(frozen=True, eq=False)
class Recommendation:
    """The best of what was measured, with its evidence.

    solver, times (n + 1,): for sample(model, shape, solver=r.solver, grid=r.times); grid: its name, or the
    times where no name gives them. error: median over starts of the rms distance a dimension to the exact
    flow. table: a Row a candidate, best first, those on all starts before those that were only screened.
    python, command: lines to paste, the command
    with the best named grid. unsure: bound of the reference's own error, which took `reference` calls.
    """

    solver: Solver
    grid: str | tuple[float, ...]
    times: Tensor
    calls: int
    error: float
    table: tuple[Row, ...]
    python: str
    command: str | None
    reference: int
    unsure: float
    seconds: float

    def __rich__(self) -> Table:
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        said = (
            f"error: median rms distance a dimension to the exact flow\n"
            f"(by {self.reference} calls, itself within {self.unsure:.1e}); {self.seconds:.0f} s"
        )
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=escape(said), caption_justify="left")
        table.add_column(f"solver at {self.calls} calls")
        table.add_column("grid")
        table.add_column("error", justify="right")
        table.add_column("starts", justify="right")
        for at, row in enumerate(self.table[:12]):
            cells = (row.solver, row.grid, f"{row.error:.2e}", str(row.starts))
            table.add_row(*map(escape, cells), style="bold" if at == 0 else None)
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=100, color_system=None, force_terminal=False)
        with console.capture() as held:
            console.print(self)
        return held.get() + self.python
