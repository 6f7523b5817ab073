"""Solvers made of solvers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdediff.levels import Level
from sdediff.model import ScoreModel
from sdediff.noise import Noise
from sdediff.sde import SDE
from sdediff.solvers.base import Solver, SolverError


@dataclass(frozen=True)
class Then(Solver):
    """One solver, then another, in every step: a corrector runs at (t, t) before the mover or (s, s) after it.

    Corrector first is the released code's predictor-corrector, mover first the paper's algorithm 1.
    Refuses pairs that do not move exactly once, and movers whose history holds an earlier x.
    """

    first: Solver
    second: Solver

    reference = "Song et al. 2021, algorithm 1"

    def __post_init__(self) -> None:
        movers = [v for v in (self.first, self.second) if v.moves]
        if len(movers) != 1:
            raise SolverError(f"Then takes one mover and one corrector, given {self.first!r} and {self.second!r}")
        if movers[0].holds_x:
            raise SolverError(f"{movers[0]!r} remembers an earlier x, which a corrector would make untrue")

    @property
    def _mover(self) -> Solver:
        return self.first if self.first.moves else self.second

    @property
    def calls(self) -> int | None:  # type: ignore[override]
        a, b = self.first.calls, self.second.calls
        return None if a is None or b is None else a + b

    @property
    def adaptive(self) -> bool:  # type: ignore[override]
        return self.first.adaptive or self.second.adaptive

    @property
    def stochastic(self) -> bool:
        return self.first.stochastic or self.second.stochastic

    @property
    def at_zero_alpha(self) -> bool:  # type: ignore[override]
        return self.first.at_zero_alpha and self.second.at_zero_alpha

    @property
    def grid(self) -> str:  # type: ignore[override]
        return self._mover.grid

    @property
    def steps(self) -> int:  # type: ignore[override]
        return self._mover.steps

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        return self._mover.inner(sde, t, s)

    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        one, two = state or (None, None)
        # The mover keeps the noise as it is (a path stays a path), the corrector draws elsewhere.
        other = noise.shifted()
        if self.first.moves:
            x, one = self.first.step(model, x, t, s, one, noise)
            x, two = self.second.step(model, x, s, s, two, other)
        else:
            x, one = self.first.step(model, x, t, t, one, other)
            x, two = self.second.step(model, x, t, s, two, noise)
        return x, (one, two)
