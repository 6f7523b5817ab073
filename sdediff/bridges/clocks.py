"""A clock that is no multiple of one of ours."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sdediff.grids.levels import Level


def angle_clock(t: Level) -> Any:
    """(2/pi) atan(sigma/alpha)."""
    kappa = t.kappa
    return (torch.atan(kappa) if isinstance(kappa, Tensor) else math.atan(kappa)) * (2 / math.pi)
