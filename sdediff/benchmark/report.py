"""The report of a sweep: its rows as a table and a picture, read from the folder of its job."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdediff._utils.files import expanded, whole
from sdediff._utils.tables import html_table
from sdediff.benchmark.cells import OK, Cell
from sdediff.benchmark.densities import UNITS, read_likelihoods
from sdediff.benchmark.plots import draw
from sdediff.benchmark.reading import read_cells, read_summary, stored_sweep
from sdediff.benchmark.rows import Quality, Row, joined
from sdediff.benchmark.sheets import read_sheets

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, repr=False)
class Report:
    """The cells of a sweep, how everything was set (settings), and what ran it (circumstances).

    rows: the cells of all seeds together; skipped: cells that were refused or failed; finished: whether all are there.
    settings: models, data and settings as in the job's manifest. circumstances: machine, versions, git, seconds; empty
    until the job is finished. sheets: pictures of samples, where the samples are pictures. likelihoods: of a network on
    its data, by task: value, std_error, unit (bits/dim or nats/dim), rows.
    """

    cells: tuple[Cell, ...]
    settings: dict[str, Any]
    circumstances: dict[str, Any] = field(default_factory=dict)
    finished: bool = True
    sheets: tuple[dict[str, Any], ...] = ()
    likelihoods: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: str | Path) -> Report:
        """The report of a sweep's folder, also of one that is not finished. InputError names what is no sweep."""
        path = expanded(folder, "the folder")
        stored = stored_sweep(path)
        cells = read_cells(path, list(stored["settings"]["distances"]))
        about = {key: value for key, value in read_summary(path).items() if key not in ("data", "model", "settings")}
        settings = {key: stored[key] for key in ("data", "model", "settings")}
        sheets, likelihoods = tuple(read_sheets(path)), read_likelihoods(path)
        return cls(tuple(cells), settings, about, bool(stored["result"]), sheets, likelihoods)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """One row for a solver at one budget on one task."""
        return tuple(joined(self.cells))

    @cached_property
    def skipped(self) -> tuple[Cell, ...]:
        """Cells without a result; their status says why."""
        return tuple(cell for cell in self.cells if cell.status != OK)

    @property
    def distances(self) -> list[str]:
        """The names of the distances, that of the table first."""
        return list(self.settings["settings"]["distances"])

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return list(dict.fromkeys(cell.task for cell in self.cells))

    @property
    def of_latents(self) -> list[str]:
        """The names of the tasks whose errors and distances are of latents, not of images."""
        models = self.settings["model"]
        return [name for name in self.tasks if models.get(name, {}).get("of") == "latents"]

    def __repr__(self) -> str:
        done = f"{len(self.rows)} results on {', '.join(self.tasks)}; {len(self.skipped)} skipped"
        return f"Report({done})" if self.finished else f"Report({done}; not finished)"

    def _repr_html_(self) -> str:
        cells = [cells for section in self._sections() for cells in section]
        return html_table(self._columns(), cells, self._caption())

    def __rich__(self) -> Table:
        return self.table()

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
        units = dict.fromkeys(entry["unit"] for entry in self.likelihoods.values())
        return ("solver", "grid", "calls", "error", *self.distances[:1], "ms/sample", "ratio", *units)

    def _sections(self) -> list[list[tuple[str, ...]]]:
        """A list of lines for every task, real data first."""
        return [[self._line(row) for row in self.rows if row.task == task] for task in self.tasks]

    def _line(self, row: Row) -> tuple[str, ...]:
        label = f"{row.task}: {row.label}" if row.real else row.label
        error = str(row.quality.get("error_median", ""))
        distances = (str(row.quality.get(name, "")) for name in self.distances[:1])
        ms = "" if row.ms is None else f"{row.ms:.3g}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        own = self.likelihoods.get(row.task) if row.real else None
        densities = [
            str(Quality(own["value"], own["std_error"])) if own and own["unit"] == unit else ""
            for unit in self._columns() if unit in UNITS
        ]  # fmt: skip
        return (label, row.grid or "", "" if row.real else str(row.calls), error, *distances, ms, ratio, *densities)

    def _caption(self) -> str:
        machine, seeds = self.circumstances.get("machine", {}), max((row.seeds for row in self.rows), default=1)
        spread = "" if seeds == 1 else f", +- the standard error over {seeds} seeds"
        seconds = self.circumstances.get("seconds")
        return "\n".join([
            f"error: to the exact flow, median{spread}",
            *(f"{name}: to the true data" for name in self.distances[:1]),
            *(f"{name}: both are of latents, not of images" for name in self.of_latents),
            "ms/sample: wall time; ratio: that over the network's own time",
            *(f"{entry['unit']}: of {task} on {entry['rows']} rows" for task, entry in self.likelihoods.items()),
            f"{machine.get('cpu')}, {machine.get('device')}, {self.settings['settings']['threads']} threads"
            + ("" if seconds is None else f"; {seconds:.0f} s of computing"),
        ])  # fmt: skip

    def plot(self, path: str | Path) -> Path:
        """Writes quality against network evaluations as a PNG, two panels a task; returns its path."""
        with whole(path) as unfinished:
            draw(self.rows, *self.distances[:1]).savefig(unfinished, format="png", dpi=130)
        return Path(path)

    def pictures(self, folder: str | Path) -> list[Path]:
        """Writes seconds.png, ranking.png, orders.png and samples-TASK.png, those that there is something for.

        Quality against time with its Pareto front; the ranking with the places that the noise allows; errors against
        calls with slopes; sheets of samples. Returns their paths.
        """
        from sdediff.benchmark.pictures import every

        paths = []
        for name, figure in every(self.rows, self.distances[0], self.sheets):
            with whole(Path(folder) / name) as unfinished:
                figure.savefig(unfinished, format="png", dpi=130)
            paths.append(Path(folder) / name)
        return paths

    def page(self, path: str | Path) -> Path:
        """Writes the results as one HTML page to sort, filter and hover over (needs plotly); returns its path."""
        from sdediff.benchmark.page import Contents, write_page

        threads = self.settings["settings"]["threads"]
        about = {"likelihoods": self.likelihoods, **self.circumstances}
        shown = (self.rows, self.tasks, self.distances, self.skipped, self.sheets, threads, about)
        return write_page(Contents(*shown), path)

    def to_dict(self) -> dict[str, Any]:
        """Rows, skipped cells, settings and circumstances as plain values."""
        return {
            "rows": [row.to_dict() for row in self.rows], "skipped": [asdict(cell) for cell in self.skipped],
            "likelihoods": self.likelihoods, **self.settings, **self.circumstances,
        }  # fmt: skip
