"""The exponential Adams family: measured orders, exact cases, refusals."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad

import sdediff as sd
from sdediff.grids.levels import Level, level
from sdediff.model.prediction import LinearPrediction
from sdediff.solvers import model_statistics
from sdediff.solvers.adams import Adams
from sdediff.solvers.angle import Angle
from sdediff.solvers.weights import BASES, VARIABLES
from sdediff.testing import check_solver, measured_order
from tests.references import reference

F64 = torch.float64
MEMBERS = list(itertools.product(("x0", "eps", "F"), VARIABLES))
# Over sigma and rho the other bases' outputs are far from polynomials until steps are very small.
SMOOTH = [m for m in MEMBERS if m[0] == "eps" or m[1] in ("lam", "angle")]


def _points(*times: float) -> list[Level]:
    return [level(sd.VP(), t) for t in times]


@pytest.mark.parametrize(("points", "corrector"), [(1, 2), (2, 0), (2, 3), (3, 0)])
@pytest.mark.parametrize(("basis", "variable"), SMOOTH)
def test_measured_order(basis: str, variable: str, points: int, corrector: int) -> None:
    solver = Adams(points, corrector, variable, basis)
    slope = measured_order(solver, reference=reference(sd.VP()))
    assert abs(slope - solver.order) < 0.15, f"{solver!r}: measured {slope:.3f}"


@pytest.mark.parametrize(("basis", "variable"), [("x0", "lam"), ("eps", "lam"), ("F", "angle")])
def test_order_four_with_a_corrector(basis: str, variable: str) -> None:
    """Its limit is reached late: 320 to 1280 steps."""
    slope = measured_order(Adams(3, 4, variable, basis), counts=(320, 640, 1280), reference=reference(sd.VP()))
    assert abs(slope - 4) < 0.15


@pytest.mark.parametrize("scale", ["std", "dims", "pca"])
def test_the_whitened_basis_keeps_its_order_at_every_scale(scale: str) -> None:
    exact = reference(sd.VP())
    model = replace(exact.model, stats=sd.statistics(sd.target("target_m").sample(4000, seed=0)))
    exact = replace(exact, model=model)
    assert abs(measured_order(Angle(scale=scale), reference=exact) - 3) < 0.15
    assert abs(measured_order(Angle(2, 0, scale=scale), reference=exact) - 2) < 0.15


def test_the_whitened_basis_is_exact_on_gaussian_data_in_one_step() -> None:
    """With one scale a principal direction v is zero, so any two levels are one exact step apart."""
    g = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, dtype=F64, generator=g)
    mean = torch.randn(5, dtype=F64, generator=g)
    cov = root @ root.T + 0.1 * torch.eye(5, dtype=F64)
    values, vectors = torch.linalg.eigh(cov)
    stats = sd.Statistics(mean, cov.diagonal(), vectors.T.contiguous(), values, 1.0)
    sde = sd.VP()

    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        at = sde.schedule(t[:1].double())
        a, s = at.alpha.item(), at.sigma.item()
        total = a * a * cov + s * s * torch.eye(5, dtype=F64)
        return s * torch.linalg.solve(total, (x - a * mean).T).T

    model = sd.ScoreModel(net, sde, "eps", stats=stats)
    x = torch.randn(7, 5, dtype=F64, generator=g)
    found = sd.sample(model, x=x, solver=Angle(1, 0, scale="pca"), grid=[1.0, 0.4], denoise=False)
    t, s = sd.levels(sde, [1.0, 0.4])
    before, after = (torch.sqrt(v.alpha**2 * values + v.sigma**2) for v in (t, s))
    exact = ((x - t.alpha * mean) @ vectors * after / before) @ vectors.T + s.alpha * mean
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("scale", ["std", "dims", "pca"])
def test_a_first_run_in_inference_mode_leaves_later_ones_their_gradients(scale: str) -> None:
    """What is kept of statistics, and the statistics themselves, may be saved for a backward pass."""
    target = sd.target("target_m")
    options = {"solver": Angle(scale=scale), "steps": 5}
    with torch.inference_mode():
        x = target.sample(64, seed=1, dtype=F64)
        model = replace(target.model(sd.VP()), stats=sd.statistics(x))
        first = sd.sample(model, x=x, **options)
    start = x.clone().requires_grad_()
    second = sd.sample(model, x=start, grad=True, **options)
    (slope,) = torch.autograd.grad(second.sum(), start)
    assert torch.equal(first, second.detach())
    assert bool(torch.isfinite(slope).all())
    assert slope.abs().sum() > 0


def test_low_rank_statistics_share_the_rest() -> None:
    g = torch.Generator().manual_seed(0)
    data = torch.randn(400, 2, 20, dtype=F64, generator=g) * torch.linspace(0.2, 3, 20, dtype=F64)
    full, low = sd.statistics(data), sd.statistics(data, rank=6)
    torch.testing.assert_close(full.covariance(), torch.cov(data.reshape(400, -1).T), rtol=1e-9, atol=1e-9)
    assert low.covariance().trace().item() == pytest.approx(full.covariance().trace().item(), rel=1e-9)
    model = replace(sd.load("digits-vp"), stats=None)
    with pytest.raises(sd.SolverError, match=r"stats=sd\.statistics\(data\)"):
        sd.sample(model, (2, 1, 8, 8), solver=Angle(scale="pca"), steps=3)


@pytest.mark.parametrize("solver", [Adams(2, 3), Adams(2, 3, "angle", "F"), Adams(2, eta=1.0), Adams(3, 2)], ids=repr)
def test_members_conform(solver: Adams) -> None:
    assert len(check_solver(solver)) == 11


@pytest.mark.parametrize("dims", [False, True])
@pytest.mark.parametrize("name", ["angle", "dpm_solver_v3"])
def test_coefficients_may_differ_from_sample_to_sample(name: str, dims: bool) -> None:
    """A guided prediction may have (B,) coefficients, which are not looked up: the same as sample by sample."""
    g = torch.Generator().manual_seed(3)
    data, x = torch.randn(64, 3, dtype=F64, generator=g), torch.randn(4, 3, dtype=F64, generator=g)
    plain = sd.ScoreModel(lambda x, t: 0.3 * x * torch.tanh(x), sd.VP(), stats=sd.statistics(data))
    options = {"scale": "dims" if dims else 0.8}
    if name == "dpm_solver_v3":
        options = {"statistics": model_statistics(plain, data, knots=8, shared=not dims)}
    solver, factors = sd.solver(name, **options), torch.linspace(0.9, 1.1, 4, dtype=F64)

    def run(x: torch.Tensor, factor: Any) -> torch.Tensor:
        def change(p: sd.Prediction, model: sd.ScoreModel) -> sd.Prediction:
            a, b = p.pair("x0")
            return LinearPrediction(p.x, p.raw, p.level, a * factor, b * factor, None)

        return sd.sample(sd.guidance.map_prediction(plain, change), x=x, solver=solver, steps=5, denoise=False)

    one_by_one = torch.cat([run(x[i : i + 1], v) for i, v in enumerate(factors.tolist())])
    torch.testing.assert_close(run(x, factors), one_by_one, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["unipc", "angle"])
def test_a_corrector_shares_a_step_with_langevin(name: str) -> None:
    """No x of an earlier level is in the history, so a corrector step in between changes nothing of it."""
    assert len(check_solver(sd.solver("predictor_corrector", predictor=name))) == 11


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("adams", {"basis": "x1"}, "x0"),
        ("adams", {"variable": "lamb"}, "lam"),
        ("adams", {"points": 5}, "1 to 4"),
        ("adams", {"corrector_points": 1}, "2 to 5"),
        ("adams", {"eta": 1.0, "basis": "F"}, "x0"),
        ("adams", {"second": "bh3"}, "bh1"),
        ("unipc", {"order": 4}, "1 to 3"),
        ("deis", {"variant": "tab"}, "tAB"),
        ("angle", {"scale": "pcs"}, "pca"),
        ("angle", {"scale": -1.0}, "positive"),
        ("angle", {"variable": "t"}, "angle"),
    ],
)
def test_errors(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(sd.SolverError, match=said):
        sd.solver(name, **options)


def test_bases_are_exact_for_a_constant_output() -> None:
    """The kernels integrate up to the closed-form totals."""
    t, s = _points(0.6, 0.4)
    for name, basis in BASES.items():
        parameter = {"x0": 0.49, "F": 0.7}.get(name, 0.0)
        area, _ = quad(lambda lam, b=basis, p=parameter: float(b.kernel(np.array(lam), s, p)), t.lam, s.lam)
        assert basis.total(t, s, parameter) == pytest.approx(area, rel=1e-9)


@pytest.mark.parametrize(
    ("solver", "grid", "at_most"),
    [
        (sd.solver("dpmpp_2m"), "log_snr", 75),
        (sd.solver("dpm_solver_3"), "log_snr", 48),
        (Adams(3, basis="eps"), "log_snr", 32),
        (Angle(3, 4, scale="pca"), "angle", 16),
    ],
    ids=["2M", "3S", "AB3", "angle"],
)
def test_calls_for_a_median_error_of_a_thousandth(solver: sd.Solver, grid: str, at_most: int) -> None:
    """A2: the whitened basis needs half of the calls of the best published method, AB3's 32."""
    exact = reference(sd.VP())
    model = replace(exact.model, stats=sd.statistics(sd.target("target_m").sample(4000, seed=0)))
    steps = at_most // solver.calls
    x = sd.sample(model, x=exact.starts, solver=solver, grid=sd.grid(grid, sd.VP(), steps), denoise=False)
    assert (x - exact.ends).norm(dim=1).median().item() < 1e-3
