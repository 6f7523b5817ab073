"""Guidance: functions from model to model that change what is predicted; solvers and the loop stay as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import number, shown
from sdediff._utils.errors import InputTypeError
from sdediff._utils.tensors import per_sample
from sdediff.model.prediction import LinearPrediction, ModelError, Prediction
from sdediff.model.score_model import Change, Model, ScoreModel, check_model
from sdediff.model.velocity_only import WHY


def map_prediction(model: ScoreModel, change: Change) -> ScoreModel:
    """The model with change(prediction, model) in place of each prediction; the model given may be called again.

    A changed prediction is usually `of_x0(prediction, x0)`. Give a plain value, such as a frozen dataclass
    with __call__, to have the change show in the model's repr. Changes add up, the last is applied last.
    """
    model = check_model(model)
    if model.velocity_only:
        raise ModelError(f"{WHY}, nor what is guided by it: sample it without guidance")
    if not (callable(change) or hasattr(change, "bind")):
        raise InputTypeError(f"change={shown(change)}: give a function (prediction, model) -> prediction")
    return replace(model, changes=(*model.changes, change))


def of_x0(prediction: Prediction, x0: Tensor) -> Prediction:
    """The prediction of other data x0 (B, ...) at the same state: eps, score, v and velocity follow from it."""
    return LinearPrediction(prediction.x, x0, prediction.level, 0.0, 1.0, "x0", prediction.extra)


def score_added(prediction: Prediction, gradient: Tensor, scale: Any = 1.0) -> Prediction:
    """The prediction whose score is greater by scale times a gradient (B, ...); scale a number or (B,)."""
    _, on_raw = prediction.pair("score")
    share = per_sample(scale / on_raw, gradient)
    return prediction.reading(prediction.raw + share * gradient, prediction.extra)


@dataclass(frozen=True)
class Clip:
    """The change of `clip`."""

    low: float = -1.0
    high: float = 1.0

    def __call__(self, prediction: Prediction, model: Model) -> Prediction:
        return of_x0(prediction, prediction.x0.clamp(self.low, self.high))


@dataclass(frozen=True)
class Threshold:
    """The change of `threshold`."""

    quantile: float = 0.995
    limit: float = 1.0

    def __call__(self, prediction: Prediction, model: Model) -> Prediction:
        x0 = prediction.x0
        edge = per_sample(_quantile(x0.flatten(1).abs(), self.quantile).clamp(min=self.limit), x0)
        return of_x0(prediction, torch.minimum(torch.maximum(x0, -edge), edge) * (self.limit / edge))


def clip(model: ScoreModel, low: float = -1.0, high: float = 1.0) -> ScoreModel:
    """x0 kept within [low, high], the data's range; eps and the rest are derived from the clipped x0.

    As in Ho et al. 2020's released code. Refuses processes without alpha and sigma, which have no x0.
    """
    if not number("low", low) < number("high", high):
        raise ModelError(f"clip(low={low}, high={high}): needed is low < high, the range of the data")
    return map_prediction(with_x0(model, "clip"), Clip(low, high))


def threshold(model: ScoreModel, quantile: float = 0.995, limit: float = 1.0) -> ScoreModel:
    """x0 clipped at s and scaled by limit/s, s that quantile of a sample's own |x0|, at least `limit`.

    Dynamic thresholding for data in [-limit, limit]; eps and the rest are derived from the new x0. With
    quantile=1 x0 is only scaled. Refuses processes without alpha and sigma. Saharia et al. 2022, section 2.3.
    """
    if not (0 < number("quantile", quantile) <= 1 and number("limit", limit) > 0):
        raise ModelError(f"threshold(quantile={quantile}, limit={limit}): needed are 0 < quantile <= 1, limit > 0")
    return map_prediction(with_x0(model, "threshold"), Threshold(quantile, limit))


def with_x0(model: ScoreModel, name: str) -> ScoreModel:
    """The model, refused for `name` where its process has no x0."""
    model = check_model(model)
    if not model.sde.linear:
        raise ModelError(
            f"{name} needs a prediction of x0, which {type(model.sde).__name__} without alpha and sigma has not"
        )
    return model


def _quantile(values: Tensor, q: float) -> Tensor:
    """The q-th quantile of each row of (B, D), linear between order statistics; it sorts the largest alone."""
    rank = q * (values.shape[1] - 1)
    low = math.floor(rank)
    top = values.topk(values.shape[1] - low, dim=1).values
    return torch.lerp(top[:, -1], top[:, -2 if rank > low else -1], rank - low)
