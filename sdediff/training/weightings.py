"""Named weights of the denoising error, each a weight on the error in x0, and what they are on other outputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import known, real_tensor
from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff.grids.levels import Level
from sdediff.model.prediction import PARAMETRISATIONS, ModelError, signed
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import linear

# A name of WEIGHTINGS, or a function of the level that gives the weight on the error in eps.
Weighting = str | Callable[[Level], Any]


def _snr(t: Level) -> Tensor:
    return torch.exp(2 * t.lam)


def _snr_rate(t: Level) -> Tensor:
    """g^2/(2 sigma^2) SNR = -lam' SNR, without the pole of g^2 where alpha = 0."""
    return (t.alpha * t.sigma_dot - t.alpha_dot * t.sigma) * t.alpha / t.sigma**3


def _on_output(predicts: str) -> Callable[[Level, float], Tensor]:
    """The weight 1 on what such a network predicts, x0 = a x + b F: 1/b^2 on the error in x0."""

    def weight(t: Level, sigma_data: float) -> Tensor:
        return torch.as_tensor(PARAMETRISATIONS[predicts](t, sigma_data)[1]) ** -2.0

    return weight


# The weight of |x0 - x0_hat|^2 at a level and sigma_data; in eps it is sigma^2/alpha^2 of it, in F b^2.
WEIGHTINGS: dict[str, Callable[[Level, float], Any]] = {
    "simple": lambda t, sigma_data: _snr(t),
    "x0": lambda t, sigma_data: torch.ones_like(t.lam),
    "v": _on_output("v"),
    "velocity": _on_output("velocity"),
    "edm": _on_output("edm"),
    "truncated_snr": lambda t, sigma_data: _snr(t).clamp(min=1.0),
    "min_snr": lambda t, sigma_data: _snr(t).clamp(max=5.0),
    "p2": lambda t, sigma_data: _snr(t) / (1 + _snr(t)),
    "likelihood": lambda t, sigma_data: _snr_rate(t),
    "sigmoid": lambda t, sigma_data: torch.sigmoid(2 - 2 * t.lam) * 2 * _snr_rate(t),
}
# Weights that are 0 on x0 where alpha = 0, and those of the process's rate, which a table lacks beside such an end.
_ZERO_AT_END, _OF_RATE = ("simple", "min_snr", "p2"), ("likelihood", "sigmoid", "velocity")


def output_weight(weighting: str, t: Level, predicts: str, sigma_data: float = 1.0) -> Tensor:
    """What a named weighting is on the error of the output of a network that predicts `predicts`: b^2 of it on x0.

    t: a level of (B,) tensors. min(SNR, 5) on x0, for example, is min(SNR, 5)/SNR on eps and min(SNR, 5)/(SNR + 1) on
    v (Hang et al. 2023).
    """
    if not known(weighting, WEIGHTINGS):
        raise InputError(nearest(weighting, WEIGHTINGS, "weighting"))
    if not known(predicts, PARAMETRISATIONS):
        raise ModelError(nearest(predicts, PARAMETRISATIONS, "parametrisation"))
    b = torch.as_tensor(PARAMETRISATIONS[predicts](t, sigma_data)[1], dtype=torch.float64)
    return WEIGHTINGS[weighting](t, sigma_data) * b**2


def weight_on_x0(model: ScoreModel, weighting: Weighting | None, last: float) -> Callable[[Level], Any]:
    """The weight on the error in x0 as a function of the level, for training up to the time `last`.

    None is "simple", and where training reaches alpha = 0, which eps does not, 1 on what the network predicts.
    ModelError: a weight that is 0, or not finite, at such an end.
    """
    ends = not math.isfinite(linear(model.sde).lam([last]).item())
    quantity = signed(model.predicts)[0]
    if quantity == "velocity" and ends and hasattr(model.sde, "n"):
        raise ModelError(
            'the velocity of a table is not finite where its alpha falls to 0: train a network of predicts="v" or "x0"'
        )
    if weighting is None:
        weighting = quantity if ends else "simple"
    if callable(weighting):
        given = weighting
        return lambda t: _given(given, t) * _snr(t)
    name: str = weighting
    _check_end(model, name, ends)
    return lambda t: WEIGHTINGS[name](t, model.sigma_data)


def _given(weighting: Callable[[Level], Any], t: Level) -> Tensor:
    """What a function of the level gives: a number, or one for each sample."""
    weights = real_tensor("weighting(level)", weighting(t))
    if weights.shape not in ((), t.lam.shape):
        raise InputError(f"weighting(level) has the shape {tuple(weights.shape)}: give a weight for {len(t.lam)} times")
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise InputError("weighting(level) is negative or not finite at some of the times: give weights of 0 or more")
    return weights


def _check_end(model: ScoreModel, weighting: str, ends: bool) -> None:
    """ModelError for weights that teach nothing at the end of a process, or that are not finite near it."""
    table = hasattr(model.sde, "n")
    if ends and (weighting == "min_snr" or (table and weighting in _ZERO_AT_END)):
        raise ModelError(
            f"weighting={weighting!r} is 0 where alpha = 0, so nothing would be learnt at the end of this process: "
            + ('write "v" or "truncated_snr"' if table else 'write "v", "velocity" or "truncated_snr"')
        )
    if table and weighting in _OF_RATE and not math.isfinite(linear(model.sde).lam([model.sde.T]).item()):
        raise ModelError(
            f"weighting={weighting!r} needs the rate of the log-SNR, which a table of zero terminal SNR lacks beside "
            'its end: write "v" or "truncated_snr"'
        )
