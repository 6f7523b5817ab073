"""torchdiffeq's methods on the probability flow in the process's own time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff.benchmark.contenders.frame import too_few
from sdediff.benchmark.contenders.protocol import Contender, Finish
from sdediff.integrate import odeint
from sdediff.model.bound import BoundModel
from sdediff.model.score_model import ScoreModel

INSTALL = "pip install torchdiffeq"
# Network evaluations a step of the fixed-step methods.
_STEPS = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}
_ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
DEFAULT = ("euler", "midpoint", "rk4", "dopri5")


@dataclass(frozen=True)
class TorchDiffEq(Contender):
    """A method of torchdiffeq over equal steps of the process's time, and the denoiser at t_min.

    tolerance: rtol and atol of the adaptive methods.
    """

    method: str
    tolerance: float = 1e-3
    library = "torchdiffeq"

    def __post_init__(self) -> None:
        if self.method not in (*_STEPS, *_ADAPTIVE):
            raise InputError(nearest(self.method, (*_STEPS, *_ADAPTIVE), "method of torchdiffeq"))

    @property
    def name(self) -> str:
        return self.method

    @property
    def adaptive(self) -> bool:
        return self.method in _ADAPTIVE

    def start(self, model: ScoreModel, calls: int) -> float:
        return model.sde.t_max

    def run(self, model: ScoreModel, x_T: Tensor, calls: int, seed: int) -> Finish:
        bound, start, stop = BoundModel(model), self.start(model, calls), float(model.sde.t_min)
        denoised = int(model.sde.linear)
        steps = None
        if not self.adaptive:
            a_step = _STEPS[self.method]
            steps = (calls - denoised) // a_step
            if steps < 1:
                raise too_few(self.label, calls, a_step + denoised)
        x = odeint(
            lambda t, x: bound(x, t).velocity, x_T, start, stop, self.method, self.tolerance, self.tolerance, steps
        )
        claimed = None if steps is None else a_step * steps + denoised
        return Finish(bound(x, stop).x0, 0.0, claimed) if denoised else Finish(x, stop, claimed)


def named(name: str, grid: str | None = None, **options: Any) -> Contender:
    """A method by name: torchdiffeq:rk4, torchdiffeq:dopri5:tolerance=1e-4."""
    if grid is not None:
        raise InputError(f"torchdiffeq:{name} takes equal steps of the process's time: leave {grid!r} out")
    return TorchDiffEq(name, **options)


def everything() -> Iterator[Contender]:
    """Every method."""
    for method in (*_STEPS, *_ADAPTIVE):
        yield TorchDiffEq(method)
