"""The flow by embedded pairs that choose their own steps: accuracy, conditions, failures, refusals."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

import sdediff as sd
from sdediff import integrate
from sdediff.solvers import AdaptiveRK, AdaptiveSDE, DPMAdaptive, ReverseSDE, RungeKutta
from sdediff.targets import gaussian
from sdediff.testing.gaussian import gaussian_model
from tests.solvers.draws import draws

F64 = torch.float64


# --- the flow by embedded pairs
@pytest.mark.parametrize("sde", [sd.VP(), sd.VE(), sd.EDM(), sd.RectifiedFlow()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("variable", ["angle", "t"])
@pytest.mark.parametrize("method", ["bosh3", "dopri5", "tsit5"])
def test_it_follows_the_exact_flow_of_a_gaussian(sde: sd.LinearSDE, variable: str, method: str) -> None:
    target = gaussian(mean=[0.5, -1.0], std=[0.3, 1.5])
    start = sde.t_max
    x = sde.schedule(start).sigma * draws(6, 2, seed=3)
    solver = AdaptiveRK(method, 1e-6, 1e-6, variable)
    found = sd.sample(target.model(sde), x=x, solver=solver, start=start, denoise=False)
    exact = target.flow(x, sde, start, sde.t_min)
    assert (found - exact).abs().max().item() < 2e-4
    back = sd.encode(target.model(sde), found, solver=solver, stop=sde.t_min, start=start)
    alpha = sde.schedule(sde.t_min).alpha
    assert (back - target.flow(found * alpha, sde, sde.t_min, start)).abs().max() < 5e-3 * x.abs().max()


def test_the_angle_of_a_wider_scale_is_the_same_flow() -> None:
    model = sd.target("target_m").model(sd.VP())
    x = draws(6, 2)
    runs = [
        sd.sample(model, x=x, solver=AdaptiveRK(rtol=1e-9, atol=1e-9, scale=scale), denoise=False)
        for scale in (0.3, 1.0, 2.5)
    ]
    assert (runs[0] - runs[1]).abs().max().item() < 1e-6
    assert (runs[2] - runs[1]).abs().max().item() < 1e-6


def test_own_steps_in_the_angle_need_fewer_calls_than_a_library_s_shared_step(marches: list[Any]) -> None:
    """target_m under EDM: per sample under half of torchdiffeq's dopri5 at 1e-5, at no larger an error (x 1.5)."""
    sde = sd.EDM()
    model = sd.target("target_m").model(sde)
    x = 80 * draws(48, 2)
    exact = sd.sample(model, x=x, solver=AdaptiveRK(rtol=1e-11, atol=1e-11), denoise=False)
    theirs = sd.sample(model, x=x, solver="ode", denoise=False, full=True)
    marches.clear()
    ours = sd.sample(model, x=x, solver="rk_adaptive", denoise=False, full=True)
    errors = [(run.x - exact).norm(dim=1).median().item() for run in (theirs, ours)]
    assert errors[1] < 1.5 * errors[0], errors
    calls = marches[0].calls
    assert calls.double().mean() < 0.5 * theirs.calls
    assert ours.calls == marches[0].evaluations + 2 < theirs.calls  # two for the trial of two samples
    assert ours.calls >= calls.max()


class _Conditioned(torch.nn.Module):
    """A v network whose answer depends on conditions with a row a sample, and on one without."""

    def forward(self, x: Any, t: Any, shift: Any, parts: Any, table: Any, name: str) -> torch.Tensor:
        assert name == "plain"
        assert len(shift) == len(x) == len(parts["gain"])
        assert len(table) == 3
        return torch.tanh(x * parts["gain"][:, None] + shift * table.sum())


@pytest.mark.parametrize("solver", ["rk_adaptive", "dpm_adaptive", "adaptive_sde"])
def test_conditions_follow_their_samples(solver: str) -> None:
    model = sd.ScoreModel(_Conditioned(), sd.VP(), predicts="v", per_sample=("parts",))
    shift, gain, table = draws(8, 2, seed=1), torch.linspace(0.1, 3.0, 8, dtype=F64), torch.ones(3, dtype=F64)

    def run(rows: slice, index: int) -> torch.Tensor:
        cond = {"shift": shift[rows], "parts": {"gain": gain[rows]}, "table": table, "name": "plain"}
        shape = (len(shift[rows]), 2)
        return sd.sample(model, shape, solver=solver, cond=cond, seed=4, index=index, dtype=F64)

    together = run(slice(None), 0)
    for i in (0, 3, 7):
        assert (run(slice(i, i + 1), i)[0] - together[i]).abs().max().item() < 1e-12


def test_a_network_that_fails_is_named_with_the_place() -> None:
    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.where(t[:, None] < 0.5, math.nan, x)

    model = sd.ScoreModel(net, sd.VP(), predicts="v")
    for solver, place in (("rk_adaptive", "angle"), ("dpm_adaptive", "lam"), ("adaptive_sde", "t")):
        with pytest.raises(integrate.IntegrationError, match=f"2 of 2 samples: not finite at {place}="):
            sd.sample(model, (2, 2), solver=solver)
    short = AdaptiveRK(max_steps=3)
    with pytest.raises(integrate.IntegrationError, match="step limit"):
        sd.sample(gaussian_model(sd.VP()), (2, 2), solver=short)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AdaptiveRK(method="rk4"), "heun12"),
        (lambda: AdaptiveRK(variable="lam"), "angle"),
        (lambda: AdaptiveRK(rtol=0.0), "rtol=0.0"),
        (lambda: DPMAdaptive(pair=3), "12 or 23"),
        (lambda: AdaptiveSDE(atol=-1.0), "atol=-1.0"),
        (lambda: RungeKutta(variable="lam"), "sigma"),
        (lambda: ReverseSDE("log_ode"), "euler"),
    ],
)
def test_refusals_name_the_mend(make: Any, said: str) -> None:
    with pytest.raises(sd.SolverError, match=said):
        make()


@pytest.mark.parametrize("solver", ["dpm_adaptive", "adaptive_sde"])
def test_where_alpha_is_0_the_mend_is_named(solver: str) -> None:
    with pytest.raises(sd.SolverError, match="alpha is 0"):
        sd.sample(gaussian_model(sd.RectifiedFlow()), (2, 2), solver=solver, start=1.0)


# --- networks that have one time for all
@pytest.mark.parametrize("solver", ["rk_adaptive", AdaptiveRK(variable="t"), "dpm_adaptive", "adaptive_sde"])
def test_a_network_that_reads_the_time_of_one_sample_for_all_is_refused(solver: Any) -> None:
    model, x = sd.target("target_m").model(sd.VP()), draws(4, 2)

    def first(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return model.net(x, t[0].expand(len(x)))

    wrong = dataclasses.replace(model, net=first)
    with pytest.raises(sd.Error, match=r"time of one\s+sample for all \(t\[0\]\)"):
        sd.sample(wrong, x=x, solver=solver)
    alone = sd.sample(wrong, x=x[:1], solver=solver)
    torch.testing.assert_close(alone, sd.sample(model, x=x, solver=solver)[:1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("solver", ["rk_adaptive", "dpm_adaptive", "adaptive_sde"])
def test_a_network_that_draws_noise_is_not_taken_for_one(solver: str) -> None:
    model, source = sd.target("target_m").model(sd.VP()), torch.Generator().manual_seed(0)

    def noisy(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return model.net(x, t) + 0.3 * torch.randn(x.shape, generator=source, dtype=x.dtype)

    solver_of = {"rk_adaptive": AdaptiveRK(rtol=1.0, atol=1.0), "dpm_adaptive": DPMAdaptive(rtol=1.0, atol=1.0)}
    found = sd.sample(
        dataclasses.replace(model, net=noisy), x=draws(4, 2), solver=solver_of.get(solver, AdaptiveSDE(1.0, 1.0))
    )
    assert found.isfinite().all()
