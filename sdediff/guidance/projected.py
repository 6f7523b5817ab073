"""Adaptive projected guidance: the part of it that raises saturation is taken out, with momentum over steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import number
from sdediff._utils.tensors import per_sample
from sdediff.guidance.changes import map_prediction, of_x0, with_x0
from sdediff.guidance.free import Interval, checked_interval, inside, scales
from sdediff.guidance.pairs import Pair, check_conditions, negative_conditions
from sdediff.model.bound import BoundModel
from sdediff.model.prediction import ModelError, Prediction
from sdediff.model.score_model import ScoreModel


@dataclass(frozen=True)
class Projected:
    """The change of `adaptive_projected`."""

    scale: float
    negative: dict[str, Any]
    momentum: float = -0.5
    radius: float | None = None
    parallel: float = 0.0
    interval: Interval | None = None

    @property
    def stateful(self) -> bool:
        """Whether a run carries something from evaluation to evaluation that is no part of its states."""
        return self.momentum != 0

    def refuses(self, solver: Any) -> str | None:
        """Why no run with this solver is right, or None."""
        if self.stateful and (solver.adaptive or not solver.recordable):
            return (
                "its momentum runs on from evaluation to evaluation, and this solver evaluates the network at times "
                "and in numbers of its own: write momentum=0, or a solver of fixed steps"
            )
        return None

    def bind(self, model: BoundModel) -> Any:
        """The evaluation x, t -> prediction of one run, which carries the momentum."""
        check_conditions(model, self.negative, "adaptive_projected")
        pair, average = Pair(model, self.negative), list[Tensor]()

        def evaluate(x: Tensor, t: Any) -> Prediction:
            in_run = model.in_run(x, t)
            if in_run and not t.row:
                average.clear()  # a run begins, such as the replay of a recorded one
            if self.interval is not None and in_run and not inside(self.interval, t):
                return pair.first(x, t)
            given, other = pair(x, t)
            towards = given.x0
            difference = towards - other.x0
            if self.stateful and in_run:
                if average:
                    difference = torch.add(difference, average[0], alpha=self.momentum)
                average[:] = [difference.detach()]
            scale = scales(self.scale, self.interval, given)
            return of_x0(given, projected(towards, difference, per_sample(scale, x), self.radius, self.parallel))

        return evaluate


def projected(towards: Tensor, difference: Tensor, scale: Any, radius: float | None, parallel: float) -> Tensor:
    """x0 + (scale - 1) (the part of the difference orthogonal to x0 + parallel times the other), a sample each.

    radius: the difference is shortened to this norm.
    """
    flat, along = difference.flatten(1).double(), towards.flatten(1).double()
    if radius is not None:
        norm = flat.norm(dim=1, keepdim=True)
        flat = flat * torch.where(norm > radius, radius / norm, 1.0)
    square = along.square().sum(1, keepdim=True)
    share = torch.where(square > 0, (flat * along).sum(1, keepdim=True) / square, 0.0)
    change = (flat - (1 - parallel) * share * along).to(towards).reshape(towards.shape)
    return towards + (scale - 1) * change


def adaptive_projected(
    model: ScoreModel,
    scale: float,
    *,
    negative: dict[str, Any] | None = None,
    momentum: float = -0.5,
    radius: float | None = None,
    parallel: float = 0.0,
    interval: Interval | None = None,
) -> ScoreModel:
    """Classifier-free guidance whose difference of x0 is averaged, shortened and projected (APG).

    difference = D_cond - D_negative + momentum * the last one; shortened to the norm `radius`, which grows as the root
    of the number of dimensions; of the part along D_cond `parallel` is kept, 1 without momentum and radius being
    `classifier_free`. Momentum is carried from one evaluation to the next: such a run cannot be resumed, nor made with
    an adaptive solver. Sadat et al. 2024.
    """
    model = with_x0(model, "adaptive_projected")
    if not -1 < number("momentum", momentum) < 1:
        raise ModelError(f"momentum={momentum}: the differences would add up without end, give a number in (-1, 1)")
    if radius is not None and not number("radius", radius) > 0:
        raise ModelError(f"radius={radius}: it is a norm, give a positive number, or None")
    negatives = negative_conditions(model, negative, "adaptive_projected")
    factors = number("scale", scale), negatives, float(momentum), radius, number("parallel", parallel)
    return map_prediction(model, Projected(*factors, checked_interval(interval)))
