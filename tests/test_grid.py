"""Grids, levels, and how steps and network calls are counted."""

import dataclasses
import itertools
import math
import sys
import types

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import nn

import sdediff as sd
from sdediff._utils.suggestions import nearest
from sdediff.grids.grids import GRIDS
from sdediff.grids.levels import AtLam
from sdediff.sampling.api.plan import plan

F64 = torch.float64
SMOOTH = ("uniform", "quadratic", "beta", "log_snr", "polynomial", "karras", "angle", "time_shift")


class Counted:
    """A network that counts its own calls and keeps the clocks that it read."""

    def __init__(self):
        self.clocks = []

    def __call__(self, x, t):
        self.clocks.append(t[0].item())
        return 0.4 * torch.tanh(x)

    @property
    def calls(self):
        return len(self.clocks)


# --- published grids --------------------------------------------------------------------------------------------


def test_karras_ten_sigmas():
    expected = [80, 42.4151893185, 21.1086767362, 9.72320135526, 4.06612360295]
    expected += [1.50174197907, 0.469979057998, 0.116638563525, 0.0204353345534, 0.002]
    times = sd.grid("karras", sd.EDM(), 9)
    assert times.tolist() == pytest.approx(expected, rel=1e-10)


def test_exponential_sigmas_are_even_in_log_snr():
    times = sd.grid("log_snr", sd.EDM(), 4)
    assert times.tolist() == pytest.approx([80, 5.65685424949, 0.4, 0.0282842712475, 0.002], rel=1e-10)


def test_polyexponential_sigmas():
    # k-diffusion's get_sigmas_polyexponential: exp(ramp^rho log(80/.002) + log .002), ramp from 1 to 0.
    times = sd.grid("polynomial", sd.EDM(), 6, rho=2.5)
    ramp = np.linspace(1, 0, 7) ** 2.5
    assert times.tolist() == pytest.approx(np.exp(ramp * math.log(80 / 0.002) + math.log(0.002)), rel=1e-11)


def test_vp_sigmas_are_uniform_in_time():
    # k-diffusion's get_sigmas_vp(3), from t = 1 to 1e-3.
    sde = sd.VP()
    times = sd.grid("uniform", sde, 2)
    expected = [152.166970284, 3.42224476257, 0.0104859927867]
    assert (sde.sigma(times) / sde.alpha(times)).tolist() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", ["log_snr", "exponential"])
def test_exponential_is_the_log_snrs_other_name(sde, name):
    times = sd.grid(name, sde, 9, start=0.9 * sde.t_max)
    log_sigmas = torch.log(sde.sigma(times) / sde.alpha(times))
    torch.testing.assert_close(log_sigmas.diff(), log_sigmas.diff().mean().expand(9), rtol=1e-8, atol=0)
    assert torch.equal(times, sd.grid("log_snr", sde, 9, start=0.9 * sde.t_max))
    assert torch.equal(sd.grid("polyexponential", sde, 9), sd.grid("polynomial", sde, 9))


def test_time_shift_is_sd3s_on_a_flow():
    # Esser et al. 2024, eq. 23: t = shift u / (1 + (shift - 1) u) of even u, which here ends where t is t_min.
    sde, shift = sd.RectifiedFlow(), 3.0
    u = np.linspace(1, sde.t_min / (shift - (shift - 1) * sde.t_min), 11)
    expected = shift * u / (1 + (shift - 1) * u)
    assert sd.grid("time_shift", sde, 10).tolist() == pytest.approx(expected, rel=1e-12)
    assert sd.grid("time_shift", sde, 10, shift=1.0).tolist() == pytest.approx(np.linspace(1, sde.t_min, 11))
    with pytest.raises(ValueError, match=r"shift=0: .*write a positive number"):
        sd.grid("time_shift", sde, 10, shift=0)


def test_time_shift_multiplies_sigma_over_alpha(sde):
    plain = sd.grid("time_shift", sde, 8, shift=1.0, start=0.9 * sde.t_max)
    shifted = sd.grid("time_shift", sde, 8, shift=2.5, start=0.9 * sde.t_max)
    # Even steps of u = k/(1 + k) before k = sigma/alpha is multiplied by 2.5.
    for times, shift in ((plain, 1.0), (shifted, 2.5)):
        k = sde.sigma(times) / sde.alpha(times) / shift
        u = k / (1 + k)
        torch.testing.assert_close(u.diff(), u.diff().mean().expand(8), rtol=1e-8, atol=0)
    assert (shifted[1:-1] > plain[1:-1]).all()


@pytest.mark.parametrize("shape", [{}, {"alpha": 0.6, "beta": 0.6}, {"alpha": 1.5, "beta": 0.8}])
def test_beta_times_are_even_quantiles(shape):
    a, b = shape.get("alpha", 0.6), shape.get("beta", 0.6)
    sde = sd.EDM()
    times = sd.grid("beta", sde, 8, **shape)
    shares = ((times - sde.t_min) / (sde.T - sde.t_min)).tolist()
    whole = math.gamma(a) * math.gamma(b) / math.gamma(a + b)
    for i, share in enumerate(shares[1:-1], 1):
        # x = y^(1/a) takes the density's pole at 0 away.
        mass = quad(lambda y: (1 - y ** (1 / a)) ** (b - 1) / a, 0, share**a, epsabs=1e-12)[0] / whole
        assert mass == pytest.approx(1 - i / 8, abs=1e-9)
    with pytest.raises(ValueError, match=r"alpha=0, beta=0\.6: a Beta distribution needs both positive"):
        sd.grid("beta", sde, 8, alpha=0)


# diffusers' set_timesteps, for n timesteps of 1000 (0-based): its own lines, in numpy.
DIFFUSERS = {
    "linspace": lambda n: np.linspace(0, 999, n).round()[::-1],
    "leading": lambda n: (np.arange(0, n) * (1000 // n)).round()[::-1],
    "trailing": lambda n: np.round(np.arange(1000, 0, -1000 / n)) - 1,
}


@pytest.mark.parametrize(
    ("spacing", "counts"),
    [
        ("linspace", range(2, 1001)),
        ("leading", range(2, 1001)),
        # Where 1000/n is not exact its arange is off by rounding: 61 steps give 62 of them, the last -1.
        ("trailing", (2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500, 1000, 3, 6, 7, 15, 30)),
    ],
)
def test_strided_knots_are_diffusers(spacing, counts):
    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64))
    wrong = [
        n
        for n in counts
        if (sd.grid("strided", table, n - 1, spacing=spacing).numpy() - 1).tolist() != DIFFUSERS[spacing](n).tolist()
    ]
    assert wrong == []


def test_the_previous_time_comes_from_the_actual_grid():
    # diffusers takes t - 1000//n = 899 for the time after 999 whatever the spacing.
    table, net = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64)), Counted()
    seen = []

    class Noted(sd.Solver):
        def step(self, model, x, t, s, state, noise):
            seen.append((t.t - 1, s.t - 1))
            return model(x, t).x0, None

    sd.sample(sd.ScoreModel(net, table, time="index"), (1, 2), solver=Noted(), steps=9)
    assert seen[0] == (999, 888)
    assert [b for _, b in seen[:-1]] == [a for a, _ in seen[1:]]
    assert net.clocks == [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]


def test_ddim_steps_along_the_actual_grid():
    # DDIM's mean with alpha_bar of 888, not of 899, written out from the paper (eq. 12).
    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64))
    bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=F64), 0)
    x = torch.tensor([[0.3, -1.2]], dtype=F64)
    eps = 0.4 * torch.tanh(x)
    run = sd.sample(sd.ScoreModel(Counted(), table, time="index"), x=x, solver="ddim", steps=9, full=True)
    x0 = (x - (1 - bars[999]).sqrt() * eps) / bars[999].sqrt()
    expected = bars[888].sqrt() * x0 + (1 - bars[888]).sqrt() * eps
    torch.testing.assert_close(run.trajectory[1], expected, rtol=1e-10, atol=1e-12)


def test_knots_are_every_knot():
    table = sd.Table.from_sigmas([0.1, 0.2, 0.5, 1.0])
    assert sd.grid("knots", table).tolist() == [4, 3, 2, 1]
    assert sd.grid("knots", table, 3).tolist() == [4, 3, 2, 1]
    assert sd.grid("knots", table, start=3).tolist() == [3, 2, 1]
    with pytest.raises(ValueError, match="'knots' has 3 moves, asked for 5: leave steps out, or use 'strided'"):
        sd.grid("knots", table, 5)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_strided_over_all_knots_is_knots(spacing):
    table = sd.Table.from_betas(torch.linspace(0.01, 0.2, 17, dtype=F64))
    assert torch.equal(sd.grid("strided", table, 16, spacing=spacing), sd.grid("knots", table))
    with pytest.raises(ValueError, match="18 distinct knots were asked of a table with 17: ask for at most 16 steps"):
        sd.grid("strided", table, 17, spacing=spacing)


def test_strided_between_start_and_stop():
    table = sd.Table.from_betas(torch.linspace(0.001, 0.1, 100, dtype=F64))
    times = sd.grid("strided", table, 4, start=81, stop=41)
    assert times.tolist() == [81, 71, 61, 51, 41]
    with pytest.raises(ValueError, match="spacing='even': write 'leading', 'trailing' or 'linspace'"):
        sd.grid("strided", table, 4, spacing="even")


# --- what every grid keeps to -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SMOOTH)
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_grids_fall_from_start_to_stop_in_n_moves(sde, kind, n):
    times = sd.grid(kind, sde, n)
    assert times.dtype == F64
    assert len(times) == n + 1
    assert (times.diff() < 0).all()
    assert times[0].item() in (sde.T, sde.t_max)
    assert times[-1].item() == sde.t_min
    assert (sde.sigma(times) > 0).all()
    part = sd.grid(kind, sde, n, start=0.7 * sde.t_max, stop=0.3 * sde.t_max)
    assert (part[0].item(), part[-1].item()) == (0.7 * sde.t_max, 0.3 * sde.t_max)


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        ("uniform", lambda sde, t: t),
        ("quadratic", lambda sde, t: t.sqrt()),
        ("log_snr", lambda sde, t: torch.log(sde.alpha(t) / sde.sigma(t))),
        ("karras", lambda sde, t: (sde.sigma(t) / sde.alpha(t)) ** (1 / 7)),
        ("angle", lambda sde, t: torch.atan2(sde.sigma(t), sde.alpha(t))),
        ("polynomial", lambda sde, t: torch.log(sde.sigma(t) / sde.alpha(t))),
    ],
)
def test_grids_are_even_in_their_variable(sde, kind, variable):
    times = sd.grid(kind, sde, 20, start=0.9 * sde.t_max)
    steps = variable(sde, times).diff()
    torch.testing.assert_close(steps, steps.mean().expand(20), rtol=1e-8, atol=0)


def test_options_reach_the_grid():
    times = sd.grid("karras", sd.EDM(), 6, rho=3.0)
    torch.testing.assert_close(times ** (1 / 3), torch.linspace(80 ** (1 / 3), 0.002 ** (1 / 3), 7, dtype=F64))
    times = sd.grid("quadratic", sd.VP(), 6, power=3.0)
    torch.testing.assert_close(times ** (1 / 3), torch.linspace(1, 0.1, 7, dtype=F64), rtol=1e-12, atol=0)
    times = sd.grid("angle", sd.EDM(), 6, sigma_data=0.5)
    phi = torch.atan(times / 0.5)
    torch.testing.assert_close(phi.diff(), phi.diff().mean().expand(6), rtol=1e-8, atol=0)


def test_a_function_or_plain_times_are_grids():
    halves = sd.grid(lambda sde, n, start, stop: start * 0.5 ** torch.arange(n + 1.0), sd.VP(), 3, stop=0.125)
    assert halves.tolist() == [1.0, 0.5, 0.25, 0.125]
    given = sd.grid([1.0, 0.4, 0.05], sd.VP())
    assert given.tolist() == [1.0, 0.4, 0.05]
    assert given.dtype == F64


class DriftAlone(sd.SDE):
    def drift(self, x, t):
        return -x

    def diffusion(self, t):
        return torch.ones_like(torch.as_tensor(t, dtype=F64))


@pytest.mark.parametrize("kind", SMOOTH)
def test_grids_need_alpha_and_sigma_or_time_alone(kind):
    if kind in ("uniform", "quadratic", "beta"):
        assert len(sd.grid(kind, DriftAlone(), 4)) == 5
        return
    with pytest.raises(sd.SDEError, match=f"the grid '{kind}' needs alpha and sigma, which DriftAlone does not give"):
        sd.grid(kind, DriftAlone(), 4)


def test_a_grid_may_live_in_a_module_that_is_loaded_on_use(monkeypatch):
    def thirds(sde, n, start, stop, power=1.0):
        return start * (1 / 3) ** (torch.arange(n + 1.0, dtype=F64) * power)

    with monkeypatch.context() as patch:
        patch.setitem(GRIDS, "thirds", "upper_floor.grids:thirds")
        with pytest.raises(ModuleNotFoundError, match="upper_floor"):
            sd.grid("thirds", sd.VP(), 2, stop=1 / 9)
        module = types.ModuleType("upper_floor.grids")
        module.thirds = thirds
        patch.setitem(sys.modules, "upper_floor", types.ModuleType("upper_floor"))
        patch.setitem(sys.modules, "upper_floor.grids", module)
        assert sd.grid("thirds", sd.VP(), 2, stop=1 / 9).tolist() == pytest.approx([1, 1 / 3, 1 / 9], rel=1e-15)
        assert sd.grid("thirds", sd.VP(), 2, stop=1 / 9, power=1.5)[1] == pytest.approx(3**-1.5)
        record = sd.sample(sd.ScoreModel(Counted(), sd.VP()), (1, 2), grid="thirds", steps=2, stop=1 / 9, full=True)
        assert record.times.tolist() == pytest.approx([1, 1 / 3, 1 / 9])
    assert "thirds" not in GRIDS


# --- alpha(T) = 0 -------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", sd.list_solvers())
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
    with pytest.raises(sd.SDEError, match="a eps network does not determine x0: start below it"):
        sd.sample(zero_snr(Counted(), "eps"), (2, 3), solver="ddim", steps=4, start=1000)
    net = Counted()
    assert sd.sample(zero_snr(net, "eps"), (2, 3), solver="ddim", steps=4).isfinite().all()
    assert net.clocks[0] == 998


# --- levels -------------------------------------------------------------------------------------------------------


def test_levels_hold_floats_and_know_their_place(sde):
    times = sd.grid(sde.grid, sde, 5)
    row = sd.levels(sde, times)
    found = sde.schedule(times)
    for i, here in enumerate(row):
        assert (here.index, here.grid, here.t) == (i, row, times[i].item())
        assert here.next is (row[i + 1] if i < 5 else None)
        for name in ("alpha", "sigma", "lam", "alpha_dot", "sigma_dot", "f", "g2"):
            value = getattr(here, name)
            assert type(value) is float
            assert value == pytest.approx(getattr(found, name)[i].item(), rel=1e-14, nan_ok=True)
    assert row[-1].kappa == pytest.approx(row[-1].sigma / row[-1].alpha)
    assert repr(row[2]) == f"Level(t={times[2].item()!r}, index=2 of 6)"


def test_levels_hand_over_the_inner_nodes_of_a_step():
    sde, times = sd.VP(), torch.tensor([1.0, 0.5, 0.25], dtype=F64)
    row = sd.levels(sde, times, lambda process, t, s: [t.t - 0.1, (t.t + s.t) / 2])
    assert [[v.t for v in here.inner] for here in row] == [[], [0.9, 0.75], [0.4, 0.375]]
    node = row[2].inner[1]
    assert (node.index, node.grid) == (1, row)
    assert node.alpha == pytest.approx(sde.alpha(torch.tensor(0.375, dtype=F64)).item(), rel=1e-14)


def test_the_process_is_evaluated_once_a_grid():
    calls = []

    class Watched(sd.VP):
        def alpha(self, t):
            calls.append(t.shape)
            return super().alpha(t)

    sde = Watched()
    sd.levels(sde, sd.grid("uniform", sde, 50))
    assert len(calls) <= 2
    used = len(calls)
    short, long = (sd.sample(sd.ScoreModel(Counted(), sde), (1, 2), solver="heun", steps=n) for n in (4, 40))
    assert short.shape == long.shape
    assert len(calls) - used < 30  # nothing of the 44 steps evaluates the process again


def test_level_takes_a_float_a_batch_or_a_level():
    sde = sd.VP()
    one, batch = sd.level(sde, 0.3), sd.level(sde, torch.tensor([0.3, 0.6], dtype=torch.float32))
    assert type(one.alpha) is float
    assert batch.alpha.dtype == F64
    assert batch.lam.tolist() == pytest.approx([sd.level(sde, t).lam for t in batch.t.tolist()], rel=1e-14)
    assert sd.level(sde, one) is one
    assert one.next is None


# --- counting -----------------------------------------------------------------------------------------------------


def calls_of(name, sde, **options):
    net = Counted()
    run = sd.sample(sd.ScoreModel(net, sde), (2, 3), solver=name, full=True, **options)
    assert run.calls == net.calls
    return net.calls, run


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("name", [name for name, info in sd.list_solvers().items() if not info.adaptive])
def test_steps_and_calls_are_what_the_network_counts(name, denoise):
    sde, solver = sd.VP(), sd.solver(name)
    for steps in (1, 2, 5):
        calls, run = calls_of(name, sde, steps=steps, denoise=denoise)
        assert calls == solver.spent(steps) + denoise
        assert solver.calls is None or calls == (steps if solver.moves else steps + 1) * solver.calls + denoise
        assert len(run.times) == steps + 1 == len(run.trajectory)
        # calls= asks for the same run.
        again, other = calls_of(name, sde, calls=calls, denoise=denoise)
        assert again == calls
        if name == "dpm_fast":  # it shares any number of calls out, in a pattern of its own
            continue
        assert torch.equal(other.times, run.times)
        # Never more than was asked for, never a step less than fits.
        most, _ = calls_of(name, sde, calls=solver.spent(steps + 1) + denoise - 1, denoise=denoise)
        assert most == calls


@pytest.mark.parametrize("method", ["dopri5", "RK45", "LSODA", "rk4"])
def test_black_boxes_count_too_and_refuse_calls(method):
    solver = sd.solver("ode", method=method, substeps=7)
    calls, run = calls_of(solver, sd.VP())
    assert calls == 29 if method == "rk4" else calls > 20
    assert len(run.times) == 2
    with pytest.raises(sd.SolverError, match="chooses its calls at run time: set rtol and atol"):
        calls_of(solver, sd.VP(), calls=50)


def test_composed_and_repeated_correctors_are_counted():
    langevin = sd.solver("langevin", n=3)
    for predictor, per in (("heun", 2), ("ddim", 1), ("dpmpp_2m", 1)):
        both = sd.solver("predictor_corrector", predictor=predictor, corrector=langevin)
        assert calls_of(both, sd.VP(), steps=4)[0] == 4 * (per + 3) + 1
    assert calls_of(sd.solver("annealed_langevin", n=7), sd.VP(), steps=3)[0] == 4 * 7 + 1
    assert calls_of(sd.solver("sde", method="srk", substeps=3), sd.VP(), steps=4)[0] == 4 * 3 * 4 + 1
    assert calls_of(sd.solver("sde", method="euler", substeps=3), sd.VP(), steps=4)[0] == 4 * 3 + 1


def test_a_tables_n_knots_are_n_calls():
    table = sd.Table.from_betas(torch.linspace(0.01, 0.3, 12, dtype=F64))
    for name in ("ddim", "ancestral", "reverse_diffusion", "euler_maruyama"):
        calls, run = calls_of(name, table, grid="knots")
        assert calls == 12
        assert run.times.tolist() == list(range(12, 0, -1))
    assert calls_of("ddim", table, calls=12)[1].times.tolist() == list(range(12, 0, -1))


def test_edms_eighteen_steps_are_35_calls():
    # Karras et al. 2022: N sigmas and a Heun step but into 0, 2N - 1 calls.
    calls, run = calls_of("heun", sd.EDM(), calls=35)
    assert (calls, len(run.times)) == (35, 18)


@pytest.mark.parametrize(
    ("name", "calls", "needed"), [("ddim", 1, 2), ("heun", 2, 3), ("annealed_langevin", 10, 11), ("rk4", 4, 5)]
)
def test_too_few_calls_are_refused_with_the_number_needed(name, calls, needed):
    with pytest.raises(ValueError, match=f"calls={calls} is too few for .*: it needs at least {needed}$"):
        calls_of(name, sd.VP(), calls=calls)
    assert calls_of(name, sd.VP(), calls=needed)[0] == needed


def test_steps_and_calls_together_or_beside_times_are_refused():
    with pytest.raises(ValueError, match="given steps=3 and calls=4: write one of them"):
        calls_of("ddim", sd.VP(), steps=3, calls=4)
    for extra in ({"steps": 3}, {"calls": 4}):
        with pytest.raises(ValueError, match="the grid's times were given: leave steps and calls out"):
            calls_of("ddim", sd.VP(), grid=[1.0, 0.5, 0.1], **extra)


def test_default_grids_are_the_solvers_then_the_processs():
    def times(name, sde):
        return plan(sd.ScoreModel(Counted(), sde), name, steps=6).times

    vp, edm, table = sd.VP(), sd.EDM(), sd.Table.from_betas(torch.linspace(0.01, 0.3, 50, dtype=F64))
    assert torch.equal(times("dpmpp_2m", vp), sd.grid("log_snr", vp, 6))
    assert torch.equal(times("heun", vp), sd.grid("karras", vp, 6))
    assert torch.equal(times("ddim", vp), sd.grid("uniform", vp, 6))
    assert torch.equal(times("ddim", edm), sd.grid("karras", edm, 6))
    assert torch.equal(times("ancestral", table), sd.grid("strided", table, 6))
    assert len(plan(sd.ScoreModel(Counted(), vp), "ode").times) == 2


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "karas"}, "unknown grid 'karas': did you mean karras"),
        ({"n": 0}, "steps=0: a grid needs at least one step"),
        ({"n": -3}, "steps=-3: a grid needs at least one step"),
        ({"n": None}, "steps=None: a grid needs at least one step"),
        ({"n": 2.5}, r"steps=2.5"),
        ({"start": 1.5}, r"within \[0, 1.0\], given start=1.5, stop=0.001"),
        ({"start": 0.0001}, "given start=0.0001, stop=0.001"),
        ({"stop": 1.0}, "given start=1.0, stop=1.0"),
        ({"stop": -0.5}, "given start=1.0, stop=-0.5"),
        ({"start": math.nan}, "given start=nan"),
        ({"kind": [0.1, 0.5, 1.0]}, "falls strictly from noise to data, given .*: sort it downwards"),
        ({"kind": [1.0, 0.5, 0.5]}, "falls strictly"),
        ({"kind": [1.0, math.nan, 0.1]}, "falls strictly"),
        ({"kind": [1.0]}, "a row of at least two times"),
        ({"kind": [[1.0, 0.5]]}, "a row of at least two times"),
        ({"kind": [2.0, 0.5]}, r"must lie in \[0, 1.0\], given 2.0 to 0.5"),
        ({"kind": [1.0, -0.5]}, r"must lie in \[0, 1.0\]"),
        ({"kind": [1.0, 0.5, 0.0]}, "sigma"),
        ({"stop": 0.0}, "sigma"),
        ({"kind": "knots"}, "VP has no knots: use another grid, or make a Table of it"),
        ({"kind": "strided"}, "VP has no knots: use another grid, or make a Table of it"),
    ],
)
def test_what_is_no_grid_is_refused(options, message):
    options = {"kind": "uniform", "n": 4, **options}
    kind, n = options.pop("kind"), options.pop("n")
    with pytest.raises(ValueError, match=message):
        sd.grid(kind, sd.VP(), None if isinstance(kind, list) else n, **options)


def test_a_process_with_noise_at_zero_may_be_followed_to_zero():
    assert sd.grid("uniform", sd.VE(), 4, stop=0.0)[-1].item() == 0.0


def test_nearest_names_what_was_given_and_what_is_close():
    assert nearest("ddmi", ("ddim", "ddpm", "heun"), "solver").startswith("unknown solver 'ddmi': did you mean dd")
    assert nearest("zzz", ("a", "b"), "grid") == "unknown grid 'zzz': did you mean a, b?"
    assert set(GRIDS) == {*SMOOTH, "exponential", "polyexponential", "tuned", "knots", "strided"}


def test_unknown_names_in_a_run_are_answered_with_the_nearest():
    model = sd.ScoreModel(Counted(), sd.VP())
    for option, value, answer in (
        ("solver", "hein", "unknown solver 'hein': did you mean heun"),
        ("grid", "log_snf", "unknown grid 'log_snf': did you mean log_snr"),
        ("noise", "brownain", "unknown noise 'brownain': did you mean brownian"),
    ):
        with pytest.raises(ValueError, match=answer):
            sd.sample(model, (1, 2), **{option: value})


def test_neighbouring_levels_are_the_steps_of_a_run():
    # No repeated and no skipped times, the last as documented.
    seen = []
    model = sd.ScoreModel(Counted(), sd.VP())
    sd.sample(model, (1, 2), solver="ddim", steps=7, callback=lambda state: seen.append(state.t.t))
    assert seen == sd.grid("uniform", sd.VP(), 7).tolist()
    assert all(a > b for a, b in itertools.pairwise(seen))


# --- what is kept -------------------------------------------------------------------------------------------------


class Learned(nn.Module, sd.LinearSDE):
    """sigma = rate t: a process that changes while its rate is trained."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(1.0, dtype=F64))

    def alpha(self, t):
        return torch.ones_like(t)

    def sigma(self, t):
        return self.rate * t


def test_equal_grids_of_a_constant_process_are_the_same_levels():
    times = sd.grid("log_snr", sd.VP(), 6)
    row = sd.levels(sd.VP(), times)
    assert sd.levels(sd.VP(), times.clone()) is row
    assert sd.levels(sd.VP(beta_max=19.0), times) is not row
    assert sd.levels(sd.SubVP(), times)[3].sigma != row[3].sigma

    def half(process, t, s):
        return [(t.t + s.t) / 2]

    visited = sd.levels(sd.VP(), times, half)
    assert sd.levels(sd.VP(), times, half) is visited
    assert [len(v.inner) for v in visited] == [0, *[1] * 6]
    assert [len(v.inner) for v in row] == [0] * 7


def test_a_kept_grid_is_nobody_s_to_change():
    times = sd.grid("karras", sd.VP(), 4)
    times[1] = -1.0
    assert sd.grid("karras", sd.VP(), 4)[1] > 0


def test_a_node_by_its_time_is_not_one_by_its_lam():
    times = [1.0, 0.2]
    by_time, by_lam = (sd.levels(sd.VP(), times, lambda *_, k=kind: [k(0.3)])[1].inner[0] for kind in (float, AtLam))
    assert by_time.t == 0.3
    assert by_lam.lam == pytest.approx(0.3)


@pytest.mark.parametrize("sde", [Learned(), sd.VP()], ids=["learned", "frozen"])
def test_what_may_change_is_asked_again(sde):
    learned = isinstance(sde, Learned)
    assert sde.constant is not learned
    model, x = sd.ScoreModel(lambda x, t: x, sde), torch.ones(2, 3, dtype=F64)
    before = sd.sample(model, x=x, solver="deis", steps=4, start=0.9, stop=0.1)
    assert torch.equal(before, sd.sample(model, x=x, solver="deis", steps=4, start=0.9, stop=0.1))
    if learned:
        with torch.no_grad():
            sde.rate.mul_(2.0)
        moved = sd.levels(sde, [0.9, 0.1])
        assert [v.sigma for v in moved] == [1.8, 0.2]
        after = sd.sample(model, x=x, solver="deis", steps=4, start=0.9, stop=0.1)
        assert (after - before).abs().min() > 0.1


@dataclasses.dataclass
class Thawed(sd.LinearSDE):
    """A process that is equal where its rate is, so has no hash."""

    rate: float = 1.0
    alpha, sigma = Learned.alpha, Learned.sigma


def _variants():
    @dataclasses.dataclass(frozen=True)
    class OfTensors(sd.VP):
        scale: tuple = (torch.ones(1),)

    @dataclasses.dataclass(frozen=True)
    class Uncompared(sd.VP):
        rate: float = dataclasses.field(default=1.0, compare=False)

    @dataclasses.dataclass(frozen=True)
    class Initial(sd.VP):
        rate: dataclasses.InitVar[float] = 1.0

        def __post_init__(self, rate):
            object.__setattr__(self, "held", rate)

    @dataclasses.dataclass(frozen=True, init=False)
    class Own(sd.VP):
        def __init__(self, net):
            object.__setattr__(self, "net", net)

    class Sub(sd.VP):
        pass

    return OfTensors(), Uncompared(), Initial(), Own(abs), Thawed(), Sub(), Learned()


@pytest.mark.parametrize("sde", _variants(), ids=lambda v: type(v).__name__)
def test_what_may_hide_a_change_is_not_constant(sde):
    before = dict(vars(sde))
    assert not sde.constant
    assert vars(sde) == before  # asking leaves no trace: a job's manifest reads them


def test_frozen_classes_of_plain_values_are_constant():
    assert all(v.constant for v in (sd.VE(), sd.EDM(), sd.Cosine(), sd.Table.from_sigmas([1.0, 2.0])))


@pytest.mark.parametrize("solver", ["deis", "unipc", "heun", "dpm_solver_2"])
def test_a_process_without_a_hash_is_sampled(solver):
    sde, x = Thawed(), torch.ones(2, 3, dtype=F64)
    model, options = sd.ScoreModel(lambda x, t: x, sde), {"solver": solver, "steps": 4, "start": 0.9, "stop": 0.1}
    before = sd.sample(model, x=x, **options)
    assert torch.equal(before, sd.sample(model, x=x, **options))
    sde.rate = 2.0
    assert (sd.sample(model, x=x, **options) - before).abs().min() > 0.1
