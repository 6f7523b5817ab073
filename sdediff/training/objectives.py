"""Training objectives: denoising score matching under named weightings, in the network's own output."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import known, real_tensor, shown, states
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import per_sample
from sdediff.grids.levels import Level, level
from sdediff.model.prediction import PARAMETRISATIONS, ModelError, signed
from sdediff.model.score_model import ScoreModel, check_card, check_model
from sdediff.sde.base import LinearSDE, linear


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


def training_times(sde: LinearSDE, u: Tensor, spread: str = "t", last: float | None = None) -> Tensor:
    """Training times from uniform numbers u (B,) in [0, 1): evenly in t, or in half the log-SNR ("lam").

    They reach from t_min to `last`, by default t_max. On a table they are its training timesteps, uniform integers.
    """
    if not known(spread, ("t", "lam")):
        raise InputError(nearest(spread, ("t", "lam"), "spread of training times"))
    last = sde.t_max if last is None else last
    count = getattr(sde, "n", None)
    if count is not None and spread == "t":
        return (1 + u.double() * last).floor().clamp(max=last)
    if spread == "t":
        return sde.t_min + (last - sde.t_min) * u
    high, low = sde.lam([sde.t_min, sde.t_max]).tolist()
    return sde.t_of_lam(low + (high - low) * u)


def loss(
    model: ScoreModel,
    x0: Tensor,
    *,
    weighting: str | Callable[[Level], Any] | None = None,
    t: Tensor | None = None,
    eps: Tensor | None = None,
    spread: str = "t",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Denoising score matching, w0(t) mean |x0 - x0_hat(x_t, t)|^2, one value for each sample (B,).

    x0: clean data (B, ...). t: (B,) times, by default one stratified uniform draw for each sample (Kingma et al.
    2021); eps: noise like x0. weighting: a name of WEIGHTINGS ("simple" is Ho et al. 2020's L_simple, 1 on the error in
    eps; "likelihood" Song et al. 2021b's) or a function of the level that gives the weight on the error in eps; by
    default "simple", and where training reaches alpha = 0, which eps does not, 1 on what the network predicts. Computed
    in the network's output, so that it is finite there; weights that are 0 or not finite at a table's end are refused.
    Differentiable in the network's parameters.
    """
    check_card(check_model(model), states("x0", x0).shape)
    _check(model, x0, weighting, t, eps, spread, generator)
    sde, batch = linear(model.sde), x0.shape[0]
    last = sde.T if model.at_zero_alpha else sde.t_max
    weigh = _weight(model, weighting, last)
    if t is None:
        shift = torch.rand((), generator=generator, dtype=torch.float64)
        t = training_times(sde, (shift + torch.arange(batch, dtype=torch.float64) / batch) % 1, spread, last)
    if eps is None:
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)
    noisy = level(sde, t)
    x_t = per_sample(noisy.alpha, x0) * x0 + per_sample(noisy.sigma, x0) * eps
    prediction = model(x_t, noisy)
    a, b = prediction.pair("x0")
    # F that would be right, from x0 and eps themselves: x0 = a (alpha x0 + sigma eps) + b F.
    on_x0, on_eps = (1 - a * noisy.alpha) / b, -a * noisy.sigma / b
    error = prediction.raw - per_sample(on_x0, x0) * x0 - per_sample(on_eps, eps) * eps
    weight = (weigh(noisy) * b**2).to(error)
    return weight * error.reshape(batch, -1).square().mean(1)


def _weight(model: ScoreModel, weighting: Any, last: float) -> Callable[[Level], Any]:
    """The weight on the error in x0 at a level."""
    ends = not math.isfinite(linear(model.sde).lam([last]).item())
    quantity = signed(model.predicts)[0]
    if quantity == "velocity" and ends and hasattr(model.sde, "n"):
        raise ModelError(
            'the velocity of a table is not finite where its alpha falls to 0: train a network of predicts="v" or "x0"'
        )
    if weighting is None:
        weighting = quantity if ends else "simple"
    if callable(weighting):
        return lambda t: _given(weighting, t) * _snr(t)
    _check_end(model, weighting, ends)
    return lambda t: WEIGHTINGS[weighting](t, model.sigma_data)


def _given(weighting: Callable[[Level], Any], t: Level) -> Tensor:
    """What a function of the level gives: a number, or one for each sample."""
    weights = real_tensor("weighting(level)", weighting(t))
    if weights.shape not in ((), t.lam.shape):
        raise InputError(f"weighting(level) has the shape {tuple(weights.shape)}: give a weight for {len(t.lam)} times")
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


def _check(model: ScoreModel, x0: Tensor, weighting: Any, t: Any, eps: Any, spread: Any, generator: Any) -> None:
    """Refuse arguments of `loss` that cannot be used, or that another one leaves without effect."""
    if not (weighting is None or callable(weighting) or isinstance(weighting, str)):
        raise InputTypeError(f"weighting={shown(weighting)}: write one of {', '.join(WEIGHTINGS)}, or give a function")
    if isinstance(weighting, str) and weighting not in WEIGHTINGS:
        raise InputError(nearest(weighting, WEIGHTINGS, "weighting"))
    if spread not in ("t", "lam"):
        raise InputError(nearest(str(spread), ("t", "lam"), "spread of training times"))
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
