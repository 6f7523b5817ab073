"""The rows of the overhead benchmark: sdediff's solvers, and its peers' loops as their documentation has them.

Each row is a function of the number of network evaluations that makes one run, its set-up included. The network returns
one constant tensor, an image of 3x32x32 in float32, so that what remains is a solver's own work.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

import sdediff as sd
from sdediff.benchmark.contenders.k_diffusion_samplers import sampling as k_diffusion

SHAPE = (1, 3, 32, 32)
# How a run of ours is made: on a process value that was never seen, by `sd.sample`, by a `Sampler` made before.
MODES = ("first", "sample", "sampler")
Run = Callable[[int], Any]


class Case(NamedTuple):
    """One row: a run of so many network evaluations by one system, on one process, in one mode."""

    system: str
    name: str
    process: str
    mode: str
    run: Run

    @property
    def key(self) -> tuple[str, ...]:
        """What names the row."""
        return self.system, self.name, self.process, self.mode


class Plain(sd.LinearSDE):
    """What a user writes: two methods in a plain class, VP's formulas."""

    def __init__(self, beta_max: float = 20.0) -> None:
        self.beta_max = beta_max

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * (0.1 * t + 0.5 * (self.beta_max - 0.1) * t**2))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-(0.1 * t + 0.5 * (self.beta_max - 0.1) * t**2)))


PROCESSES: dict[str, Callable[[float], sd.LinearSDE]] = {"VP": lambda b: sd.VP(beta_max=b), "plain": Plain}


def net(value: Tensor) -> Callable[..., Tensor]:
    """The trivial network."""

    def constant(x: Tensor, t: Any = None, **cond: Any) -> Tensor:
        return value

    return constant


def data() -> Tensor:
    """Samples whose mean and scale differ from dimension to dimension, to measure statistics on."""
    source = torch.Generator().manual_seed(1)
    z, scale = torch.randn(64, *SHAPE[1:], generator=source), torch.rand(SHAPE[1:], generator=source)
    return scale * z + scale.flip(-1)


def one_call_solvers() -> dict[str, bool]:
    """Every registered deterministic solver of one evaluation a step: name -> whether it corrects for free."""
    found = {}
    for name, solver in sd.list_solvers().items():
        if solver.calls == 1 and not solver.stochastic and not solver.corrector and not solver.adaptive:
            found[name] = bool(getattr(solver, "corrector_points", 0))
    return found


def our_cases(value: Tensor, x: Tensor) -> Iterator[Case]:
    """Every one-call solver in every mode on both processes, and some variants and multi-call solvers under VP."""
    for name in one_call_solvers():
        for process, make in PROCESSES.items():
            yield from _modes(name, name, process, make, value, x, {})
    statistics = sd.statistics(data(), rank=8)
    variants: dict[str, tuple[Any, dict[str, Any]]] = {
        "angle, the data's mean and scale": ("angle", {"stats": statistics}),
        "angle, per dimension": (sd.solver("angle", scale="dims"), {"stats": statistics}),
        "angle, principal directions": (sd.solver("angle", scale="pca"), {"stats": statistics}),
        "dpmpp_2m, v network": ("dpmpp_2m", {"predicts": "v"}),
        **{name: (name, {}) for name in ("heun", "dpm_solver_2", "dpmpp_2s", "ancestral", "dpmpp_2m_sde")},
    }
    for name, (solver, options) in variants.items():
        yield from _modes(name, solver, "VP", PROCESSES["VP"], value, x, options)


def _modes(
    name: str,
    solver: Any,
    process: str,
    make: Callable[[float], Any],
    value: Tensor,
    x: Tensor,
    options: dict[str, Any],
) -> Iterator[Case]:
    fresh = itertools.count()

    def model(beta_max: float) -> sd.ScoreModel:
        return sd.ScoreModel(net(value), make(beta_max), **options)

    usual = model(20.0)
    samplers: dict[int, sd.Sampler] = {}

    def first(calls: int) -> Tensor:
        return sd.sample(model(20.0 - 1e-9 * next(fresh)), x=x, solver=solver, calls=calls)

    def sample(calls: int) -> Tensor:
        return sd.sample(usual, x=x, solver=solver, calls=calls)

    def again(calls: int) -> Tensor:
        if calls not in samplers:
            samplers[calls] = sd.Sampler(usual, solver=solver, calls=calls)
        return samplers[calls](x=x)

    for mode, run in zip(MODES, (first, sample, again), strict=True):
        yield Case("sdediff", name, process, mode, run)


# Name, class, and the arguments that make it do what ours of that kind does.
SCHEDULERS: list[tuple[str, str, dict[str, Any]]] = [
    ("DDIM", "DDIMScheduler", {"clip_sample": False}),
    ("Euler", "EulerDiscreteScheduler", {}),
    ("DPM++ 2M", "DPMSolverMultistepScheduler", {}),
    ("UniPC", "UniPCMultistepScheduler", {}),
    ("DEIS", "DEISMultistepScheduler", {}),
]


def diffusers_cases(value: Tensor, x: Tensor) -> Iterator[Case]:
    """The documented loop: set_timesteps, then scale_model_input, the network, step(...).prev_sample."""
    diffusers = importlib.import_module("diffusers")
    call = net(value)
    for label, kind, options in SCHEDULERS:
        scheduler = getattr(diffusers, kind)(**options)

        @torch.no_grad()
        def run(n: int, scheduler: Any = scheduler) -> Tensor:
            scheduler.set_timesteps(n)
            y = x * scheduler.init_noise_sigma
            for t in scheduler.timesteps:
                y = scheduler.step(call(scheduler.scale_model_input(y, t), t), t, y).prev_sample
            return y

        yield Case("diffusers", label, "its own", "sample", run)


def k_diffusion_cases(value: Tensor, x: Tensor) -> Iterator[Case]:
    """Its samplers on a bare denoiser: the network's output is x0."""
    sampling = k_diffusion()
    for name in ("sample_euler", "sample_dpmpp_2m", "sample_lms"):

        @torch.no_grad()
        def run(n: int, name: str = name) -> Tensor:
            sigmas = sampling.get_sigmas_karras(n, 0.02, 80.0)
            return getattr(sampling, name)(net(value), x, sigmas, disable=True)

        yield Case("k-diffusion", name.removeprefix("sample_"), "its own", "sample", run)


def azula_cases(value: Tensor, x: Tensor) -> Iterator[Case]:
    """Its samplers with its simplest denoiser."""
    denoise, noise, sample = (importlib.import_module(f"azula.{part}") for part in ("denoise", "noise", "sample"))

    class Backbone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, y: Tensor, t: Tensor) -> Tensor:
            return value

    denoiser = denoise.SimpleDenoiser(Backbone(), noise.VPSchedule())
    for kind in ("EulerSampler", "DDIMSampler"):

        def run(n: int, kind: str = kind) -> Tensor:
            return getattr(sample, kind)(denoiser, steps=n, stop=1e-3, silent=True)(x)

        yield Case("azula", kind.removesuffix("Sampler"), "its own", "sample", run)


def flow_matching_cases(value: Tensor, x: Tensor) -> Iterator[Case]:
    """Its ODESolver on a bare velocity."""
    solver = importlib.import_module("flow_matching.solver").ODESolver(velocity_model=net(value))

    def run(n: int) -> Tensor:
        return solver.sample(x_init=x, step_size=1 / n, method="euler")

    yield Case("flow_matching", "euler", "its own", "sample", run)


def torchdiffeq_cases(value: Tensor, x: Tensor) -> Iterator[Case]:
    """odeint on a bare velocity."""
    odeint = importlib.import_module("torchdiffeq").odeint
    call = net(value)

    @torch.no_grad()
    def run(n: int) -> Tensor:
        return odeint(lambda t, y: call(y, t), x, torch.linspace(0, 1, n + 1), method="euler")[-1]

    yield Case("torchdiffeq", "euler", "its own", "sample", run)


PEERS = {
    "diffusers": diffusers_cases,
    "k-diffusion": k_diffusion_cases,
    "azula": azula_cases,
    "flow-matching": flow_matching_cases,
    "torchdiffeq": torchdiffeq_cases,
}
