"""The run that a scheduler of diffusers makes, as keywords of `sample`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.suggestions import nearest
from sdediff.bridges.errors import BridgeError
from sdediff.bridges.spacing import scheduler_times
from sdediff.grids.levels import Level
from sdediff.model.score_model import Model, ScoreModel, check_model
from sdediff.noise.counter import Noise
from sdediff.sde.base import SDE
from sdediff.solvers import Solver, lower_order_final, solver
from sdediff.solvers.exponential import exact

_SHORT = 15  # steps below which DPM-Solver's scheduler lowers its order at the end
Config = Mapping[str, Any]


@dataclass(frozen=True)
class StridedDDIM(Solver):
    """x_u = (sigma_u/sigma_t) x + alpha_u (1 - e^-h) D, u = t - stride, read as the state at s.

    DDIM as diffusers' scheduler steps where its spacing is not even: by `stride` timesteps, whatever the next timestep
    is. Song et al. 2020, eq. 12 with eta = 0. 1 call a step.
    """

    stride: int

    at_zero_alpha = True
    calls_at_end = False
    reference = "Song et al. 2020, eq. 12"

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        end = t.time - self.stride
        return (end,) if end > s.time else ()

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        on_x, on_x0, _ = exact(t, s.inner[0] if s.inner else s)
        return model(x, t).mix(on_x, x0=on_x0), None


def scheduler_options(model: ScoreModel, calls: int, **options: Any) -> dict[str, Any]:
    """solver, grid and denoise of the scheduler that a model came with: sample(model, shape, **scheduler_options(...)).

    model: of `from_diffusers`; calls: its num_inference_steps; options: as in `scheduler_times`. The run makes the
    scheduler's own steps, to rounding: its timesteps, its final alpha or sigma, its order at the end. A last step
    that leaves the states as they are is left out. Raises BridgeError: schedulers whose steps are no solver here.
    """
    config = check_model(model).card.get("scheduler")
    times = scheduler_times(model, calls, **options)
    kind = str(config.get("_class_name") if isinstance(config, dict) else None).removesuffix("Scheduler")
    if not isinstance(config, dict) or kind not in _RUNS:
        raise BridgeError(
            f"{nearest(kind, _RUNS, 'scheduler')}; its times are sd.bridges.scheduler_times(model, {calls}), name the "
            "solver yourself"
        )
    if kind.startswith("DDIM"):
        return _ddim(config, times, calls)
    denoise = config.get("final_sigmas_type") != "sigma_min"
    return {"solver": _RUNS[kind](config, len(times), denoise), "grid": times, "denoise": denoise}


def _ddim(config: Config, times: Tensor, calls: int) -> dict[str, Any]:
    """DDIM's scheduler: each step is by a fixed number of timesteps, and the last one ends at its final alpha."""
    stride = int(config.get("num_train_timesteps", 1000)) // calls
    gaps = (times[:-1] - times[1:]).tolist()
    used = solver("ddim") if all(gap == stride for gap in gaps) else StridedDDIM(stride)
    end = times[-1].item() - stride  # the time 0 is that of no timestep
    if end < 1 and config.get("set_alpha_to_one", True):
        return {"solver": used, "grid": times, "denoise": True}
    last = torch.tensor([max(end, 1.0)], dtype=times.dtype)
    grid = times if last.item() == times[-1].item() else torch.cat([times, last])
    return {"solver": used, "grid": grid, "denoise": False}


def _multistep(config: Config, n: int, denoise: bool) -> Solver:
    order, algorithm = config.get("solver_order", 2), config.get("algorithm_type", "dpmsolver++")
    if algorithm != "dpmsolver++" or order != 2 or config.get("solver_type", "midpoint") != "midpoint":
        raise BridgeError(
            f"DPMSolverMultistepScheduler with algorithm_type={algorithm!r}, solver_order={order!r}, solver_type="
            f"{config.get('solver_type')!r} is no solver here: known is dpmsolver++ of order 2, midpoint"
        )
    lowered = config.get("euler_at_final") or (config.get("lower_order_final", True) and n - 1 < _SHORT)
    return solver("dpmpp_2m") if denoise or not lowered else lower_order_final("dpmpp_2m")


def _named(name: str, **options: Any) -> Callable[[Config, int, bool], Solver]:
    return lambda config, n, denoise: solver(name, **options)


# By the class's name without "Scheduler": the solver, from the configuration, the number of times and the last jump.
_RUNS: dict[str, Callable[[Config, int, bool], Solver]] = {
    "DDIM": _named("ddim"),
    "DDIMParallel": _named("ddim"),
    "DPMSolverMultistep": _multistep,
    "EDMDPMSolverMultistep": _multistep,
    "EDMEuler": _named("ddim"),
    "EulerDiscrete": _named("ddim"),
    "EulerAncestralDiscrete": _named("ancestral"),
    "FlowMatchEulerDiscrete": _named("ddim"),
    "FlowMatchHeunDiscrete": _named("heun"),
    "HeunDiscrete": _named("heun", variable="sigma"),
    "UniPCMultistep": _named("unipc"),
}
