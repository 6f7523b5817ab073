"""Restart, and noise injection around other solvers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import sdediff as sd
from sdediff.solvers import Adams, RungeKutta
from sdediff.solvers.churn import AncestralStep, Churn
from sdediff.solvers.restart import Restart
from sdediff.solvers.singlestep import Singlestep
from sdediff.testing import check_solver
from tests.solvers.noise_injection import first_states, model_on, run_on

F64 = torch.float64
HEUN = RungeKutta("heun", variable="sigma")


def _heun(model: sd.ScoreModel, x: Tensor, t: float, s: float) -> Tensor:
    """Heun's step over sigma, alpha = 1."""
    d = (x - model(x, t).x0) / t
    u = x + (s - t) * d
    return x + (s - t) / 2 * (d + (u - model(u, s).x0) / s)


def _restarted(times: list[float], intervals: dict[int, tuple[float, int, int]], s_noise: float) -> Tensor:
    """Xu et al. 2023, algorithm 1, on EDM; intervals: index of the level -> (high, steps, times)."""
    sde = sd.EDM()
    model, x, noise = model_on(sde), first_states(sde), sd.Counter(6)
    row = sd.levels(sde, times)
    for i, (t, s) in enumerate(itertools.pairwise(times), 1):
        x = _heun(model, x, t, s)
        if i not in intervals:
            continue
        high, steps, count = intervals[i]
        ramp = torch.linspace(high ** (1 / 7), s ** (1 / 7), steps + 1, dtype=F64) ** 7
        for k in range(count):
            x = x + s_noise * math.sqrt(high**2 - s**2) * noise(row[i - 1], row[i], x, k)
            for a, b in itertools.pairwise(ramp.tolist()):
                x = _heun(model, x, a, b)
    return x


def test_algorithm_1_of_restart() -> None:
    times = sd.grid("karras", sd.EDM(), 17).tolist()
    intervals = ((0.06, 0.3, 2, 2), (1.09, 1.92, 3, 1), (19.35, 40.79, 3, 2))
    nearest = [min(range(1, 18), key=lambda i: abs(times[i] - low)) for low, *_ in intervals]
    solver = sd.solver("restart", intervals=intervals, s_noise=1.05)
    expected = _restarted(times, {i: v[1:] for i, v in zip(nearest, intervals, strict=True)}, 1.05)
    record = sd.sample(
        model_on(sd.EDM()),
        x=first_states(sd.EDM()),
        solver=solver,
        grid=times,
        noise=sd.Counter(6),
        full=True,
        denoise=False,
    )
    torch.testing.assert_close(record.x, expected, rtol=1e-9, atol=1e-9)
    assert record.calls == solver.spent(17) == 2 * (17 + 4 + 3 + 6)


def test_restarts_calls_at_the_papers_setting() -> None:
    """18 levels, 2 restarts of 2 steps: 35 calls of EDM's Heun and 8 on top, 43."""
    record = sd.sample(model_on(sd.EDM()), (2, 2), solver="restart", steps=17, full=True)
    assert record.calls == 43
    assert len(sd.sample(model_on(sd.EDM()), (2, 2), solver="restart", calls=43, full=True).times) == 18


def test_restart_forgets_the_history() -> None:
    """A multistep solver begins anew in each restart and after the last."""
    sde, solver = sd.VP(), Restart(Adams(2), ((0.5, 2.0, 3, 1),))
    times = sd.grid("log_snr", sde, 6).tolist()
    kappa = torch.exp(-sde.lam(times))
    i = min(range(1, 7), key=lambda j: abs(kappa[j].item() - 0.5))
    run = lambda x, row: sd.sample(model_on(sde), x=x, solver=Adams(2), grid=row, denoise=False)  # noqa: E731
    x = run(first_states(sde), times[: i + 1])
    row = sd.levels(sde, times)
    ramp = torch.linspace(2.0 ** (1 / 7), kappa[i].item() ** (1 / 7), 4, dtype=F64) ** 7
    inner = [*sde.t_of_lam(-torch.log(ramp)).tolist()[:-1], times[i]]
    up, s = sde.schedule(inner[0]), sde.schedule(times[i])
    kernel = sde.transition([times[i]], [inner[0]])
    z = sd.Counter(2)(row[i - 1], row[i], x)
    assert up.alpha < s.alpha
    x = run(kernel.scale.item() * x + kernel.std.item() * z, inner)
    x = run(x, times[i:])
    torch.testing.assert_close(run_on(sde, solver, times, noise=sd.Counter(2)), x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "solver",
    [
        Restart(Singlestep(3, "x0"), ((0.06, 0.3, 4, 3), (0.059, 0.9, 5, 1), (2.0, 5.0, 2, 1))),
        Restart(Adams(2), ((0.06, 0.3, 0.1, 1),)),
        Churn(Singlestep(2), s_tmin=0.0, s_tmax=math.inf, s_noise=1.0),
        Churn(RungeKutta("midpoint"), s_noise=1.0),
        AncestralStep(HEUN, eta=0.5),
        AncestralStep(sd.solver("dpm_fast", tail=(2, 1))),
        AncestralStep(Singlestep(3, "x0"), eta=0.0),
    ],
    ids=repr,
)
def test_noise_injection_around_other_solvers_conform(solver: sd.Solver) -> None:
    """Each restarts, resumes to the bit, serves two threads and reaches the marginals."""
    assert len(check_solver(solver)) == 11
