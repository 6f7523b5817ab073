"""`StepKernel`: the Gaussian that a stochastic step draws from, with its log density."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.noise.counter import Noise


class StepKernel(NamedTuple):
    """N(mean, std^2) of x_s given x_t and the history before it, the elements of a state independent.

    mean: (B, ...); std: a number, or a tensor like mean where the network learned it; 0 where the step adds no noise.
    history: what the step returns for the next one.
    """

    mean: Tensor
    std: float | Tensor
    history: Any = None

    def draw(self, z: Tensor) -> Tensor:
        """mean + std z."""
        if isinstance(self.std, Tensor):
            return torch.addcmul(self.mean, z, self.std)
        return torch.add(self.mean, z, alpha=self.std)

    def log_prob(self, x: Tensor) -> Tensor:
        """The log density at x (B, ...), the sum over all dimensions of a sample, nats, float64 (B,)."""
        log_std, gap = self._log_std(), x.double() - self.mean.double()
        per_dim = -0.5 * (gap * torch.exp(-log_std)) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
        return per_dim.flatten(1).sum(1)

    def divergence(self, other: StepKernel) -> Tensor:
        """KL(self || other), nats, float64 (B,)."""
        log_std, log_other = self._log_std(), other._log_std()
        gap, ratio = self.mean.double() - other.mean.double(), 2 * (log_std - log_other)
        per_dim = 0.5 * ((gap * torch.exp(-log_other)) ** 2 + torch.expm1(ratio) - ratio)
        return per_dim.flatten(1).sum(1)

    def rows(self, which: Tensor) -> StepKernel:
        """The kernel of these samples, by their places (n,)."""
        std = self.std[which] if isinstance(self.std, Tensor) else self.std
        return StepKernel(self.mean[which], std, rows_of(self.history, which))

    def _log_std(self) -> Tensor:
        std = torch.as_tensor(self.std, dtype=torch.float64, device=self.mean.device)
        if not bool((std > 0).all()):
            raise InputError(
                "a step without noise (std = 0) has no density: take a solver that adds noise in every step"
            )
        return torch.log(std)


def rows_of(history: Any, which: Tensor) -> Any:
    """A solver's history for these samples: tensors by rows, tuples by their parts, all else as it is."""
    if isinstance(history, Tensor):
        return history[which] if history.ndim else history
    if isinstance(history, tuple):
        parts = [rows_of(part, which) for part in history]
        return type(history)(*parts) if hasattr(history, "_fields") else tuple(parts)
    return history


@dataclass(frozen=True)
class NoNoise(Noise):
    """Zeros in the place of normals: a step's mean is the step with these."""

    def __call__(self, t: Any, s: Any, like: Tensor, draw: int = 0) -> Tensor:
        return torch.zeros_like(like)


NO_NOISE = NoNoise()
