"""Classifier-free guidance: away from the prediction without a condition, towards and beyond the one with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import number
from sdediff._utils.errors import InputError
from sdediff._utils.tensors import per_sample
from sdediff.guidance.changes import map_prediction
from sdediff.guidance.pairs import Pair, check_conditions, check_space, negative_conditions
from sdediff.model.bound import BoundModel
from sdediff.model.prediction import PARAMETRISATIONS, LinearPrediction, ModelError, Prediction
from sdediff.model.score_model import ScoreModel, check_model

Interval = tuple[float, float]


@dataclass(frozen=True)
class ClassifierFree:
    """The change of `classifier_free`."""

    scale: float
    negative: dict[str, Any]
    rescale: float = 0.0
    space: str = "x0"
    interval: Interval | None = None

    def bind(self, model: BoundModel) -> Any:
        """The evaluation x, t -> prediction of one run."""
        check_conditions(model, self.negative, "classifier_free")
        pair = Pair(model, self.negative)

        def evaluate(x: Tensor, t: Any) -> Prediction:
            if self.interval is not None and model.in_run(x, t) and not inside(self.interval, t):
                return pair.first(x, t)
            given, other = pair(x, t)
            guided = extrapolated(other, given, scales(self.scale, self.interval, given))
            return rescaled(guided, given, self.rescale, self.space) if self.rescale else guided

        return evaluate


def classifier_free(
    model: ScoreModel,
    scale: float | None = None,
    *,
    weight: float | None = None,
    negative: dict[str, Any] | None = None,
    rescale: float = 0.0,
    space: str | None = None,
    interval: Interval | None = None,
) -> ScoreModel:
    """(1 - scale) F(x, negative) + scale F(x, cond), F the network's output; scale=1 is the plain conditional model.

    scale or weight: Ho and Salimans' weight is scale - 1. negative: conditions to steer away from, by default the
    network's own for none. rescale: the share phi with which the guided prediction takes on the conditional one's
    standard deviation, a sample each, in the space "x0", "eps", "v", "velocity" or "score", which has to be named: Lin
    et al. 2023 have it on v, diffusers on eps. interval: (low, high) of sigma/alpha inside of which guidance acts;
    outside only the conditional model is evaluated (Kynkaanniemi et al. 2024). What it samples is no tilted
    distribution: docs/guidance.md. Ho and Salimans 2022.
    """
    model = check_model(model)
    if (scale is None) == (weight is None):
        raise ModelError("classifier_free takes scale or weight, of which scale = weight + 1: write one of them")
    factor = number("scale", scale) if scale is not None else number("weight", weight) + 1
    share = number("rescale", rescale)
    if not 0 <= share <= 1:
        raise ModelError(f"rescale={rescale}: it is a share, give a number in [0, 1]")
    if (space is None) == bool(share):
        raise ModelError("rescale and space belong together: write rescale=0.7, space='v', or neither")
    negatives = negative_conditions(model, negative, "classifier_free")
    change = ClassifierFree(factor, negatives, share, check_space(space or "x0"), checked_interval(interval))
    return map_prediction(model, change)


def checked_interval(interval: Any) -> Interval | None:
    """(low, high) of sigma/alpha, or None."""
    if interval is None:
        return None
    try:
        low, high = (float(end) for end in interval)
    except (TypeError, ValueError):
        low = high = 0.0
    if not 0 <= low < high:
        raise InputError(f"interval={interval!r}: give (low, high) of sigma/alpha, as in (0.2, 5.0)")
    return low, high


def inside(interval: Interval, t: Any) -> bool:
    """Whether a run's level lies in an interval of sigma/alpha."""
    return bool(interval[0] * t.alpha <= t.sigma <= interval[1] * t.alpha)


def scales(scale: float, interval: Interval | None, prediction: Prediction) -> Any:
    """The scale at a prediction's level, 1 outside of the interval; a number, or one a sample."""
    if interval is None:
        return scale
    t = prediction.level
    if not isinstance(t.sigma, Tensor):
        return scale if inside(interval, t) else 1.0
    acts = (interval[0] * t.alpha <= t.sigma) & (t.sigma <= interval[1] * t.alpha)
    return torch.where(acts, scale, 1.0)


def extrapolated(base: Prediction, towards: Prediction, scale: Any) -> Prediction:
    """base + scale (towards - base) of two predictions of one reading; what came beside F is that of `towards`."""
    weight = per_sample(scale, base.raw)
    return towards.reading(torch.lerp(base.raw, towards.raw, weight), towards.extra)


def rescaled(guided: Prediction, given: Prediction, share: float, space: str) -> Prediction:
    """The guided prediction with a share of the conditional one's standard deviation, a sample each, in a space."""
    quantity, target = getattr(guided, space), getattr(given, space)
    spread = [v.flatten(1).std(1, unbiased=False) for v in (quantity, target)]
    # A constant has no deviation to give or to take.
    ratio = torch.where(spread[0] > 0, spread[1] / spread[0].clamp(min=torch.finfo(spread[0].dtype).tiny), 1.0)
    quantity = quantity * per_sample(share * ratio + (1 - share), quantity)
    a, b = PARAMETRISATIONS[space](guided.level, 1.0)
    return LinearPrediction(guided.x, quantity, guided.level, a, b, space, guided.extra)
