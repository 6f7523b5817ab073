"""The report of a sweep: its results as a table, a picture and a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdediff._utils.errors import InputError
from sdediff._utils.files import whole
from sdediff._utils.tables import html_table
from sdediff.benchmark.plots import draw
from sdediff.benchmark.results import RealDataFloor, SkippedTrial, SolverResult
from sdediff.metrics.distances import Estimate

if TYPE_CHECKING:
    from rich.table import Table

_FORMAT = 2


@dataclass(frozen=True, repr=False)
class Report:
    """The results of a sweep, the floors of its tasks, the skipped trials, and how everything was measured."""

    rows: tuple[SolverResult, ...]
    floors: tuple[RealDataFloor, ...]
    skipped: tuple[SkippedTrial, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def __repr__(self) -> str:
        tasks = ", ".join(floor.task for floor in self.floors)
        return f"Report({len(self.rows)} results on {tasks}; {len(self.skipped)} skipped; {self.seconds:.0f} s)"

    def _repr_html_(self) -> str:
        return html_table(
            self._columns(), [cells for section in self._sections() for cells in section], self._caption()
        )

    def table(self) -> Table:
        """The results as a rich table, a section a task."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, caption=escape(self._caption()))
        solver, grid, *numbers = map(escape, self._columns())
        for title in (solver, grid):
            table.add_column(title, no_wrap=True, max_width=40)
        for title in numbers:
            table.add_column(title, justify="right", no_wrap=True)
        for section in self._sections():
            for at, cells in enumerate(section):
                table.add_row(*map(escape, cells), style="bold" if at == 0 else None)
            table.add_section()
        return table

    def _columns(self) -> tuple[str, ...]:
        return ("solver", "grid", "calls", "error", self.settings.get("distance", "distance"), "ms/sample", "ratio")

    def _sections(self) -> list[list[tuple[str, ...]]]:
        """A list of rows for every task, the floor of the real data first."""
        sections: list[list[tuple[str, ...]]] = []
        for floor in self.floors:
            least = _distance(floor.distance, floor.distance_error)
            section: list[tuple[str, ...]] = [(f"{floor.task}: real data", "", "", "", least, "", "")]
            for row in (r for r in self.rows if r.task == floor.task):
                error = "" if row.error is None else f"{row.error:.2g}"
                distance = _distance(row.distance, row.distance_error)
                section.append(
                    (row.label, row.grid, str(row.calls), error, distance, f"{row.ms:.3g}", f"{row.ratio:.2f}")
                )
            sections.append(section)
        return sections

    def _caption(self) -> str:
        threads = ", ".join(f"{name} {task.get('threads')}" for name, task in self.settings.get("tasks", {}).items())
        return "\n".join([
            f"error: to the exact flow, median; {self.settings.get('distance')}: to the true data",
            "ms/sample: wall time; ratio: that over the network's own time",
            f"{self.machine.get('cpu')}, {self.machine.get('device')}, threads: {threads}; {self.seconds:.0f} s in all",
        ])  # fmt: skip

    def plot(self, path: str | Path) -> Path:
        """Writes quality against network evaluations as a PNG, two panels a task; returns its path."""
        with whole(path) as unfinished:
            draw(self.rows, self.floors, self.settings.get("distance", "")).savefig(unfinished, format="png", dpi=130)
        return Path(path)

    def to_dict(self) -> dict[str, Any]:
        """The whole report as plain values."""
        return {"format": _FORMAT, **asdict(self)}

    def save(self, path: str | Path) -> Path:
        """Writes the whole report as JSON and returns the path; `Report.load` reads it."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        with whole(path) as unfinished:
            unfinished.write_text(text + "\n", encoding="utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """The report in a file that `save` wrote. ValueError names the file where it is something else."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content.pop("format") != _FORMAT:
                raise InputError("of another format")
            kinds = {"rows": SolverResult, "floors": RealDataFloor, "skipped": SkippedTrial}
            lists: dict[str, Any] = {key: tuple(kind(**v) for v in content.pop(key)) for key, kind in kinds.items()}
            return cls(**lists, **content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: not a report of sdediff bench ({error}): run the sweep again") from error


def _distance(value: float | None, error: float | None) -> str:
    if value is None or error is None:
        return "not finite"
    return str(Estimate(value, error, "")) if value < 1e4 else f"{value:.1e}"
