"""The loss of variational diffusion models, with a schedule that learns to lower the loss's variance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import flag, number, states, whole
from sdediff._utils.errors import InputError
from sdediff.grids.levels import Level, level
from sdediff.likelihood.decoder import level_log_prob
from sdediff.likelihood.units import Discrete
from sdediff.model.score_model import ScoreModel
from sdediff.training.conditions import dropped, null_rows
from sdediff.training.denoising import noised
from sdediff.training.draws import DECODER, DROPPING, Draws
from sdediff.training.objective import TrainingObjective


@dataclass(frozen=True)
class VariationalDiffusion(TrainingObjective):
    """The bound of a learned process (`LearnedVP`): (1/2) gamma'(t) |eps - eps_hat|^2 over t, in bits a dimension.

    steps: None for infinitely many, or n: (n/2) expm1(gamma_t - gamma_s) |eps - eps_hat|^2 at t = i/n, s = (i - 1)/n.
    discrete: the data's levels, whose decoder and prior terms are added; they and the ends of gamma matter to each
    other where the process learns its ends. least_variance: what lies between the ends follows the gradient of the
    squared loss instead, which lowers its variance and leaves its mean. drop: as in Objective. Kingma et al. 2021,
    eq. 11 to 18 and appendix I.2.
    """

    steps: int | None = None
    discrete: Discrete | None = None
    least_variance: bool = True
    drop: float = 0.0

    def __post_init__(self) -> None:
        if self.steps is not None:
            whole("steps", self.steps, 1)
        flag("least_variance", self.least_variance)
        if not 0 <= number("drop", self.drop) < 1:
            raise InputError(f"drop={self.drop}: give a probability in [0, 1)")

    def __call__(self, model: ScoreModel, x0: Tensor, cond: dict[str, Any], draws: Draws) -> Tensor:
        states("x0", x0)
        sde: Any = model.sde
        if not hasattr(sde, "rise"):
            raise InputError("this loss trains a learned process: give ScoreModel(net, sd.LearnedVP(...), ...)")
        if cond and self.drop:
            cond = dropped(cond, draws.uniforms(len(x0), DROPPING) < self.drop, null_rows(model.net))
        u, scale = draws.stratified(len(x0)).to(x0.device), _Scale()
        t = u if self.steps is None else (torch.floor(u * self.steps) + 1).clamp(max=self.steps) / self.steps
        low, span = sde.ends[0], sde.ends[1] - sde.ends[0]
        (share, slope) = (scale.applied(part, self.least_variance) for part in sde.rise(t))
        at, eps = at_gamma(sde, t, low + span * share, span * slope), draws.normals(x0)
        bound = model.given(**cond) if cond else model
        error = (bound(noised(x0, at, eps), at).eps - eps).flatten(1).double().square().sum(1)
        if self.steps is None:
            value = span * slope * error / 2
        else:
            before = scale.applied(sde.rise(t - 1 / self.steps)[0], self.least_variance)
            value = self.steps / 2 * torch.expm1(span * (share - before)) * error
        unit = x0[0].numel() * math.log(2)
        scale.factor = 2 * value.detach() / unit
        if self.discrete is not None:
            value = value + self._ends(model, x0, draws)
        return (value / unit).to(x0)

    def _ends(self, model: ScoreModel, x0: Tensor, draws: Draws) -> Tensor:
        """The prior's and the decoder's terms, nats (B,): they know the ends of gamma alone."""
        sde: Any = model.sde
        x, times = x0.double(), torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
        variance = torch.sigmoid(sde.ends[1])
        prior = ((1 - variance) * x.square() + variance - variance.log() - 1).flatten(1).sum(1) / 2
        start = at_gamma(sde, times, sde.ends[0].expand_as(times), torch.ones_like(times))
        z = noised(x, start, draws.normals(x, DECODER))
        flat = Level()
        shape = (-1, *[1] * (x.ndim - 1))
        flat.alpha, flat.sigma = start.alpha.reshape(shape), start.sigma.reshape(shape)
        return prior - level_log_prob(x, z, flat, self.discrete)


class _Scale:
    """Factors (B,) of gradients that are known only after the loss has been computed."""

    factor: Tensor

    def applied(self, value: Tensor, wanted: bool) -> Tensor:
        """The same tensor (B,), whose gradient is multiplied by `factor` on its way back."""
        if wanted and value.requires_grad:
            value.register_hook(lambda gradient: gradient * self.factor)
        return value


def at_gamma(sde: Any, t: Tensor, gamma: Tensor, slope: Tensor) -> Level:
    """The level of times t (B,) where gamma and gamma' are these tensors, whose gradients it keeps."""
    with torch.no_grad():
        at = level(sde, t)
    alpha2, sigma2 = torch.sigmoid(-gamma), torch.sigmoid(gamma)
    at.lam, at.alpha, at.sigma = -gamma / 2, alpha2.sqrt(), sigma2.sqrt()
    at.alpha_dot, at.sigma_dot = -at.alpha * sigma2 * slope / 2, at.sigma * alpha2 * slope / 2
    at.f, at.g2 = -sigma2 * slope / 2, sigma2 * slope
    return at
