"""Every deterministic sampler of the peers as an entry of the quality table, with defaults and with best options."""

from __future__ import annotations

import functools
import importlib
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import sdediff as sd
from peers import k_diffusion
from peers.frame import TOLERANCES, Entry, Setting, spaced
from peers.schedulers import Scheduler, prepared

GRIDS = ("karras", "exponential", "rho3")

# k-diffusion: name -> (calls a step, options); the step to sigma 0 is one call.
_LISTED: dict[str, tuple[int, dict[str, Any]]] = {
    "euler": (1, {}),
    "heun": (2, {}),
    "dpm_2": (2, {}),
    "lms": (1, {}),
    "dpmpp_2s_ancestral": (2, {"eta": 0.0}),
    "dpmpp_sde": (2, {"eta": 0.0}),
    "dpmpp_2m": (1, {}),
    "dpmpp_2m_sde": (1, {"eta": 0.0}),
    "dpmpp_2m_sde heun": (1, {"eta": 0.0, "solver_type": "heun"}),
    "dpmpp_3m_sde": (1, {"eta": 0.0}),
}


def _still(*_: Any) -> float:
    """Noise for samplers that multiply it by zero."""
    return 0.0


def k_entries() -> list[Entry]:
    """k-diffusion: its list on three grids, its own grid being karras; the two that make their own levels."""
    sampling, _ = k_diffusion()

    def listed(name: str, a_step: int, options: dict[str, Any], grid: str) -> Entry:
        sampler = getattr(sampling, f"sample_{name.split()[0]}")
        drawn = {"noise_sampler": _still} if "eta" in options else {}

        def run(at: Setting, calls: int) -> Tensor | None:
            n = (calls - 1) // a_step + 1
            if n < 2:
                return None
            ends = torch.cat([spaced(grid, n, at.low, at.high), torch.zeros(1, dtype=torch.float64)])
            with prepared(sampling):
                return sampler(lambda y, s, **_: at.net(y, s[0]), at.y, ends, disable=True, **options, **drawn)

        return Entry("k-diffusion", f"{name}, {grid}", run, default=grid == "karras")

    def fast(at: Setting, calls: int) -> Tensor | None:
        with prepared(sampling):
            y = sampling.sample_dpm_fast(
                lambda y, s, **_: at.net(y, s[0]), at.y, at.low, at.high, calls - 1, disable=True, noise_sampler=_still
            )
        return at.net(y, at.low)

    def adaptive(at: Setting, tolerance: float, order: int) -> Tensor:
        with prepared(sampling):
            y = sampling.sample_dpm_adaptive(
                lambda y, s, **_: at.net(y, s[0]), at.y, at.low, at.high, disable=True, order=order,
                rtol=tolerance, atol=0.0078 / 0.05 * tolerance, noise_sampler=_still,
            )  # fmt: skip
        return at.net(y, at.low)

    rows = [listed(name, *about, grid) for (name, about), grid in itertools.product(_LISTED.items(), GRIDS)]
    rows.append(Entry("k-diffusion", "dpm_fast", fast, default=True))
    for order in (2, 3):
        run = functools.partial(adaptive, order=order)
        rows.append(Entry("k-diffusion", f"dpm_adaptive, order {order}", run, TOLERANCES))
    return rows


# diffusers: label -> (class, options, calls a step as the step n that fits into calls)
_KARRAS, _EXPONENTIAL = {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}
_SPACINGS: dict[str, dict[str, Any]] = {"default": {}, "karras": _KARRAS, "exponential": _EXPONENTIAL}


def _same(calls: int) -> int:
    return calls


def _half(calls: int) -> int:
    return (calls + 1) // 2


def _families() -> list[tuple[str, str, dict[str, Any], Callable[[int], int], dict[str, dict[str, Any]]]]:
    """(label, class, options, steps for so many calls, spacings)."""
    rows: list[Any] = []
    dpm = _SPACINGS | {"lu_lambdas": {"use_lu_lambdas": True}}
    for order, kind in ((2, "midpoint"), (2, "heun"), (3, "midpoint")):
        options = {"solver_order": order, "solver_type": kind}
        rows.append((f"DPM++ {order}M {kind}", "DPMSolverMultistepScheduler", options, _same, dpm))
        eps = options | {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}
        rows.append((f"DPM {order}M {kind}", "DPMSolverMultistepScheduler", eps, _same, _SPACINGS))
        for schedule in ("karras", "exponential"):
            edm = options | {"sigma_schedule": schedule, "sigma_data": 0.5}
            rows.append(
                (f"EDM DPM++ {order}M {kind}, {schedule}", "EDMDPMSolverMultistepScheduler", edm, _same, {"": {}})
            )
    for order in (2, 3):
        single = {"solver_order": order}
        rows.append((f"DPM++ {order}S", "DPMSolverSinglestepScheduler", single, _same, _SPACINGS))
        lower = single | {"lower_order_final": True}
        rows.append((f"DPM++ {order}S lower", "DPMSolverSinglestepScheduler", lower, _same, _SPACINGS))
        for variant in ("bh1", "bh2"):
            uni = {"solver_order": order, "solver_type": variant}
            rows.append((f"UniPC {order} {variant}", "UniPCMultistepScheduler", uni, _same, _SPACINGS))
        rows.append((f"DEIS {order}", "DEISMultistepScheduler", {"solver_order": order}, _same, _SPACINGS))
        tau = {"tau_func": _still, "predictor_order": order, "corrector_order": order + 1}
        rows.append((f"SA {order}", "SASolverScheduler", tau, _same, _SPACINGS))
    two = {k: v for k, v in _SPACINGS.items() if k != "exponential"}
    rows += [
        ("Euler", "EulerDiscreteScheduler", {}, _same, two),
        ("Heun", "HeunDiscreteScheduler", {}, _half, _SPACINGS),
        ("KDPM2", "KDPM2DiscreteScheduler", {}, _half, _SPACINGS),
        ("LMS", "LMSDiscreteScheduler", {}, _same, _SPACINGS),
        ("DDIM, trailing", "DDIMScheduler", {"clip_sample": False, "timestep_spacing": "trailing"}, _same, {"": {}}),
        (
            "PNDM, trailing", "PNDMScheduler", {"skip_prk_steps": True, "timestep_spacing": "trailing"},
            lambda calls: calls - 1, {"": {}},
        ),
    ]  # fmt: skip
    return rows


@functools.cache
def bars(low: float, high: float) -> Tensor:
    """alpha_bars (1000,) of DDPM's shape between two levels: VP's at equal times, beta_min 0.1, beta_max to fit."""
    vp = sd.VP(0.1, 2 * math.log1p(high**2) - 0.1, t_min=1e-9)
    times = torch.linspace(vp.t_of_lam(-math.log(low)).item(), vp.T, 1000, dtype=torch.float64)
    return vp.alpha(times) ** 2


def _kappa(plan: Scheduler, i: int, t: Any) -> float:
    """sigma/alpha where the network is called in step i."""
    it = plan.it
    if hasattr(it, "sigmas"):
        inner = getattr(it, "sigmas_interpol", None)
        return float(it.sigmas[i] if inner is None or i % 2 == 0 else inner[i])
    bar = float(it.alphas_cumprod[int(t)])
    return math.sqrt((1 - bar) / bar)


def _scheduled(
    kind: str, options: dict[str, Any], steps: Callable[[int], int], at: Setting, calls: int
) -> Tensor | None:
    """A scheduler from the first level to the last that it visits, and the denoiser there in place of its last step.

    Where its last step ends at the lowest level and not at 0, that step is made and the denoiser follows.
    """
    edm = kind.startswith("EDM")
    ends = {"sigma_min": at.low, "sigma_max": at.high} if edm else {}
    n = steps(calls)

    def planned(n: int) -> Scheduler:
        return Scheduler(kind, bars(at.low, at.high), n, **options, **ends)

    if n < 3:
        return None
    plan, whole = planned(n), False
    if hasattr(plan.it, "sigmas"):
        before, after = plan.it.sigmas[-2:].tolist()
        if 0 < after < before * (1 - 1e-6):
            plan, whole = planned(n - 1), True
    knots = plan.it.timesteps.tolist()

    def net(scaled: Tensor, i: int) -> Tensor:
        kappa = _kappa(plan, i, knots[i])
        if edm:
            data = plan.it.config.sigma_data
            w = math.hypot(data, kappa)
            y = scaled * w
            return (at.net(y, kappa) - data**2 / w**2 * y) * (w / (kappa * data))
        y = scaled * math.hypot(1.0, kappa)
        return (y - at.net(y, kappa)) / kappa

    def scale(kappa: float) -> float:
        return 1.0 if plan.in_kappa else math.hypot(1.0, kappa)

    x = plan.run(net, (at.y / scale(_kappa(plan, 0, knots[0]))).to(at.y.dtype), last=whole)
    end = at.low if whole else _kappa(plan, len(knots) - 1, knots[-1])
    return at.net(x * scale(end), end)


def diffusers_entries() -> list[Entry]:
    """diffusers: schedulers with an ODE, at their default spacing and with karras, exponential and lu lambdas.

    They get a table of 1000 knots between the task's end levels, and networks that read the exact level, not
    the rounded index. IPNDM brings a schedule of its own and is left out.
    """
    importlib.import_module("diffusers").logging.set_verbosity_error()
    rows = []
    for label, kind, options, steps, spacings in _families():
        for spacing, more in spacings.items():
            run = functools.partial(_scheduled, kind, options | more, steps)
            rows.append(Entry("diffusers", f"{label}, {spacing}".rstrip(", "), run, default=not more))
    return rows


def azula_entries() -> list[Entry]:
    """azula: its samplers on its VE schedule (equal steps in log kappa, the default) and on karras levels."""
    denoise, noise, sample = (importlib.import_module(f"azula.{part}") for part in ("denoise", "noise", "sample"))

    class Rho(noise.Schedule):  # type: ignore[misc,name-defined]
        """kappa^(1/7) linear in t."""

        def __init__(self, low: float, high: float) -> None:
            self.ends = low ** (1 / 7), high ** (1 / 7)

        def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
            low, high = self.ends
            return torch.ones_like(t), (low + t * (high - low)) ** 7

    class Exact(denoise.Denoiser):  # type: ignore[misc,name-defined]
        """The denoiser under one of its schedules."""

        def __init__(self, at: Setting, schedule: Any) -> None:
            super().__init__()
            self.at, self.schedule = at, schedule

        def forward(self, y: Tensor, t: Tensor, **_: Any) -> Any:
            return denoise.DiracPosterior(mean=self.at.net(y, self.schedule(t)[1]))

    schedules = {"log": noise.VESchedule, "karras": Rho}

    def entry(kind: str, options: dict[str, Any], grid: str) -> Entry:
        a_step = 2 if kind == "HeunSampler" else 1

        def run(at: Setting, calls: int) -> Tensor | None:
            steps = (calls - 1) // a_step
            if steps < 1:
                return None
            made = getattr(sample, kind)(
                Exact(at, schedules[grid](at.low, at.high)), steps=steps, silent=True, dtype=torch.float64, **options
            )
            return at.net(made(at.y), at.low)

        label = kind.removesuffix("Sampler") + "".join(f" {v}" for v in options.values())
        return Entry("azula", f"{label}, {grid}", run, default=grid == "log")

    kinds: list[tuple[str, dict[str, Any]]] = [("EulerSampler", {}), ("HeunSampler", {})]
    for name in ("zABSampler", "vABSampler", "zEABSampler", "xEABSampler", "REABSampler"):
        kinds += [(name, {"order": order}) for order in (2, 3)]
    return [entry(kind, options, grid) for (kind, options), grid in itertools.product(kinds, schedules)]


def flow_entries() -> list[Entry]:
    """flow_matching: its ODE solver on the linear path, uniform in its time (the default) and on kappa's grids."""
    solvers = importlib.import_module("flow_matching.solver")

    def solve(at: Setting, times: Tensor, **options: Any) -> Tensor:
        def velocity(x: Tensor, t: Tensor) -> Tensor:
            tau = float(t)
            kappa = max((1 - tau) / tau, at.low)
            y = x / tau
            x0 = at.net(y, kappa)
            return (x0 - (y - x0) / kappa).to(x.dtype)

        made = solvers.ODESolver(velocity_model=velocity)
        x = made.sample(x_init=at.y * float(times[0]), time_grid=times.to(at.y.dtype), **options)
        return at.net(x / float(times[-1]), at.low)

    def fixed(method: str, a_step: int, grid: str) -> Entry:
        def run(at: Setting, calls: int) -> Tensor | None:
            n = (calls - 1) // a_step
            if n < 1:
                return None
            if grid == "uniform":
                ends = torch.tensor([1 / (1 + at.high), 1 / (1 + at.low)], dtype=torch.float64)
                return solve(
                    at,
                    ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, n + 1).double(),
                    method=method,
                    step_size=None,
                )
            return solve(at, 1 / (1 + spaced(grid, n + 1, at.low, at.high)), method=method, step_size=None)

        return Entry("flow_matching", f"{method}, {grid}", run, default=grid == "uniform")

    def adaptive(at: Setting, tolerance: float) -> Tensor:
        ends = torch.tensor([1 / (1 + at.high), 1 / (1 + at.low)], dtype=torch.float64)
        return solve(at, ends, method="dopri5", step_size=None, rtol=tolerance, atol=tolerance)

    methods = {"euler": 1, "midpoint": 2, "rk4": 4}
    rows = [
        fixed(*pair, grid) for pair, grid in itertools.product(methods.items(), ("uniform", "karras", "exponential"))
    ]
    return [*rows, Entry("flow_matching", "dopri5", adaptive, TOLERANCES, True)]


MAKERS: dict[str, Callable[[], list[Entry]]] = {
    "k-diffusion": k_entries,
    "diffusers": diffusers_entries,
    "azula": azula_entries,
    "flow_matching": flow_entries,
}
