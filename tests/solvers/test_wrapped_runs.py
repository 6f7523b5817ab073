"""Solvers around solvers: one exact model in every parametrisation gives one result, and runs resume to the bit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import sdediff as sd
from sdediff.solvers import AncestralStep, Churn, Restart, RungeKutta, lower_order_final, predictor_corrector
from sdediff.solvers.base import FACTS

F64 = torch.float64
TABLE = sd.Table.from_sigmas(torch.logspace(-2, 1, 12, dtype=F64))
SINGLE = [
    *(RungeKutta(method, variable=variable) for method in ("euler", "heun") for variable in ("sigma", "t", "flow")),
    *(sd.solver(name) for name in ("ddim", "midpoint", "dpm_solver_2", "dpm_solver_3", "dpmpp_2s", "dpmpp_3s")),
]


def _start(sde: sd.LinearSDE) -> Tensor:
    return sde.prior_std() * torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(2))


def _as(kind: str, sde: sd.LinearSDE) -> sd.ScoreModel:
    """The exact model of one target, its network predicting `kind`."""
    exact = sd.target("target_m").model(sde)
    return sd.ScoreModel(lambda x, t: getattr(exact(x, t), kind), sde, predicts=kind)


@pytest.mark.parametrize("process", [sd.VE(), sd.VP(), TABLE], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("solver", SINGLE, ids=repr)
def test_a_parametrisation_does_not_matter_where_noise_is_injected(solver: sd.Solver, process: sd.LinearSDE) -> None:
    """Every level is a level of the process, the last one before data too, where the process may end above a step's."""
    grid = "knots" if process is TABLE else "karras"
    steps = None if process is TABLE else 6
    for wrapped in (AncestralStep(solver), Churn(solver, s_churn=3.0), Restart(solver, ((0.1, 0.5, 2, 1),))):
        found = [
            sd.sample(_as(kind, process), x=_start(process), solver=wrapped, grid=grid, steps=steps, seed=3)
            for kind in ("eps", "score", "x0", "v", "velocity")
        ]
        for other in found[1:]:
            torch.testing.assert_close(other, found[0], rtol=1e-10, atol=1e-10)


def _compositions(name: str) -> list[sd.Solver]:
    """Every wrapper that takes the registered solver."""
    makers = (
        lambda s: lower_order_final(s), lambda s: predictor_corrector(s), lambda s: Churn(s, s_churn=3.0),
        lambda s: AncestralStep(s), lambda s: Restart(s, ((0.1, 0.5, 2, 1),)),
    )  # fmt: skip
    found = []
    for make in makers:
        try:
            found.append(make(sd.solver(name)))
        except sd.SolverError:
            continue
    return found


@pytest.mark.parametrize("name", [name for name, solver in sd.list_solvers().items() if not solver.adaptive])
def test_compositions_resume_to_the_bit(name: str) -> None:
    """A run that goes on from any of its states ends as it would have."""
    model, sde = sd.target("ring").model(sd.VP()), sd.VP()
    for solver in (sd.solver(name), *_compositions(name)):
        options: dict[str, Any] = {"solver": solver, "seed": 5}
        try:
            states = list(sd.iterate(model, x=_start(sde), steps=9, **options))
        except sd.SolverError as error:
            assert "keeps a history" in str(error)  # noqa: PT017 - which of the products cannot be is what is tested
            continue
        for state in (states[3], states[8]):
            *_, end = sd.iterate(model, resume=state, **options)
            assert torch.equal(end.x, states[-1].x), solver
            assert torch.equal(end.prediction.x0, states[-1].prediction.x0)


def test_facts_are_the_inner_solvers_unless_stated() -> None:
    inner = sd.solver("dpm_solver_2")
    stated = {"order", "stochastic", "at_zero_alpha", "reference", "strong_order", "needs_alpha"}
    for name in set(FACTS) - stated:
        assert getattr(AncestralStep(inner), name) == getattr(inner, name), name


@dataclass(frozen=True)
class Spied(sd.Solver):
    """Euler's step whose coefficients are computed together and counted."""

    order = 1
    counted: tuple[list[int], ...] = ([],)

    def coefficients(self, model: Any, levels: Sequence[sd.Level], orders: Any = None) -> list[float]:
        self.counted[0].append(len(levels))
        return [math.expm1(t.lam - s.lam) for t, s in itertools.pairwise(levels)]

    def step(self, model: Any, x: Tensor, t: Any, s: Any, state: Any, noise: Any) -> tuple[Tensor, Any]:
        return model(x, t).mix(s.sigma / t.sigma, x0=-s.alpha * s.coefficients), None


def test_coefficients_are_computed_once_a_run() -> None:
    model, solver = sd.target("ring").model(sd.VP()), Spied()
    x = sd.sample(model, x=_start(sd.VP()), solver=solver, steps=7)
    assert solver.counted[0] == [8]
    torch.testing.assert_close(x, sd.sample(model, x=_start(sd.VP()), solver="ddim", steps=7), rtol=1e-10, atol=1e-10)
    sampler = sd.Sampler(model, solver=solver, steps=7)
    assert torch.equal(sampler(x=_start(sd.VP())), sampler(x=_start(sd.VP())))
    assert solver.counted[0] == [8, 8]
