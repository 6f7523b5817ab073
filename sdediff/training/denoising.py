"""Denoising score matching under named weightings, in the network's own output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import function, known, shown, states
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import per_sample
from sdediff.grids.levels import Level, level
from sdediff.model.data_check import check_range
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import ScoreModel, check_card, check_model
from sdediff.sde.base import linear
from sdediff.training.spreads import SPREADS, training_times
from sdediff.training.times import TimeDistribution
from sdediff.training.weightings import WEIGHTINGS, Weighting, weight_on_x0


def loss(
    model: ScoreModel,
    x0: Tensor,
    *,
    weighting: str | Callable[[Level], Any] | None = None,
    t: Tensor | None = None,
    eps: Tensor | None = None,
    spread: str | TimeDistribution = "t",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Denoising score matching, w0(t) mean |x0 - x0_hat(x_t, t)|^2, one value for each sample (B,).

    x0: clean data (B, ...). t: (B,) times, by default one stratified draw of `spread` for each sample (Kingma et al.
    2021); eps: noise like x0. weighting: a name of WEIGHTINGS ("simple" is Ho et al. 2020's L_simple, 1 on the error in
    eps; "likelihood" Song et al. 2021b's) or a function of the level that gives the weight on the error in eps; by
    default "simple", and where training reaches alpha = 0, which eps does not, 1 on what the network predicts. Computed
    in the network's output, so that it is finite there; weights that are 0 or not finite at a table's end are refused.
    Differentiable in the network's parameters.
    """
    model = check_model(model)
    check_card(model, states("x0", x0).shape)
    check_range(model, x0, "x0")
    check_weighting(weighting)
    _check(model, x0, t, eps, spread, generator)
    sde, batch = linear(model.sde), x0.shape[0]
    last = last_time(model)
    weigh = weight_on_x0(model, weighting, last)
    if t is None:
        shift = torch.rand((), generator=generator, dtype=torch.float64)
        t = training_times(sde, (shift + torch.arange(batch, dtype=torch.float64) / batch) % 1, spread, last)
    if eps is None:
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)
    noisy = level(sde, t)
    prediction = model(noised(x0, noisy, eps), noisy)
    return weighted_error(prediction, x0, eps, weigh(noisy))


def last_time(model: ScoreModel) -> float:
    """The last time that training reaches: T where the network serves there, else t_max."""
    return model.sde.T if model.at_zero_alpha else model.sde.t_max


def noised(x0: Tensor, t: Level, eps: Tensor) -> Tensor:
    """x_t = alpha x0 + sigma eps at a level of (B,) tensors."""
    return per_sample(t.alpha, x0) * x0 + per_sample(t.sigma, x0) * eps


def weighted_error(prediction: Prediction, x0: Tensor, eps: Tensor, weight: Any) -> Tensor:
    """weight mean |x0 - x0_hat|^2 of each sample (B,), by the error of the network's output: finite at alpha = 0."""
    t, (a, b) = prediction.level, prediction.pair("x0")
    # F that would be right, from x0 and eps themselves: x0 = a (alpha x0 + sigma eps) + b F.
    on_x0, on_eps = (1 - a * t.alpha) / b, -a * t.sigma / b
    error = prediction.raw - per_sample(on_x0, x0) * x0 - per_sample(on_eps, eps) * eps
    return (weight * b**2).to(error) * error.reshape(len(x0), -1).square().mean(1)


def check_weighting(weighting: Weighting | None) -> None:
    """Refuse what is neither a name of WEIGHTINGS nor a function nor None."""
    if not (weighting is None or callable(weighting) or isinstance(weighting, str)):
        raise InputTypeError(f"weighting={shown(weighting)}: write one of {', '.join(WEIGHTINGS)}, or give a function")
    if isinstance(weighting, str) and weighting not in WEIGHTINGS:
        raise InputError(nearest(weighting, WEIGHTINGS, "weighting"))
    if callable(weighting):
        function("weighting", weighting, 1)


def _check(model: ScoreModel, x0: Tensor, t: Any, eps: Any, spread: Any, generator: Any) -> None:
    """Refuse arguments of `loss` that cannot be used, or that another one leaves without effect."""
    if not isinstance(spread, TimeDistribution) and not known(spread, SPREADS):
        raise InputError(nearest(str(spread), SPREADS, "spread of training times"))
    if not model.sde.linear:
        raise InputError("denoising score matching needs a process with alpha and sigma")
    if not (generator is None or isinstance(generator, torch.Generator)):
        raise InputTypeError(f"generator={shown(generator)}: give torch.Generator().manual_seed(0)")
    if t is not None:
        if not isinstance(t, Tensor) or not t.is_floating_point() or tuple(t.shape) != (len(x0),):
            raise InputTypeError(f"t={shown(t)}: give a float tensor of {len(x0)} times, one a sample")
        if not bool(((t > 0) & (t <= model.sde.T)).all()):
            raise InputError(f"t lies outside of (0, {model.sde.T}]: give times within, such as sde.t_min and up")
        if spread != "t":
            raise InputError(f"spread={spread!r} has no effect beside t, the times themselves: leave one of them out")
    if eps is not None and states("eps", eps).shape != x0.shape:
        raise InputError(f"eps has the shape {tuple(eps.shape)}, x0 {tuple(x0.shape)}: give noise shaped like x0")
    if generator is not None and t is not None and eps is not None:
        raise InputError("generator has no effect beside both t and eps: leave it out")
