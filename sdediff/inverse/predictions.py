"""Methods that change the predicted x0 by the measurement: PiGDM, TMPD (MMPS) and DiffPIR."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.tensors import per_sample
from sdediff.guidance.changes import of_x0
from sdediff.inverse.operators import Operator, Problem
from sdediff.model.bound import BoundModel
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import Model

Vjp = Callable[[Tensor], Tensor]


def evaluated(model: Model, x: Tensor, t: Any) -> tuple[Prediction, Tensor, Vjp, bool]:
    """One evaluation with its derivative: the prediction, x0, v -> J^T v with J = dx0/dx, and whether graphs stay."""
    keep = torch.is_grad_enabled() and x.requires_grad
    with torch.inference_mode(False), torch.enable_grad():
        given = x if keep else x.detach().clone().requires_grad_()
        prediction = model(given, t)
        x0 = prediction.x0

    def vjp(v: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(x0, given, v, retain_graph=True, create_graph=keep, allow_unused=True)
        return torch.zeros_like(given) if gradient is None else gradient

    return prediction, x0 if keep else x0.detach(), vjp, keep


@dataclass(frozen=True, eq=False)
class _ByGradient(ABC):
    """x0 + (sigma^2/alpha) J^T A^T (A V A^T + noise^2 I)^-1 (y - A x0), V what a method takes for Cov[x0 | x_t]."""

    problem: Problem
    at_zero_alpha = False

    def bind(self, model: BoundModel) -> Any:
        """The evaluation x, t -> prediction of one run."""

        def evaluate(x: Tensor, t: Any) -> Prediction:
            prediction, x0, vjp, _ = evaluated(model, x, t)
            level = prediction.level
            gain = level.sigma * level.sigma / level.alpha
            gradient = vjp(self.pull(prediction, x0, vjp, gain))
            plain = of_x0(prediction, x0 + per_sample(gain, x) * gradient)
            plain.x = x
            return plain

        return evaluate

    @abstractmethod
    def pull(self, prediction: Prediction, x0: Tensor, vjp: Vjp, gain: Any) -> Tensor:
        """A^T (A V A^T + noise^2 I)^-1 (y - A x0), shaped like x0."""


@dataclass(frozen=True, eq=False)
class PiGDM(_ByGradient):
    """V = r^2 I with r^2 = kappa^2 std^2/(kappa^2 + std^2), kappa = sigma/alpha. Song et al. 2023."""

    std: float = 1.0

    def pull(self, prediction: Prediction, x0: Tensor, vjp: Vjp, gain: Any) -> Tensor:
        operator = self.problem.linear("pigdm")
        kappa2 = (prediction.level.sigma / prediction.level.alpha) ** 2
        r2 = per_sample(kappa2 * self.std**2 / (kappa2 + self.std**2), x0.flatten(1))
        s = operator.singular.to(x0)
        residual = operator.turned(self.problem.residual(x0))
        return operator.states(s * residual / (r2 * s * s + self.problem.noise**2))


@dataclass(frozen=True, eq=False)
class TMPD(_ByGradient):
    """V = (sigma^2/alpha) J, the covariance that the network itself implies; the solve is by conjugate gradients.

    iterations: of them, each one product with J^T; by default one for each measurement up to 3. Boys et al. 2023;
    Rozet et al. 2024 (MMPS).
    """

    iterations: int | None = None

    def pull(self, prediction: Prediction, x0: Tensor, vjp: Vjp, gain: Any) -> Tensor:
        operator = self.problem.linear("tmpd")
        residual = operator.turned(self.problem.residual(x0))
        s, noise2 = operator.singular.to(x0), self.problem.noise**2

        def product(c: Tensor) -> Tensor:
            spread = per_sample(gain, residual) * operator.seen(vjp(operator.states(s * c)))
            return s * spread + noise2 * c

        count = self.iterations or min(3, len(s))
        return operator.states(s * conjugate_gradients(product, residual, count))


def conjugate_gradients(product: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """c (B, R) with product(c) = b, a sample each, for a symmetric positive product; a row that is solved stays."""
    c, r = torch.zeros_like(b), b
    p, square = r, (r * r).sum(1, keepdim=True)
    tiny = torch.finfo(b.dtype).tiny
    for _ in range(iterations):
        applied = product(p)
        curvature = (p * applied).sum(1, keepdim=True)
        step = torch.where(curvature > tiny, square / curvature.clamp(min=tiny), 0.0)
        c, r = c + step * p, r - step * applied
        new = (r * r).sum(1, keepdim=True)
        p, square = r + torch.where(square > tiny, new / square.clamp(min=tiny), 0.0) * p, new
    return c


@dataclass(frozen=True, eq=False)
class DiffPIR:
    """argmin_X |y - A X|^2 + weight (noise/kappa)^2 |X - x0|^2 in place of x0: no derivative. Zhu et al. 2023."""

    problem: Problem
    weight: float = 1.0

    def __call__(self, prediction: Prediction, model: Model) -> Prediction:
        operator: Operator = self.problem.linear("diffpir")
        x0, t = prediction.x0, prediction.level
        s = operator.singular.to(x0)
        rho = self.weight * (self.problem.noise * t.alpha / t.sigma) ** 2
        residual = operator.turned(self.problem.residual(x0))
        return of_x0(prediction, x0 + operator.states(s * residual / (s * s + per_sample(rho, residual))))
