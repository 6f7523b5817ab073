"""The coordinates in which the flow is followed: y = (x - alpha m)/w over the angle atan(sigma/(alpha sd))."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from sdediff.grids.levels import Level, level
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import linear


def beside(value: Any, x: Tensor) -> Any:
    """Coefficients (b,) float64 as (b, 1, ...) beside states, on their device; floats pass."""
    return value.to(x.device).reshape(-1, *[1] * (x.ndim - 1)) if isinstance(value, Tensor) else value


class Seen(Protocol):
    """What a network said of states x (b, ...) of a level: F, and the pairs of its properties."""

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
    dy/dphi = cos(phi) eps - sin(phi)(x0 - m)/sd, stands still for Gaussian data of that mean and scale.
    """

    def __init__(self, model: ScoreModel, t0: float, like: Tensor) -> None:
        self.sde = linear(model.sde)
        stats = model.stats
        self.sd = 1.0 if stats is None else stats.std
        self.mean: Any = 0.0 if stats is None else stats.mean.to(like.device)
        self.name = "1, mean 0" if stats is None else f"{self.sd:.4g}, the statistics' mean"
        self.first, self.last = level(self.sde, t0), level(self.sde, self.sde.t_max)
        self.start, self.stop = self.angle(self.first), self.angle(self.last)

    def angle(self, here: Level) -> float:
        """phi at a level of floats."""
        return math.atan2(here.sigma, here.alpha * self.sd)

    def level(self, phi: Tensor) -> Level:
        """The level of angles (b,), its coefficients (b,) float64."""
        t = self.sde.t_of_lam(-torch.log(self.sd * torch.tan(phi)))
        return level(self.sde, t.clamp(self.first.time, self.last.time))

    def width(self, here: Level) -> Any:
        """w at a level."""
        a, b = here.alpha * self.sd, here.sigma
        return torch.hypot(a, b) if isinstance(a, Tensor) else math.hypot(a, b)

    def inward(self, x: Tensor, here: Level) -> Tensor:
        """States x (b, ...) as y, float64."""
        return (x.double() - beside(here.alpha, x) * self.mean) / beside(self.width(here), x)

    def outward(self, y: Tensor, here: Level) -> Tensor:
        """y (b, ...) as states."""
        return beside(self.width(here), y) * y + beside(here.alpha, y) * self.mean

    def pair(self, here: Level, pair: Callable[[str], tuple[Any, Any]]) -> tuple[Any, Any, Any]:
        """(p, q, r) with dy/dphi = p x + q F + r m, float64, from the pairs of a prediction at that level."""
        w = self.width(here)
        cos, sin = here.alpha * self.sd / w, here.sigma / (w * self.sd)
        (e_x, e_raw), (z_x, z_raw) = pair("eps"), pair("x0")
        return cos * e_x - sin * z_x, cos * e_raw - sin * z_raw, sin

    def slope(self, seen: Seen) -> Tensor:
        """dy/dphi of the flow (b, ...), float64."""
        p, q, r = self.pair(seen.level, seen.pair)
        x, raw = seen.x.double(), seen.raw.double()
        return beside(p, x) * x + beside(q, x) * raw + beside(r, x) * self.mean

    def score(self, seen: Seen) -> Tensor:
        """The gradient of log p over y (b, ...), float64."""
        p, q = seen.pair("score")
        x, w = seen.x.double(), self.width(seen.level)
        return beside(w * p, x) * x + beside(w * q, x) * seen.raw.double()
