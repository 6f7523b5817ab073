"""The coordinates in which two passes follow the flow: y = (x - alpha m)/w over the angle atan(sigma/(alpha sd))."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.grids.levels import level as level_at
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import linear


def per_row(value: Any, x: Tensor) -> Any:
    """Coefficients (b,) as (b, 1, ...) on the device of states x (b, ...); floats are returned as they are."""
    return value.to(x.device).reshape(-1, *[1] * (x.ndim - 1)) if isinstance(value, Tensor) else value


class Output(Protocol):
    """A network's output F at states x (b, ...) of a level, with the pairs (p, q) that make p x + q F of it."""

    @property
    def x(self) -> Tensor: ...
    @property
    def raw(self) -> Tensor: ...
    @property
    def level(self) -> Level: ...
    @property
    def pair(self) -> Callable[[str], tuple[Any, Any]]: ...


class Whitened:
    """y = (x - alpha m)/w, w^2 = (alpha sd)^2 + sigma^2, and phi = atan(sigma/(alpha sd)) from start to stop.

    m and sd are the mean and the isotropic scale of the model's statistics, else 0 and 1. The flow,
    dy/dphi = cos(phi) eps - sin(phi)(x0 - m)/sd, is zero for Gaussian data of that mean and scale. `first` and `last`
    are the levels at t0 and T.
    """

    def __init__(self, model: ScoreModel, t0: float, like: Tensor) -> None:
        self.sde = linear(model.sde)
        stats = model.stats
        self.sd = 1.0 if stats is None else stats.std
        self.mean: Any = 0.0 if stats is None else stats.mean.to(like.device)
        self.name = "1, mean 0" if stats is None else f"{self.sd:.4g}, the statistics' mean"
        self.first, self.last = level_at(self.sde, t0), level_at(self.sde, self.sde.t_max)
        self.start, self.stop = self.angle(self.first), self.angle(self.last)

    def angle(self, level: Level) -> float:
        """phi at a level of floats."""
        return math.atan2(level.sigma, level.alpha * self.sd)

    def level(self, phi: Tensor) -> Level:
        """The level at angles (b,), with coefficients (b,) float64."""
        t = self.sde.t_of_lam(-torch.log(self.sd * torch.tan(phi)))
        return level_at(self.sde, t.clamp(self.first.time, self.last.time))

    def width(self, level: Level) -> Any:
        """w at a level."""
        a, b = level.alpha * self.sd, level.sigma
        return torch.hypot(a, b) if isinstance(a, Tensor) else math.hypot(a, b)

    def whiten(self, x: Tensor, level: Level) -> Tensor:
        """States x (b, ...) as y, float64."""
        return (x.double() - per_row(level.alpha, x) * self.mean) / per_row(self.width(level), x)

    def unwhiten(self, y: Tensor, level: Level) -> Tensor:
        """y (b, ...) as states x."""
        return per_row(self.width(level), y) * y + per_row(level.alpha, y) * self.mean

    def pair(self, level: Level, pair: Callable[[str], tuple[Any, Any]]) -> tuple[Any, Any, Any]:
        """(p, q, r) with dy/dphi = p x + q F + r m, float64, from the pairs of an output at that level."""
        w = self.width(level)
        cos, sin = level.alpha * self.sd / w, level.sigma / (w * self.sd)
        (eps_x, eps_raw), (x0_x, x0_raw) = pair("eps"), pair("x0")
        return cos * eps_x - sin * x0_x, cos * eps_raw - sin * x0_raw, sin

    def slope(self, output: Output) -> Tensor:
        """dy/dphi of the flow (b, ...), float64."""
        p, q, r = self.pair(output.level, output.pair)
        x, raw = output.x.double(), output.raw.double()
        return per_row(p, x) * x + per_row(q, x) * raw + per_row(r, x) * self.mean

    def score(self, output: Output) -> Tensor:
        """The gradient of log p with respect to y (b, ...), float64."""
        p, q = output.pair("score")
        x, w = output.x.double(), self.width(output.level)
        return per_row(w * p, x) * x + per_row(w * q, x) * output.raw.double()
