"""Runge-Kutta steps on a grid, in EDM's frame."""

from __future__ import annotations

import pytest
import torch

import sdediff as sd
from sdediff.solvers import RungeKutta
from sdediff.testing import measured_order
from tests.solvers.draws import draws

F64 = torch.float64


# --- Runge-Kutta on a grid, in EDM's frame
@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2), ("kutta3", 3), ("rk38", 4)])
def test_runge_kutta_over_sigma_has_its_order(method: str, order: int) -> None:
    assert abs(measured_order(RungeKutta(method, "sigma")) - order) < 0.15


@pytest.mark.parametrize("method", ["euler", "ralston", "rk38", "butcher5"])
def test_on_edm_the_frame_of_sigma_is_time_itself(method: str) -> None:
    model = sd.problem("target_m").model(sd.EDM())
    x = 80 * draws(5, 2)
    runs = [sd.sample(model, x=x, solver=RungeKutta(method, v), steps=12) for v in ("t", "sigma")]
    assert (runs[0] - runs[1]).abs().max().item() < 1e-9


def test_over_sigma_a_path_of_any_process_is_edm_s() -> None:
    """Karras et al. 2022, eq. 4: x/alpha follows d(x/alpha)/dkappa = eps, the same for all processes."""
    target = sd.problem("target_m")
    x = draws(4, 2)
    ends = []
    for sde in (sd.VP(), sd.EDM(), sd.SubVP()):
        kappa = torch.linspace(5.0, 0.1, 9, dtype=F64)
        times = sde.t_of_lam(-kappa.log())
        first, last = sde.alpha(times[0]), sde.alpha(times[-1])
        out = sd.sample(target.model(sde), x=x * first, grid=times, solver=RungeKutta("rk4", "sigma"), denoise=False)
        ends.append(out / last)
    assert (ends[0] - ends[1]).abs().max().item() < 1e-9
    assert (ends[2] - ends[1]).abs().max().item() < 1e-9


def test_euler_over_sigma_is_ddim() -> None:
    model = sd.problem("target_m").model(sd.VP())
    options = {"x": draws(3, 2), "steps": 7, "grid": "log_snr"}
    gap = sd.sample(model, solver=RungeKutta("euler", "sigma"), **options) - sd.sample(model, solver="ddim", **options)
    assert gap.abs().max().item() < 1e-12


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun", "rk4"])
def test_over_the_straight_path_any_process_is_rectified_flow(method: str) -> None:
    """x/(alpha + sigma) over sigma/(alpha + sigma) obeys rectified flow's equation, whose own time that is."""
    target, vp, flow = sd.problem("target_m"), sd.VP(), sd.RectifiedFlow()
    times = sd.grid("log_snr", vp, 9)
    straight = flow.t_of_lam(vp.lam(times))
    first, last = (sd.levels(vp, times)[i] for i in (0, -1))
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    options = {"denoise": False, "solver": RungeKutta(method, "flow"), "x": x}
    found = sd.sample(target.model(vp), grid=times, **options) / (last.alpha + last.sigma)
    options |= {"solver": RungeKutta(method), "x": x / (first.alpha + first.sigma)}
    torch.testing.assert_close(found, sd.sample(target.model(flow), grid=straight, **options), rtol=1e-9, atol=1e-10)
