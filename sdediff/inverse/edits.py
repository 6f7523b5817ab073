"""Methods that edit the state after a solver's step: replacement, RePaint's jumps, and DPS (MCG with replacement)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import states
from sdediff.grids.levels import Level
from sdediff.inverse.operators import Operator, Problem
from sdediff.inverse.predictions import Vjp, evaluated
from sdediff.model.bound import BoundModel
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.solvers.base import Solver, SolverError, set_coefficients
from sdediff.solvers.exponential import spread
from sdediff.solvers.wrappers import Wrapper


def check_editable(solver: Solver, method: str) -> None:
    """Refuse solvers whose step cannot be followed by an edit of x."""
    if solver.corrector or solver.adaptive or not solver.recordable:
        raise SolverError(
            f"{method} edits x after every step of the grid, and {solver!r} steps by itself or stays at its level: "
            "write a solver of fixed steps, such as ancestral, ddim or dpmpp_2m"
        )


def replaced(problem: Problem, operator: Operator, x: Tensor, s: Level, z: Tensor) -> Tensor:
    """x with what is seen of it replaced by the measurement at the noise of level s."""
    wanted = s.alpha * problem.target(operator, x) + s.sigma * operator.seen(z)
    return x + operator.states(wanted - operator.seen(x))


@dataclass(frozen=True, eq=False)
class Replacement(Wrapper):
    """After each step the seen part of x is replaced by alpha_s A^+ y + sigma_s z. Song et al. 2021, appendix I.2.

    resamplings and jump are RePaint's: at every `jump`-th level the run goes back up `jump` levels by the forward
    kernel and comes down again, so that each stretch is walked `resamplings` times; the history of a multistep solver
    then begins anew. Measurement noise is not used: A x = y is enforced. Lugmayr et al. 2022, algorithm 1. fixed: unit
    normals (1 or B, ...) that are z at every level, as in diffusers' pipelines; by default each has its own.
    """

    problem: Problem
    resamplings: int = 1
    jump: int = 1
    fixed: Tensor | None = None

    reference = "Song et al. 2021, appendix I.2; Lugmayr et al. 2022"
    order = None
    tried = 0

    def __post_init__(self) -> None:
        check_editable(self.solver, "replacement")
        self.problem.linear("replacement")
        if self.resamplings < 1 or self.jump < 1:
            raise SolverError(f"resamplings={self.resamplings}, jump={self.jump}: give whole numbers of at least 1")
        if self.fixed is not None:
            states("fixed", self.fixed)
        if self.resamplings > 1 and self.solver.calls is None:
            raise SolverError(
                f"a run that goes back up takes steps again, and those of {self.solver!r} differ by their place in the "
                "run: write a solver whose steps are alike, such as ancestral, or resamplings=1"
            )

    @property
    def stochastic(self) -> bool:
        return True

    @property
    def calls(self) -> int | None:
        own = self.solver.calls
        return own if self.resamplings == 1 or own is None else own * self.resamplings if self.jump == 1 else None

    def spent(self, steps: int) -> int | None:
        own, stretches = self.solver.spent(steps), steps // self.jump
        if own is None or self.resamplings == 1:
            return own
        each = self.solver.spent(self.jump)
        return None if each is None else own + each * (self.resamplings - 1) * stretches

    def coefficients(
        self, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
    ) -> list[tuple[Level, bool, tuple[Level, ...]]]:
        """For each step: its end for the inner solver, whether history begins, and the stretch that is walked again."""
        n = len(levels) - 1
        size = n if self.resamplings == 1 else self.jump
        entries: list[tuple[Level, bool, tuple[Level, ...]]] = []
        for i in range(0, n, size):
            some = None if orders is None else orders[i : i + size]
            copies = _copies(self.solver, model, levels[i : i + size + 1], some)
            whole = self.resamplings > 1 and len(copies) == size + 1
            ends = copies[1:]
            entries += [(end, end is ends[0], copies if whole and end is ends[-1] else ()) for end in ends]
        return entries

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        operator = self.problem.linear("replacement")
        end, begins, stretch = s.coefficients
        x, state = self.solver.step(model, x, t, end, None if begins else state, noise)
        x = replaced(self.problem, operator, x, s, self._normals(noise.shifted(_OTHER), t, s, x))
        for k in range(1, self.resamplings if stretch else 1):
            first, last = stretch[0], stretch[-1]
            up, moving, known = (noise.shifted(_OTHER * (3 * k + part)) for part in (2, 3, 4))
            x = torch.add(x * (first.alpha / last.alpha), up(first, last, x), alpha=math.sqrt(spread(first, last)))
            state = None
            for a, b in itertools.pairwise(stretch):
                x, state = self.solver.step(model, x, a, b, state, moving)
                x = replaced(self.problem, operator, x, b, self._normals(known, a, b, x))
        return x, state

    def _normals(self, noise: Noise, t: Level, s: Level, x: Tensor) -> Tensor:
        """z of the known part at level s, shaped like x."""
        if self.fixed is None:
            return noise(t, s, x)
        if self.fixed.shape[1:] != x.shape[1:] or len(self.fixed) not in (1, len(x)):
            raise SolverError(
                f"fixed has the shape {tuple(self.fixed.shape)} for states {tuple(x.shape)}: give as many"
            )
        return self.fixed.to(x).expand_as(x)


_OTHER = 1 << 21


def _copies(
    solver: Solver, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
) -> tuple[Level, ...]:
    """Copies of some levels, with the coefficients of a run over them."""
    copies = []
    for level in levels:
        copy = level.copy()
        copy.inner, copy.coefficients = level.inner, level.coefficients
        copies.append(copy)
    set_coefficients(solver, model, copies, orders)
    return tuple(copies)


class _Watched:
    """A bound model whose first evaluation of a step keeps its derivative."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.first: tuple[Prediction, Vjp] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, x: Tensor, t: Any) -> Prediction:
        if self.first is not None:
            return self._model(x, t)
        prediction, x0, vjp, keep = evaluated(self._model, x, t)
        if not keep:
            prediction = prediction.reading(prediction.raw.detach(), prediction.extra)
            prediction.x = x
        self.first = prediction, vjp
        self.x0 = x0
        return prediction


@dataclass(frozen=True, eq=False)
class DPS(Wrapper):
    """x_s - scale grad_x |y - A x0(x_t)|, the norm (not its square) and its gradient of every sample by itself.

    The gradient is that of the first evaluation of a step. The released code takes the norm over the batch, so that a
    sample depends on its neighbours; here it does not. Any differentiable operator. Chung et al. 2023, algorithm 1.
    """

    problem: Problem
    scale: float = 1.0

    reference = "Chung et al. 2023, algorithm 1"
    order = None
    tried = 0

    def __post_init__(self) -> None:
        check_editable(self.solver, "dps")

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        watched: Any = _Watched(model)
        new, state = self.solver.step(watched, x, t, s, state, noise)
        if watched.first is None:
            return new, state
        _, vjp = watched.first
        with torch.inference_mode(False), torch.enable_grad():
            x0 = watched.x0 if watched.x0.requires_grad else watched.x0.detach().requires_grad_()
            norm = self.problem.residual(x0).flatten(1).norm(dim=1).sum()
            (on_x0,) = torch.autograd.grad(norm, x0, create_graph=torch.is_grad_enabled() and x.requires_grad)
        return torch.add(new, vjp(on_x0), alpha=-self.scale), state
