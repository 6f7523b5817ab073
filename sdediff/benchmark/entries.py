"""What a sweep compares: solvers of this package, contenders of other libraries, and real data as the floor."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sdediff.benchmark.cells import REAL_DATA
from sdediff.benchmark.tasks import Task
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.api import sample
from sdediff.sampling.run import make_plan
from sdediff.solvers import Solver


class Point(NamedTuple):
    """Where an entry is measured: the network evaluations allowed, or a tolerance, and the name of a grid."""

    budget: int | None = None
    tolerance: float | None = None
    grid: str | None = None


class Starts(NamedTuple):
    """Samples `first` ... `first + size - 1` of a task from a seed, and where they are computed."""

    task: Task
    seed: int
    first: int
    size: int
    dtype: torch.dtype
    device: torch.device

    @property
    def conditions(self) -> dict[str, Any] | None:
        """The conditions of these samples."""
        return self.task.conditions(self.first, self.size)


class Spent(NamedTuple):
    """Network evaluations, and seconds in all and inside the network, of an entry that counts for itself."""

    calls: float
    seconds: float
    network_seconds: float


class Drawn(NamedTuple):
    """Samples (size, *shape), the time at which they stand (None: data), and a remark on unequal conditions.

    compared: whether they can be compared with the flow at that time. spent: what the watched network did not see.
    """

    x: Tensor
    end: float | None = None
    remark: str | None = None
    compared: bool = True
    spent: Spent | None = None


class Facts(NamedTuple):
    """What is known before a run: the steps and the name of the grid."""

    steps: int | None = None
    grid: str | None = None


class Entry(ABC):
    """Something that takes noise to data at given points. `follows_flow`: an error against the flow is defined."""

    if TYPE_CHECKING:  # read-only to a type checker, so that a class may compute them

        @property
        def label(self) -> str: ...

        @property
        def library(self) -> str: ...

        @property
        def stochastic(self) -> bool: ...

        @property
        def follows_flow(self) -> bool: ...

    @abstractmethod
    def points(self, calls: Sequence[int], tolerances: Sequence[float], grids: Sequence[str | None]) -> list[Point]:
        """The points at which it is measured."""

    @abstractmethod
    def prepare(self, task: Task, point: Point) -> Facts:
        """What is known before a run; an Error where the entry does not take this model or point."""

    @abstractmethod
    def draw(self, model: ScoreModel, starts: Starts, point: Point) -> Drawn:
        """The samples; model is that of the task, watched."""


@dataclasses.dataclass(frozen=True)
class SolverEntry(Entry):
    """A solver of this package."""

    label: str
    solver: Solver
    library: str = "sdediff"

    def __repr__(self) -> str:
        return repr(self.solver)

    @property
    def stochastic(self) -> bool:
        """Whether noise enters during the run."""
        return bool(self.solver.stochastic or self.solver.corrector)

    @property
    def follows_flow(self) -> bool:
        """Whether the solver follows the probability flow."""
        return not self.stochastic

    @property
    def adaptive(self) -> bool:
        """Whether tolerances in place of calls are its budget."""
        return self.solver.spent(1) is None and {"rtol", "atol"} <= {f.name for f in dataclasses.fields(self.solver)}

    def points(self, calls: Sequence[int], tolerances: Sequence[float], grids: Sequence[str | None]) -> list[Point]:
        if self.adaptive:
            return [Point(tolerance=float(tolerance)) for tolerance in tolerances]
        if self.solver.spent(1) is None:
            return [Point()]
        return [Point(count, grid=grid) for grid in grids for count in calls]

    def at(self, point: Point) -> Solver:
        """The solver with the tolerance of a point."""
        if point.tolerance is None:
            return self.solver
        tolerances: dict[str, Any] = {"rtol": point.tolerance, "atol": point.tolerance}
        return dataclasses.replace(self.solver, **tolerances)

    def prepare(self, task: Task, point: Point) -> Facts:
        model = task.model
        plan = make_plan(model, self.at(point), calls=point.budget, grid=point.grid)
        named = point.grid or (self.solver.grid if model.sde.linear else "") or model.sde.grid
        return Facts(len(plan.times) - 1, named)

    def draw(self, model: ScoreModel, starts: Starts, point: Point) -> Drawn:
        x = sample(
            model, (starts.size, *starts.task.shape), solver=self.at(point), calls=point.budget, grid=point.grid,
            seed=starts.seed, index=starts.first, cond=starts.conditions, dtype=starts.dtype, device=starts.device,
            progress=False,
        )  # fmt: skip
        return Drawn(x)


@dataclasses.dataclass(frozen=True)
class RealData(Entry):
    """Starts of real data in place of samples: their distance to the true data is that of no error at all."""

    label: str = "real data"
    library: str = REAL_DATA
    stochastic: bool = True
    follows_flow: bool = False

    def points(self, calls: Sequence[int], tolerances: Sequence[float], grids: Sequence[str | None]) -> list[Point]:
        return [Point()]

    def prepare(self, task: Task, point: Point) -> Facts:
        return Facts()

    def draw(self, model: ScoreModel, starts: Starts, point: Point) -> Drawn:
        real = starts.task.real
        order = torch.randperm(len(real), generator=torch.Generator().manual_seed(starts.seed % (1 << 63)))
        return Drawn(real[order[starts.first : starts.first + starts.size]])
