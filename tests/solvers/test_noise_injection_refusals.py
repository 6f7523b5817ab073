"""What noise injection refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import sdediff as sd
from sdediff.solvers import DDIM, Adams, RungeKutta
from sdediff.solvers.churn import AncestralStep, Churn
from sdediff.solvers.restart import Restart
from tests.solvers.noise_injection import run_on

HEUN = RungeKutta("heun", variable="sigma")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AncestralStep(DDIM(1.0)), "deterministic solver"),
        (lambda: Churn(sd.solver("langevin")), "deterministic solver"),
        (lambda: Restart(sd.solver("edm")), "deterministic solver"),
        (lambda: sd.solver("euler_ancestral", eta=1.2), r"\[0, 1\]"),
        (lambda: sd.solver("edm", s_churn=-1.0), "negative"),
        (lambda: sd.solver("edm", s_tmin=2.0, s_tmax=1.0), "above s_tmax"),
        (lambda: sd.solver("restart", intervals=((0.3, 0.06, 2, 2),)), "low < high"),
        (lambda: sd.solver("restart", intervals=((0.06, 0.3, 1.5, 2),)), "a count or a share"),
        (lambda: sd.solver("restart", intervals=((0.06, 0.3, 2),)), "Restart cannot be made"),
        (lambda: sd.solver("consistent_annealed_langevin", eta=1.0), "0 < eta < 1"),
    ],
)
def test_errors_name_the_mend(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(sd.SolverError, match=said):
        make()


@pytest.mark.parametrize(
    ("solver", "times", "said"),
    [
        (AncestralStep(Adams(2)), "karras", "keeps a history"),
        (Churn(Adams(2)), "karras", "keeps a history"),
        (Restart(HEUN, ((0.06, 0.3, 2, 1),)), [80.0, 10.0, 0.5], "end the grid lower"),
        (Restart(HEUN, ((0.06, 90.0, 2, 1),)), "karras", "lower it"),
    ],
)
def test_runs_that_cannot_be_are_refused(solver: sd.Solver, times: Any, said: str) -> None:
    row = sd.grid(times, sd.EDM(), 8) if isinstance(times, str) else times
    with pytest.raises(sd.SolverError, match=said):
        run_on(sd.EDM(), solver, row)


@pytest.mark.parametrize("solver", [AncestralStep(DDIM()), sd.solver("edm"), sd.solver("restart")], ids=repr)
def test_where_alpha_is_zero_it_says_so(solver: sd.Solver) -> None:
    model = sd.target("target_m").model(sd.RectifiedFlow())
    with pytest.raises(sd.SolverError, match="alpha is 0"):
        sd.sample(model, (2, 2), solver=solver, steps=4, start=1.0, grid="uniform")


def test_noise_injection_may_start_where_its_solver_may() -> None:
    assert Churn(RungeKutta("heun")).at_zero_alpha
    model = sd.ScoreModel(lambda x, _: torch.zeros_like(x), sd.RectifiedFlow(), predicts="velocity")
    assert torch.isfinite(sd.sample(model, (2, 2), solver=Churn(RungeKutta("heun")), grid=[1.0, 0.7, 0.2])).all()
