"""Implicit score matching: the trace of the score's derivative in place of the noise, exact or sliced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import known, number, states, whole
from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff.grids.levels import level
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import linear
from sdediff.training.denoising import noised
from sdediff.training.draws import OWN, PROJECTIONS, Draws
from sdediff.training.objective import TrainingObjective
from sdediff.training.spreads import time_distribution, training_times
from sdediff.training.times import TimeDistribution
from sdediff.training.weightings import output_weight

ESTIMATORS, PROJECTION_KINDS = ("exact", "sliced", "sliced_vr"), ("rademacher", "gaussian")


@dataclass(frozen=True)
class ImplicitScoreMatching(TrainingObjective):
    """tr(grad s) + |s|^2/2 of the noised data, times 2 w sigma^2/D: denoising score matching less a constant.

    estimator: "exact", D derivatives a sample, for tables of few columns; "sliced", v' grad s v + (v's)^2/2; or
    "sliced_vr" with |s|^2/2, of less variance with signs. projection: "rademacher" or "gaussian" v, E vv' = I; probes:
    their number. weighting, spread, lowest: as in Objective, by name. The network is differentiated twice.
    Hyvarinen 2005; Song et al. 2019, eq. 7 and 8.
    """

    estimator: str = "sliced_vr"
    projection: str = "rademacher"
    probes: int = 1
    weighting: str = "simple"
    spread: str | TimeDistribution = "t"
    lowest: float | None = None

    def __post_init__(self) -> None:
        for name, names in (("estimator", ESTIMATORS), ("projection", PROJECTION_KINDS)):
            if not known(getattr(self, name), names):
                raise InputError(nearest(str(getattr(self, name)), names, name))
        whole("probes", self.probes, 1)
        if self.estimator == "exact" and (self.probes != 1 or self.projection != "rademacher"):
            raise InputError('probes and projection have no effect with estimator="exact": leave them out')
        object.__setattr__(self, "spread", time_distribution(self.spread))
        if self.lowest is not None and not number("lowest", self.lowest) > 0:
            raise InputError(f"lowest={self.lowest}: give a time above 0")

    def __call__(self, model: ScoreModel, x0: Tensor, cond: dict[str, Any], draws: Draws) -> Tensor:
        states("x0", x0)
        sde = linear(model.sde)
        t = training_times(sde, draws.stratified(len(x0)), self.spread, sde.t_max, self.lowest)
        at = level(sde, t)
        x, bound = noised(x0, at, draws.normals(x0)), model.given(**cond) if cond else model
        probes = [] if self.estimator == "exact" else [self._probe(x0, draws, k) for k in range(self.probes)]
        value = implicit_loss(lambda x: bound(x, at).score, x, probes, self.estimator)
        weight = 2 * output_weight(self.weighting, at, "score") / x0[0].numel()
        return weight.to(value) * value

    def _probe(self, like: Tensor, draws: Draws, number: int) -> Tensor:
        draw = draws.signs if self.projection == "rademacher" else draws.normals
        return draw(like, OWN + number if number else PROJECTIONS)


def implicit_loss(score: Callable[[Tensor], Tensor], x: Tensor, probes: list[Tensor], estimator: str) -> Tensor:
    """tr(grad s) + |s|^2/2 at states x (B, ...), exact or averaged over probes v like x: (B,), differentiable."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        s = score(x)
        if estimator == "exact":
            return _trace(s, x) + s.flatten(1).square().sum(1) / 2
        total: Any = 0.0
        for v in probes:
            (slope,) = torch.autograd.grad((v * s).sum(), x, create_graph=True)
            along = (v * s).flatten(1).sum(1).square() if estimator == "sliced" else s.flatten(1).square().sum(1)
            total = total + (v * slope).flatten(1).sum(1) + along / 2
        return total / len(probes)


def _trace(s: Tensor, x: Tensor) -> Tensor:
    columns, total = s.flatten(1), torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for d in range(columns.shape[1]):
        (slope,) = torch.autograd.grad(columns[:, d].sum(), x, create_graph=True)
        total = total + slope.flatten(1)[:, d]
    return total
