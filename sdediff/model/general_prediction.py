"""The prediction of a model whose process is given by drift and diffusion alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdediff._utils.tensors import per_sample
from sdediff.grids.levels import Level
from sdediff.model.prediction import Prediction
from sdediff.sde.base import SDE
from sdediff.sde.checks import drift_of


class GeneralPrediction(Prediction):
    """A prediction under a process without alpha and sigma: score and velocity alone."""

    __slots__ = ("_sde",)

    def __init__(self, x: Tensor, raw: Tensor, t: Level, sde: SDE, extra: Any = None) -> None:
        super().__init__(x, raw, t, extra)
        self._sde = sde

    def pair(self, name: str) -> tuple[Any, Any]:
        """(0, 1) for the score; the other quantities are no combination of x and F."""
        return (0.0, 1.0) if name == "score" else (self.level.alpha, self.level.sigma)

    def mix(self, c: Any = 0.0, **weights: Any) -> Tensor:
        total = c * self.x
        for name, weight in weights.items():
            total = torch.add(total, self._quantity(name), alpha=weight)
        return total

    def scaled(self, **weights: float) -> tuple[float, Tensor]:
        return 1.0, self.mix(0.0, **weights)

    def factored(self, name: str) -> tuple[float, Tensor]:
        return 1.0, self._quantity(name)

    def _quantity(self, name: str) -> Tensor:
        """The score as it is; the velocity, drift - g^2 score / 2."""
        if name != "velocity":
            self.pair(name)
            return self.raw
        drift = drift_of(self._sde, self.x, self.level.time)
        return drift - per_sample(self.level.g2 / 2, self.x) * self.raw
