"""Weighted particles, their resampling, and the standard error of a run's evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdediff.noise.counter import uniforms

# Streams of uniform numbers, apart from those of other uses: at a level, and of the last draw.
_LEVEL, _LAST = 77, 78


@dataclass(frozen=True, eq=False, repr=False)
class Particles:
    """K weighted samples x (K, ...) of a tilted law, and the evidence Z = E[G] under the chain.

    weights: (K,), of sum 1, float64. log_evidence: log of an unbiased estimate of Z, nats; std_error: of log_evidence,
    to first order, by how the weights of the particles spread over their ancestors at the start. ess: (n + 1,), the
    effective sample size at each level, before resampling, the last of the result; resampled: (n,) bool. calls: network
    evaluations of a particle. seed: that they were drawn with.
    """

    x: Tensor
    weights: Tensor
    log_evidence: float
    std_error: float
    ess: Tensor
    resampled: Tensor
    calls: int
    seed: int

    def __repr__(self) -> str:
        return (
            f"Particles({len(self.x)} of shape {tuple(self.x.shape[1:])}, effective sample size "
            f"{self.ess[-1].item():.4g}, log evidence {self.log_evidence:.4g} +- {self.std_error:.2g}, "
            f"resampled {int(self.resampled.sum())} times)"
        )

    def draw(self, n: int | None = None) -> Tensor:
        """n samples (n, ...) of equal weight, by default as many as there are particles."""
        return self.x[systematic(self.weights, n or len(self.x), self.seed, 0, _LAST).to(self.x.device)]


def systematic(weights: Tensor, n: int, seed: int, level: int, stream: int = _LEVEL) -> Tensor:
    """Places (n,) int64, in order, of n draws by these weights (K,) of sum 1 with one uniform number between them.

    A particle of weight w is drawn n w times, rounded up or down. Kitagawa 1996.
    """
    start = uniforms(seed, np.zeros(1, dtype=np.int64), (level, stream), (1,)).item()
    marks = (torch.arange(n, dtype=torch.float64) + start) / n
    bounds = torch.cumsum(weights.cpu(), 0)
    return torch.searchsorted(bounds / bounds[-1], marks, right=True).clamp(max=len(weights) - 1)


class Ancestry:
    """Which of the first particles every particle descends from, and the variance of the evidence that this shows."""

    def __init__(self, count: int) -> None:
        self.first, self._excess = torch.arange(count), 0.0

    def resampled(self, weights: Tensor, places: Tensor) -> None:
        """Particles were drawn by these weights (K,) at these places (K,)."""
        share = self._shares(weights) * len(self.first)
        part = share - share.floor()
        # Systematic resampling rounds the share of an ancestor up or down, which is no spread of the weights.
        self._excess += float((part * (1 - part)).sum()) / len(self.first) ** 2
        self.first = self.first[places]

    def variance(self, weights: Tensor) -> float:
        """The relative variance of the evidence, after Lee and Whiteley 2018 for systematic resampling."""
        return max(0.0, float(self._shares(weights).square().sum()) - 1 / len(self.first) - self._excess)

    def _shares(self, weights: Tensor) -> Tensor:
        return torch.zeros(len(self.first), dtype=torch.float64).index_add_(0, self.first, weights.cpu())
