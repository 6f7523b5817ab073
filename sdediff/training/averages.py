"""Averages of the weights over the updates: exponential with a warm-up, or power functions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sdediff.training.settings import TrainingSettings
from sdediff.training.shards import own_part


def power_exponent(width: float) -> float:
    """The exponent gamma of a power-function average of this relative width sigma_rel. Karras et al. 2024, eq. 123."""
    inverse = width**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def decay_of(settings: TrainingSettings, done: int) -> float:
    """The decay after `done` updates, the last included: (1 - 1/t)^(gamma + 1), or at most (1 + n)/(10 + n)."""
    if settings.average_width is not None:
        return (1 - 1 / done) ** (power_exponent(settings.average_width) + 1)
    return min(settings.average, done / (9 + done)) if settings.average else 0.0


class Average:
    """Modules whose parameters follow those of others; at first a copy of them, in the same shards."""

    def __init__(self, copied: nn.Module) -> None:
        self.modules = copied.requires_grad_(False).eval()
        self._averaged: list[Tensor] = list(map(own_part, self.modules.parameters()))
        self._buffers: list[Tensor] = list(self.modules.buffers())
        # Walking through the modules takes longer than the average itself.
        self._followed: tuple[nn.Module | None, list[Tensor]] = (None, [])

    @torch.no_grad()
    def follow(self, modules: nn.Module, decay: float) -> None:
        """average <- decay average + (1 - decay) parameters; buffers are copied."""
        if self._followed[0] is not modules:
            self._followed = modules, list(map(own_part, modules.parameters()))
        torch._foreach_lerp_(self._averaged, self._followed[1], 1 - decay)
        if self._buffers:
            for old, new in zip(self._buffers, modules.buffers(), strict=True):
                old.copy_(new)
