"""Solvers around solvers: one exact model in every parametrisation gives one result, and runs resume to the bit."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor

import sdediff as sd
from sdediff.solvers import (
    AncestralStep,
    Churn,
    LinearMultistep,
    Restart,
    RungeKutta,
    lower_order_final,
    predictor_corrector,
)
from sdediff.solvers.multistep import Multistep

F64 = torch.float64
TABLE = sd.Table.from_sigmas(torch.logspace(-2, 1, 12, dtype=F64))
# Every registered deterministic solver that steps without a history, and the Runge-Kutta methods over all variables.
SINGLE = [
    *(RungeKutta(method, variable=variable) for method in ("euler", "heun") for variable in ("sigma", "t", "flow")),
    *(
        solver
        for solver in sd.list_solvers().values()
        if not (
            solver.stochastic or solver.corrector or solver.adaptive or isinstance(solver, Multistep | LinearMultistep)
        )
    ),
]
KINDS = ("eps", "score", "x0", "v", "velocity")


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
        options: dict[str, Any] = {"x": _start(process), "solver": wrapped, "grid": grid, "steps": steps, "seed": 3}
        first, *others = (sd.sample(_as(kind, process), **options) for kind in KINDS)
        for other in others:
            torch.testing.assert_close(other, first, rtol=1e-10, atol=1e-10)


def _compositions(name: str) -> list[sd.Solver]:
    """Every wrapper that takes the registered solver."""
    makers = (
        lambda s: lower_order_final(s), lambda s: predictor_corrector(s), lambda s: Churn(s, s_churn=3.0),
        lambda s: AncestralStep(s), lambda s: Restart(s, ((0.1, 0.5, 2, 1),)),
    )  # fmt: skip
    wrapped = []
    for make in makers:
        with contextlib.suppress(sd.SolverError):
            wrapped.append(make(sd.solver(name)))
    return wrapped


@pytest.mark.parametrize("name", sd.list_solvers())
def test_compositions_resume_to_the_bit(name: str) -> None:
    """A run that goes on from any of its states ends as it would have."""
    model, sde = sd.target("ring").model(sd.VP()), sd.VP()
    for solver in (sd.solver(name), *_compositions(name)):
        options: dict[str, Any] = {"solver": solver, "seed": 5}
        try:
            states = list(sd.iterate(model, x=_start(sde), steps=4 if solver.adaptive else 9, **options))
        except sd.SolverError as error:
            assert "keeps a history" in str(error)  # noqa: PT017 - which of the products cannot be is what is tested
            continue
        for state in (states[len(states) // 3], states[-2]):
            *_, end = sd.iterate(model, resume=state, **options)
            assert torch.equal(end.x, states[-1].x), solver
            assert torch.equal(end.prediction.x0, states[-1].prediction.x0)


def _run(solver: sd.Solver) -> sd.SampleRecord:
    return sd.sample(sd.target("ring").model(sd.VP()), x=_start(sd.VP()), solver=solver, steps=8, seed=3, full=True)


@pytest.mark.parametrize("solver", SINGLE, ids=repr)
def test_wrappers_that_add_nothing_change_nothing(solver: sd.Solver) -> None:
    """A solver whose order changes over a run takes the orders of the run, though it is stepped on its own."""
    plain = _run(solver)
    for wrapped in (Churn(solver, s_churn=0.0), AncestralStep(solver, eta=0.0)):
        record = _run(wrapped)
        torch.testing.assert_close(record.x, plain.x, rtol=1e-12, atol=1e-12)
        assert record.calls == plain.calls


@pytest.mark.parametrize("name", ["dpm_solver_2", "dpm_solver_3", "dpmpp_2s", "dpmpp_3s"])
def test_noise_and_lower_order_commute(name: str) -> None:
    """Lower order at the end of a churned run is a churned run of lower order at its end."""
    solver = sd.solver(name)
    pairs = (
        (lower_order_final(Churn(solver, s_churn=3.0)), Churn(lower_order_final(solver), s_churn=3.0)),
        (lower_order_final(AncestralStep(solver)), AncestralStep(lower_order_final(solver))),
    )
    for outside, inside in pairs:
        assert torch.equal(_run(outside).x, _run(inside).x)
        assert _run(inside).calls == inside.spent(8) + 1 == outside.spent(8) + 1


@pytest.mark.parametrize("name", ["rk_adaptive", "dpm_adaptive", "adams", "ipndm"])
def test_a_history_is_refused_where_noise_would_make_it_untrue(name: str) -> None:
    solver = sd.solver(name)
    wrapped = [Churn(solver), AncestralStep(solver)]
    if name == "adams":
        wrapped += [Churn(lower_order_final(solver)), AncestralStep(lower_order_final(solver))]
    for one in wrapped:
        with pytest.raises(sd.SolverError, match="keeps a history"):
            _run(one)
