"""How other libraries see a model: the denoiser D(y, kappa) at y = x/alpha and kappa = sigma/alpha.

Any process with alpha and sigma is one of k-diffusion's in this frame; what keeps the variance takes
y / sqrt(1 + kappa^2). The network is evaluated at the exact level, whatever table a library holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.benchmark.contenders.watched import WatchedNetwork
from sdediff.grids.levels import Level, level
from sdediff.model.bound import BoundModel
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import linear

SPACINGS = ("karras", "exponential", "rho3")


class Frame:
    """A model and states x (B, ...) at time `start`, in the frame of y = x/alpha.

    low, high: kappa at the process's t_min and at the start. y: the states.
    """

    def __init__(self, model: ScoreModel, x: Tensor, start: float) -> None:
        self.sde, self._model, self._bound = linear(model.sde), model, BoundModel(model)
        first, last = level(self.sde, start), level(self.sde, float(self.sde.t_min))
        if not first.alpha > 0:
            raise InputError(f"alpha is 0 at t={start}: sigma/alpha, where other libraries start, is not finite")
        self.low, self.high, self.y = float(last.kappa), float(first.kappa), x / first.alpha
        self._levels: dict[float, Level] = {self.low: last, self.high: first}

    def level_at(self, kappa: Any) -> Level:
        """The level of sigma/alpha = kappa, at the nearest end where it lies outside."""
        value = min(max(float(kappa), self.low), self.high)
        if value not in self._levels:
            self._levels[value] = level(self.sde, self.sde.t_of_lam(-math.log(value)).item())
        return self._levels[value]

    def denoise(self, y: Tensor, kappa: Any) -> Tensor:
        """x0 predicted at y (B, ...) of the level kappa, in y's dtype: one network evaluation."""
        with untimed(self._model):
            at = self.level_at(kappa)
            return self._bound(y * at.alpha, at).x0


@contextmanager
def untimed(model: ScoreModel) -> Iterator[None]:
    """Count the block's time, but for that within the network, as the benchmark's own and not as the contender's."""
    watched = model.net
    if not isinstance(watched, WatchedNetwork):
        yield
        return
    began, within = watched.now(), watched.seconds
    yield
    watched.bridge += watched.now() - began - (watched.seconds - within)


def spaced(kind: str, n: int, low: float, high: float) -> Tensor:
    """n levels kappa from high to low, float64: karras even in kappa^(1/7), rho3 in kappa^(1/3), exponential in log."""
    if kind == "exponential":
        return torch.linspace(math.log(high), math.log(low), n, dtype=torch.float64).exp()
    power = {"karras": 7.0, "rho3": 3.0}[kind]
    return torch.linspace(high ** (1 / power), low ** (1 / power), n, dtype=torch.float64) ** power


def too_few(label: str, calls: int, needed: int) -> InputError:
    """The refusal of a number of calls."""
    return InputError(f"calls={calls} is too few for {label}: it needs at least {needed}")
