"""Functions from solver to solver: ancestral steps, churn, restart; and consistent annealed Langevin."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sdediff as sd
from sdediff.solvers import DDIM, Adams, RungeKutta
from sdediff.solvers.churn import AncestralStep, Churn
from sdediff.solvers.langevin import ConsistentAnnealedLangevin
from sdediff.solvers.restart import Restart
from sdediff.solvers.singlestep import Singlestep
from sdediff.testing import check_solver

F64 = torch.float64
HEUN = RungeKutta("heun", variable="sigma")
NCSN = sd.Table.from_sigmas(torch.logspace(-2, 1, 12, dtype=F64))
PROCESSES = [sd.VP(), sd.SubVP(), sd.VE(), sd.EDM(), NCSN]


def _start(sde: sd.LinearSDE, seed: int = 0) -> Tensor:
    return sde.prior_std() * torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))


def _model(sde: sd.LinearSDE) -> sd.ScoreModel:
    return sd.problem("target_m").model(sde)


def _run(sde: sd.LinearSDE, solver: sd.Solver, times: Any, **options: Any) -> Tensor:
    return sd.sample(_model(sde), x=_start(sde), solver=solver, grid=times, denoise=False, **options)


# Ancestral steps


@pytest.mark.parametrize(("given", "down", "up"), [
    ((10, 5, 1.0), 2.5, 4.33012701892),
    ((10, 5, 0.5), 4.50693909433, 2.16506350946),
    ((2, 1.9, 1.0), 1.805, 0.593274809848),
    ((1, 0.1, 1.0), 0.01, 0.0994987437107),
])  # fmt: skip
def test_down_and_up_of_k_diffusions_ancestral_step(given: tuple[float, float, float], down: float, up: float) -> None:
    sde, (t, s, eta) = sd.EDM(), given
    solver = AncestralStep(DDIM(), eta=eta)
    row = sd.levels(sde, [t, s], solver.inner)
    assert row[1].inner[-1].sigma == pytest.approx(down, rel=1e-10)
    # With a network that says x0 = 0 the end is (down/t) x + up z.
    model = sd.ScoreModel(lambda x, _: torch.zeros_like(x), sde, predicts="x0")
    x = torch.full((1, 3), 7.0, dtype=F64)
    found = sd.sample(model, x=x, solver=solver, grid=[t, s], denoise=False, noise=sd.Counter(5))
    expected = down / t * x + up * sd.Counter(5)(*row, x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_euler_ancestral_is_ddim_of_its_eta(process: sd.LinearSDE, eta: float) -> None:
    """On every path, and to its last level, where the level below may lie beyond the process's end."""
    times = sd.grid("karras", process, 9)
    a = _run(process, sd.solver("euler_ancestral", eta=eta), times)
    b = _run(process, DDIM(eta), times)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_euler_in_time_lands_on_the_process_where_it_ends() -> None:
    """A solver in the process's own time cannot go beneath its end: the last noise is what leads up to s."""
    times = sd.grid("knots", NCSN)
    solver = AncestralStep(RungeKutta("euler"))
    x = _run(NCSN, solver, times)
    row = sd.levels(NCSN, times, solver.inner)
    assert [v.inner[-1].t for v in row[-2:]] == [1.0, 1.0]
    before = sd.sample(_model(NCSN), x=_start(NCSN), solver=solver, grid=times, denoise=False, full=True).trajectory[-2]
    plain = _model(NCSN)(before, row[-2]).mix(1.0, velocity=row[-1].t - row[-2].t)
    torch.testing.assert_close(x, plain, rtol=1e-9, atol=1e-9)


# Churn


def _edm(sde: sd.LinearSDE, times: list[float], churn: float, low: float, high: float, s_noise: float) -> Tensor:
    """Karras et al. 2022, algorithm 2, on x/alpha over sigma/alpha, without its step to 0."""
    model, x, noise = _model(sde), _start(sde), sd.Counter(3)
    row = sd.levels(sde, times)
    for t, s in itertools.pairwise(row):
        k, to = t.sigma / t.alpha, s.sigma / s.alpha
        gamma = min(churn / (len(times)), math.sqrt(2) - 1) if low <= k <= high else 0.0
        last = math.exp(-sde.lam([sde.T]).item())
        hat = k if k > last * (1 - 1e-9) else min(k * (1 + gamma), last)
        y = x / t.alpha + math.sqrt(hat**2 - k**2) * s_noise * noise(t, s, x)

        def slope(y: Tensor, kappa: float) -> Tensor:
            time = sde.t_of_lam(-math.log(kappa)).item()
            return (y - model(sde.schedule(time).alpha.item() * y, time).x0) / kappa

        d = slope(y, hat)
        y = y + (to - hat) / 2 * (d + slope(y + (to - hat) * d, to))
        x = s.alpha * y
    return x


@pytest.mark.parametrize("process", [sd.VP(), sd.EDM(), sd.VE()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize(("churn", "low", "high"), [(40.0, 0.05, 50.0), (3.0, 0.0, math.inf), (1.0, 0.3, 2.0)])
def test_algorithm_2_of_karras(process: sd.LinearSDE, churn: float, low: float, high: float) -> None:
    times = sd.grid("karras", process, 9).tolist()
    solver = sd.solver("edm", s_churn=churn, s_tmin=low, s_tmax=high, s_noise=1.1)
    found = _run(process, solver, times, noise=sd.Counter(3))
    torch.testing.assert_close(found, _edm(process, times, churn, low, high, 1.1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("churn", "gamma"), [(40.0, math.sqrt(2) - 1), (5.0, 5 / 18)])
def test_churn_counts_the_levels_as_edm_counts_its_steps(churn: float, gamma: float) -> None:
    """18 levels of noise are 17 moves and the jump to data: EDM's N = 18."""
    row = sd.levels(sd.EDM(), sd.grid("karras", sd.EDM(), 17), Churn(HEUN, s_churn=churn).inner)
    raised = [b.inner[-1].t / a.t - 1 for a, b in itertools.pairwise(row)]
    inside = [0.05 <= a.t <= 50 for a in row[:-1]]
    assert 0 < sum(inside) < 17
    assert all(r == pytest.approx(gamma, rel=1e-12) if v else r == 0 for r, v in zip(raised, inside, strict=True))


def test_churn_stops_at_the_noisiest_level() -> None:
    row = sd.levels(sd.EDM(), [80.0, 79.0, 60.0, 1.0], Churn(HEUN, s_tmax=math.inf).inner)
    assert [v.inner[-1].t for v in row[1:]] == pytest.approx([80.0, 80.0, 80.0], rel=1e-12)


def test_without_churn_edm_is_heun() -> None:
    solver, times = sd.solver("edm", s_churn=0.0), sd.grid("karras", sd.EDM(), 8)
    assert (solver.order, solver.stochastic) == (2, False)
    assert torch.equal(_run(sd.EDM(), solver, times), _run(sd.EDM(), HEUN, times))


# Restart


def _heun(model: sd.ScoreModel, x: Tensor, t: float, s: float) -> Tensor:
    """Heun's step over sigma, alpha = 1."""
    d = (x - model(x, t).x0) / t
    u = x + (s - t) * d
    return x + (s - t) / 2 * (d + (u - model(u, s).x0) / s)


def _restarted(times: list[float], intervals: dict[int, tuple[float, int, int]], s_noise: float) -> Tensor:
    """Xu et al. 2023, algorithm 1, on EDM; intervals: index of the level -> (high, moves, times)."""
    sde = sd.EDM()
    model, x, noise = _model(sde), _start(sde), sd.Counter(6)
    row = sd.levels(sde, times)
    for i, (t, s) in enumerate(itertools.pairwise(times), 1):
        x = _heun(model, x, t, s)
        if i not in intervals:
            continue
        high, moves, count = intervals[i]
        ramp = torch.linspace(high ** (1 / 7), s ** (1 / 7), moves + 1, dtype=F64) ** 7
        for k in range(count):
            x = x + s_noise * math.sqrt(high**2 - s**2) * noise(row[i - 1], row[i], x, k)
            for a, b in itertools.pairwise(ramp.tolist()):
                x = _heun(model, x, a, b)
    return x


def test_algorithm_1_of_restart() -> None:
    times = sd.grid("karras", sd.EDM(), 17).tolist()
    intervals = ((0.06, 0.3, 2, 2), (1.09, 1.92, 3, 1), (19.35, 40.79, 3, 2))
    nearest = [min(range(1, 18), key=lambda i: abs(times[i] - low)) for low, *_ in intervals]
    solver = sd.solver("restart", intervals=intervals, s_noise=1.05)
    expected = _restarted(times, {i: v[1:] for i, v in zip(nearest, intervals, strict=True)}, 1.05)
    record = sd.sample(
        _model(sd.EDM()), x=_start(sd.EDM()), solver=solver, grid=times, noise=sd.Counter(6), full=True, denoise=False
    )
    torch.testing.assert_close(record.x, expected, rtol=1e-9, atol=1e-9)
    assert record.calls == solver.spent(17) == 2 * (17 + 4 + 3 + 6)


def test_restarts_calls_at_the_papers_setting() -> None:
    """18 levels, 2 restarts of 2 moves: 35 calls of EDM's Heun and 8 on top, 43."""
    record = sd.sample(_model(sd.EDM()), (2, 2), solver="restart", steps=17, full=True)
    assert record.calls == 43
    assert len(sd.sample(_model(sd.EDM()), (2, 2), solver="restart", calls=43, full=True).times) == 18


def test_restart_forgets_the_history() -> None:
    """A multistep solver begins anew in each restart and after the last."""
    sde, solver = sd.VP(), Restart(Adams(2), ((0.5, 2.0, 3, 1),))
    times = sd.grid("log_snr", sde, 6).tolist()
    kappa = torch.exp(-sde.lam(times))
    i = min(range(1, 7), key=lambda j: abs(kappa[j].item() - 0.5))
    run = lambda x, row: sd.sample(_model(sde), x=x, solver=Adams(2), grid=row, denoise=False)  # noqa: E731
    x = run(_start(sde), times[: i + 1])
    row = sd.levels(sde, times)
    ramp = torch.linspace(2.0 ** (1 / 7), kappa[i].item() ** (1 / 7), 4, dtype=F64) ** 7
    inner = [*sde.t_of_lam(-torch.log(ramp)).tolist()[:-1], times[i]]
    up, s = sde.schedule(inner[0]), sde.schedule(times[i])
    kernel = sde.transition([times[i]], [inner[0]])
    z = sd.Counter(2)(row[i - 1], row[i], x)
    assert up.alpha < s.alpha
    x = run(kernel.scale.item() * x + kernel.std.item() * z, inner)
    x = run(x, times[i:])
    torch.testing.assert_close(_run(sde, solver, times, noise=sd.Counter(2)), x, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    [
        Restart(Singlestep(3, "x0"), ((0.06, 0.3, 4, 3), (0.059, 0.9, 5, 1), (2.0, 5.0, 2, 1))),
        Restart(Adams(2), ((0.06, 0.3, 0.1, 1),)),
        Churn(Singlestep(2), s_tmin=0.0, s_tmax=math.inf, s_noise=1.0),
        Churn(RungeKutta("midpoint"), s_noise=1.0),
        AncestralStep(HEUN, eta=0.5),
        AncestralStep(sd.solver("dpm_fast", tail=(2, 1))),
        AncestralStep(Singlestep(3, "x0"), eta=0.0),
    ],
    ids=repr,
)
def test_lifts_of_other_solvers_conform(solver: sd.Solver) -> None:
    """Each restarts, resumes to the bit, serves two threads and reaches the marginals."""
    assert len(check_solver(solver)) == 10


# What the lifts refuse


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AncestralStep(DDIM(1.0)), "deterministic solver"),
        (lambda: Churn(sd.solver("langevin")), "deterministic solver"),
        (lambda: Restart(sd.solver("edm")), "deterministic solver"),
        (lambda: sd.solver("euler_ancestral", eta=1.2), r"\[0, 1\]"),
        (lambda: sd.solver("edm", s_churn=-1.0), "negative"),
        (lambda: sd.solver("edm", s_tmin=2.0, s_tmax=1.0), "above s_tmax"),
        (lambda: sd.solver("restart", intervals=((0.3, 0.06, 2, 2),)), "low < high"),
        (lambda: sd.solver("restart", intervals=((0.06, 0.3, 1.5, 2),)), "a count or a share"),
        (lambda: sd.solver("restart", intervals=((0.06, 0.3, 2),)), "restart"),
        (lambda: sd.solver("consistent_annealed_langevin", eta=1.0), "0 < eta < 1"),
    ],
)
def test_errors_name_the_mend(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(sd.SolverError, match=said):
        make()


@pytest.mark.parametrize(
    ("solver", "times", "said"),
    [
        (AncestralStep(Adams(2)), "karras", "keeps a history"),
        (Churn(Adams(2)), "karras", "keeps a history"),
        (Restart(HEUN, ((0.06, 0.3, 2, 1),)), [80.0, 10.0, 0.5], "end the grid lower"),
        (Restart(HEUN, ((0.06, 90.0, 2, 1),)), "karras", "lower it"),
        (Restart(sd.solver("dpm_fast"), ((0.06, 0.3, 2, 1),)), "karras", "restart another"),
    ],
)
def test_runs_that_cannot_be_are_refused(solver: sd.Solver, times: Any, said: str) -> None:
    row = sd.grid(times, sd.EDM(), 8) if isinstance(times, str) else times
    with pytest.raises(sd.SolverError, match=said):
        _run(sd.EDM(), solver, row)


@pytest.mark.parametrize("solver", [AncestralStep(DDIM()), sd.solver("edm"), sd.solver("restart")], ids=repr)
def test_where_alpha_is_zero_it_says_so(solver: sd.Solver) -> None:
    model = sd.problem("target_m").model(sd.RectifiedFlow())
    with pytest.raises(sd.SolverError, match="alpha is 0"):
        sd.sample(model, (2, 2), solver=solver, steps=4, start=1.0, grid="uniform")


def test_a_lift_may_start_where_its_solver_may() -> None:
    assert Churn(RungeKutta("heun")).at_zero_alpha
    model = sd.ScoreModel(lambda x, _: torch.zeros_like(x), sd.RectifiedFlow(), predicts="velocity")
    assert torch.isfinite(sd.sample(model, (2, 2), solver=Churn(RungeKutta("heun")), grid=[1.0, 0.7, 0.2])).all()


# Consistent annealed Langevin


def test_consistent_annealed_langevin_of_the_paper() -> None:
    """Jolicoeur-Martineau et al. 2021, algorithm 2: x + eta sigma_i^2 score + beta sigma_(i+1) z."""
    sigmas, eta = [10 * 0.9**i for i in range(12)], 0.2
    sde = sd.Table.from_sigmas(sigmas[::-1])
    model, x, noise = _model(sde), _start(sde), sd.Counter(8)
    found = _run(sde, ConsistentAnnealedLangevin(eta), "knots", noise=noise)
    row = sd.levels(sde, sd.grid("knots", sde))
    beta = math.sqrt(1 - ((1 - eta) / 0.9) ** 2)
    assert beta == pytest.approx(0.458122847291, rel=1e-10)
    for t, s in itertools.pairwise(row):
        x = x + eta * t.sigma**2 * model(x, t).score + beta * s.sigma * noise(t, s, x)
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


def test_consistent_annealed_langevin_takes_a_point_exactly_to_its_marginals() -> None:
    """Data at 0: the noise of x_t and the step's own make up exactly sigma_s, on any path."""
    for sde in (sd.VP(), NCSN):
        model = sd.ScoreModel(lambda x, _: torch.zeros_like(x), sde, predicts="x0")
        times = sd.grid("log_snr", sde, 40)
        t, s = sd.levels(sde, times[:2])
        eta = 1 - 0.9 * s.kappa / t.kappa
        x = sd.sample(model, x=torch.ones(1, 1, dtype=F64), solver=ConsistentAnnealedLangevin(eta), grid=times[:2],
                      denoise=False, noise=sd.Counter(0))  # fmt: skip
        kept = (1 - eta) * s.alpha / t.alpha
        z = sd.Counter(0)(t, s, torch.ones(1, 1, dtype=F64))
        added = (x - kept).item() / z.item()
        assert (kept * t.sigma) ** 2 + added**2 == pytest.approx(s.sigma**2, rel=1e-10)


def test_consistent_annealed_langevin_by_default_is_the_ancestral_step() -> None:
    for sde in (sd.VP(), sd.EDM()):
        times = sd.grid("log_snr", sde, 9)
        a, b = (_run(sde, sd.solver(n), times) for n in ("consistent_annealed_langevin", "ancestral"))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_consistent_annealed_langevin_refuses_steps_that_are_too_long() -> None:
    with pytest.raises(sd.SolverError, match="1 - eta < gamma"):
        _run(sd.EDM(), ConsistentAnnealedLangevin(0.05), "karras", steps=20)


# Beside k-diffusion's own code

AVAILABLE = importlib.util.find_spec("k_diffusion") is not None


def _sampling() -> Any:
    if not AVAILABLE:
        pytest.skip("k_diffusion is not installed")
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("peers").k_diffusion()[0]


def _beside(theirs: str, solver: sd.Solver, high: float, monkeypatch: pytest.MonkeyPatch, **options: Any) -> float:
    """The largest difference from 12 levels to data, theirs given our noise as its own draws."""
    sampling, sde, noise = _sampling(), sd.EDM(T=high), sd.Counter(7)
    times = sd.grid("karras", sde, 11, start=80.0)
    model, x = _model(sde), _start(sd.EDM())
    row = sd.levels(sde, times)
    steps = [(t, s) for t, s in itertools.pairwise(row)] + [(row[-1], row[-1])]
    if theirs == "dpmpp_sde":
        draws = []
        for t, s in steps[:-1]:
            one, two = (noise(t, s, x, k) for k in range(2))
            part = (t.sigma - math.sqrt(t.sigma * s.sigma)) / (t.sigma - s.sigma)
            draws += [one * math.sqrt(part) + two * math.sqrt(1 - part), one]
    else:
        draws = [noise(t, s, x) for t, s in steps]
    left = iter(draws)
    if "s_churn" in options:
        monkeypatch.setattr(torch, "randn_like", lambda _: next(left))
    else:
        options["noise_sampler"] = lambda *_: next(left)
    denoiser = lambda x, sigma: model(x, sigma[0].item()).x0  # noqa: E731
    sigmas = torch.cat([times, times.new_zeros(1)])
    found = getattr(sampling, f"sample_{theirs}")(denoiser, x, sigmas, disable=True, **options)
    ours = sd.sample(model, x=x, solver=solver, grid=times, noise=noise)
    return (ours - found).abs().max().item()


CHURNS = [
    {"s_churn": 40.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003},
    {"s_churn": 3.0, "s_tmin": 0.05, "s_tmax": math.inf, "s_noise": 1.0},
]


@pytest.mark.peers
@pytest.mark.parametrize("options", CHURNS, ids=["karras", "everywhere"])
@pytest.mark.parametrize(
    ("theirs", "inner"),
    [("euler", RungeKutta("euler", variable="sigma")), ("heun", HEUN), ("dpm_2", Singlestep(2))],
)
def test_churn_is_k_diffusions(
    theirs: str, inner: sd.Solver, options: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    high = 80.0 if options["s_tmax"] < 80 else 120.0
    assert _beside(theirs, Churn(inner, **options), high, monkeypatch, **options) < 1e-10


@pytest.mark.peers
@pytest.mark.parametrize("options", [{}, {"eta": 0.6, "s_noise": 1.1}], ids=["defaults", "options"])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("euler_ancestral", "euler_ancestral"),
        ("dpm_2_ancestral", "dpm2_ancestral"),
        ("dpmpp_2s_ancestral", "dpmpp_2s_ancestral"),
        ("dpmpp_sde", "dpmpp_sde"),
    ],
)
def test_ancestral_samplers_are_k_diffusions(
    theirs: str, ours: str, options: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _beside(theirs, sd.solver(ours, **options), 80.0, monkeypatch, **options) < 1e-10


@pytest.mark.peers
@pytest.mark.parametrize("calls", [6, 7, 8, 20, 21, 22])
def test_dpm_fast_is_k_diffusions(calls: int) -> None:
    sampling, sde = _sampling(), sd.EDM()
    model, x = _model(sde), _start(sd.EDM())
    solver = sd.solver("dpm_fast", tail={0: (2, 1), 1: (1,), 2: (2,)}[calls % 3])
    ours = sd.sample(model, x=x, solver=solver, calls=calls, denoise=False)
    denoiser = lambda x, sigma: model(x, sigma[0].item()).x0  # noqa: E731
    torch.set_default_dtype(F64)  # its levels are made of the two sigmas in the default type
    try:
        found = sampling.sample_dpm_fast(denoiser, x, sde.t_min, sde.T, calls, disable=True,
                                         noise_sampler=lambda *_: torch.zeros_like(x))  # fmt: skip
    finally:
        torch.set_default_dtype(torch.float32)
    assert (ours - found).abs().max().item() < 1e-10
