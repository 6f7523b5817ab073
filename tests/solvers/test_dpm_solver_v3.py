"""DPM-Solver-v3: its special cases, its integrals against an ODE solver, and the statistics of known models."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.interpolate import PchipInterpolator

import sdediff as sd
from sdediff.solvers import Adams, DPMSolverV3, ModelStatistics, model_statistics
from sdediff.testing import check_solver, measured_order
from sdediff.testing.gaussian import MEAN, STD, gaussian_model
from tests.references import reference

F64 = torch.float64
NOISE = ModelStatistics((0.0,), (0.0,), (-1.0,), (0.0,))
CURVED = ModelStatistics((-1.2, -0.5, 0.1, 0.8), (0.9, 0.7, 0.4, 0.3), (0.2, -0.3, 0.4, -1.0), (0.1, 0.5, -0.2, 0.3))


@pytest.mark.parametrize("process", [sd.VP(), sd.SubVP(), sd.VE()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize(("points", "corrector"), [(1, 0), (2, 0), (3, 0), (1, 2), (2, 3), (3, 3)])
@pytest.mark.parametrize(("statistics", "basis"), [(ModelStatistics(), "x0"), (NOISE, "eps")], ids=["x0", "eps"])
def test_special_statistics_are_the_known_bases(
    statistics: ModelStatistics, basis: str, points: int, corrector: int, process: sd.LinearSDE
) -> None:
    """Zheng et al. 2023, section 3.1: (l, s, b) = (1, 0, 0) is DPM-Solver++, (0, -1, 0) is DPM-Solver."""
    model = sd.target("target_m").model(process)
    pair = (DPMSolverV3(points, corrector, statistics), Adams(points, corrector, basis=basis))
    found, expected = (
        sd.sample(model, (8, 2), solver=s, steps=20, grid="log_snr", dtype=F64, seed=3, denoise=False) for s in pair
    )
    assert (found - expected).abs().max().item() < 1e-10 * max(1.0, expected.abs().max().item())


def test_one_step_is_ddim_and_two_points_are_dpmpp_2m() -> None:
    model = sd.target("target_m").model(sd.VP())
    ddim, *others = (
        sd.sample(model, (8, 2), solver=solver, steps=20, grid="log_snr", dtype=F64)
        for solver in ("ddim", DPMSolverV3(1, 0), DPMSolverV3(1, 0, NOISE))
    )
    assert all((other - ddim).abs().max().item() < 1e-12 for other in others)


@pytest.mark.parametrize("statistics", [ModelStatistics((0.0,), (0.6,), (-0.4,), (0.3,)), CURVED], ids=["one", "four"])
def test_one_call_is_exact_where_the_statistics_say_all(statistics: ModelStatistics) -> None:
    """With df/dlam = s f + b along the flow exactly, g is constant and a step of any size has no error.

    The flow y' = -l y - f and f' = s f + b are solved by DOP853; the network gives eps = (alpha f + l x)/sigma.
    """
    sde, many = sd.VP(), len(statistics.lam) > 1
    l_of = PchipInterpolator(statistics.lam, statistics.l) if many else lambda lam: statistics.l[0]

    def at(lam: float) -> tuple[float, float, float]:
        clipped = min(max(lam, statistics.lam[0]), statistics.lam[-1])
        s, b = (np.interp(lam, statistics.lam, row) for row in (statistics.s, statistics.b))
        return float(l_of(clipped)), float(s), float(b)

    def field(lam: float, state: Any) -> Any:
        own, s, b = at(lam)
        return [-own * state[0] - state[1], s * state[1] + b]

    ends = sde.schedule([0.7, 0.2])
    low, high = ends.lam.tolist()
    truth = solve_ivp(field, (low, high), [1.3, 0.4], "DOP853", rtol=1e-12, atol=1e-12, max_step=0.01).y[0, -1]

    def net(x: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
        assert abs(lam[0].item() - low) < 1e-12
        return (ends.alpha[0] * 0.4 + at(low)[0] * x) / ends.sigma[0]

    model = sd.ScoreModel(net, sde, predicts="eps", time="lam")
    x = torch.full((1, 1), 1.3, dtype=F64) * ends.alpha[0]
    found = sd.sample(model, x=x, solver=DPMSolverV3(1, 0, statistics), grid=[0.7, 0.2], denoise=False)
    assert (found / ends.alpha[1]).item() == pytest.approx(truth, abs=1e-8)


@pytest.mark.parametrize("statistics", [ModelStatistics(), ModelStatistics((0.0,), (0.9,), (0.1,), (0.05,)), CURVED])
@pytest.mark.parametrize(("points", "corrector", "order"), [(1, 0, 1), (2, 0, 2), (1, 2, 2)])
def test_measured_order(points: int, corrector: int, order: int, statistics: ModelStatistics) -> None:
    solver = DPMSolverV3(points, corrector, statistics)
    assert solver.order == order
    slope = measured_order(solver, reference=reference(sd.VP()))
    # Any statistics keep the order; far from the model's own its limit comes at more steps than these.
    assert abs(slope - order) < (0.15 if statistics == ModelStatistics() else 0.4), slope


def _exact(lam: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """l and b of N(m, c^2): f = -l m is the same for every x, so s has nothing to explain and b = -l' m."""
    own = 1 / (1 + STD**2 * torch.exp(2 * lam))
    return own, MEAN * 2 * STD**2 * torch.exp(2 * lam) * own**2


@pytest.mark.parametrize("process", [sd.VP(), sd.EDM()], ids=lambda p: type(p).__name__)
def test_statistics_of_gaussian_data_are_the_closed_form(process: sd.LinearSDE) -> None:
    x0 = MEAN + STD * torch.randn(64, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    found = model_statistics(gaussian_model(process), x0, knots=96, shared=True)
    own, b = _exact(torch.tensor(found.lam, dtype=F64))
    assert len(found.lam) == 96
    assert (torch.tensor(found.l, dtype=F64) - own).abs().max().item() < 1e-10
    assert abs(found.s).max() == 0.0
    inner = slice(1, -1)  # l' is one-sided at the ends
    assert (torch.tensor(found.b, dtype=F64)[inner] - b[inner]).abs().max().item() < 2e-2 * b.max().item()


def test_statistics_of_a_linear_model_are_its_regression() -> None:
    """Two kinds of dimension, N(0, c^2): f = k y with k = mean l - own l, regressed on its slope in closed form."""
    sde = sd.VP()
    stds = torch.tensor([0.2, 1.0], dtype=F64)

    def net(x: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
        kappa = torch.exp(-lam)[:, None]
        alpha = 1 / (1 + kappa**2).sqrt()
        return kappa * (x / alpha) / (stds**2 + kappa**2)

    model = sd.ScoreModel(net, sde, predicts="eps", time="lam")
    x0 = stds * torch.randn(20000, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    found = model_statistics(model, x0, knots=40, shared=True)
    lam = torch.tensor(found.lam, dtype=F64)[:, None]
    kappa2 = torch.exp(-2 * lam)
    own = kappa2 / (stds**2 + kappa2)
    slope = -2 * own * (1 - own)
    mean, mean_dot = own.mean(1, keepdim=True), slope.mean(1, keepdim=True)
    k = own - mean  # kappa eps = own y, so f = (own - mean) y and y' = -own y
    dot = slope - mean_dot - k * own
    power = stds**2 + kappa2
    s = (k * dot * power).sum(1) / (k**2 * power).sum(1)
    middle = (lam[:, 0] > -1.5) & (lam[:, 0] < 3)
    # Standard errors of the regression on 40000 numbers: under 2 % of s, plus l' by differences of knots.
    assert (torch.tensor(found.l, dtype=F64) - mean[:, 0]).abs().max().item() < 1e-2
    assert ((torch.tensor(found.s, dtype=F64) - s).abs() / s.abs().max())[middle].max().item() < 0.04


def test_a_linear_model_is_solved_in_one_step_by_a_number_a_dimension() -> None:
    """Each dimension a Gaussian of its own: l and b say all of it, f stands still, whatever the step."""
    g, sde = sd.targets.gaussian([0.3, -0.5, 0.1], std=torch.tensor([0.2, 1.0, 0.05])), sd.VP()
    x0 = g.sample(64, dtype=F64)
    found = model_statistics(g.model(sde), x0, knots=200)
    assert found.dims == 3
    x = g.sample(8, seed=1, dtype=F64) * 0.2 + torch.randn(8, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    grid = [0.9, 0.3]
    truth = g.flow(x, sde, *grid)
    error = {
        name: (sd.sample(g.model(sde), x=x, solver=DPMSolverV3(1, 0, s), grid=grid, denoise=False) - truth).abs().max()
        for name, s in (("own", found), ("shared", model_statistics(g.model(sde), x0, knots=200, shared=True)))
    }
    # Slopes along the flow are differences over .02 of lam, which leaves its square.
    assert error["own"] < 5e-4
    assert error["shared"] > 100 * error["own"]


def test_numbers_a_dimension_that_agree_are_shared_ones() -> None:
    model = sd.target("target_m").model(sd.VP())
    wide = ModelStatistics(CURVED.lam, *(np.stack([row, row], 1) for row in (CURVED.l, CURVED.s, CURVED.b)))
    options = {"steps": 10, "grid": "log_snr", "dtype": F64}
    # The numbers are kept as tensors of every kind asked for, so another kind comes first.
    sd.sample(model, (8, 2), solver=DPMSolverV3(2, 3, wide), **(options | {"dtype": torch.float32}))
    run = [sd.sample(model, (8, 2), solver=DPMSolverV3(2, 3, s), **options) for s in (CURVED, wide)]
    torch.testing.assert_close(run[1], run[0], rtol=1e-10, atol=1e-10)
    with pytest.raises(sd.SolverError, match="statistics of 2 dimensions for states"):
        sd.sample(sd.target("gmm64").model(sd.VP()), (2, 1, 8, 8), solver=DPMSolverV3(2, 3, wide), steps=3)


@pytest.mark.parametrize("shared", [False, True])
def test_measured_statistics_help_at_few_calls(shared: bool) -> None:
    """Zheng et al. 2023, section 4: fewer calls for the same distance from the exact flow, here on a mixture."""
    exact = reference(sd.VP())
    fitted = model_statistics(exact.model, sd.target("target_m").sample(512).double(), shared=shared)
    solvers = {"x0": DPMSolverV3(), "fitted": sd.solver("dpm_solver_v3", statistics=fitted)}
    for steps in (6, 8, 10):
        options = {"x": exact.starts, "steps": steps, "grid": "log_snr", "denoise": False}
        ends = {name: sd.sample(exact.model, solver=solver, **options) for name, solver in solvers.items()}
        error = {name: (x - exact.ends).norm(dim=1) for name, x in ends.items()}
        assert error["fitted"].median() < 0.5 * error["x0"].median()


def test_statistics_are_a_value_and_repeat() -> None:
    model = gaussian_model(sd.VP())
    x0 = torch.linspace(-1, 1, 24, dtype=F64).reshape(4, 6)
    before = torch.get_rng_state()
    kept = x0.clone()
    one, two = (model_statistics(model, x0, knots=5) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert torch.equal(x0, kept)
    assert torch.equal(before, torch.get_rng_state())
    assert sd.solver("dpm_solver_v3", statistics=one) == sd.solver("dpm_solver_v3", statistics=two)


def test_other_members_conform() -> None:
    solver = sd.solver("dpm_solver_v3", order=3, corrector=False)
    assert solver.order == 3
    assert len(check_solver(solver)) == 11


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: sd.solver("dpm_solver_v3", order=4), "1, 2 or 3"),
        (lambda: ModelStatistics((0.0, 1.0)), "one length"),
        (lambda: ModelStatistics((1.0, 0.0), (1.0, 1.0), (0.0, 0.0), (0.0, 0.0)), "ascending"),
        (lambda: ModelStatistics((0.0,), (math.nan,)), "not finite"),
        (lambda: model_statistics(gaussian_model(sd.VP()), torch.zeros(1, 2)), "two of both"),
        (
            lambda: sd.sample(
                sd.ScoreModel(lambda x, t: x, sd.RectifiedFlow(), predicts="velocity"),
                (2, 2),
                solver="dpm_solver_v3",
                grid="uniform",
                start=1.0,
            ),
            "alpha is 0",
        ),
    ],
)
def test_errors(make: Any, said: str) -> None:
    with pytest.raises(sd.SolverError, match=said):
        make()
