"""Averages of the weights over the updates: exponential with a warm-up, or power functions."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from sdediff.training.settings import TrainingSettings


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
    """A copy of modules whose parameters follow theirs."""

    def __init__(self, modules: nn.Module) -> None:
        self.modules = copy.deepcopy(modules).requires_grad_(False).eval()

    @torch.no_grad()
    def follow(self, modules: nn.Module, decay: float) -> None:
        """average <- decay average + (1 - decay) parameters; buffers are copied."""
        torch._foreach_lerp_(list(self.modules.parameters()), list(modules.parameters()), 1 - decay)
        for old, new in zip(self.modules.buffers(), modules.buffers(), strict=True):
            old.copy_(new)
