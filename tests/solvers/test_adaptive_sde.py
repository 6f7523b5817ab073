"""The reverse SDE with steps of its own: the published algorithm written again for one sample, A15's calls."""

from __future__ import annotations

import importlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.noise.brownian import Brownian
from sdediff.solvers import AdaptiveSDE
from sdediff.targets import gaussian
from tests.solvers.draws import draws

F64 = torch.float64


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
    x = sde.prior_std() * draws(3, 2)
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
    x = draws(64, 2)
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
    row = [tuple(c.item() for c in (v.time, v.f, v.g2, v.alpha, v.sigma)) for v in map(sde.schedule, times)]
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
