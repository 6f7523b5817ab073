"""Churn, Karras et al.'s algorithm 2."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import sdediff as sd
from sdediff.solvers import RungeKutta
from sdediff.solvers.churn import Churn
from tests.solvers.equivalence import table
from tests.solvers.noise_injection import first_states, model_on, run_on

HEUN = RungeKutta("heun", variable="sigma")


def _edm(sde: sd.LinearSDE, times: list[float], churn: float, low: float, high: float, s_noise: float) -> Tensor:
    """Karras et al. 2022, algorithm 2, on x/alpha over sigma/alpha, without its step to 0."""
    model, x, noise = model_on(sde), first_states(sde), sd.Counter(3)
    row = sd.levels(sde, times)
    for t, s in itertools.pairwise(row):
        k, to = t.sigma / t.alpha, s.sigma / s.alpha
        gamma = min(churn / (len(times)), math.sqrt(2) - 1) if low <= k <= high else 0.0
        last = math.exp(-sde.lam([sde.T]).item())
        hat = k if k > last * (1 - 1e-9) else min(k * (1 + gamma), last)
        y = x / t.alpha + math.sqrt(hat**2 - k**2) * s_noise * noise(t, s, x)

        def slope(y: Tensor, kappa: float) -> Tensor:
            time = sde.t_of_lam(-math.log(kappa)).item()
            return (y - model(sde.schedule(time).alpha.item() * y, time).x0) / kappa

        d = slope(y, hat)
        y = y + (to - hat) / 2 * (d + slope(y + (to - hat) * d, to))
        x = s.alpha * y
    return x


@pytest.mark.parametrize("process", [sd.VP(), sd.EDM(), sd.VE()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize(("churn", "low", "high"), [(40.0, 0.05, 50.0), (3.0, 0.0, math.inf), (1.0, 0.3, 2.0)])
def test_algorithm_2_of_karras(process: sd.LinearSDE, churn: float, low: float, high: float) -> None:
    times = sd.grid("karras", process, 9).tolist()
    solver = sd.solver("edm", s_churn=churn, s_tmin=low, s_tmax=high, s_noise=1.1)
    found = run_on(process, solver, times, noise=sd.Counter(3))
    torch.testing.assert_close(found, _edm(process, times, churn, low, high, 1.1), rtol=1e-9, atol=1e-9)


def _levels(solver: Churn, times: Any) -> tuple[sd.Level, ...]:
    """The levels of a run under EDM, those that steps begin at first among their inner ones."""
    return table(solver, model_on(sd.EDM()), times, first_states(sd.EDM())).levels


@pytest.mark.parametrize(("churn", "gamma"), [(40.0, math.sqrt(2) - 1), (5.0, 5 / 18)])
def test_churn_counts_the_levels_as_edm_counts_its_steps(churn: float, gamma: float) -> None:
    """18 levels of noise are 17 steps and the jump to data: EDM's N = 18."""
    row = _levels(Churn(HEUN, s_churn=churn), sd.grid("karras", sd.EDM(), 17))
    raised = [b.inner[0].time / a.time - 1 for a, b in itertools.pairwise(row)]
    inside = [0.05 <= a.time <= 50 for a in row[:-1]]
    assert 0 < sum(inside) < 17
    assert all(r == pytest.approx(gamma, rel=1e-12) if v else r == 0 for r, v in zip(raised, inside, strict=True))


def test_churn_stops_at_the_noisiest_level() -> None:
    row = _levels(Churn(HEUN, s_tmax=math.inf), [80.0, 79.0, 60.0, 1.0])
    assert [v.inner[0].time for v in row[1:]] == pytest.approx([80.0, 80.0, 80.0], rel=1e-12)


def test_without_churn_edm_is_heun() -> None:
    solver, times = sd.solver("edm", s_churn=0.0), sd.grid("karras", sd.EDM(), 8)
    assert (solver.order, solver.stochastic) == (2, False)
    assert torch.equal(run_on(sd.EDM(), solver, times), run_on(sd.EDM(), HEUN, times))
