"""Training objectives: denoising score matching under named weightings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import shown, states
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import per_sample
from sdediff.grids.levels import Level, level
from sdediff.model.score_model import ScoreModel, check_card, check_model
from sdediff.sde.base import LinearSDE, linear

# The weight of |eps - eps_hat|^2 at a level. It applies to every parametrisation, since the error in eps is
# alpha/sigma times the error in x0.
WEIGHTINGS: dict[str, Callable[[Level], Any]] = {
    "simple": lambda t: torch.ones_like(t.time),
    "likelihood": lambda t: t.g2 / (2 * t.sigma**2),
    "snr": lambda t: torch.exp(2 * t.lam),
    "min_snr": lambda t: torch.clamp(torch.exp(2 * t.lam), max=5.0) / torch.exp(2 * t.lam),
}


def training_times(sde: LinearSDE, u: Tensor, spread: str = "t") -> Tensor:
    """Training times from uniform numbers u (B,): evenly in t, or in half the log-SNR ("lam")."""
    if spread == "t":
        return sde.t_min + (sde.t_max - sde.t_min) * u
    if spread == "lam":
        high, low = sde.lam([sde.t_min, sde.t_max]).tolist()
        return sde.t_of_lam(low + (high - low) * u)
    raise InputError(nearest(spread, ("t", "lam"), "spread of training times"))


def loss(
    model: ScoreModel,
    x0: Tensor,
    *,
    weighting: str | Callable[[Level], Any] = "simple",
    t: Tensor | None = None,
    eps: Tensor | None = None,
    spread: str = "t",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Denoising score matching, w(t) mean |eps - eps_hat(x_t, t)|^2, one value for each sample (B,).

    x0: clean data (B, ...). t: (B,) times, by default one stratified uniform draw for each sample (Kingma et al.
    2021); eps: noise like x0. weighting: "simple" (Ho et al. 2020, L_simple), "likelihood" (Song et al.
    2021b), "snr", "min_snr", or a function of the level. Differentiable in the network's parameters.
    """
    check_card(check_model(model), states("x0", x0).shape)
    _check(model, x0, weighting, t, eps, spread, generator)
    sde = linear(model.sde)
    batch = x0.shape[0]
    if t is None:
        shift = torch.rand((), generator=generator, dtype=torch.float64)
        t = training_times(sde, (shift + torch.arange(batch, dtype=torch.float64) / batch) % 1, spread)
    if eps is None:
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)
    noisy = level(sde, t)
    x_t = per_sample(noisy.alpha, x0) * x0 + per_sample(noisy.sigma, x0) * eps
    error = (model(x_t, noisy).eps - eps).reshape(batch, -1).square().mean(1)
    weight = (WEIGHTINGS[weighting] if isinstance(weighting, str) else weighting)(noisy)
    return weight.to(error) * error


def _check(model: ScoreModel, x0: Tensor, weighting: Any, t: Any, eps: Any, spread: Any, generator: Any) -> None:
    """Refuse arguments of `loss` that cannot be used, or that another one leaves without effect."""
    if not (callable(weighting) or isinstance(weighting, str)):
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
