"""Classifier guidance: the score is changed by the gradient of a classifier of noised data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import number, shown
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.tensors import per_sample
from sdediff.grids.levels import Level, level
from sdediff.guidance.changes import map_prediction, score_added
from sdediff.model.clock import CLOCKS
from sdediff.model.network import check_eval
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import Model, ScoreModel, check_model
from sdediff.sde.base import linear

Logits = Callable[[Tensor, Any], Tensor]


def classify(model: ScoreModel, x: Tensor, t: Any) -> Tensor:
    """The logits (B, classes) of a classifier at states x (B, ...) and times t, a float, (B,) or a level.

    The network sees x/sqrt(alpha^2 + sigma^2), of about the data's size at every level.
    """
    at: Level = level(model.sde, t)
    if not isinstance(model.time, str):
        raise InputTypeError("a classifier's clock is one of the names: t, lam, log_snr, sigma, c_noise")
    reading = torch.as_tensor(CLOCKS[model.time](at), dtype=torch.float64)
    scale = torch.as_tensor(at.alpha, dtype=torch.float64).square() + torch.as_tensor(at.sigma).square()
    return model.net(x / per_sample(scale.sqrt(), x), reading.to(x).expand(len(x)))


@dataclass(frozen=True)
class ClassifierGradient:
    """The gradient in x of log c(label | x, t): gradient(x, t) -> (B, ...) for states and a level.

    classifier: a ScoreModel whose network gives logits (B, classes), or a function (x, level) -> logits.
    """

    classifier: ScoreModel | Logits
    label: int | Tensor

    def __post_init__(self) -> None:
        if not (isinstance(self.classifier, ScoreModel) or callable(self.classifier)):
            raise InputTypeError(f"classifier={shown(self.classifier)}: give a ScoreModel, or a function (x, level)")
        whole = isinstance(self.label, Tensor) and not self.label.is_floating_point() and self.label.ndim <= 1
        if isinstance(self.label, bool) or not (isinstance(self.label, int) or whole):
            raise InputTypeError(f"label={shown(self.label)}: give a class index, or a tensor of them (B,)")
        if isinstance(self.classifier, ScoreModel):
            check_eval(self.classifier)

    def __call__(self, x: Tensor, t: Level) -> Tensor:
        keep = torch.is_grad_enabled() and x.requires_grad
        with torch.inference_mode(False), torch.enable_grad():
            given = x if keep else x.detach().clone().requires_grad_()
            logs = torch.log_softmax(self._logits(given, t), dim=1)
            label = torch.as_tensor(self.label, device=x.device).expand(len(x))
            chosen = logs.gather(1, label[:, None].long()).sum()
            (gradient,) = torch.autograd.grad(chosen, given, create_graph=keep)
        return gradient

    def _logits(self, x: Tensor, t: Level) -> Tensor:
        if not isinstance(self.classifier, ScoreModel):
            logits = self.classifier(x, t)
        else:
            own = linear(self.classifier.sde)
            at = t if getattr(t.evaluation, "sde", None) is own else level(own, own.t_of_lam(t.lam))
            # Of another process the classifier sees the state of equal log-SNR: x is scaled by sigma.
            logits = classify(self.classifier, x * per_sample(at.sigma / t.sigma, x), at)
        if logits.ndim != 2 or len(logits) != len(x):
            raise InputError(f"the classifier gave {shown(logits)} for {len(x)} states: needed are logits (B, classes)")
        return logits


@dataclass(frozen=True)
class ByClassifier:
    """The change of `classifier`."""

    gradient: ClassifierGradient
    scale: float = 1.0

    def __call__(self, prediction: Prediction, model: Model) -> Prediction:
        t = prediction.level
        if not isinstance(t.alpha, Tensor) and t.alpha == 0:
            return prediction  # x is noise alone, and says nothing of the class
        return score_added(prediction, self.gradient(prediction.x, t), self.scale)


def classifier(
    model: ScoreModel, classifier: ScoreModel | Logits, label: int | Tensor, scale: float = 1.0
) -> ScoreModel:
    """score + scale grad log c(label | x_t): the score form of classifier guidance (eps - sigma scale grad).

    classifier: a model of `sdediff.training.ClassifierLoss`, on any process (times are matched by the log-SNR), or a
    function (x, level) -> logits (B, classes). label: a class, or one a sample (B,). The power c^scale of a classifier
    that is p(c | x_t) is classifier-free guidance with the same scale, counted from the model without condition: 0 is
    the model itself. `solvers.MeanShift` is the other form, which agrees to first order. Dhariwal and Nichol 2021.
    """
    change = ByClassifier(ClassifierGradient(classifier, label), number("scale", scale))
    return map_prediction(check_model(model), change)
