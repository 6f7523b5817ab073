"""The result of `check`: a verdict with its figures, a row a level, and a picture."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdediff._utils.files import whole
from sdediff._utils.tables import html_table, plain_text
from sdediff.wiring.judgement import LevelRow
from sdediff.wiring.readings import Estimate, Reading

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

_SHOWN = 6
_COLUMNS = ("sigma/alpha", "over std", "t", "error", "Gaussian", "best reading", "info", "gap")


@dataclass(frozen=True, repr=False)
class WiringReport:
    """Whether a network is wired right: `print` it, or `plot` it.

    status: "right", "nearly", "gaussian" (as good as the best Gaussian denoiser, no better), "misread", "nothing"
    (that the network learnt shows), or "unmeasured" (without data, or on too few). verdict: that in a sentence. gain:
    mean log of the denoising error over the best Gaussian denoiser's; info: how far the best linear reading of the
    output beats it; gap: log of the error over that reading's, weighted by info; with standard errors over rows, None
    where unmeasured. findings: what speaks against the data's preparation and the process's ends, a sentence each.
    readings: the output as every `predicts`, the best first. write: what to write, where another reading is right.
    of: what the rows are, "samples" or "latents".
    """

    status: str
    verdict: str
    findings: tuple[str, ...]
    gain: Estimate | None
    info: float | None
    gap: Estimate | None
    levels: tuple[LevelRow, ...]
    readings: tuple[Reading, ...]
    write: str | None
    predicts: str
    rows: int
    calls: int
    seconds: float
    of: str = "samples"

    @property
    def right(self) -> bool:
        """Whether the network was shown to be trained and wired right, or nearly so, and nothing speaks against it."""
        return self.status in ("right", "nearly") and not self.findings

    @property
    def warning(self) -> str | None:
        """One line of what does not fit; None where nothing speaks against wiring and data."""
        wrong = [self.verdict] if self.status in ("misread", "nothing") else []
        lines = [*(_sentence(finding) for finding in self.findings), *wrong]
        return " ".join(lines) or None

    @property
    def shown(self) -> tuple[Reading, ...]:
        """The best readings and the model's own."""
        first = self.readings[:_SHOWN]
        return first + tuple(reading for reading in self.readings[_SHOWN:] if reading.predicts == self.predicts)

    def __repr__(self) -> str:
        figures = "" if self.gap is None else f", gap {self.gap.value:.2g}"
        return f"WiringReport({self.status!r}{figures}, {len(self.findings)} findings, {self.rows} {self._rows})"

    def __str__(self) -> str:
        return plain_text(self, 100).rstrip()

    def __rich__(self) -> Group | Text:
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        if not self.levels:
            return Text(self._text())
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in _COLUMNS:
            table.add_column(title, justify="right")
        for cells in self._cells():
            table.add_row(*cells)
        return Group(table, Text(self._text()))

    def _repr_html_(self) -> str:
        return html_table(_COLUMNS, self._cells(), self._text())

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (f"{row.kappa:.3g}", f"{row.scale:.2g}", f"{row.time:.4g}", f"{row.error:.3g}", f"{row.gaussian:.3g}",
             f"{row.free:.3g}", f"{row.info:.3f}", f"{row.gap:.4f}")
            for row in self.levels
        ]  # fmt: skip

    def _text(self) -> str:
        lines = [self.verdict, *map(_sentence, self.findings)]
        if self.readings:
            gaps = ", ".join(f"{reading.predicts} {reading.gap:.2g}" for reading in self.shown)
            took = f"{self.rows} {self._rows}, {self.calls} evaluations, {self.seconds:.1f} s"
            lines += [f"gap by reading: {gaps}", took]
        return "\n".join(lines)

    @property
    def _rows(self) -> str:
        return "rows of latents" if self.of == "latents" else "rows"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("gain", "gap"):
            values[name] = None if values[name] is None else values[name]._asdict()
        for name in ("levels", "readings"):
            values[name] = [row._asdict() for row in values[name]]
        return {**values, "findings": list(self.findings), "right": self.right}

    def plot(self, path: str | Path) -> Path:
        """Writes errors by noise level, and the gap of every reading, as a PNG; returns its path."""
        from sdediff.wiring.picture import draw

        with whole(path) as unfinished:
            draw(self.levels, self.shown, self.predicts, self.verdict).savefig(unfinished, format="png", dpi=130)
        return Path(path)


def _sentence(finding: str) -> str:
    return finding[:1].upper() + finding[1:].rstrip(".") + "."
