"""Clocks of other libraries' networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff.grids.levels import Level


@dataclass(frozen=True)
class ScaledTime:
    """scale t."""

    scale: float

    def __call__(self, t: Level) -> Any:
        return t.time * self.scale


def angle_clock(t: Level) -> Any:
    """(2/pi) atan(sigma/alpha)."""
    kappa = t.kappa
    return (torch.atan(kappa) if isinstance(kappa, Tensor) else math.atan(kappa)) * (2 / math.pi)
