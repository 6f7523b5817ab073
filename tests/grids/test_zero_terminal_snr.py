"""Grids and runs from alpha(T) = 0."""

import itertools
import math

import numpy as np
import pytest
import torch

import sdediff as sd
from tests.grids.counted import Counted

F64 = torch.float64


@pytest.mark.parametrize("name", ["cosine", "flow"])
def test_log_snr_grids_start_below_an_alpha_of_zero(processes, name):
    sde = processes[name]
    for kind in ("log_snr", "exponential", "polynomial", "polyexponential", "karras"):
        assert sd.grid(kind, sde, 5)[0].item() == sde.t_max < sde.T
        with pytest.raises(sd.SDEError, match=r"needs alpha > 0 at its start, not so at t=1.0: start=0.999"):
            sd.grid(kind, sde, 5, start=1.0)
    for kind in ("uniform", "quadratic", "beta", "angle", "time_shift"):
        assert sd.grid(kind, sde, 5)[0].item() == sde.T


@pytest.mark.parametrize("predicts", ["x0", "v", "edm", "velocity", "eps", "score"])
@pytest.mark.parametrize("name", ["ddim", "ancestral", "euler", "euler_maruyama", "reverse_diffusion"])
def test_a_run_starts_at_alpha_zero_where_network_and_solver_allow(name, predicts):
    sde, net = sd.RectifiedFlow(), Counted()
    model = sd.ScoreModel(net, sde, predicts=predicts, time="t")
    x = sd.sample(model, (2, 3), solver=name, steps=5, grid="uniform", dtype=F64)
    assert x.isfinite().all()
    allowed = name in ("ddim", "ancestral", "euler") and predicts not in ("eps", "score")
    assert net.clocks[0] == (sde.T if allowed else sde.t_max)


def lin_2023(betas):
    """Lin et al. 2023, algorithm 1, from betas to betas, in plain loops."""
    roots, bar = [], 1.0
    for value in betas:
        bar *= 1 - value
        roots.append(math.sqrt(bar))
    first, last = roots[0], roots[-1]
    roots = [(root - last) * first / (first - last) for root in roots]
    bars = [root**2 for root in roots]
    return [1 - bars[0]] + [1 - b / a for a, b in itertools.pairwise(bars)]


def test_zero_terminal_snr_is_lins_algorithm():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=F64) ** 2
    table = sd.Table.from_betas(betas, zero_terminal_snr=True)
    rescaled = lin_2023(betas.tolist())
    assert rescaled[-1] == 1.0
    bars = np.cumprod(1 - np.array(rescaled))
    knots = torch.arange(1, 1001, dtype=F64)
    assert table.alpha(knots).square().tolist() == pytest.approx(bars, rel=1e-9)
    assert table.sigma(knots).square().tolist() == pytest.approx(1 - bars, rel=1e-9)
    assert (table.alpha(knots[-1:]).item(), table.sigma(knots[-1:]).item()) == (0.0, 1.0)
    plain = sd.Table.from_betas(betas)
    assert table.alpha(knots[:1]).item() == pytest.approx(plain.alpha(knots[:1]).item(), rel=1e-14)
    assert (table.T, table.t_max) == (1000, 999)


def zero_snr(net, predicts="v"):
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    return sd.ScoreModel(net, sd.Table.from_betas(betas, zero_terminal_snr=True), predicts=predicts, time="index")


def test_ddim_from_zero_snr_is_the_closed_form(normals):
    x, net = normals(5, 3), Counted()
    bars = np.cumprod(1 - np.array(lin_2023(np.linspace(1e-4, 0.02, 1000).tolist())))
    run = sd.sample(zero_snr(net), x=x, solver="ddim", steps=4, full=True)
    assert net.clocks == [999, 749, 500, 250, 0]
    # At alpha = 0 v is -x0 and x is eps.
    v = 0.4 * torch.tanh(x)
    expected = -math.sqrt(bars[749]) * v + math.sqrt(1 - bars[749]) * x
    torch.testing.assert_close(run.trajectory[1], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, info in sd.list_solvers().items() if info.alone])
def test_zero_snr_runs_from_the_first_knot_or_is_refused_in_a_sentence(name):
    solver = sd.solver(name, **({"rtol": 1e-2, "atol": 1e-2} if name == "ode" else {}))
    steps = 1 if solver.adaptive else 6
    for options in ({}, {"start": 1000}, {"start": 1000, "grid": "strided"}, {"start": 1000, "grid": "uniform"}):
        net, said = Counted(), ""
        try:
            x = sd.sample(zero_snr(net), (2, 3), solver=solver, steps=steps, dtype=F64, **options)
        except (sd.SDEError, sd.SolverError) as error:
            said = str(error)
        if said:
            assert options, "without options it starts where it can"
            assert "alpha" in said
            assert "start" in said
            assert "\n" not in said
        else:
            assert x.isfinite().all()
            if options and not solver.adaptive:
                assert net.clocks[0] == 999


def test_an_eps_network_is_refused_at_zero_snr():
    with pytest.raises(sd.SDEError, match=r"output \(eps\) does not determine x0: start below it"):
        sd.sample(zero_snr(Counted(), "eps"), (2, 3), solver="ddim", steps=4, start=1000)
    net = Counted()
    assert sd.sample(zero_snr(net, "eps"), (2, 3), solver="ddim", steps=4).isfinite().all()
    assert net.clocks[0] == 998
