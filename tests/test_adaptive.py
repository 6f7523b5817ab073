"""Solvers that choose their own steps: published algorithms written again for one sample, conditions, refusals."""

from __future__ import annotations

import importlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff import integrate
from sdediff.noise.counter.brownian import Brownian
from sdediff.solvers import AdaptiveRK, AdaptiveSDE, DPMAdaptive, ReverseSDE, RungeKutta
from sdediff.targets import gaussian
from sdediff.testing import measured_order
from sdediff.testing.gaussian import gaussian_model

F64 = torch.float64


def _normals(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def marches(monkeypatch: pytest.MonkeyPatch) -> list[integrate.Result]:
    """What `march` returned to the solvers, for the counts of each sample."""
    seen: list[integrate.Result] = []
    plain = integrate.march

    def watched(*args: Any, **options: Any) -> integrate.Result:
        seen.append(plain(*args, **options))
        return seen[-1]

    monkeypatch.setattr("sdediff.integrate.march", watched)
    monkeypatch.setattr("sdediff.integrate.pairs.march", watched)
    return seen


# --- Runge-Kutta on a grid, in EDM's frame
@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2), ("kutta3", 3), ("rk38", 4)])
def test_runge_kutta_over_sigma_has_its_order(method: str, order: int) -> None:
    assert abs(measured_order(RungeKutta(method, "sigma")) - order) < 0.15


@pytest.mark.parametrize("method", ["euler", "ralston", "rk38", "butcher5"])
def test_on_edm_the_frame_of_sigma_is_time_itself(method: str) -> None:
    model = sd.problem("target_m").model(sd.EDM())
    x = 80 * _normals(5, 2)
    runs = [sd.sample(model, x=x, solver=RungeKutta(method, v), steps=12) for v in ("t", "sigma")]
    assert (runs[0] - runs[1]).abs().max().item() < 1e-9


def test_over_sigma_a_path_of_any_process_is_edm_s() -> None:
    """Karras et al. 2022, eq. 4: x/alpha follows d(x/alpha)/dkappa = eps, the same for all processes."""
    target = sd.problem("target_m")
    x = _normals(4, 2)
    ends = []
    for sde in (sd.VP(), sd.EDM(), sd.SubVP()):
        kappa = torch.linspace(5.0, 0.1, 9, dtype=F64)
        times = sde.t_of_lam(-kappa.log())
        first, last = sde.alpha(times[0]), sde.alpha(times[-1])
        out = sd.sample(target.model(sde), x=x * first, grid=times, solver=RungeKutta("rk4", "sigma"), denoise=False)
        ends.append(out / last)
    assert (ends[0] - ends[1]).abs().max().item() < 1e-9
    assert (ends[2] - ends[1]).abs().max().item() < 1e-9


def test_euler_over_sigma_is_ddim() -> None:
    model = sd.problem("target_m").model(sd.VP())
    options = {"x": _normals(3, 2), "steps": 7, "grid": "log_snr"}
    gap = sd.sample(model, solver=RungeKutta("euler", "sigma"), **options) - sd.sample(model, solver="ddim", **options)
    assert gap.abs().max().item() < 1e-12


# --- the flow by embedded pairs
@pytest.mark.parametrize("sde", [sd.VP(), sd.VE(), sd.EDM(), sd.RectifiedFlow()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("variable", ["angle", "t"])
@pytest.mark.parametrize("method", ["bosh3", "dopri5", "tsit5"])
def test_it_follows_the_exact_flow_of_a_gaussian(sde: sd.LinearSDE, variable: str, method: str) -> None:
    target = gaussian(mean=[0.5, -1.0], std=[0.3, 1.5])
    start = sde.t_max
    x = sde.schedule(start).sigma * _normals(6, 2, seed=3)
    solver = AdaptiveRK(method, 1e-6, 1e-6, variable)
    found = sd.sample(target.model(sde), x=x, solver=solver, start=start, denoise=False)
    exact = target.flow(x, sde, start, sde.t_min)
    assert (found - exact).abs().max().item() < 2e-4
    back = sd.encode(target.model(sde), found, solver=solver, t0=sde.t_min, start=start)
    alpha = sde.schedule(sde.t_min).alpha
    assert (back - target.flow(found * alpha, sde, sde.t_min, start)).abs().max() < 5e-3 * x.abs().max()


def test_the_angle_of_a_wider_scale_is_the_same_flow() -> None:
    model = sd.problem("target_m").model(sd.VP())
    x = _normals(6, 2)
    runs = [
        sd.sample(model, x=x, solver=AdaptiveRK(rtol=1e-9, atol=1e-9, scale=scale), denoise=False)
        for scale in (0.3, 1.0, 2.5)
    ]
    assert (runs[0] - runs[1]).abs().max().item() < 1e-6
    assert (runs[2] - runs[1]).abs().max().item() < 1e-6


def test_own_steps_in_the_angle_need_fewer_calls_than_a_library_s_shared_step(marches: list[Any]) -> None:
    """target_m under EDM: per sample under half of torchdiffeq's dopri5 at 1e-5, at no larger an error (x 1.5)."""
    sde = sd.EDM()
    model = sd.problem("target_m").model(sde)
    x = 80 * _normals(48, 2)
    exact = sd.sample(model, x=x, solver=AdaptiveRK(rtol=1e-11, atol=1e-11), denoise=False)
    theirs = sd.sample(model, x=x, solver="ode", denoise=False, full=True)
    marches.clear()
    ours = sd.sample(model, x=x, solver="rk_adaptive", denoise=False, full=True)
    errors = [(run.x - exact).norm(dim=1).median().item() for run in (theirs, ours)]
    assert errors[1] < 1.5 * errors[0], errors
    calls = marches[0].calls
    assert calls.double().mean() < 0.5 * theirs.calls
    assert ours.calls == marches[0].evaluations < theirs.calls
    assert ours.calls >= calls.max()


class _Conditioned(torch.nn.Module):
    """A v network whose answer depends on conditions with a row a sample, and on one without."""

    def forward(self, x: Any, t: Any, shift: Any, parts: Any, table: Any, name: str) -> torch.Tensor:
        assert name == "plain"
        assert len(shift) == len(x) == len(parts["gain"])
        assert len(table) == 3
        return torch.tanh(x * parts["gain"][:, None] + shift * table.sum())


@pytest.mark.parametrize("solver", ["rk_adaptive", "dpm_adaptive", "adaptive_sde"])
def test_conditions_follow_their_samples(solver: str) -> None:
    model = sd.ScoreModel(_Conditioned(), sd.VP(), predicts="v")
    shift, gain, table = _normals(8, 2, seed=1), torch.linspace(0.1, 3.0, 8, dtype=F64), torch.ones(3, dtype=F64)

    def run(rows: slice, index: int) -> torch.Tensor:
        cond = {"shift": shift[rows], "parts": {"gain": gain[rows]}, "table": table, "name": "plain"}
        shape = (len(shift[rows]), 2)
        return sd.sample(model, shape, solver=solver, cond=cond, seed=4, index=index, dtype=F64)

    together = run(slice(None), 0)
    for i in (0, 3, 7):
        assert (run(slice(i, i + 1), i)[0] - together[i]).abs().max().item() < 1e-12


def test_a_network_that_fails_is_named_with_the_place() -> None:
    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.where(t[:, None] < 0.5, math.nan, x)

    model = sd.ScoreModel(net, sd.VP(), predicts="v")
    for solver, place in (("rk_adaptive", "angle"), ("dpm_adaptive", "lam"), ("adaptive_sde", "t")):
        with pytest.raises(integrate.IntegrationError, match=f"2 of 2 samples: not finite at {place}="):
            sd.sample(model, (2, 2), solver=solver)
    short = AdaptiveRK(max_steps=3)
    with pytest.raises(integrate.IntegrationError, match="step limit"):
        sd.sample(gaussian_model(sd.VP()), (2, 2), solver=short)


# --- DPM-Solver-12 and -23
def _dpm_alone(model: Any, x: torch.Tensor, p: int, rtol: float, atol: float) -> tuple[torch.Tensor, int, int]:
    """One sample by Lu et al. 2022, algorithms 1, 2 and 4 at alpha = 1 over lam = -log sigma, in plain floats."""
    start, stop = -math.log(80.0), -math.log(0.002)

    def eps(y: torch.Tensor, lam: float) -> torch.Tensor:
        return model(y, math.exp(-lam)).eps

    lam, h, before, good, bad = start, 0.05, x, 0, 0
    while lam < stop:
        end = min(stop, lam + h)
        step = end - lam
        e0 = eps(x, lam)
        one = x - math.exp(-end) * math.expm1(step) * e0

        def inside(share: float, x: Any = x, lam: float = lam, step: float = step, e0: Any = e0) -> Any:
            return x - math.exp(-(lam + share * step)) * math.expm1(share * step) * e0

        if p == 2:
            e1 = eps(inside(0.5), lam + step / 2)
            low, high = one, one - math.exp(-end) * math.expm1(step) * (e1 - e0)
        else:
            e1 = eps(inside(1 / 3), lam + step / 3)
            low = one - 1.5 * math.exp(-end) * math.expm1(step) * (e1 - e0)
            s2, u = lam + 2 * step / 3, 2 * step / 3
            e2 = eps(inside(2 / 3) - math.exp(-s2) * 2 * (math.expm1(u) / u - 1) * (e1 - e0), s2)
            high = one - 1.5 * math.exp(-end) * (math.expm1(step) / step - 1) * (e2 - e0)
        scale = torch.clamp(rtol * torch.maximum(low.abs(), before.abs()), min=atol)
        error = ((low - high) / scale).norm().item() / math.sqrt(x.numel())
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / p) - 1)
        if factor >= 0.81:
            x, before, lam, good = high, low, end, good + 1
        else:
            bad += 1
        h *= factor
    return x, good, bad


@pytest.mark.parametrize(("rtol", "atol"), [(0.05, 0.0078), (1e-3, 1e-4)])
@pytest.mark.parametrize("pair", [12, 23])
def test_dpm_adaptive_is_dpm_solver_12_and_23(pair: int, rtol: float, atol: float, marches: list[Any]) -> None:
    model = sd.problem("gmm64").model(sd.EDM())
    x = 80 * _normals(3, 1, 8, 8)
    found = sd.sample(model, x=x, solver=DPMAdaptive(pair, rtol, atol), start=80.0, stop=0.002, denoise=False)
    result = marches[-1]
    assert result.rejected.sum() > 0
    for i in range(3):
        alone, good, bad = _dpm_alone(model, x[i : i + 1], pair % 10, rtol, atol)
        assert (found[i] - alone[0]).abs().max().item() < 1e-10
        assert (result.steps[i], result.rejected[i]) == (good, bad)
        # A rejected try leaves its first call to the next one.
        assert result.calls[i] == (pair % 10) * (good + bad) - bad


def test_dpm_adaptive_moves_x_over_alpha_alike_on_every_process() -> None:
    target, lam = sd.problem("target_m"), torch.tensor([-1.5, 3.0], dtype=F64)
    x, ends = _normals(4, 2), []
    for sde in (sd.VP(), sd.EDM()):
        times = sde.t_of_lam(lam)
        first, last = sde.alpha(times).tolist()
        ends.append(sd.sample(target.model(sde), x=x * first, grid=times, solver="dpm_adaptive", denoise=False) / last)
    assert (ends[0] - ends[1]).abs().max().item() < 1e-8


# --- the reverse SDE
def _ggf_alone(model: Any, x: torch.Tensor, w: Any, rtol: float, atol: float) -> tuple[torch.Tensor, int, int]:
    """One sample by Jolicoeur-Martineau et al. 2021, algorithm 1, on a given Brownian path w(t), in plain floats."""
    sde = model.sde
    t, stop, h, before, good, bad = sde.T, sde.t_min, 0.01, x, 0, 0

    def drift(y: torch.Tensor, time: float) -> tuple[torch.Tensor, float]:
        at = sde.schedule(time)
        return at.f * y - at.g2 * model(y, time).score, math.sqrt(at.g2)

    while t > stop:
        end = max(stop, t - h)
        h = t - end
        rise = w(t) - w(end)
        f0, g0 = drift(x, t)
        k1 = -h * f0 + g0 * rise
        f1, g1 = drift(x + k1, end)
        k2 = -h * f1 + g1 * rise
        scale = torch.clamp(rtol * torch.maximum((x + k1).abs(), before.abs()), min=atol)
        error = ((k2 - k1) / 2 / scale).norm().item() / math.sqrt(x.numel())
        if error <= 1:
            before, x, t, good = x + k1, x + (k1 + k2) / 2, end, good + 1
        else:
            bad += 1
        h *= 0.9 * error**-0.9
    return x, good, bad


@pytest.mark.parametrize("sde", [sd.VP(), sd.VE(sigma_max=10.0)], ids=["VP", "VE"])
def test_adaptive_sde_is_algorithm_1_on_one_path(sde: sd.LinearSDE, marches: list[Any]) -> None:
    model = sd.problem("target_m").model(sde)
    x = sde.prior_std() * _normals(3, 2)
    path = Brownian(seed=8, index=20, span=sde.T)
    found = sd.sample(model, x=x, solver=AdaptiveSDE(rtol=0.1), noise=path, denoise=False)
    result = marches[-1]
    assert result.rejected.sum() > 0
    for i in range(3):
        own = Brownian(seed=8, index=20 + i, span=sde.T)
        alone, good, bad = _ggf_alone(model, x[i : i + 1], lambda t, o=own: o.increment(0.0, t, x[:1])[0], 0.1, 0.0078)
        assert (found[i] - alone[0]).abs().max().item() < 1e-6  # times are rounded to the path's ticks alike
        assert (result.steps[i], result.rejected[i]) == (good, bad)
        assert result.calls[i] == 2 * (good + bad) - bad


def test_values_of_a_path_are_its_increments_from_0() -> None:
    path, like = Brownian(seed=3, index=5), torch.zeros(5, 2, 3, dtype=F64)
    times = torch.tensor([0.0, 1.0, 0.3, 0.70001, 2.0**-20], dtype=F64).numpy()
    found = path.values(times, like, torch.arange(5, 10).numpy())
    for i, t in enumerate(times.tolist()):
        assert torch.equal(found[i], path.increment(0.0, t, like)[0][i])


def test_adaptive_sde_converges_along_its_path() -> None:
    """Smaller tolerances come nearer to a fine solution on the same Brownian path (64 paths, medians)."""
    model = sd.problem("target_m").model(sd.VP())
    x = _normals(64, 2)
    options = {"x": x, "noise": "brownian", "seed": 5, "start": 0.8, "stop": 0.3, "denoise": False}
    fine = sd.sample(model, solver="sde", steps=200, **options)
    errors = [
        (sd.sample(model, solver=AdaptiveSDE(rtol=r, atol=r / 2), **options) - fine).norm(dim=1).median().item()
        for r in (0.1, 0.01, 0.001)
    ]
    assert errors[1] < 0.4 * errors[0], errors
    assert errors[2] < 0.4 * errors[1], errors


_WIDTHS = (0.05, 0.5)


def _digits_widths() -> tuple[float, ...]:
    """Standard deviations of the handwritten digits, levels over 16, along their 64 principal axes; three are 0."""
    values = np.linalg.eigvalsh(np.cov(sd.data("digits", "train").x.reshape(-1, 64).T / 16))
    return tuple(np.sqrt(values.clip(1e-10)).tolist())


def _distance(sde: sd.LinearSDE, times: list[float], heun: bool, widths: tuple[float, ...] = _WIDTHS) -> float:
    """W2/sqrt(D) to p_{t_min}, exact, for data N(0, diag) of these widths: both steps are linear in x and dW."""
    width2 = np.square(widths)
    row = [tuple(c.item() for c in (v.t, v.f, v.g2, v.alpha, v.sigma)) for v in map(sde.schedule, times)]
    rates = [f + g2 / (alpha**2 * width2 + sigma**2) for _, f, g2, alpha, sigma in row]
    variance = np.full(len(widths), sde.prior_std() ** 2)
    for ((t, _, g2, *_), r), ((s, _, g2_s, *_), r_s) in itertools.pairwise(zip(row, rates, strict=True)):
        h, g, g_s = t - s, math.sqrt(g2), math.sqrt(g2_s)
        one, two = 1 - h * r, h * r_s / 2
        gain, noise = (1 - h * r / 2 - two * one, (g + g_s) / 2 - two * g) if heun else (one, g)
        variance = gain**2 * variance + noise**2 * h
    *_, alpha, sigma = row[-1]
    return float(np.sqrt(np.square(np.sqrt(variance) - np.sqrt(alpha**2 * width2 + sigma**2)).mean()))


def _spent(
    sde: sd.LinearSDE, solver: AdaptiveSDE, widths: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, float, list[float]]:
    """Calls, the share of tries that failed and the times of a run in 3072 dimensions, as the paper's images have."""
    module = importlib.import_module("sdediff.solvers.adaptive_sde")
    tries: list[tuple[float, bool]] = []
    plain = module._ggf

    def watched(error: Any, step: Any) -> Any:
        factor, good = plain(error, step)
        tries.append((float(step.end[0]), bool(good[0])))
        return factor, good

    monkeypatch.setattr(module, "_ggf", watched)
    model = gaussian(mean=[0.0] * 3072, std=[w for w in widths for _ in range(3072 // len(widths))]).model(sde)
    run = sd.sample(model, (1, 3072), solver=solver, seed=3, denoise=False, full=True)
    rejected = sum(not good for _, good in tries)
    assert run.calls == 2 * len(tries) - rejected
    return run.calls, rejected / len(tries), [sde.T, *(end for end, good in tries if good)]


@pytest.mark.parametrize(
    ("sde", "solver", "widths", "share"),
    [
        (sd.VP(), AdaptiveSDE(rtol=0.05), _WIDTHS, 0.5),
        (sd.VE(), AdaptiveSDE(rtol=0.015, atol=1e-4), _digits_widths(), 1.0),
        (sd.VE(), AdaptiveSDE(rtol=0.2, atol=0.002), (0.001,), 1.0),
    ],
    ids=["VP", "VE, digits", "VE, data below sigma_min"],
)
def test_a15_half_of_euler_maruyama_s_calls_and_few_tries_fail(
    sde: sd.LinearSDE, solver: AdaptiveSDE, widths: tuple[float, ...], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The law of a run follows from its accepted steps alone, so the distances are exact and no chance is left.

    Euler-Maruyama gets twice the calls on the published grid, uniform in t. W2/sqrt(D) as measured: VP 2.4e-4 in
    146 calls, 2.0e-3 by Euler-Maruyama in 292; VE on 48 digits side by side 8.6e-6 in 738, for which it needs
    about 1911, on data below sigma_min 1.1e-4 in 118, for which it needs about 395.
    The next test says where VE gains nothing.
    """
    calls, rejected, times = _spent(sde, solver, widths, monkeypatch)
    assert rejected < 0.1
    twice = sd.grid("uniform", sde, 2 * calls).tolist()
    assert _distance(sde, times, True, widths) < share * _distance(sde, twice, False, widths)


def test_a15_on_ve_wide_data_are_euler_maruyama_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uniform t is even in log sigma there, and first-order errors cancel along it but for a share of g(0)^2.

    On data wider than sigma_min Euler-Maruyama is of order 2 in effect until that share is all that is left, so
    no loose tolerance halves its calls: it reaches the same distance in 103 calls where 145 are spent here.
    """
    sde = sd.VE()
    calls, rejected, times = _spent(sde, AdaptiveSDE(rtol=0.1), _WIDTHS, monkeypatch)
    assert rejected < 0.1
    assert _distance(sde, times, True) < 1e-3
    coarse, fine = (_distance(sde, sd.grid("uniform", sde, n).tolist(), False) for n in (calls // 4, calls // 2))
    assert math.log2(coarse / fine) > 1.6


# --- torchsde's methods
@pytest.mark.parametrize("method", integrate.TORCHSDE)
def test_torchsde_methods_have_their_strong_order_and_their_calls(method: str) -> None:
    """Median distance from a fine solution on the same path; srk's claim is a lower bound here (about 1.9)."""
    model = sd.problem("target_m").model(sd.VP())
    x = _normals(128, 2)
    solver = ReverseSDE(method)

    def run(s: Any, n: int) -> torch.Tensor:
        return sd.sample(model, x=x, solver=s, steps=n, start=0.8, stop=0.3, noise="brownian", seed=5, denoise=False)

    fine = run(ReverseSDE("srk"), 160)
    errors = [(run(solver, n) - fine).norm(dim=1).median().item() for n in (8, 16, 32)]
    slope = math.log2(errors[0] / errors[-1]) / 2
    assert slope > solver.strong_order - 0.15, errors
    record = sd.sample(model, x=x[:2], solver=ReverseSDE(method, substeps=3), steps=4, full=True)
    assert record.calls == 4 * ReverseSDE(method, substeps=3).calls + 1


@pytest.mark.parametrize("method", integrate.ODES)
def test_every_black_box_ode_method_integrates(method: str) -> None:
    """dx/dt = cos(t) x from 0 to 2: x = exp(sin 2), by 200 equal steps or 1e-7."""
    if method in integrate.TORCHODE:
        pytest.importorskip("torchode", reason="torchode, of the extra `peers`, is not installed")
    x = torch.tensor([[1.0, 2.0]], dtype=F64)

    def field(t: Any, y: torch.Tensor) -> torch.Tensor:
        return torch.cos(torch.as_tensor(t, dtype=F64)).reshape(-1, 1) * y

    found = integrate.odeint(field, x, 0.0, 2.0, method, 1e-7, 1e-7, steps=200)
    gap = (found / x - math.exp(math.sin(2.0))).abs().max().item()
    assert gap < {"euler": 2e-2}.get(method, 2e-4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AdaptiveRK(method="rk4"), "heun12"),
        (lambda: AdaptiveRK(variable="lam"), "angle"),
        (lambda: AdaptiveRK(rtol=0.0), "rtol=0.0"),
        (lambda: DPMAdaptive(pair=3), "12 or 23"),
        (lambda: AdaptiveSDE(atol=-1.0), "atol=-1.0"),
        (lambda: RungeKutta(variable="lam"), "sigma"),
        (lambda: ReverseSDE("log_ode"), "euler"),
    ],
)
def test_refusals_name_the_mend(make: Any, said: str) -> None:
    with pytest.raises(sd.SolverError, match=said):
        make()


@pytest.mark.parametrize("solver", ["dpm_adaptive", "adaptive_sde"])
def test_where_alpha_is_0_the_mend_is_named(solver: str) -> None:
    with pytest.raises(sd.SolverError, match="alpha is 0"):
        sd.sample(gaussian_model(sd.RectifiedFlow()), (2, 2), solver=solver, start=1.0)


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun", "rk4"])
def test_over_the_straight_path_any_process_is_rectified_flow(method: str) -> None:
    """x/(alpha + sigma) over sigma/(alpha + sigma) obeys rectified flow's equation, whose own time that is."""
    target, vp, flow = sd.problem("target_m"), sd.VP(), sd.RectifiedFlow()
    times = sd.grid("log_snr", vp, 9)
    straight = flow.t_of_lam(vp.lam(times))
    first, last = (sd.levels(vp, times)[i] for i in (0, -1))
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    options = {"denoise": False, "solver": RungeKutta(method, "flow"), "x": x}
    found = sd.sample(target.model(vp), grid=times, **options) / (last.alpha + last.sigma)
    options |= {"solver": RungeKutta(method), "x": x / (first.alpha + first.sigma)}
    torch.testing.assert_close(found, sd.sample(target.model(flow), grid=straight, **options), rtol=1e-9, atol=1e-10)
