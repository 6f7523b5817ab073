"""The exponential Adams family: weights against quadrature, known members, measured orders."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.integrate import quad

import sdediff as sd
from sdediff.solvers.adams import BASES, VARIABLES, Adams, _kernel, _place, _Point, lagrange, moments
from sdediff.testing import check_solver, measured_order

F64 = torch.float64
MEMBERS = list(itertools.product(BASES, VARIABLES))
# Over sigma and rho the other bases' outputs are far from polynomials until steps are very small.
SMOOTH = [m for m in MEMBERS if m[0] == "eps" or m[1] in ("lam", "angle")]


def _points() -> tuple[_Point, _Point]:
    found = sd.VP().schedule([0.6, 0.35])
    return tuple(_Point(*v) for v in zip(found.lam.tolist(), found.alpha.tolist(), found.sigma.tolist(), strict=True))


@pytest.mark.parametrize(("basis", "variable"), MEMBERS)
def test_moments_are_the_integrals_of_the_kernel(basis: str, variable: str) -> None:
    t, s = _points()
    eta2 = 0.49 if basis == "x0" else 0.0
    start, stop = (_place(v.lam, variable, 0.7) for v in (t, s))
    found = moments(t, s, 4, basis, variable, eta2, 0.7)
    for k, value in enumerate(found):
        exact, _ = quad(
            lambda u, k=k: _kernel(u, basis, variable, s, eta2, 0.7) * (u - start) ** k, start, stop, epsabs=1e-14
        )
        assert value == pytest.approx(exact, rel=1e-9, abs=1e-13)


def test_lagrange_weights_integrate_polynomials() -> None:
    offsets, m = [0.0, -0.3, -0.9], [0.7, 0.2, 0.1]
    weights = lagrange(offsets, m)
    for k in range(3):
        assert math.fsum(w * o**k for w, o in zip(weights, offsets, strict=True)) == pytest.approx(m[k], rel=1e-12)


def _same(a: sd.Solver, b: sd.Solver, sde: sd.LinearSDE, atol: float = 1e-12) -> None:
    model = sd.problem("target_m").model(sde)
    x = [sd.sample(model, (8, 2), solver=v, steps=12, grid="log_snr", dtype=F64, seed=3) for v in (a, b)]
    torch.testing.assert_close(x[0], x[1], rtol=0, atol=atol)


@pytest.mark.parametrize("process", [sd.VP(), sd.SubVP(), sd.VE()], ids=lambda p: type(p).__name__)
def test_one_point_is_ddim_in_both_bases_and_the_ancestral_step_at_eta_one(process: sd.LinearSDE) -> None:
    for variable in VARIABLES:
        _same(Adams(1, "x0", variable), sd.solver("ddim"), process, 1e-8)
        _same(Adams(1, "eps", variable), sd.solver("ddim"), process, 1e-8)
    _same(Adams(1, "x0", "lam"), sd.solver("ddim"), process)
    _same(Adams(1, "eps", "lam"), sd.solver("ddim"), process)
    _same(Adams(1, "x0", "lam", eta=1.0), sd.solver("ancestral"), process)


def test_linear_multistep_in_sigma_is_k_diffusions_lms() -> None:
    """k-diffusion's LMS integrates the Lagrange polynomials of d = eps over sigma by quadrature."""
    sde, model = sd.EDM(), sd.problem("target_m").model(sd.EDM())
    times = sd.grid("karras", sde, 10)
    x = 80.0 * torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    found = sd.sample(model, x=x, solver=Adams(4, "eps", "sigma"), grid=times, denoise=False)
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


@pytest.mark.parametrize("corrector", [False, True])
@pytest.mark.parametrize("points", [1, 2, 3])
@pytest.mark.parametrize(("basis", "variable"), SMOOTH)
def test_measured_order(basis: str, variable: str, points: int, corrector: bool) -> None:
    solver = Adams(points, basis, variable, corrector=corrector)
    slope = measured_order(solver)
    allowed = 0.15 if solver.order < 4 else 0.25  # 160 to 640 steps are short of the limit at order 4
    assert abs(slope - solver.order) < allowed, f"{solver!r}: measured {slope:.3f}"


@pytest.mark.parametrize(
    "solver", [Adams(2, corrector=True), Adams(3, "F", "angle", corrector=True), Adams(2, eta=1.0)], ids=repr
)
def test_members_conform(solver: Adams) -> None:
    assert len(check_solver(solver)) == 10


def test_a_corrector_may_not_share_a_step() -> None:
    from sdediff.solvers import Then

    with pytest.raises(sd.SolverError, match="remembers an earlier x"):
        Then(sd.solver("langevin"), Adams(corrector=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"basis": "x1"}, "x0"),
        ({"variable": "lamb"}, "lam"),
        ({"points": 5}, "1 to 4"),
        ({"eta": 1.0, "basis": "F"}, "x0"),
    ],
)
def test_errors(options: dict[str, object], said: str) -> None:
    with pytest.raises(sd.SolverError, match=said):
        sd.solver("adams", **options)
