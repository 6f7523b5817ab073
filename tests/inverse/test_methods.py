"""Methods of inverse problems: each formula written independently, exactness where it holds, and refusals."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch

import sdediff as sd
from sdediff import inverse
from tests.inverse.measured import COSINES, F64, FIRST, bias, eight, model, problem

X = torch.tensor([[0.4, -0.3], [1.1, 0.8], [-0.6, 0.2]], dtype=F64)
NOISE, Y = 0.2, 0.9
SLOW = ("annealed_langevin", "restart", "ode", "sde", "dpm_adaptive", "adaptive_sde")


def _jacobian(one: sd.ScoreModel, x: torch.Tensor, t: float) -> torch.Tensor:
    return torch.autograd.functional.jacobian(lambda row: one(row[None], t).x0[0], x)


def test_pigdm_and_tmpd_on_one_sample() -> None:
    """D + (sigma^2/alpha) J^T A^T (A V A^T + noise^2 I)^-1 (y - A D), V = r^2 I or (sigma^2/alpha) J."""
    one, t = model(), 0.4
    level = sd.level(one.sde, t)
    gain, kappa2 = level.sigma**2 / level.alpha, (level.sigma / level.alpha) ** 2
    for x in X:
        jacobian, x0 = _jacobian(one, x, t), one(x[None], t).x0[0]
        for name, spread in (
            ("pigdm", kappa2 * 0.8**2 / (kappa2 + 0.8**2) * torch.eye(2, dtype=F64)),
            ("tmpd", gain * jacobian),
        ):
            inverted = torch.linalg.inv(FIRST @ spread @ FIRST.T + NOISE**2 * torch.eye(1, dtype=F64))
            expected = x0 + gain * jacobian.T @ FIRST.T @ inverted @ (torch.tensor([Y], dtype=F64) - FIRST @ x0)
            options: dict[str, Any] = {"std": 0.8} if name == "pigdm" else {}
            guided, _ = inverse.METHODS[name].model(one, problem(NOISE, Y), **options), None
            torch.testing.assert_close(guided(x[None], t).x0[0], expected, rtol=1e-9, atol=1e-9)
            assert not guided(x[None], t).x0.requires_grad


def test_tmpd_solves_for_several_measurements() -> None:
    one, t, y = eight().model(sd.VP()), 0.5, torch.tensor([0.5, -0.2, 0.1], dtype=F64)
    guided = inverse.METHODS["tmpd"].model(one, inverse.Problem(inverse.Matrix(COSINES), y, 0.3))
    level = sd.level(one.sde, t)
    x = torch.linspace(-1, 1, 8, dtype=F64)
    jacobian, x0, gain = _jacobian(one, x, t), one(x[None], t).x0[0], level.sigma**2 / level.alpha
    inner = COSINES @ (gain * jacobian) @ COSINES.T + 0.09 * torch.eye(3, dtype=F64)
    expected = x0 + gain * jacobian.T @ COSINES.T @ torch.linalg.solve(inner, y - COSINES @ x0)
    torch.testing.assert_close(guided(x[None], t).x0[0], expected, rtol=1e-7, atol=1e-8)


def test_diffpir_is_its_minimiser() -> None:
    one, t = model(), 0.3
    level = sd.level(one.sde, t)
    x0 = inverse.METHODS["diffpir"].model(one, problem(NOISE, Y), weight=2.0)(X, t).x0.detach().requires_grad_()
    plain = one(X, t).x0
    rho = 2.0 * (NOISE * level.alpha / level.sigma) ** 2
    cost = (Y - x0 @ FIRST.T).square().sum() + rho * (x0 - plain).square().sum()
    (gradient,) = torch.autograd.grad(cost, x0)
    assert gradient.abs().max() < 1e-10


def test_dps_steps_by_the_gradient_of_every_samples_own_norm() -> None:
    one = model()
    grid = torch.tensor([0.5, 0.4], dtype=F64)
    plain = sd.sample(one, x=X, solver="ddim", grid=grid, denoise=False)
    options = {"grid": grid, "denoise": False}
    moved = sd.sample(one, x=X, solver=inverse.DPS(sd.solver("ddim"), problem(), 0.7), **options)
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((Y - one(x, 0.5).x0 @ FIRST.T).norm(dim=1).sum(), x)
    torch.testing.assert_close(moved, plain - 0.7 * gradient, rtol=1e-9, atol=1e-9)
    alone = sd.sample(one, x=X[1:2], solver=inverse.DPS(sd.solver("ddim"), problem(), 0.7), **options)
    torch.testing.assert_close(alone, moved[1:2], rtol=1e-12, atol=1e-12)


def test_dps_takes_any_differentiable_operator() -> None:
    product = inverse.Problem(lambda x: x[:, :1] * x[:, 1:], torch.tensor([1.2], dtype=F64))
    options: dict[str, Any] = {"steps": 40, "grid": "uniform", "dtype": F64}
    x = inverse.solve(model(), product, 64, by="dps", shape=(2,), scale=0.3, **options)
    free = sd.sample(model(), (64, 2), solver="ancestral", **options)
    assert product.residual(x).abs().median() < 0.5 * product.residual(free).abs().median()
    with pytest.raises(sd.Error, match="singular directions of a linear operator"):
        inverse.solve(model(), product, 4, by="pigdm", shape=(2,), steps=2)
    with pytest.raises(sd.Error, match="give shape="):
        inverse.solve(model(), product, 4, by="dps", steps=2)


def test_ddrm_on_one_step() -> None:
    """Kawar et al. 2022: directions unseen, seen below and above the measurement's noise."""
    one, noise = model(), sd.noise.Counter(3)
    for t, s in ((0.5, 0.4), (0.2, 0.05)):
        x = sd.sample(one, x=X, solver=inverse.DDRM(problem()), grid=[t, s], denoise=False, seed=3)
        p, end, z = one(X, t), sd.level(one.sde, s), noise(sd.levels(one.sde, [t, s])[0], None, X)
        kappa, kept = end.sigma / end.alpha, math.sqrt(1 - 0.85**2)
        expected = p.x0 + kappa * (kept * p.eps + 0.85 * z)
        if kappa < NOISE:
            expected[:, 0] = p.x0[:, 0] + kappa * (kept * (Y - p.x0[:, 0]) / NOISE + 0.85 * z[:, 0])
        else:
            expected[:, 0] = Y + math.sqrt(kappa**2 - NOISE**2) * z[:, 0]
        torch.testing.assert_close(x, end.alpha * expected, rtol=1e-9, atol=1e-9)


def test_a_gaussian_posterior_is_what_tmpd_samples() -> None:
    """For Gaussian data V is the exact covariance, so the guided score is the posterior's."""
    target = sd.targets.gaussian([0.5, -0.3], cov=[[1.0, 0.6], [0.6, 0.5]])
    exact, _ = sd.targets.posterior(target, FIRST, [0.9], 0.2)
    guided = inverse.METHODS["tmpd"].model(target.model(sd.VP()), problem())
    for t in (0.05, 0.4, 0.9):
        torch.testing.assert_close(guided(X, t).score, exact.score(X, sd.VP(), t), rtol=1e-7, atol=1e-7)


def _walked(by: str, kinds: set[str]) -> list[str]:
    """The solvers that a method goes with, of those of these names; the others are refused in a sentence."""
    one, kept, refused = model(), [], list[str]()
    for kind, solver in sd.list_solvers().items():
        if not solver.alone or kind not in kinds:
            continue
        options: dict[str, Any] = {"resamplings": 2, "jump": 2} if by == "repaint" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                x = inverse.solve(one, problem(), 2, by=by, solver=solver, steps=4, dtype=F64, **options)
            except sd.SolverError as error:
                refused.append(str(error))
                continue
        assert x.isfinite().all(), kind
        kept.append(kind)
    assert all("write" in text or "leave" in text for text in refused), refused
    return kept


@pytest.mark.slow
@pytest.mark.parametrize("by", inverse.METHODS)
def test_the_product_with_slow_solvers(by: str) -> None:
    kept = _walked(by, set(SLOW))
    assert ("ode" in kept) == (by in ("pigdm", "tmpd", "diffpir"))


@pytest.mark.parametrize("by", inverse.METHODS)
def test_the_product_with_solvers(by: str) -> None:
    """Every method with every solver: finite and near the measurement, or refused in a sentence."""
    kept = _walked(by, set(sd.list_solvers()) - set(SLOW))
    assert set(kept) == {"ancestral", "ddpm"} if by == "ddrm" else {"ancestral", "ddim", "unipc", "edm"} <= set(kept)
    assert ("rk_adaptive" in kept) == (by in ("pigdm", "tmpd", "diffpir"))


def test_biases_are_those_of_the_literature_table() -> None:
    """Distance of means and ratio of traces for y = .9, as measured with 4,000 samples; here 400 at +-.15."""
    exact, _ = sd.targets.posterior(sd.target("target_m"), FIRST, [0.9], 0.2)
    for by, options, mean, trace in (
        ("pigdm", {}, 0.26, 0.98), ("tmpd", {}, 0.23, 0.96), ("diffpir", {}, 0.30, 0.93), ("ddrm", {}, 0.23, 0.96),
        ("replacement", {}, 0.23, 0.93), ("dps", {"scale": 1.0}, 0.05, 1.24), ("mcg", {}, 1.06, None),
    ):  # fmt: skip
        x = inverse.solve(model(), problem(), 400, by=by, steps=100, grid="uniform", dtype=F64, **options)
        found = bias(x, exact)
        assert found[0] == pytest.approx(mean, abs=0.2), by
        assert trace is None or found[1] == pytest.approx(trace, abs=0.2), by


def test_what_a_method_refuses() -> None:
    with pytest.raises(sd.SolverError, match="method"):
        inverse.solve(model(), problem(), 2, by="dsp")
    with pytest.raises(sd.SolverError, match="option of replacement"):
        inverse.solve(model(), problem(), 2, by="replacement", scale=2.0)
    with pytest.raises(sd.SolverError, match=r"fixed has the shape \(2, 3\) for states \(2, 2\)"):
        inverse.solve(model(), problem(), 2, by="replacement", fixed=torch.zeros(2, 3), steps=2)
    with pytest.raises(sd.SolverError, match="option of dps"):
        inverse.solve(model(), problem(), 2, by="dps", std=2.0)
    with pytest.raises(sd.SolverError, match="step of its own"):
        inverse.solve(model(), problem(), 2, by="ddrm", solver="dpmpp_2m")
    with pytest.raises(sd.SolverError, match="differ by their place"):
        inverse.solve(model(), problem(), 2, by="repaint", solver="dpm_fast", steps=6)
