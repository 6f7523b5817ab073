"""`Objective`: denoising as a composition of a weighting, a distribution of times and a rule for conditions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from sdediff._utils.checks import number, states
from sdediff._utils.errors import InputError
from sdediff.grids.levels import level
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import LinearSDE, linear
from sdediff.training.conditions import dropped, null_rows
from sdediff.training.coupling import check_coupling, paired_noise
from sdediff.training.denoising import check_weighting, last_time, noised, weighted_error
from sdediff.training.draws import DROPPING, Draws
from sdediff.training.spreads import time_distribution, training_times
from sdediff.training.times import TimeDistribution
from sdediff.training.weightings import Weighting, weight_on_x0


class TrainingObjective(ABC):
    """What the trainer minimises: objective(model, x0, cond, draws) -> a loss a sample (B,)."""

    @abstractmethod
    def __call__(self, model: ScoreModel, x0: Tensor, cond: dict[str, Any], draws: Draws) -> Tensor:
        """The losses (B,) of clean data x0 (B, ...) under conditions, by the random numbers of `draws`."""

    @property
    def needs_labels(self) -> bool:
        """Whether a batch without the condition `label` cannot be used."""
        return False

    @property
    def state(self) -> nn.Module | None:
        """What an objective learns along the way (a module with buffers), kept in checkpoints; None for nothing."""
        return None


@dataclass(frozen=True)
class Objective(TrainingObjective):
    """Denoising score matching and flow matching: w0(t) mean |x0 - x0_hat|^2 at times of a distribution.

    The target is what the model predicts. weighting: as in `sd.loss`. spread: a TimeDistribution or the name of one.
    lowest: the first training time, by default t_min. importance: True divides by the density of the times over the
    uniform one, so that `spread` changes the variance of the loss alone. drop: the probability with which a sample
    loses all of its conditions together, for classifier-free guidance (Ho and Salimans 2022); null: what stands in
    their place, by default what the network names. coupling: "independent" noise, or "ot", data and noise of a batch
    paired by optimal transport of squared distances (Tong et al. 2023), for models marked velocity_only.
    """

    weighting: Weighting | None = None
    spread: str | TimeDistribution = "t"
    lowest: float | None = None
    importance: bool = False
    drop: float = 0.0
    null: dict[str, Any] = field(default_factory=dict)
    coupling: str = "independent"

    def __post_init__(self) -> None:
        check_weighting(self.weighting)
        object.__setattr__(self, "spread", time_distribution(self.spread))
        if self.lowest is not None and not number("lowest", self.lowest) > 0:
            raise InputError(f"lowest={self.lowest}: give a time above 0")
        if not 0 <= number("drop", self.drop) < 1:
            raise InputError(f"drop={self.drop}: give a probability in [0, 1)")
        check_coupling(self.coupling)
        if self.null and not self.drop:
            raise InputError("null has no effect without drop: give a probability, such as drop=0.1")

    def __call__(self, model: ScoreModel, x0: Tensor, cond: dict[str, Any], draws: Draws) -> Tensor:
        states("x0", x0)
        sde, last = linear(model.sde), last_time(model)
        t = self.times(model, draws.stratified(len(x0)))
        noisy, eps = level(sde, t), paired_noise(model, x0, draws.normals(x0), self.coupling)
        bound = model.given(**self.conditions(model, cond, len(x0), draws)) if cond else model
        prediction = bound(noised(x0, noisy, eps), noisy)
        weight = weight_on_x0(model, self.weighting, last)(noisy)
        if self.importance:
            weight = weight / self._ratio(sde, t, last)
        return weighted_error(prediction, x0, eps, weight)

    def times(self, model: ScoreModel, u: Tensor) -> Tensor:
        """The training times of uniform numbers u (B,)."""
        return training_times(linear(model.sde), u, self.spread, last_time(model), self.lowest)

    def conditions(self, model: ScoreModel, cond: dict[str, Any], batch: int, draws: Draws) -> dict[str, Any]:
        """The conditions, with those of dropped samples in their null rows."""
        if not self.drop:
            return cond
        null = {**null_rows(model.net), **self.null}
        return dropped(cond, draws.uniforms(batch, DROPPING) < self.drop, null)

    def _ratio(self, sde: LinearSDE, t: Tensor, last: float) -> Tensor:
        """The density of the times over the uniform one."""
        if hasattr(sde, "n"):
            raise InputError("importance=True needs a process in continuous time: a table's times are whole numbers")
        distribution = time_distribution(self.spread)
        low = sde.t_min if self.lowest is None else self.lowest
        return distribution.density(sde, t, low, last) * (last - low)
