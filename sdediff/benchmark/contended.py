"""Contenders of other libraries as entries of a sweep: the same network, starts and end, held to the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdediff.benchmark.contenders import Contender, contend, resolve_contenders
from sdediff.benchmark.entries import Drawn, Entry, Facts, Point, Spent, Starts
from sdediff.benchmark.tasks import Task
from sdediff.jobs.identity import described
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.api import Sampler

# The network evaluations that an adaptive contender may make.
_LIMIT = 10_000


@dataclass(frozen=True)
class ContenderEntry(Entry):
    """A contender. Its row's `remark` holds what was not equal; a rule that it breaks fails the cell by name."""

    contender: Contender

    def __repr__(self) -> str:
        text = repr(self.contender)
        return text if " at 0x" not in text else str(described(self.contender))

    @property
    def label(self) -> str:
        """The contender's name within its library."""
        return self.contender.name

    @property
    def library(self) -> str:
        """The library."""
        return self.contender.library

    @property
    def stochastic(self) -> bool:
        """Whether it draws noise of its own."""
        return self.contender.stochastic

    @property
    def follows_flow(self) -> bool:
        """Whether its ends are compared with those of the flow."""
        return not self.contender.stochastic

    def points(self, calls: Sequence[int], tolerances: Sequence[float], grids: Sequence[str | None]) -> list[Point]:
        return [Point()] if self.contender.adaptive else [Point(count) for count in calls]

    def prepare(self, task: Task, point: Point) -> Facts:
        return Facts()

    def draw(self, model: ScoreModel, starts: Starts, point: Point) -> Drawn:
        # The contender's own watch counts; a seed of its own for every batch, so that no two share their noise.
        cond, own = starts.conditions, starts.task.model
        given = own.given(**cond) if cond else own
        seed = (starts.seed + (starts.first << 32)) % (1 << 63)
        outcome = contend(
            self.contender, given, at_T(starts), point.budget or _LIMIT, seed, repeat=starts.first == 0
        )  # fmt: skip
        end = outcome.time_end
        return Drawn(
            outcome.x, end or None, "; ".join(outcome.notes) or None, end is not None,
            Spent(outcome.calls, outcome.seconds, outcome.network_seconds),
        )  # fmt: skip


def at_T(starts: Starts) -> Tensor:
    """The states (size, *shape) at T that `sd.sample` begins from with this seed."""
    sde = starts.task.model.sde
    first = Sampler(
        starts.task.model, solver="euler", steps=1, start=float(sde.T), dtype=starts.dtype, device=starts.device
    )
    return first.run((starts.size, *starts.task.shape), seed=starts.seed, index=starts.first).x


def contender_entries(contenders: Sequence[Any]) -> list[Entry]:
    """Entries of contenders by name or object."""
    return [ContenderEntry(contender) for contender in resolve_contenders(contenders)] if contenders else []
