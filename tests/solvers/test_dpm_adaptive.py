"""DPM-Solver-12 and -23 with steps of their own: the published algorithm written again for one sample."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import sdediff as sd
from sdediff.solvers import DPMAdaptive
from tests.solvers.draws import draws

F64 = torch.float64


# --- DPM-Solver-12 and -23
def _dpm_alone(model: Any, x: torch.Tensor, p: int, rtol: float, atol: float) -> tuple[torch.Tensor, int, int]:
    """One sample by Lu et al. 2022, algorithms 1, 2 and 4 at alpha = 1 over lam = -log sigma, in plain floats."""
    start, stop = -math.log(80.0), -math.log(0.002)

    def eps(y: torch.Tensor, lam: float) -> torch.Tensor:
        return model(y, math.exp(-lam)).eps

    lam, h, before, good, bad = start, 0.05, x, 0, 0
    while lam < stop:
        end = min(stop, lam + h)
        step = end - lam
        e0 = eps(x, lam)
        one = x - math.exp(-end) * math.expm1(step) * e0

        def inside(share: float, x: Any = x, lam: float = lam, step: float = step, e0: Any = e0) -> Any:
            return x - math.exp(-(lam + share * step)) * math.expm1(share * step) * e0

        if p == 2:
            e1 = eps(inside(0.5), lam + step / 2)
            low, high = one, one - math.exp(-end) * math.expm1(step) * (e1 - e0)
        else:
            e1 = eps(inside(1 / 3), lam + step / 3)
            low = one - 1.5 * math.exp(-end) * math.expm1(step) * (e1 - e0)
            s2, u = lam + 2 * step / 3, 2 * step / 3
            e2 = eps(inside(2 / 3) - math.exp(-s2) * 2 * (math.expm1(u) / u - 1) * (e1 - e0), s2)
            high = one - 1.5 * math.exp(-end) * (math.expm1(step) / step - 1) * (e2 - e0)
        scale = torch.clamp(rtol * torch.maximum(low.abs(), before.abs()), min=atol)
        error = ((low - high) / scale).norm().item() / math.sqrt(x.numel())
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / p) - 1)
        if factor >= 0.81:
            x, before, lam, good = high, low, end, good + 1
        else:
            bad += 1
        h *= factor
    return x, good, bad


@pytest.mark.parametrize(("rtol", "atol"), [(0.05, 0.0078), (1e-3, 1e-4)])
@pytest.mark.parametrize("pair", [12, 23])
def test_dpm_adaptive_is_dpm_solver_12_and_23(pair: int, rtol: float, atol: float, marches: list[Any]) -> None:
    model = sd.problem("gmm64").model(sd.EDM())
    x = 80 * draws(3, 1, 8, 8)
    found = sd.sample(model, x=x, solver=DPMAdaptive(pair, rtol, atol), start=80.0, stop=0.002, denoise=False)
    result = marches[-1]
    assert result.rejected.sum() > 0
    for i in range(3):
        alone, good, bad = _dpm_alone(model, x[i : i + 1], pair % 10, rtol, atol)
        assert (found[i] - alone[0]).abs().max().item() < 1e-10
        assert (result.steps[i], result.rejected[i]) == (good, bad)
        # A rejected try leaves its first call to the next one.
        assert result.calls[i] == (pair % 10) * (good + bad) - bad


def test_dpm_adaptive_moves_x_over_alpha_alike_on_every_process() -> None:
    target, lam = sd.problem("target_m"), torch.tensor([-1.5, 3.0], dtype=F64)
    x, ends = draws(4, 2), []
    for sde in (sd.VP(), sd.EDM()):
        times = sde.t_of_lam(lam)
        first, last = sde.alpha(times).tolist()
        ends.append(sd.sample(target.model(sde), x=x * first, grid=times, solver="dpm_adaptive", denoise=False) / last)
    assert (ends[0] - ends[1]).abs().max().item() < 1e-8
