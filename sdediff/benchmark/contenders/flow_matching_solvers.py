"""flow_matching's ODE solver as a contender."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.errors import InputError, MissingPackageError
from sdediff._utils.suggestions import nearest
from sdediff.benchmark.contenders.frame import SPACINGS, Frame, spaced, too_few
from sdediff.benchmark.contenders.protocol import Contender, Finish
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import linear

INSTALL = "pip install flow-matching"
GRIDS = ("uniform", *SPACINGS)
_STEPS = {"euler": 1, "midpoint": 2, "rk4": 4}
DEFAULT = ("euler", "midpoint", "rk4", "dopri5")


def _solver() -> Any:
    try:
        return importlib.import_module("flow_matching.solver").ODESolver
    except ImportError as error:
        raise MissingPackageError(f"flow_matching cannot be imported ({error}): {INSTALL}") from error


@dataclass(frozen=True)
class FlowMatching(Contender):
    """flow_matching's ODESolver on its linear path, and the denoiser at the last level.

    method: of torchdiffeq, which it calls. grid: uniform in its time tau = 1/(1 + kappa), or a spacing of kappa.
    tolerance: rtol and atol of dopri5.
    """

    method: str
    grid: str = "uniform"
    tolerance: float = 1e-3
    library = "flow_matching"

    def __post_init__(self) -> None:
        if self.method not in (*_STEPS, "dopri5"):
            raise InputError(nearest(self.method, (*_STEPS, "dopri5"), "method of flow_matching"))
        if self.grid not in GRIDS:
            raise InputError(nearest(self.grid, GRIDS, "grid of flow_matching"))

    @property
    def name(self) -> str:
        return self.method if self.adaptive else f"{self.method}:{self.grid}"

    @property
    def adaptive(self) -> bool:
        return self.method == "dopri5"

    def start(self, model: ScoreModel, calls: int) -> float:
        return linear(model.sde).t_max

    def run(self, model: ScoreModel, x_T: Tensor, calls: int, seed: int) -> Finish:
        frame = Frame(model, x_T, self.start(model, calls))
        ends = torch.tensor([1 / (1 + frame.high), 1 / (1 + frame.low)], dtype=torch.float64)
        if self.adaptive:
            return Finish(self._solve(frame, ends, rtol=self.tolerance, atol=self.tolerance))
        a_step = _STEPS[self.method]
        steps = (calls - 1) // a_step
        if steps < 1:
            raise too_few(self.label, calls, a_step + 1)
        times = ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        if self.grid != "uniform":
            times = 1 / (1 + spaced(self.grid, steps + 1, frame.low, frame.high))
        return Finish(self._solve(frame, times), calls=a_step * steps + 1)

    def _solve(self, frame: Frame, times: Tensor, **tolerances: float) -> Tensor:
        def velocity(x: Tensor, t: Tensor) -> Tensor:
            tau = float(t)
            kappa = max((1 - tau) / tau, frame.low)
            y = x / tau
            x0 = frame.denoise(y, kappa)
            return (x0 - (y - x0) / kappa).to(x.dtype)

        x = frame.y * float(times[0])
        solver = _solver()(velocity_model=velocity)
        end = solver.sample(x_init=x, time_grid=times.to(x), method=self.method, step_size=None, **tolerances)
        return frame.denoise((end / float(times[-1])).to(x.dtype), frame.low)


def named(name: str, grid: str | None = None, **options: Any) -> Contender:
    """A method by name: flow_matching:midpoint, flow_matching:rk4:karras, flow_matching:dopri5:tolerance=1e-4."""
    return FlowMatching(name, **options | ({} if grid is None else {"grid": grid}))


def everything() -> Iterator[Contender]:
    """Every method on every grid."""
    for method in _STEPS:
        for grid in GRIDS[:3]:
            yield FlowMatching(method, grid)
    yield FlowMatching("dopri5")
