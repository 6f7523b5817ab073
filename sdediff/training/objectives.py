"""Training objectives: denoising score matching under named weightings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import per_sample
from sdediff.grids.levels import Level, level
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import LinearSDE

# The weight of |eps - eps_hat|^2 at a level. The same table serves every parametrisation: the error in
# eps is alpha/sigma times the error in x0.
WEIGHTINGS: dict[str, Callable[[Level], Any]] = {
    "simple": lambda t: torch.ones_like(t.time),
    "likelihood": lambda t: t.g2 / (2 * t.sigma**2),
    "snr": lambda t: torch.exp(2 * t.lam),
    "min_snr": lambda t: torch.clamp(torch.exp(2 * t.lam), max=5.0) / torch.exp(2 * t.lam),
}


def times(sde: LinearSDE, u: Tensor, spread: str = "t") -> Tensor:
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
    """Denoising score matching, w(t) mean |eps - eps_hat(x_t, t)|^2, a value a sample (B,).

    x0: clean data (B, ...). t: (B,) times, by default one stratified uniform draw a sample (Kingma et al.
    2021); eps: noise like x0. weighting: "simple" (Ho et al. 2020, L_simple), "likelihood" (Song et al.
    2021b), "snr", "min_snr", or a function of the level. Differentiable in the network's parameters.
    """
    if isinstance(weighting, str) and weighting not in WEIGHTINGS:
        raise InputError(nearest(weighting, WEIGHTINGS, "weighting"))
    if not isinstance(model.sde, LinearSDE):
        raise InputError("denoising score matching needs a process with alpha and sigma")
    batch = x0.shape[0]
    if t is None:
        shift = torch.rand((), generator=generator, dtype=torch.float64)
        t = times(model.sde, (shift + torch.arange(batch, dtype=torch.float64) / batch) % 1, spread)
    if eps is None:
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)
    here = level(model.sde, t)
    x_t = per_sample(here.alpha, x0) * x0 + per_sample(here.sigma, x0) * eps
    error = (model(x_t, here).eps - eps).reshape(batch, -1).square().mean(1)
    weight = (WEIGHTINGS[weighting] if isinstance(weighting, str) else weighting)(here)
    return weight.to(error) * error
