"""Importance weights: their effective sample size, and the mean of weights with its standard error."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff._utils.checks import real_tensor
from sdediff._utils.errors import InputError


class Importance(NamedTuple):
    """weights (B,), of sum 1; ess: the effective sample size 1 / sum w^2, 1 to B; log_mean: log of the mean weight.

    std_error: of log_mean, by the spread of the weights, to first order.
    """

    weights: Tensor
    ess: float
    log_mean: float
    std_error: float


def importance(log_weights: Any) -> Importance:
    """What unnormalised log weights (B,) are worth, such as (replay(record, model) - record.log_prob).sum(0).

    Samples of one model under these weights are samples of another, as far as ess says. Where the two laws have the
    same support the mean weight is 1 for densities that are normalised. Kong 1992.
    """
    values = real_tensor("log_weights", log_weights).detach().double()
    if values.ndim != 1 or not len(values) or bool(values.isnan().any()) or bool((values == math.inf).any()):
        raise InputError(f"log_weights of shape {tuple(values.shape)}: give one number a sample, none NaN or infinite")
    if not bool((values > -math.inf).any()):
        raise InputError("every sample has weight 0: begin nearer to the target, with more samples or a proposal")
    weights = torch.softmax(values, 0)
    ess = min(1.0 / weights.square().sum().item(), float(len(values)))
    log_mean = torch.logsumexp(values, 0).item() - math.log(len(values))
    return Importance(weights, ess, log_mean, math.sqrt(max(0.0, 1 / ess - 1 / len(values))))
