"""L_simple, L_vlb and L_hybrid on a table, with fixed or learned variances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import flag, known, number, states
from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff.grids.levels import Level, level
from sdediff.likelihood.chain_terms import decoder_variances, posterior, step_divergence
from sdediff.likelihood.decoder import gaussian_log_prob
from sdediff.likelihood.units import Discrete
from sdediff.model.prediction import VARIANCES, Prediction
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import LinearSDE, linear
from sdediff.training.conditions import dropped, null_rows
from sdediff.training.denoising import noised, weighted_error
from sdediff.training.draws import DROPPING, Draws
from sdediff.training.loss_history import LossHistory
from sdediff.training.objective import TrainingObjective
from sdediff.training.spreads import training_times
from sdediff.training.weightings import weight_on_x0


@dataclass(frozen=True)
class VariationalBound(TrainingObjective):
    """simple L_simple + vlb L_vlb at times of a table; by default L_hybrid of Nichol and Dhariwal 2021, eq. 16.

    L_vlb is the sum over the chain in bits a dimension, estimated by N times the term of one timestep; that of t = 1 is
    the decoder's, with the bins of `discrete` (None: a density). variance: "learned_range" needs a network of 2C
    channels. stop_mean: no gradient of L_vlb reaches the mean (with simple > 0). history: timesteps drawn by the size
    of their terms, for L_vlb alone (the same, eq. 18). drop: as in Objective.
    """

    simple: float = 1.0
    vlb: float = 0.001
    variance: str = "learned_range"
    discrete: Discrete | None = None
    stop_mean: bool = True
    history: LossHistory | None = None
    drop: float = 0.0

    def __post_init__(self) -> None:
        if not (number("simple", self.simple) >= 0 and number("vlb", self.vlb) > 0):
            raise InputError(f"simple={self.simple}, vlb={self.vlb}: give weights, simple at least 0 and vlb above")
        if not known(self.variance, VARIANCES):
            raise InputError(nearest(str(self.variance), VARIANCES, "variance"))
        flag("stop_mean", self.stop_mean)
        if self.stop_mean and not self.simple:
            raise InputError("without L_simple the mean learns from L_vlb: write stop_mean=False")
        if not 0 <= number("drop", self.drop) < 1:
            raise InputError(f"drop={self.drop}: give a probability in [0, 1)")

    @property
    def state(self) -> LossHistory | None:
        return self.history

    def __call__(self, model: ScoreModel, x0: Tensor, cond: dict[str, Any], draws: Draws) -> Tensor:
        states("x0", x0)
        sde: Any = linear(model.sde)
        if not hasattr(sde, "n"):
            raise InputError("L_vlb is the bound of a chain: give a process in steps, sd.Table.from_betas(betas)")
        if self.history is not None:
            t, weight = self.history.draw(sde.n, draws.stratified(len(x0)))
        else:
            t, weight = training_times(sde, draws.stratified(len(x0)), "t", sde.T), torch.ones(len(x0))
        at, eps = level(sde, t.to(x0.device)), draws.normals(x0)
        if cond and self.drop:
            cond = dropped(cond, draws.uniforms(len(x0), DROPPING) < self.drop, null_rows(model.net))
        bound = model.given(**cond) if cond else model
        prediction = bound(noised(x0, at, eps), at)
        chain = sde.n * bound_terms(sde, prediction, x0, self.variance, self.discrete, self.stop_mean) / math.log(2)
        chain = chain.to(x0) / x0[0].numel()
        total = self.vlb * chain
        if self.simple:
            total = total + self.simple * weighted_error(prediction, x0, eps, weight_on_x0(model, None, sde.T)(at))
        if self.history is not None:
            self.history.add(t, total.detach())
        return weight.to(total) * total


def bound_terms(
    sde: LinearSDE,
    prediction: Prediction,
    x0: Tensor,
    variance: str,
    discrete: Discrete | None = None,
    stop_mean: bool = False,
) -> Tensor:
    """The term of each sample's timestep in the bound of a table's chain, (B,), nats, float64.

    L_{t-1} = KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)) for t >= 2, and L_0 = -log p(x0 | x_1) for t = 1, with the
    discretised Gaussian of `discrete`. Ho et al. 2020, eq. 5.
    """
    at, first = prediction.level, prediction.level.time <= 1
    denoised = _denoised(prediction.x.double(), prediction, stop_mean)
    # At t = 1 there is no step below: the chain's last step is the decoder, which needs the step above.
    upper = torch.where(first, at.time + 1, at.time)
    above, below = (_kernel(level(sde, time)) for time in (upper, upper - 1))
    step = posterior(above, below)
    squared = (_shaped(step.weight, x0) * (x0.double() - denoised)).square()
    divergence = step_divergence(squared, step.small, prediction.log_variance(variance, step.small, step.large))
    if not bool(first.any()):
        return divergence
    small, large = decoder_variances(below, above, variance == "large")
    log_std = torch.as_tensor(prediction.log_variance(variance, small, large)).double() / 2
    likelihood = gaussian_log_prob(x0[first], denoised[first], log_std.expand_as(denoised)[first], discrete)
    return divergence.clone().index_put((first.nonzero().flatten(),), -likelihood)


def _denoised(x: Tensor, prediction: Prediction, stop_mean: bool) -> Tensor:
    """E[x0 | x_t], float64, without the network's gradient where `stop_mean`."""
    p, q = prediction.pair("x0")
    raw = prediction.raw.detach() if stop_mean else prediction.raw
    return _shaped(p, x) * x + _shaped(q, x) * raw.double()


def _kernel(t: Level) -> tuple[Tensor, Tensor]:
    return t.alpha, t.sigma**2


def _shaped(value: Any, x: Tensor) -> Any:
    return value.reshape(-1, *[1] * (x.ndim - 1)) if isinstance(value, Tensor) else value
