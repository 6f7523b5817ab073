"""`auto` as an entry of a sweep: the solver and grid that `recommend` chooses for each task and number of calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from sdediff.analysis import auto
from sdediff.benchmark.entries import Drawn, Entry, Facts, Point, Starts
from sdediff.benchmark.tasks import Task
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.api import sample
from sdediff.solvers import Solver


@dataclass(frozen=True, eq=False)
class AutoEntry(Entry):
    """Chosen on starts of its own, before the cell and outside of its time; the row's `remark` names the choice."""

    label: str = "auto"
    library: str = "sdediff"
    stochastic: bool = False
    follows_flow: bool = True
    _chosen: dict[tuple[str, int | None], tuple[Solver, Tensor]] = field(default_factory=dict, repr=False)

    def points(self, calls: Sequence[int], tolerances: Sequence[float], grids: Sequence[str | None]) -> list[Point]:
        return [Point(count) for count in calls]

    def prepare(self, task: Task, point: Point) -> Facts:
        key = (task.name, point.budget)
        if key not in self._chosen:
            shape = (1, *task.shape)
            self._chosen[key] = auto(
                task.model, shape, calls=point.budget, cond=task.conditions(0, 64), progress=False
            )  # fmt: skip
        return Facts(len(self._chosen[key][1]) - 1, "auto")

    def draw(self, model: ScoreModel, starts: Starts, point: Point) -> Drawn:
        solver, times = self._chosen[(starts.task.name, point.budget)]
        x = sample(
            model, (starts.size, *starts.task.shape), solver=solver, grid=times, seed=starts.seed, index=starts.first,
            cond=starts.conditions, dtype=starts.dtype, device=starts.device, progress=False,
        )  # fmt: skip
        return Drawn(x, remark=f"chose {solver!r}")
