"""The two ends of a process, and an alpha of zero."""

import math

import pytest
import torch

import sdediff as sd

F64 = torch.float64


@pytest.mark.parametrize("sde", [sd.Cosine(), sd.RectifiedFlow()], ids=["cosine", "flow"])
def test_where_alpha_ends_at_zero_t_max_lies_just_below(sde):
    end = sd.level(sde, sde.T)
    assert (end.alpha, end.lam, end.sigma) == (0.0, -math.inf, pytest.approx(1.0))
    assert end.g2 == math.inf
    assert sde.t_max == pytest.approx(sde.T * (1 - 1e-3))
    below = sd.level(sde, sde.t_max)
    assert all(math.isfinite(getattr(below, name)) for name in ("alpha", "sigma", "lam", "f", "g2"))
    # The flow's own slopes stay finite there: dx/dt = alpha' x0 + sigma' eps.
    assert math.isfinite(end.alpha_dot)
    assert math.isfinite(end.sigma_dot)


def zero_terminal(n=100):
    """Lin et al. 2024, algorithm 1: sqrt(alpha_bar) shifted and scaled so that the last one is 0."""
    roots = torch.cumprod(1 - torch.linspace(1e-4, 0.2, n, dtype=F64), 0).sqrt()
    return sd.Table.from_alpha_bars(((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2)


def test_a_zero_terminal_table():
    table = zero_terminal()
    end = sd.level(table, table.T)
    assert (end.alpha, end.sigma, end.lam) == (0.0, 1.0, -math.inf)
    assert table.t_max == table.T - 1
    assert math.isfinite(sd.level(table, table.t_max).lam)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "ancestral"])
def test_a_zero_terminal_table_is_sampled_from_its_end(name):
    clocks = []

    def net(x, t):
        clocks.append(t[0].item())
        return torch.tanh(x)

    model = sd.ScoreModel(net, zero_terminal(), predicts="v", time="index")
    assert sd.sample(model, (2, 3), solver=name, steps=8, grid="strided", dtype=F64).isfinite().all()
    assert clocks[0] == 99


@pytest.mark.parametrize("name", ["euler", "heun", "rk4", "ode"])
def test_a_zero_terminal_tables_flow_has_no_slope_at_its_end(name):
    # alpha jumps to 0 at the last knot, so what integrates the flow in t starts below it or refuses.
    model = sd.ScoreModel(lambda x, t: torch.tanh(x), zero_terminal(), predicts="v", time="index")
    try:
        x = sd.sample(model, (2, 3), solver=name, steps=8, grid="strided", dtype=F64)
    except sd.SDEError as error:
        message = str(error)
    else:
        message, finite = "alpha = 0: started below it", bool(x.isfinite().all())
        assert finite
    assert "alpha" in message


def test_t0_and_the_tables_ends():
    assert sd.VP().t0 == 1e-5
    assert sd.EDM().t0 == 0.002
    table = sd.Table.from_sigmas([0.1, 1.0, 5.0])
    assert (table.T, table.t_min, table.t0, table.t_max, table.n) == (3.0, 1.0, 1.0, 3.0, 3)
    # lam is linear between the knots and constant beyond them.
    assert table.lam(1.25).item() == pytest.approx(-(0.75 * math.log(0.1) + 0.25 * math.log(1.0)), rel=1e-12)
    assert table.lam([0.2, 3.0]).tolist() == pytest.approx([math.log(10), -math.log(5)], rel=1e-12)
