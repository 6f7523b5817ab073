"""The exponential Adams family: weights against quadrature, its named members, measured orders."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad

import sdediff as sd
from sdediff.grids.levels import Level, level
from sdediff.solvers import model_statistics
from sdediff.solvers.angle import Angle
from sdediff.solvers.multistep import Adams, Multistep
from sdediff.solvers.weights import BASES, VARIABLES, Rule, weights
from sdediff.testing import check_solver, measured_order
from sdediff.testing import solvers as kit

F64 = torch.float64
MEMBERS = list(itertools.product(("x0", "eps", "F"), VARIABLES))
# Over sigma and rho the other bases' outputs are far from polynomials until steps are very small.
SMOOTH = [m for m in MEMBERS if m[0] == "eps" or m[1] in ("lam", "angle")]
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
    t, *past, s = _points(0.6, 0.66, 0.75, 0.8, 0.4)
    past = [t, *past][:count]
    parameter = {"x0": 0.49, "F": 0.7}.get(basis, 0.0)
    place = (
        (lambda lam: sd.VP().t_of_lam(lam).item()) if variable == "t" else (lambda lam: VARIABLES[variable](lam, 0.7))
    )
    when = sd.VP().t_of_lam if variable == "t" else None
    found = weights(t, s, tuple(past), Rule(basis, parameter, variable, 0.7), when).on_outputs
    at = [place(p.lam) for p in past]
    for j, value in enumerate(found):

        def integrand(kappa: float, j: int = j) -> float:
            u = place(-math.log(kappa))
            others = [v for i, v in enumerate(at) if i != j]
            return _kernel(kappa, basis, s, parameter) * math.prod((u - v) / (at[j] - v) for v in others)

        exact, _ = quad(integrand, t.sigma / t.alpha, s.sigma / s.alpha, epsabs=1e-13, epsrel=1e-12)
        assert value == pytest.approx(exact, rel=1e-7 if basis == "er" else 1e-9, abs=1e-10)


def _assert_same(a: sd.Solver, b: sd.Solver, sde: sd.LinearSDE, atol: float = 1e-12, steps: int = 12) -> None:
    model = sd.problem("target_m").model(sde)
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
    model = sd.problem("target_m").model(process)
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
    model = sd.problem("target_m").model(process)
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
    model = sd.problem("target_m").model(process)
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
    sde, model = sd.EDM(), sd.problem("target_m").model(sd.EDM())
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
    sde, model = sd.EDM(), sd.problem("target_m").model(sd.EDM())
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


@pytest.mark.parametrize(("points", "corrector"), [(1, 2), (2, 0), (2, 3), (3, 0)])
@pytest.mark.parametrize(("basis", "variable"), SMOOTH)
def test_measured_order(basis: str, variable: str, points: int, corrector: int) -> None:
    solver = Adams(points, corrector, variable, basis)
    slope = measured_order(solver)
    assert abs(slope - solver.order) < 0.15, f"{solver!r}: measured {slope:.3f}"


@pytest.mark.parametrize(("basis", "variable"), [("x0", "lam"), ("eps", "lam"), ("F", "angle")])
def test_order_four_with_a_corrector(basis: str, variable: str) -> None:
    """Its limit is reached late: 320 to 1280 steps."""
    assert abs(measured_order(Adams(3, 4, variable, basis), counts=(320, 640, 1280)) - 4) < 0.15


@pytest.mark.parametrize("scale", ["std", "dims", "pca"])
def test_the_whitened_basis_keeps_its_order_at_every_scale(scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, z, end = kit._reference(sd.VP())
    model = replace(model, stats=sd.statistics(sd.problem("target_m").sample(4000, seed=0)))
    monkeypatch.setattr(kit, "_reference", lambda sde: (model, z, end))
    assert abs(measured_order(Angle(scale=scale)) - 3) < 0.15
    assert abs(measured_order(Angle(2, 0, scale=scale)) - 2) < 0.15


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
    problem = sd.problem("target_m")
    options = {"solver": Angle(scale=scale), "steps": 5}
    with torch.inference_mode():
        x = problem.sample(64, seed=1, dtype=F64)
        model = replace(problem.model(sd.VP()), stats=sd.statistics(x))
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
    axes = low.axes("pca")
    x = data[:5]
    torch.testing.assert_close(axes.join(axes.split(x), x.shape), x)
    model = replace(sd.load("digits-vp"), stats=None)
    with pytest.raises(sd.SolverError, match=r"stats=sd\.statistics\(data\)"):
        sd.sample(model, (2, 1, 8, 8), solver=Angle(scale="pca"), steps=3)


@pytest.mark.parametrize("solver", [Adams(2, 3), Adams(2, 3, "angle", "F"), Adams(2, eta=1.0), Adams(3, 2)], ids=repr)
def test_members_conform(solver: Adams) -> None:
    assert len(check_solver(solver)) == 10


def _keeping_x(solver: Multistep, model: sd.ScoreModel, x: torch.Tensor, steps: int, seed: int) -> torch.Tensor:
    """Predictor and corrector as written: the step's start is kept, and the step made again with the new output."""
    row = sd.levels(model.sde, sd.grid(solver.grid, model.sde, steps))
    noise, known, at, before = sd.Counter(seed), (), (), None
    for t, s in itertools.pairwise(row):
        make = solver.maker(model, x)
        known, at = (make.output(model(x, t)), *known), (t, *at)
        if before is not None:
            level, start, kick = before
            x = make(level, t, at[: solver.corrector])(start, known) + kick
        kick = solver.kick(t, s) * noise(t, s, x)
        before = (t, x, kick)
        x = make(t, s, at[: solver.points])(x, known) + kick
    return x


@pytest.mark.parametrize(
    "solver",
    [
        Adams(2, 3), Adams(3, 2), Adams(1, 4, "t", "eps"), sd.solver("sa_solver"), sd.solver("dpm_solver_v3"),
        *(sd.solver("angle", scale=scale) for scale in (0.7, "std", "dims", "pca")),
    ],
    ids=repr,
)  # fmt: skip
def test_the_correction_is_one_of_outputs_alone(solver: Multistep) -> None:
    """So no x is kept, and the corrector shares the next step's sums: both ways agree to rounding."""
    problem = sd.problem("target_m")
    model = replace(problem.model(sd.VP()), stats=sd.statistics(problem.sample(512, seed=1)))
    x = torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(2))
    found = sd.sample(model, x=x, solver=solver, steps=9, seed=4, denoise=False)
    torch.testing.assert_close(found, _keeping_x(solver, model, x, 9, 4), rtol=0, atol=1e-12)


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
            return sd.Prediction(p.x, p.raw, p.level, a * factor, b * factor, "moved")

        return sd.sample(sd.guidance.map_prediction(plain, change), x=x, solver=solver, steps=5, denoise=False)

    one_by_one = torch.cat([run(x[i : i + 1], v) for i, v in enumerate(factors.tolist())])
    torch.testing.assert_close(run(x, factors), one_by_one, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["unipc", "angle"])
def test_a_corrector_shares_a_step_with_langevin(name: str) -> None:
    """Nothing of an earlier x is kept that a move in between could make untrue."""
    assert len(check_solver(sd.solver("predictor_corrector", predictor=name))) == 10


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("adams", {"basis": "x1"}, "x0"),
        ("adams", {"variable": "lamb"}, "lam"),
        ("adams", {"points": 5}, "1 to 4"),
        ("adams", {"corrector": 1}, "2 to 5"),
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
    model, z, end = kit._reference(sd.VP())
    model = replace(model, stats=sd.statistics(sd.problem("target_m").sample(4000, seed=0)))
    steps = at_most // solver.calls
    x = sd.sample(model, x=z, solver=solver, grid=sd.grid(grid, sd.VP(), steps), denoise=False)
    assert (x - end).norm(dim=1).median().item() < 1e-3
