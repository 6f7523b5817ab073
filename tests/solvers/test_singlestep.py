"""Single-step exponential methods: the papers' algorithms written out, orders, patterns."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal, getcontext
from typing import Any

import pytest
import torch
from torch import Tensor

import sdediff as sd
from sdediff.solvers.singlestep import DPMFast, DPMppSDE, Singlestep, slope_weight
from sdediff.testing import measured_order
from tests.references import reference

F64 = torch.float64
PROCESSES = [sd.VP(), sd.SubVP(), sd.VE(t_min=1e-3), sd.RectifiedFlow()]


def _start(sde: sd.LinearSDE) -> tuple[sd.ScoreModel, Tensor, list[float]]:
    z = torch.randn(6, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    times = sd.grid("log_snr", sde, 5, start=0.8, stop=0.1)
    return sd.target("target_m").model(sde), z * sde.sigma(times[:1]).item(), times.tolist()


class _Place:
    """What a paper's algorithm needs of one time, from the process itself."""

    def __init__(self, sde: sd.LinearSDE, t: float) -> None:
        found = sde.schedule(t)
        self.t, self.a, self.s, self.lam = t, found.alpha.item(), found.sigma.item(), found.lam.item()

    def ahead(self, sde: sd.LinearSDE, r: float, to: _Place) -> _Place:
        return _Place(sde, sde.t_of_lam(self.lam + r * (to.lam - self.lam)).item())


def _dpm_solver_2(model: Any, x: Tensor, t: _Place, s: _Place, r: float) -> Tensor:
    """Lu et al. 2022, algorithm 4 (its algorithm 1 where r is 1/2)."""
    h, m = s.lam - t.lam, t.ahead(model.sde, r, s)
    eps = model(x, t.t).eps
    u = m.a / t.a * x - m.s * math.expm1(r * h) * eps
    return (
        s.a / t.a * x
        - s.s * math.expm1(h) * eps
        - s.s / (2 * r) * math.expm1(h) * (model(u, m.t).eps - eps)
    )  # fmt: skip


def _dpm_solver_3(model: Any, x: Tensor, t: _Place, s: _Place, r1: float, r2: float) -> Tensor:
    """Lu et al. 2022, algorithm 5 (its algorithm 2 at thirds)."""
    h, m1, m2 = s.lam - t.lam, t.ahead(model.sde, r1, s), t.ahead(model.sde, r2, s)
    eps = model(x, t.t).eps
    u1 = m1.a / t.a * x - m1.s * math.expm1(r1 * h) * eps
    d1 = model(u1, m1.t).eps - eps
    second = m2.s * r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1)
    u2 = m2.a / t.a * x - m2.s * math.expm1(r2 * h) * eps - second * d1
    d2 = model(u2, m2.t).eps - eps
    return s.a / t.a * x - s.s * math.expm1(h) * eps - s.s / r2 * (math.expm1(h) / h - 1) * d2


def _dpmpp_2s(model: Any, x: Tensor, t: _Place, s: _Place, r: float) -> Tensor:
    """Lu et al. 2022b, algorithm 1."""
    h, m = s.lam - t.lam, t.ahead(model.sde, r, s)
    x0 = model(x, t.t).x0
    u = m.s / t.s * x - m.a * math.expm1(-r * h) * x0
    d = (1 - 1 / (2 * r)) * x0 + 1 / (2 * r) * model(u, m.t).x0
    return s.s / t.s * x - s.a * math.expm1(-h) * d


def _dpmpp_3s(model: Any, x: Tensor, t: _Place, s: _Place, r1: float, r2: float) -> Tensor:
    """Lu et al. 2022b's third-order single step, as released with the paper."""
    h, m1, m2 = s.lam - t.lam, t.ahead(model.sde, r1, s), t.ahead(model.sde, r2, s)
    x0 = model(x, t.t).x0
    u1 = m1.s / t.s * x - m1.a * math.expm1(-r1 * h) * x0
    d1 = model(u1, m1.t).x0 - x0
    u2 = m2.s / t.s * x - m2.a * math.expm1(-r2 * h) * x0
    u2 = u2 + r2 / r1 * m2.a * (math.expm1(-r2 * h) / (r2 * h) + 1) * d1
    d2 = model(u2, m2.t).x0 - x0
    return s.s / t.s * x - s.a * math.expm1(-h) * x0 + s.a / r2 * (math.expm1(-h) / h + 1) * d2


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize(
    ("name", "options", "step", "shares"),
    [
        ("dpm_solver_2", {}, _dpm_solver_2, (0.5,)),
        ("dpm2", {"r1": 0.3}, _dpm_solver_2, (0.3,)),
        ("dpm_solver_3", {}, _dpm_solver_3, (1 / 3, 2 / 3)),
        ("dpm_solver_3", {"r1": 0.2, "r2": 0.9}, _dpm_solver_3, (0.2, 0.9)),
        ("dpmpp_2s", {}, _dpmpp_2s, (0.5,)),
        ("dpmpp_2s", {"r1": 0.7}, _dpmpp_2s, (0.7,)),
        ("dpmpp_3s", {}, _dpmpp_3s, (1 / 3, 2 / 3)),
        ("dpmpp_3s", {"r1": 0.4, "r2": 0.5}, _dpmpp_3s, (0.4, 0.5)),
    ],
)
def test_papers_algorithms_of_dpm_solver_and_dpm_solver_pp(
    process: sd.LinearSDE, name: str, options: dict[str, float], step: Any, shares: tuple[float, ...]
) -> None:
    model, x, times = _start(process)
    found = sd.sample(model, x=x, solver=sd.solver(name, **options), grid=times, denoise=False)
    places = [_Place(process, t) for t in times]
    for t, s in itertools.pairwise(places):
        x = step(model, x, t, s, *shares)
    torch.testing.assert_close(found, x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("basis", ["eps", "x0"])
@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_one_stage_is_ddim(process: sd.LinearSDE, basis: str) -> None:
    model, x, times = _start(process)
    a, b = (
        sd.sample(model, x=x, solver=v, grid=times, denoise=False) for v in (Singlestep(1, basis), sd.solver("ddim"))
    )
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [-8.0, -0.5, -0.1001, -0.0999, -1e-3, -1e-9, 1e-12, 1e-4, 0.0999, 0.1001, 2.0])
def test_slope_weight_is_exact_for_small_steps(k: float) -> None:
    getcontext().prec = 60
    wide = Decimal(k)
    assert slope_weight(k) == pytest.approx(float((wide.exp() - 1) / wide - 1), rel=2e-14)


@pytest.mark.parametrize(
    "solver",
    [
        Singlestep(2, "eps", r1=0.3),
        Singlestep(2, "x0", r1=0.8),
        Singlestep(3, "eps", r1=0.2),
        Singlestep(3, "x0", r1=0.5),
        Singlestep(3, "x0", r1=0.3, r2=0.8),
        DPMFast((2,), "x0"),
    ],
    ids=repr,
)
def test_order_with_other_stages(solver: sd.Solver) -> None:
    """Of three stages the last sees two values of the output, so the third order hangs on r2 = 2/3."""
    assert abs(measured_order(solver, reference=reference(sd.VP())) - solver.order) < 0.15


def test_third_order_round_trip_of_encode_and_decode() -> None:
    """Backwards in time h is negative; the round trip's error is of the solver's order."""
    model = sd.target("target_m").model(sd.VP())
    x = torch.tensor([[-1.5, 0.1], [0.9, 1.0], [0.8, -1.1]], dtype=F64)
    gaps = []
    for steps in (40, 80):
        z = sd.encode(model, x, solver="dpm_solver_3", steps=steps, stop=1e-3)
        back = sd.decode(model, z, solver="dpm_solver_3", steps=steps, stop=1e-3)
        gaps.append((back - x).norm(dim=1).median().item())
    assert gaps[0] < 1e-2
    assert gaps[1] < gaps[0] / 5


# k-diffusion's orders by the number of calls.
PATTERNS = {
    6: (3, 2, 1),
    7: (3, 3, 1),
    8: (3, 3, 2),
    10: (3, 3, 3, 1),
    12: (3, 3, 3, 2, 1),
    15: (3, 3, 3, 3, 2, 1),
    20: (3, 3, 3, 3, 3, 3, 2),
}


@pytest.mark.parametrize("calls", PATTERNS)
def test_dpm_fast_has_its_orders_and_spends_all_calls(calls: int) -> None:
    tail = {0: (2, 1), 1: (1,), 2: (2,)}[calls % 3]
    solver = sd.solver("dpm_fast", tail=tail)
    steps = calls // 3 + 1
    assert solver.orders(steps) == PATTERNS[calls]
    assert solver.spent(steps) == calls
    model = sd.target("target_m").model(sd.VP())
    record = sd.sample(model, (2, 2), solver=solver, calls=calls, denoise=False, full=True)
    assert (record.calls, len(record.times)) == (calls, steps + 1)
    x, times = record.trajectory[0], record.times.tolist()
    for order, (t, s) in zip(PATTERNS[calls], itertools.pairwise(times), strict=True):
        x = sd.sample(model, x=x, solver=Singlestep(order), grid=[t, s], denoise=False)
    torch.testing.assert_close(x, record.x, rtol=1e-6, atol=1e-6)


def test_dpm_fast_of_few_steps_and_the_order_of_its_tails() -> None:
    assert [DPMFast((2, 1)).orders(n) for n in (1, 2)] == [(1,), (2, 1)]
    assert [DPMFast(tail).order for tail in ((2, 1), (1,), (2,))] == [2, 2, 3]


def test_lowered_is_the_same_family_at_fewer_stages() -> None:
    assert Singlestep(3, "x0").lowered(2) == Singlestep(2, "x0")
    assert Singlestep(2, r1=0.4).lowered(5) == Singlestep(2, r1=0.4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: sd.solver("dpm_solver_2", basis="x1"), "x0"),
        (lambda: Singlestep(4), "1, 2 or 3"),
        (lambda: Singlestep(2, r1=1.0), "0 < r1"),
        (lambda: Singlestep(3, r1=0.5, r2=0.5), "0 < r1 < r2"),
        (lambda: DPMFast((3,)), "tail"),
        (lambda: DPMFast(basis="v"), "eps"),
        (lambda: DPMppSDE(eta=0.0), "0 < eta"),
        (lambda: DPMppSDE(r=1.0), "0 < r < 1"),
    ],
)
def test_errors_name_the_mend(make: Any, said: str) -> None:
    with pytest.raises(sd.SolverError, match=said):
        make()


@pytest.mark.parametrize("name", ["dpm_solver_3", "dpmpp_2s", "dpmpp_sde", "dpm_fast"])
def test_where_alpha_is_zero_it_says_so(name: str) -> None:
    model = sd.target("target_m").model(sd.RectifiedFlow())
    with pytest.raises(sd.SolverError, match="alpha is 0"):
        sd.sample(model, (2, 2), solver=name, steps=4, start=1.0, grid="uniform")
