"""Linear multistep methods with constant coefficients: the papers' formulas, their warm-ups, orders and calls."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch

import sdediff as sd
from sdediff.solvers.linear_multistep import ADAMS_BASHFORTH, LinearMultistep
from sdediff.testing import check_solver, measured_order
from tests.references import reference

F64 = torch.float64
TIMES = (0.9, 0.75, 0.63, 0.5, 0.41, 0.3, 0.22, 0.1)
Eps = Callable[[torch.Tensor, float], torch.Tensor]


def _transfer(x: torch.Tensor, e: torch.Tensor, t: float, s: float) -> torch.Tensor:
    """Liu et al. 2022, eq. 11: phi(x, e, t, s) in the signal's share a = alpha^2."""
    a_t, a_s = (sd.VP().alpha(torch.tensor(v, dtype=F64)).item() ** 2 for v in (t, s))
    under = math.sqrt(a_t) * (math.sqrt((1 - a_s) * a_t) + math.sqrt((1 - a_t) * a_s))
    return math.sqrt(a_s / a_t) * x - (a_s - a_t) / under * e


def _ab4(e: list[torch.Tensor]) -> torch.Tensor:
    return (55 * e[-1] - 59 * e[-2] + 37 * e[-3] - 9 * e[-4]) / 24


def _ipndm(x: torch.Tensor, eps: Eps) -> torch.Tensor:
    past: list[torch.Tensor] = []
    for t, s in itertools.pairwise(TIMES):
        past.append(eps(x, t))
        match len(past):
            case 1:
                e = past[-1]
            case 2:
                e = (3 * past[-1] - past[-2]) / 2
            case 3:
                e = (23 * past[-1] - 16 * past[-2] + 5 * past[-3]) / 12
            case _:
                e = _ab4(past)
        x = _transfer(x, e, t, s)
    return x


def _plms(x: torch.Tensor, eps: Eps) -> torch.Tensor:
    past: list[torch.Tensor] = []
    for t, s in itertools.pairwise(TIMES):
        past.append(eps(x, t))
        if len(past) == 1:
            e = (past[0] + eps(_transfer(x, past[0], t, s), s)) / 2
        elif len(past) == 2:
            e = 1.5 * past[-1] - 0.5 * past[-2]
        elif len(past) == 3:
            e = (23 * past[-1] - 16 * past[-2] + 5 * past[-3]) / 12
        else:
            e = _ab4(past)
        x = _transfer(x, e, t, s)
    return x


def _pndm(x: torch.Tensor, eps: Eps) -> torch.Tensor:
    past: list[torch.Tensor] = []
    for i, (t, s) in enumerate(itertools.pairwise(TIMES)):
        past.append(eps(x, t))
        if i < 3:
            middle = (t + s) / 2
            e2 = eps(_transfer(x, past[-1], t, middle), middle)
            e3 = eps(_transfer(x, e2, t, middle), middle)
            e4 = eps(_transfer(x, e3, t, s), s)
            e = (past[-1] + 2 * e2 + 2 * e3 + e4) / 6
        else:
            e = _ab4(past)
        x = _transfer(x, e, t, s)
    return x


def _gradient_estimation(x: torch.Tensor, eps: Eps) -> torch.Tensor:
    last = None
    for t, s in itertools.pairwise(TIMES):
        here = eps(x, t)
        x, last = _transfer(x, here if last is None else 2 * here - last, t, s), here
    return x


@pytest.mark.parametrize(
    ("name", "formula"),
    [("ipndm", _ipndm), ("plms", _plms), ("pndm", _pndm), ("gradient_estimation", _gradient_estimation)],
)
def test_the_papers_formula_step_by_step(name: str, formula: Callable[..., torch.Tensor]) -> None:
    """Zhang and Chen 2023, eq. 23 onwards; Liu et al. 2022, algorithm 2; Permenter and Yuan 2023, algorithm 2."""
    model = sd.target("target_m").model(sd.VP())
    x = torch.randn(16, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    found = sd.sample(model, x=x, solver=name, grid=list(TIMES), denoise=False)
    expected = formula(x, lambda x, t: model(x, t).eps)
    assert (found - expected).abs().max().item() < 1e-12


def test_the_weights_integrate_polynomials_over_the_next_of_equal_steps() -> None:
    for row in ADAMS_BASHFORTH:
        for power in range(len(row)):
            total = math.fsum(w * (-j) ** power for j, w in enumerate(row))
            assert total == pytest.approx(1 / (power + 1), abs=1e-14)


@pytest.mark.parametrize("process", [sd.VP(), sd.VE(t_min=1e-3)], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("points", [1, 2, 3])
def test_measured_order_of_fewer_values(points: int, process: sd.LinearSDE) -> None:
    solver = sd.solver("ipndm", points=points)
    assert solver.order == min(points, 2)
    slope = measured_order(solver, reference=reference(process))
    assert abs(slope - solver.order) < 0.15, slope


def test_one_value_is_ddim() -> None:
    model = sd.target("target_m").model(sd.VP())
    found = [
        sd.sample(model, (8, 2), solver=s, steps=9, dtype=F64, seed=2, grid="log_snr")
        for s in (sd.solver("ipndm", points=1), sd.solver("ddim"), sd.solver("gradient_estimation", gamma=1.0))
    ]
    assert (found[0] - found[1]).abs().max().item() < 1e-12
    assert (found[2] - found[1]).abs().max().item() < 1e-12


def test_half_a_step_ahead_is_adams_and_of_order_two() -> None:
    assert sd.solver("gradient_estimation", gamma=1.5) == sd.solver("ipndm", points=2)
    assert sd.solver("gradient_estimation").order == 1


@pytest.mark.parametrize(("name", "extra"), [("ipndm", (0, 0, 0)), ("plms", (1, 1, 1)), ("pndm", (3, 6, 9))])
def test_calls_are_counted_to_the_last(name: str, extra: tuple[int, ...]) -> None:
    model, solver = sd.target("target_m").model(sd.VP()), sd.solver(name)
    for steps in (1, 2, 3, 4, 9):
        calls = steps + extra[min(steps, 3) - 1]
        assert solver.spent(steps) == calls
        assert sd.sample(model, (2, 2), solver=solver, steps=steps, full=True, denoise=False).calls == calls
    record = sd.sample(model, (2, 2), solver=solver, calls=20, full=True)
    assert record.calls == 20
    assert len(record.times) - 1 == 19 - extra[-1]


def test_a_budget_between_two_warm_up_steps_is_not_overspent() -> None:
    model = sd.target("target_m").model(sd.VP())
    assert sd.sample(model, (2, 2), solver="pndm", calls=12, full=True).calls == 9  # 2 steps of 4 calls and the last
    with pytest.raises(ValueError, match="needs at least 5"):
        sd.sample(model, (2, 2), solver="pndm", calls=4)


def test_a_lower_order_goes_on_with_the_history() -> None:
    model = sd.target("target_m").model(sd.VP())
    states = list(sd.iterate(model, (4, 2), solver="ipndm", grid=list(TIMES), dtype=F64, denoise=False))
    state = states[4]
    low = sd.solver("ipndm").lowered(1)
    found = list(sd.iterate(model, solver=low, resume=state, denoise=False))[1].x
    expected = _transfer(state.x, model(state.x, TIMES[4]).eps, TIMES[4], TIMES[5])
    assert (found - expected).abs().max().item() < 1e-12
    two = list(sd.iterate(model, solver=sd.solver("ipndm").lowered(2), resume=state, denoise=False))[1].x
    e = 1.5 * model(state.x, TIMES[4]).eps - 0.5 * model(states[3].x, TIMES[3]).eps
    assert (two - _transfer(state.x, e, TIMES[4], TIMES[5])).abs().max().item() < 1e-12


def test_another_gamma_conforms() -> None:
    assert len(check_solver(sd.solver("gradient_estimation", gamma=1.2))) == 11


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LinearMultistep(warm_up="runge"), "runge_kutta"),
        (lambda: LinearMultistep(((1.0,), (1.0, 1.0))), "row 2"),
        (lambda: LinearMultistep(((1.0,), (1.5, -0.75, 0.25))), "row 2"),
        (lambda: LinearMultistep(()), "row 1"),
        (lambda: sd.solver("ipndm", points=5), "1 to 4"),
        (
            lambda: sd.sample(
                sd.ScoreModel(lambda x, t: x, sd.RectifiedFlow(), predicts="velocity"),
                (2, 2),
                solver="ipndm",
                start=1.0,
            ),
            "alpha is 0",
        ),
    ],
)
def test_errors(make: Callable[[], object], said: str) -> None:
    with pytest.raises(sd.SolverError, match=said):
        make()


@pytest.mark.peers
@pytest.mark.parametrize(("name", "skip"), [("plms", True), ("pndm", False)])
def test_diffusers_pndm(name: str, skip: bool) -> None:
    """diffusers' PNDMScheduler with and without its Runge-Kutta steps, on 20 leading knots of DDPM's table."""
    diffusers = pytest.importorskip("diffusers")
    peer = diffusers.PNDMScheduler(1000, beta_start=1e-4, beta_end=0.02, skip_prk_steps=skip, set_alpha_to_one=False)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    peer.alphas_cumprod = torch.cumprod(1 - betas, 0)
    peer.final_alpha_cumprod = peer.alphas_cumprod[0]
    peer.set_timesteps(20)

    def net(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x * (1 + index.to(x.dtype)[:, None] / 1000))

    model = sd.ScoreModel(net, sd.Table.from_betas(betas), predicts="eps", time="index")
    x = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(1))
    knots = [50.0 * i + 1 for i in range(19, -1, -1)]
    found = sd.sample(model, x=x, solver=name, grid=knots, denoise=False)
    for index in peer.timesteps:
        if index == 0:
            break  # the peer's last step goes from the last level to itself
        x = peer.step(net(x, index.expand(4)), index, x).prev_sample
    assert (found - x).abs().max().item() < 1e-10
