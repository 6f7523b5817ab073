"""Autoguidance: away from the prediction of a worse model of the same data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import number
from sdediff._utils.tensors import per_sample
from sdediff.guidance.changes import map_prediction, of_x0, with_x0
from sdediff.guidance.free import Interval, checked_interval, inside, scales
from sdediff.model.bound import BoundModel
from sdediff.model.network import check_eval
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import Net, ScoreModel, reschedule


@dataclass(frozen=True)
class Autoguidance:
    """The change of `autoguidance`."""

    worse: ScoreModel
    scale: float
    interval: Interval | None = None

    def map_net(self, wrap: Callable[[Net], Net]) -> Autoguidance:
        """The same guidance with the worse network wrapped too."""
        return replace(self, worse=self.worse.map_net(wrap))

    def bind(self, model: BoundModel) -> Any:
        """The evaluation x, t -> prediction of one run."""
        check_eval(self.worse)
        beside = model.beside(self.worse.given(**model.cond) if model.cond else self.worse)

        def evaluate(x: Tensor, t: Any) -> Prediction:
            better = model(x, t)
            if self.interval is not None and model.in_run(x, t) and not inside(self.interval, t):
                return better
            weight = per_sample(scales(self.scale, self.interval, better), x)
            return of_x0(better, torch.lerp(beside(x, t).x0, better.x0, weight))

        return evaluate


def autoguidance(model: ScoreModel, worse: ScoreModel, scale: float, *, interval: Interval | None = None) -> ScoreModel:
    """D_worse + scale (D - D_worse) under the same condition; scale=1 is the model itself.

    worse: a smaller or less trained model of the same data, on any process: times are matched by the log-SNR. interval:
    (low, high) of sigma/alpha inside of which guidance acts. Two network calls. Karras et al. 2024.
    """
    model, worse = with_x0(model, "autoguidance"), with_x0(worse, "autoguidance")
    if worse.sde is not model.sde:
        worse = reschedule(worse, model.sde)
    return map_prediction(model, Autoguidance(worse, number("scale", scale), checked_interval(interval)))
