"""The result of `infer`: the wirings ranked, those that data cannot tell apart, and the check of the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdediff._utils.tables import html_table, plain_text
from sdediff.model.score_model import ScoreModel
from sdediff.wiring.report import WiringReport
from sdediff.wiring.trial import Trial

if TYPE_CHECKING:
    from rich.console import Group as Rendered

# Scores that differ by less are one group; the next is clearly worse beyond the second and so many standard errors.
SAME, CLEAR, ERRORS = 0.02, 0.05, 5.0
_COLUMNS = ("score", "behind", "predicts", "wiring")
_SHOWN = 10


def ranked(trials: Sequence[Trial]) -> tuple[Trial, list[Trial], bool]:
    """The best trial, its group, and whether what comes after the group is clearly worse."""
    best = trials[0]
    group = [trial for trial in trials if trial.score - best.score < SAME]
    rest = trials[len(group) :]
    if not rest:
        return best, group, False
    behind, error = rest[0].difference(best)
    return best, group, behind > CLEAR and behind > ERRORS * error


@dataclass(frozen=True, eq=False, repr=False)
class Inference:
    """The best wiring of a network, and how sure that is.

    model: ready for use; python: the line that makes it of a network `net`. group: the wirings that these data do not
    tell from it, itself first. trials: the last stage, best first. clear: whether every wiring outside of the group is
    worse by .05 and by five standard errors. report: the check of the model; a network whose right wiring is not on the
    list has a best one too, which the check refuses. calls: rows that the network evaluated.
    """

    model: ScoreModel
    python: str
    group: tuple[Trial, ...]
    trials: tuple[Trial, ...]
    clear: bool
    report: WiringReport
    calls: int
    seconds: float

    @property
    def right(self) -> bool:
        """Whether the check finds the best wiring right, or nearly so."""
        return self.report.status in ("right", "nearly")

    @property
    def verdict(self) -> str:
        """The answer in a sentence or two."""
        best = self.group[0].wiring
        if not self.right:
            none = f"None of the usual wirings is right; the best is {best}, predicts {best.predicts}"
            return f"{none}. {self.report.verdict}"
        alike = f" These data do not tell it from {len(self.group) - 1} others." if len(self.group) > 1 else ""
        sure = "" if self.clear else " The next wiring is not clearly worse: try more data."
        return f"{best}, predicts {best.predicts}.{alike}{sure} {self.report.verdict}"

    def __repr__(self) -> str:
        return f"Inference({'right' if self.right else 'not right'}, {self.python}, {len(self.group)} alike)"

    def __str__(self) -> str:
        return plain_text(self, 140).rstrip()

    def __rich__(self) -> Rendered:
        from rich import box
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in _COLUMNS:
            table.add_column(title, justify="right" if title in _COLUMNS[:2] else "left")
        for at, cells in enumerate(self._cells()):
            table.add_row(*map(escape, cells), style="bold" if at < len(self.group) else None)
        return Group(table, Text(self._text()))

    def _repr_html_(self) -> str:
        return html_table(_COLUMNS, self._cells(), self._text())

    def _cells(self) -> list[tuple[str, ...]]:
        best = self.trials[0].score
        return [
            (f"{t.score:.3f}", f"{t.score - best:.3f}", t.wiring.predicts, str(t.wiring)) for t in self.trials[:_SHOWN]
        ]

    def _text(self) -> str:
        return f"{self.verdict}\n{self.python}\n{self.calls} evaluations, {self.seconds:.0f} s"

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain values."""
        rows = [
            {"score": t.score, "predicts": t.wiring.predicts, "wiring": str(t.wiring), "python": t.wiring.python,
             "alike": t in self.group}
            for t in self.trials
        ]  # fmt: skip
        return {
            "right": self.right, "clear": self.clear, "verdict": self.verdict, "python": self.python, "trials": rows,
            "calls": self.calls, "seconds": self.seconds, "check": self.report.to_dict(),
        }  # fmt: skip
