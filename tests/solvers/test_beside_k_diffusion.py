"""Noise injection and DPM-fast beside k-diffusion's own code."""

from __future__ import annotations

import importlib.util
import itertools
import math
from typing import Any

import pytest
import torch

import sdediff as sd
from sdediff.benchmark.contenders.k_diffusion_samplers import sampling
from sdediff.solvers import RungeKutta
from sdediff.solvers.churn import Churn
from sdediff.solvers.singlestep import Singlestep
from tests.solvers.noise_injection import first_states, model_on

F64 = torch.float64
HEUN = RungeKutta("heun", variable="sigma")
AVAILABLE = importlib.util.find_spec("k_diffusion") is not None


def _sampling() -> Any:
    if not AVAILABLE:
        pytest.skip("k_diffusion is not installed")
    return sampling()


def _beside(theirs: str, solver: sd.Solver, high: float, monkeypatch: pytest.MonkeyPatch, **options: Any) -> float:
    """The largest difference from 12 levels to data, theirs given our noise as its own draws."""
    sampling, sde, noise = _sampling(), sd.EDM(T=high), sd.Counter(7)
    times = sd.grid("karras", sde, 11, start=80.0)
    model, x = model_on(sde), first_states(sd.EDM())
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
    model, x = model_on(sde), first_states(sd.EDM())
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
