"""What a solver is: a value with a step from one level to a later one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from sdediff.levels import Level
from sdediff.model import ScoreModel
from sdediff.noise import Noise
from sdediff.sde import SDE


class SolverError(ValueError):
    """A solver cannot serve this model, process or grid; the message says why and what to use."""


@dataclass(frozen=True)
class Solver(ABC):
    """One step from t to s < t; a frozen dataclass of hyper-parameters, so a value that threads may share.

    order: the measured order of convergence to the probability flow, None for stochastic and adaptive
    solvers. calls: network calls a step, None where they are chosen at run time. strong_order: against the
    same Brownian path, where claimed. moves=False marks a corrector, which leaves p_t invariant.
    holds_x: the state keeps an earlier x. at_zero_alpha: may start where alpha = 0. needs_alpha: uses
    alpha and sigma, so serves linear processes alone. grid: the default grid, "" for the process's own;
    steps: the default number.
    """

    order: ClassVar[int | None] = None
    calls: ClassVar[int | None] = 1
    strong_order: ClassVar[float | None] = None
    moves: ClassVar[bool] = True
    adaptive: ClassVar[bool] = False
    holds_x: ClassVar[bool] = False
    at_zero_alpha: ClassVar[bool] = False
    needs_alpha: ClassVar[bool] = True
    grid: ClassVar[str] = ""
    steps: ClassVar[int] = 20
    reference: ClassVar[str] = ""

    @property
    def stochastic(self) -> bool:
        """Whether a step draws noise."""
        return False

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        """Times between t and s that a step evaluates; they arrive as the levels `s.inner`."""
        return ()

    def lowered(self, order: int) -> Solver:
        """The same solver at a lower order, whose history it can go on with; itself where it has one order."""
        return self

    @abstractmethod
    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        """x at s from x at t, and the history for the next step (None before the first)."""
