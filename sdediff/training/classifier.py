"""Classifiers of noised data: their loss, and their reading at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from sdediff._utils.checks import number, states
from sdediff._utils.errors import InputError, InputTypeError
from sdediff.grids.levels import level
from sdediff.guidance.by_classifier import classify as classify
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import linear
from sdediff.training.denoising import noised
from sdediff.training.draws import Draws
from sdediff.training.objective import TrainingObjective
from sdediff.training.spreads import time_distribution, training_times
from sdediff.training.times import TimeDistribution


@dataclass(frozen=True)
class ClassifierLoss(TrainingObjective):
    """The cross-entropy of the label of noised data, -log c(label | x_t, t), nats. Dhariwal and Nichol 2021, section 4.

    The model is ScoreModel(net, sde, time=...) whose net gives logits (B, classes), such as nets.Classifier; the batch
    needs the condition `label`. spread, lowest: as in Objective.
    """

    spread: str | TimeDistribution = "lam"
    lowest: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "spread", time_distribution(self.spread))
        if self.lowest is not None and not number("lowest", self.lowest) > 0:
            raise InputError(f"lowest={self.lowest}: give a time above 0")

    @property
    def needs_labels(self) -> bool:
        return True

    def __call__(self, model: ScoreModel, x0: Tensor, cond: dict[str, Any], draws: Draws) -> Tensor:
        states("x0", x0)
        label = cond.get("label")
        if not isinstance(label, Tensor) or label.shape != (len(x0),) or label.is_floating_point():
            raise InputTypeError("a classifier is trained on labelled data: give batches (x, label), integers (B,)")
        sde = linear(model.sde)
        t = training_times(sde, draws.stratified(len(x0)), self.spread, sde.t_max, self.lowest)
        at = level(sde, t)
        logits = classify(model, noised(x0, at, draws.normals(x0)), at)
        return functional.cross_entropy(logits, label.long(), reduction="none")
