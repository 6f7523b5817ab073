"""The exponential Adams family: weights against quadrature, its named members against their papers' formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

import sdediff as sd
from sdediff.grids.levels import Level, level
from sdediff.solvers.adams import Adams
from sdediff.solvers.angle import Angle
from sdediff.solvers.weights import VARIABLES, Rule, Weights

F64 = torch.float64
MEMBERS = list(itertools.product(("x0", "eps", "F"), VARIABLES))
PROCESSES = pytest.mark.parametrize("process", [sd.VP(), sd.SubVP(), sd.VE()], ids=lambda p: type(p).__name__)


def _points(*times: float) -> list[Level]:
    return [level(sd.VP(), t) for t in times]


def _er_scaler(kappa: float) -> float:
    """ER-SDE's noise scaler h(kappa). Cui et al. 2023."""
    return kappa * (math.exp(kappa**0.3) + 10)


def _kernel(kappa: float, basis: str, s: Level, parameter: float) -> float:
    """What a unit of the basis adds to x_s over a unit of kappa = sigma/alpha, from the equation of x/alpha."""
    if basis == "eps":  # d(x/alpha) = eps dkappa
        return s.alpha
    if basis == "x0":  # d(y / kappa^(1+eta^2)) = -(1 + eta^2) kappa^(-2-eta^2) x0 dkappa
        p = 1 + parameter
        return -p * s.alpha * (s.sigma / s.alpha) ** p * kappa ** (-p - 1)
    if basis == "er":
        slope = (_er_scaler(kappa * (1 + 1e-6)) - _er_scaler(kappa * (1 - 1e-6))) / (2e-6 * kappa)
        return -s.alpha * _er_scaler(s.sigma / s.alpha) * slope / _er_scaler(kappa) ** 2
    w = math.hypot(s.alpha * parameter, s.sigma)  # d(x/w) = F dphi, tan(phi) = kappa/scale
    return w * parameter / (parameter**2 + kappa**2)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize(("basis", "variable"), [*MEMBERS, ("er", "sigma"), ("eps", "t")])
def test_weights_integrate_the_lagrange_polynomials(basis: str, variable: str, count: int) -> None:
    levels = sd.levels(sd.VP(), [0.8, 0.75, 0.66, 0.6, 0.4])
    (*earlier, t), s = levels[:-1], levels[-1]
    past = [t, *reversed(earlier)][:count]
    parameter = {"x0": 0.49, "F": 0.7}.get(basis, 0.0)
    place = (
        (lambda lam: sd.VP().t_of_lam(lam).item()) if variable == "t" else (lambda lam: VARIABLES[variable](lam, 0.7))
    )
    rule = Rule(basis, variable, 0.7, time_at=sd.VP().times_at if variable == "t" else None)
    weights = Weights(levels, rule, np.array([[parameter]]))
    found = weights.of(np.array([3]), np.array([0]), np.array([count]))[0, :count, 0]
    at = [place(p.lam) for p in past]
    for j, value in enumerate(found):

        def integrand(kappa: float, j: int = j) -> float:
            u = place(-math.log(kappa))
            others = [v for i, v in enumerate(at) if i != j]
            return _kernel(kappa, basis, s, parameter) * math.prod((u - v) / (at[j] - v) for v in others)

        exact, _ = quad(integrand, t.sigma / t.alpha, s.sigma / s.alpha, epsabs=1e-13, epsrel=1e-12)
        assert value == pytest.approx(exact, rel=1e-7 if basis == "er" else 1e-9, abs=1e-10)


def _assert_same(a: sd.Solver, b: sd.Solver, sde: sd.LinearSDE, atol: float = 1e-12, steps: int = 12) -> None:
    model = sd.target("target_m").model(sde)
    x = [sd.sample(model, (8, 2), solver=v, steps=steps, grid="log_snr", dtype=F64, seed=3) for v in (a, b)]
    torch.testing.assert_close(x[0], x[1], rtol=0, atol=atol)


@PROCESSES
def test_one_point_is_ddim_in_every_basis_and_the_ancestral_step_at_eta_one(process: sd.LinearSDE) -> None:
    for variable in VARIABLES:
        _assert_same(Adams(1, variable=variable), sd.solver("ddim"), process)
        _assert_same(Adams(1, variable=variable, basis="eps"), sd.solver("ddim"), process)
    _assert_same(Adams(1, eta=1.0), sd.solver("ancestral"), process)
    _assert_same(sd.solver("unipc", order=1, corrector=False), sd.solver("ddim"), process)
    _assert_same(sd.solver("sa_solver", predictor=1, corrector=0, tau=0.0), sd.solver("ddim"), process)


@PROCESSES
def test_dpmpp_2m_is_the_papers_algorithm_2(process: sd.LinearSDE) -> None:
    """Lu et al. 2022b: x_s = (sigma_s/sigma_t) x - alpha_s (e^-h - 1) ((1 + 1/(2r)) D - D_last/(2r)), r = h_last/h."""
    model = sd.target("target_m").model(process)
    x = torch.randn(8, 2, dtype=F64, generator=torch.Generator().manual_seed(3)) * process.prior_std()
    row = sd.levels(process, sd.grid("log_snr", process, 12))
    found, last, h_last = x, None, math.inf
    for t, s in itertools.pairwise(row):
        d, h = model(found, t).x0, s.lam - t.lam
        slope = 0.0 if last is None else (d - last) * h / (2 * h_last)
        found = s.sigma / t.sigma * found - s.alpha * math.expm1(-h) * (d + slope)
        last, h_last = d, h
    run = sd.sample(model, x=x, solver="dpmpp_2m", steps=12, grid="log_snr", denoise=False)
    torch.testing.assert_close(run, found, rtol=0, atol=1e-12)
    _assert_same(sd.solver("dpmpp_2m"), sd.solver("dpmpp_3m", order=2), process)


@PROCESSES
def test_the_plain_angle_is_adams_in_the_f_basis(process: sd.LinearSDE) -> None:
    _assert_same(Angle(3, 4, scale=0.7), Adams(3, 4, "angle", "F", scale=0.7), process)


def _rows(model: sd.ScoreModel, times: list[float]) -> list[sd.Level]:
    return list(sd.levels(model.sde, times))


@PROCESSES
def test_dpmpp_3m_is_the_published_formula(process: sd.LinearSDE) -> None:
    """Lu et al. 2022b, appendix B.2, and its second-order warm-up, written out."""
    model = sd.target("target_m").model(process)
    x = process.prior_std() * torch.randn(6, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    times = sd.grid("log_snr", process, 8)
    found = sd.sample(model, x=x, solver="dpmpp_3m", grid=times, denoise=False)
    row, past = _rows(model, times.tolist()), []
    for i in range(8):
        t, s = row[i], row[i + 1]
        past.insert(0, model(x, t).x0)
        h = s.lam - t.lam
        phi1 = math.expm1(-h)
        new = s.sigma / t.sigma * x - s.alpha * phi1 * past[0]
        if i == 1:
            r0 = (t.lam - row[i - 1].lam) / h
            new = new - 0.5 * s.alpha * phi1 * (past[0] - past[1]) / r0
        elif i >= 2:
            r0, r1 = (t.lam - row[i - 1].lam) / h, (row[i - 1].lam - row[i - 2].lam) / h
            d0, d1 = (past[0] - past[1]) / r0, (past[1] - past[2]) / r1
            first, second = d0 + r0 / (r0 + r1) * (d0 - d1), (d0 - d1) / (r0 + r1)
            phi2 = phi1 / h + 1
            phi3 = phi2 / h - 0.5
            new = new + s.alpha * phi2 * first - s.alpha * phi3 * second
        x = new
    torch.testing.assert_close(found, x, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
@PROCESSES
def test_unipc_is_the_papers_linear_system(process: sd.LinearSDE, order: int, variant: str) -> None:
    """Zhao et al. 2023, algorithms 5 to 8 in the data prediction: R_p a = g, a = 1/2 at two points."""
    model = sd.target("target_m").model(process)
    x = process.prior_std() * torch.randn(6, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    times = sd.grid("log_snr", process, 8)
    found = sd.sample(model, x=x, solver=sd.solver("unipc", order=order, variant=variant), grid=times, denoise=False)
    row = _rows(model, times.tolist())

    def move(x: torch.Tensor, t: sd.Level, s: sd.Level, now: torch.Tensor, others: list) -> torch.Tensor:
        h = s.lam - t.lam
        b = -h if variant == "bh1" else math.expm1(-h)
        x = s.sigma / t.sigma * x - s.alpha * math.expm1(-h) * now
        if not others:
            return x
        r = [(v.lam - t.lam) / h for v, _ in others]
        g, phi, factorial = [], math.expm1(-h) / -h - 1, 1.0
        for k in range(1, len(r) + 1):
            g.append(phi * factorial / b)
            factorial *= k + 1
            phi = phi / -h - 1 / factorial
        a = [0.5] if len(r) == 1 else np.linalg.solve(np.array([[v**k for v in r] for k in range(len(r))]), g)
        return x - s.alpha * b * sum(w * (d - now) / v for w, (_, d), v in zip(a, others, r, strict=True))

    past: list = []
    x_last = x
    for i in range(8):
        t, s = row[i], row[i + 1]
        new = model(x, t).x0
        if i:
            x = move(x_last, row[i - 1], t, past[0][1], [*past[1:order], (t, new)])
        past.insert(0, (t, new))
        x_last, x = x, move(x, t, s, new, past[1:order])
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-10)


def test_linear_multistep_in_sigma_is_k_diffusions_lms() -> None:
    """k-diffusion's LMS integrates the Lagrange polynomials of d = eps over sigma by quadrature."""
    sde, model = sd.EDM(), sd.target("target_m").model(sd.EDM())
    times = sd.grid("karras", sde, 10)
    x = 80.0 * torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    found = sd.sample(model, x=x, solver="lms", grid=times, denoise=False)
    sigmas, slopes = times.tolist(), []
    for i in range(10):
        slopes.insert(0, model(x, sigmas[i]).eps)
        order = min(i + 1, 4)
        for j in range(order):

            def basis(tau: float, i: int = i, j: int = j, order: int = order) -> float:
                others = [k for k in range(order) if k != j]
                return math.prod((tau - sigmas[i - k]) / (sigmas[i - j] - sigmas[i - k]) for k in others)

            x = x + quad(basis, sigmas[i], sigmas[i + 1], epsrel=1e-12)[0] * slopes[j]
    torch.testing.assert_close(found, x, rtol=1e-10, atol=1e-10)


def test_er_sde_is_the_papers_step() -> None:
    """Cui et al. 2023 in x/alpha: r = h(kappa_s)/h(kappa_t), Taylor terms with the paper's derivative estimates."""
    sde, model = sd.EDM(), sd.target("target_m").model(sd.EDM())
    times = sd.grid("karras", sde, 8)
    x = 80.0 * torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    noise = sd.Counter(5)
    found = sd.sample(model, x=x, solver="er_sde", grid=times, denoise=False, noise=noise)
    row, past = _rows(model, times.tolist()), []
    for i in range(8):
        t, s = row[i], row[i + 1]
        kt, ks = t.sigma, s.sigma
        past.insert(0, model(x, t).x0)
        r = _er_scaler(ks) / _er_scaler(kt)
        new = r * x + (1 - r) * past[0] + math.sqrt(ks**2 - kt**2 * r**2) * noise(t, s, x)
        if i >= 1:
            slope = (past[0] - past[1]) / (kt - row[i - 1].sigma)
            area = quad(lambda k: 1 / _er_scaler(k), ks, kt, epsrel=1e-12)[0]
            new = new + (ks - kt + _er_scaler(ks) * area) * slope
        if i >= 2:
            before = (past[1] - past[2]) / (row[i - 1].sigma - row[i - 2].sigma)
            bend = (slope - before) / ((kt - row[i - 2].sigma) / 2)
            moment = quad(lambda k, kt=kt: (k - kt) / _er_scaler(k), ks, kt, epsrel=1e-12)[0]
            new = new + ((ks - kt) ** 2 / 2 + _er_scaler(ks) * moment) * bend
        x = new
    torch.testing.assert_close(found, x, rtol=1e-7, atol=1e-8)
