"""The records of a sweep, as a table, a picture and a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdediff._utils.files import whole
from sdediff.metrics.distances import Estimate

if TYPE_CHECKING:
    from rich.table import Table

_FORMAT = 1


@dataclass(frozen=True)
class Row:
    """One solver at one budget on one problem.

    solver: its short name, made: its repr. asked: the calls asked for, or the tolerance of an adaptive
    solver; calls: those counted. error: median over samples of the rms distance a dimension to the exact
    flow from the same noise, None for stochastic solvers. distance, distance_error: to the truth, None
    where samples are not finite. ms: milliseconds a sample; ratio: whole time over the network's own.
    """

    problem: str
    solver: str
    made: str
    grid: str
    steps: int
    asked: int | float | None
    calls: int
    error: float | None
    distance: float | None
    distance_error: float | None
    ms: float
    ratio: float

    @property
    def label(self) -> str:
        """The solver's short name, with its tolerance where that is its budget."""
        return f"{self.solver} {self.asked:g}" if isinstance(self.asked, float) else self.solver


@dataclass(frozen=True)
class Floor:
    """The distance of real data to the truth of a problem, at as many samples as the solvers draw."""

    problem: str
    distance: float
    distance_error: float


@dataclass(frozen=True)
class Skip:
    """What could not be run, and why."""

    problem: str
    solver: str
    asked: int | float | None
    reason: str


@dataclass(frozen=True)
class Report:
    """A sweep's rows, the floors of its problems, what could not be run, and what all was measured with."""

    rows: tuple[Row, ...]
    floors: tuple[Floor, ...]
    skipped: tuple[Skip, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def table(self) -> Table:
        """The rows as a rich table, a section a problem."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        name = escape(self.settings.get("distance", "distance"))
        table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, caption=self._caption())
        for title in ("solver", "grid"):
            table.add_column(title, no_wrap=True, max_width=40)
        for title in ("calls", "error", name, "ms/sample", "ratio"):
            table.add_column(title, justify="right", no_wrap=True)
        for floor in self.floors:
            least = _distance(floor.distance, floor.distance_error)
            table.add_row(escape(f"{floor.problem}: real data"), "", "", "", least, style="bold")
            for row in (r for r in self.rows if r.problem == floor.problem):
                table.add_row(
                    escape(row.label), row.grid, str(row.calls), "" if row.error is None else f"{row.error:.2g}",
                    _distance(row.distance, row.distance_error), f"{row.ms:.3g}", f"{row.ratio:.2f}",
                )  # fmt: skip
            table.add_section()
        return table

    def _caption(self) -> str:
        from rich.markup import escape

        about, problems = self.settings, self.settings.get("problems", {})
        used = ", ".join(f"{name} {p.get('threads')}" for name, p in problems.items())
        lines = [
            f"error: to the exact flow, median; {about.get('distance')}: to the truth",
            "ms/sample: wall time; ratio: that over the network's own time",
            f"{self.machine.get('cpu')}, {self.machine.get('device')}, threads: {used}; {self.seconds:.0f} s in all",
        ]
        return escape("\n".join(lines))

    def plot(self, path: str | Path) -> Path:
        """Writes quality against calls as a PNG, two panels a problem; returns its path."""
        from sdediff.benchmark.plots import draw

        with whole(path) as unfinished:
            draw(self).savefig(unfinished, format="png", dpi=130)
        return Path(path)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {"format": _FORMAT, **asdict(self)}

    def save(self, path: str | Path) -> Path:
        """Writes everything as JSON and returns the path; `Report.load` reads it."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        with whole(path) as unfinished:
            unfinished.write_text(text + "\n", encoding="utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """The report in a file that `save` wrote. ValueError names the file where it is something else."""
        try:
            given = json.loads(Path(path).read_text(encoding="utf-8"))
            if given.pop("format") != _FORMAT:
                raise ValueError("of another format")
            kinds = {"rows": Row, "floors": Floor, "skipped": Skip}
            lists: dict[str, Any] = {key: tuple(kind(**v) for v in given.pop(key)) for key, kind in kinds.items()}
            return cls(**lists, **given)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not a report of sdediff bench ({error}): run the sweep again") from error


def _distance(value: float | None, error: float | None) -> str:
    if value is None or error is None:
        return "not finite"
    return str(Estimate(value, error, "")) if value < 1e4 else f"{value:.1e}"
