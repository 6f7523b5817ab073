"""Processes that a user could write, right and wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import sdediff as sd


class Pair(sd.LinearSDE):
    """A process of two functions."""

    def __init__(self, alpha: Callable[..., Any], sigma: Callable[..., Any]) -> None:
        self._alpha, self._sigma = alpha, sigma

    def alpha(self, t: torch.Tensor) -> torch.Tensor:
        return self._alpha(t)

    def sigma(self, t: torch.Tensor) -> torch.Tensor:
        return self._sigma(t)


class Plain(sd.SDE):
    """Drift and diffusion alone."""

    def __init__(self, diffusion: Callable[..., Any], drift: Callable[..., Any] = lambda x, t: -x) -> None:
        self._diffusion, self._drift = diffusion, drift

    def drift(self, x: torch.Tensor, t: Any) -> torch.Tensor:
        return self._drift(x, t)

    def diffusion(self, t: Any) -> torch.Tensor:
        return self._diffusion(torch.as_tensor(t, dtype=torch.float64))
