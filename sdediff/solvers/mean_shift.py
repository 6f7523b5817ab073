"""Classifier guidance in its mean-shift form: a step's mean is moved by its variance times a gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.solvers.base import SolverError
from sdediff.solvers.exponential import exact, spread
from sdediff.solvers.reverse_sde import Ancestral
from sdediff.solvers.wrappers import Wrapper


@dataclass(frozen=True)
class _Zero(Noise):
    """No noise, so that a step gives its mean."""

    def __call__(self, t: Any, s: Any, like: Tensor, draw: int = 0) -> Tensor:
        return torch.zeros_like(like)


@dataclass(frozen=True)
class MeanShift(Wrapper):
    """x_s = mean + scale Sigma gradient + sqrt(Sigma) z of an ancestral step N(mean, Sigma).

    gradient: a function (x, level) -> (B, ...), such as guidance.ClassifierGradient(classifier, label). at: where it is
    taken, "start" at x_t as the released code does, or "mean" as the derivation has it. The score form,
    guidance.classifier, moves the mean by (alpha_s/alpha_t) (sigma_t/sigma_s)^2 times as much. Dhariwal and Nichol
    2021, algorithm 1.
    """

    gradient: Callable[[Tensor, Level], Tensor]
    scale: float = 1.0
    at: str = "start"

    tried = 0
    reference = "Dhariwal and Nichol 2021, algorithm 1"

    def __post_init__(self) -> None:
        if not isinstance(self.solver, Ancestral) or self.solver.variance not in ("small", "large"):
            raise SolverError(
                f"MeanShift moves the mean of an ancestral step of fixed variance, given {self.solver!r}: write "
                "solver('ancestral') or solver('ddpm'), or use guidance.classifier, which goes with every solver"
            )
        if not callable(self.gradient):
            raise SolverError(f"gradient={self.gradient!r:.60}: give a function (x, level) -> gradient like x")
        if self.at not in ("start", "mean"):
            raise SolverError(f"at={self.at!r}: write 'start' (at x_t) or 'mean'")

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        small = getattr(self.solver, "variance", "small") == "small"
        variance = exact(t, s, s.lam - t.lam)[2] ** 2 if small else spread(t, s)
        mean, state = self.solver.step(model, x, t, s, state, _Zero())
        gradient = self.gradient(x, t) if self.at == "start" else self.gradient(mean, s)
        shifted = torch.add(mean, gradient, alpha=self.scale * variance)
        return torch.add(shifted, noise(t, s, x), alpha=math.sqrt(variance)), state
