"""What a solver computes before the first step: once a run, over the whole grid, and the same when it resumes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import sdediff as sd
from sdediff.sampling.run import make_plan, make_table

F64 = torch.float64


@dataclass(frozen=True)
class Spied(sd.Solver):
    """DDIM's step, whose coefficients are computed together and counted; calls of `visit` too."""

    computed: list[int] = field(default_factory=list, compare=False)
    visited: list[int] = field(default_factory=list, compare=False)

    order = 1
    tried = 0  # a trial would be counted too

    def visit(self, evaluation: Any, steps: Sequence[tuple[sd.Level, sd.Level]], orders: Any = None) -> None:
        self.visited.append(len(steps))

    def coefficients(self, model: Any, levels: Sequence[sd.Level], orders: Any = None) -> list[float]:
        self.computed.append(len(levels))
        return [math.expm1(t.lam - s.lam) for t, s in itertools.pairwise(levels)]

    def step(self, model: Any, x: Tensor, t: Any, s: Any, state: Any, noise: Any) -> tuple[Tensor, Any]:
        return model(x, t).mix(s.sigma / t.sigma, x0=-s.alpha * s.coefficients), None


@pytest.fixture
def model() -> sd.ScoreModel:
    return sd.target("ring").model(sd.VP())


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(2))


def test_coefficients_are_computed_once_a_run(model: sd.ScoreModel, x: Tensor) -> None:
    solver = Spied()
    result = sd.sample(model, x=x, solver=solver, steps=7)
    assert (solver.computed, solver.visited) == ([8], [7])
    torch.testing.assert_close(result, sd.sample(model, x=x, solver="ddim", steps=7), rtol=1e-10, atol=1e-10)


def test_a_sampler_computes_them_once_for_all_of_its_runs(model: sd.ScoreModel, x: Tensor) -> None:
    solver = Spied()
    sampler = sd.Sampler(model, solver=solver, steps=7)
    assert torch.equal(sampler(x=x), sampler(x=x))
    assert (solver.computed, solver.visited) == ([8], [7])


def test_a_resumed_run_computes_them_over_the_whole_grid_again(model: sd.ScoreModel, x: Tensor) -> None:
    solver = Spied()
    states = list(sd.iterate(model, x=x, solver=solver, steps=7))
    for state in states[:-1]:
        del solver.computed[:]
        *_, end = sd.iterate(model, solver=solver, resume=state)
        assert solver.computed == [8]
        assert torch.equal(end.x, states[-1].x)


def test_a_step_by_hand_is_a_step_of_the_run(model: sd.ScoreModel, x: Tensor) -> None:
    """A table has all that a step needs."""
    for name in ("unipc", "dpm_solver_3", "restart", "euler_ancestral"):
        solver, noise = sd.solver(name), sd.Counter(4)
        plan = make_plan(model, solver, steps=6)
        table, y, state = make_table(model, plan, x), x, None
        for t, s in itertools.pairwise(table.levels):
            y, state = solver.step(table.model, y, t, s, state, noise)
        assert torch.equal(y, sd.sample(model, x=x, solver=solver, steps=6, seed=4, denoise=False)), name
