"""`path_statistics`: the score along each sample's own path to noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff import integrate
from sdediff._utils.checks import real_tensor
from sdediff._utils.errors import InputError
from sdediff.grids.levels import Level, levels
from sdediff.grids.levels import level as level_at
from sdediff.likelihood.api import log_likelihood
from sdediff.likelihood.ends import PRIORS, log_prior
from sdediff.likelihood.network import Network
from sdediff.likelihood.result import Likelihood
from sdediff.likelihood.settings import LikelihoodSettings, merged
from sdediff.likelihood.task import Conditions, Task, micro_batches, place, prepare
from sdediff.likelihood.two_pass import whitened_flow
from sdediff.likelihood.typicality import PathStatistics
from sdediff.likelihood.whitened import Whitened
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.noise.counter import normals
from sdediff.sde.base import LinearSDE, linear

# Probes are numbered by the node where they are used: no node of a path, nor the heat term, has these numbers.
_FIRST_NODE = (1 << 20) + 1
# The range of a number of levels, in scales of the data: below it is finer structure than the data's, above it the
# data look like one Gaussian.
_LOWEST, _HIGHEST, _MOST_LEVELS = 0.01, 10.0, 100_000
_PROBES = 4
# The noise with which data become states at t0.
_NOISE = (0x4E000000, 0)


class _ScoreFeatures(NamedTuple):
    """At states of one level: eps (b, D), sigma^2 tr grad s (b,), and its standard error."""

    eps: Tensor
    divergence: Tensor
    error: Tensor


def path_statistics(
    model: ScoreModel | str,
    x: Tensor,
    *,
    kappa: int | Sequence[float] | Tensor = 16,
    settings: LikelihoodSettings | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    trace: str | None = None,
    probes: int | None = None,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    cond: dict[str, Any] | None = None,
    micro_batch: int = 256,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool | None = None,
) -> PathStatistics:
    """Statistics of the score of data x (B, ...) at noise levels kappa = sigma/alpha, a row a sample, with log p(x).

    kappa: K rising levels that the process reaches, or their number, log-evenly between 0.01 and 10 scales of the
    data (of the model's statistics, else 1). Norms and divergences are evaluated on the sample's own probability flow,
    the dimension at alpha x without noise: two traced evaluations a level, on top of the likelihood's. The settings
    are those of `log_likelihood` for method="two_pass", with 4 probes by default; the other arguments are as there.
    ValueError for what that refuses, and for levels that do not rise or lie outside of the process.
    """
    model = check_model(model)
    sde = linear(model.sde)
    noise_levels = _noise_levels(model, sde, kappa)
    chosen = merged(settings, rtol=rtol, atol=atol, trace=trace, probes=probes)
    values = chosen.values()
    if values["method"] != "two_pass":
        raise InputError(f"method={values['method']!r}: path_statistics takes two passes: leave method out")
    if callable(values["prior"]):
        raise InputError(f"path_statistics tests x_T against a prior by name: write one of {', '.join(PRIORS)}")
    if values["trace"] != "exact":
        chosen = chosen.with_defaults(probes=_PROBES)
    likelihood = log_likelihood(
        model, x, settings=chosen, seed=seed, index=index, cond=cond, micro_batch=micro_batch, dtype=dtype,
        device=device, progress=progress,
    )  # fmt: skip
    task, conditions = prepare(model, chosen, x.shape, seed, cond, micro_batch)
    dtype, device = place(model, dtype, device, x)
    batches = micro_batches(len(x), micro_batch, index, conditions, "path statistics", progress)
    parts = [
        _statistics(task, noise_levels, x[rows].to(dtype).to(device), numbers, given)
        for rows, numbers, given in batches
    ]
    columns = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    columns["calls"] += likelihood.calls
    p_value = _p_value(model, likelihood, columns.pop("noised_latent"))
    return PathStatistics(kappa=noise_levels, p_value=p_value, likelihood=likelihood, **columns)


def _noise_levels(model: ScoreModel, sde: LinearSDE, kappa: int | Sequence[float] | Tensor) -> Tensor:
    """Noise levels (K,), float64, from the levels themselves or their number."""
    low, high = (level_at(sde, t).kappa for t in (sde.t0, sde.t_max))
    if isinstance(kappa, int):
        if kappa < 2:
            raise InputError(f"kappa={kappa}: at least two levels, or write the levels themselves")
        if kappa > _MOST_LEVELS:
            raise InputError(f"kappa={kappa}: at most {_MOST_LEVELS} levels")
        scale = 1.0 if model.stats is None else model.stats.std
        ends = [math.log(min(max(share * scale, low), high)) for share in (_LOWEST, _HIGHEST)]
        # The exponential of a logarithm may lie an ulp beyond the end.
        return torch.linspace(ends[0], ends[1], kappa, dtype=torch.float64).exp().clamp(low, high)
    given = real_tensor("kappa", kappa).detach().cpu()
    rising = given.ndim == 1 and len(given) > 0 and bool((given.diff() > 0).all())
    if not rising or not bool(((given >= low) & (given <= high)).all()):
        raise InputError(
            f"kappa={given.tolist()}: needed are rising noise levels sigma/alpha between {low:.4g}, "
            f"where t={sde.t0:.4g}, and {high:.4g}"
        )
    return given


@torch.no_grad()
def _statistics(task: Task, kappa: Tensor, x: Tensor, index: np.ndarray, cond: Conditions) -> dict[str, Tensor]:
    """The columns of one micro-batch x (b, ...) in the network's dtype."""
    coordinates, net, dims = Whitened(task.model, task.t0, x), Network(task, x, index, cond), x[0].numel()
    times = coordinates.sde.t_of_lam(-kappa.log()).clamp(coordinates.first.time, coordinates.last.time)
    path_levels = levels(coordinates.sde, times)
    angles = [min(max(coordinates.angle(t), coordinates.start), coordinates.stop) for t in path_levels]
    start = coordinates.whiten(coordinates.first.alpha * x.double(), coordinates.first)
    path = integrate.adaptive(
        whitened_flow(coordinates, net), start, coordinates.start, angles[-1], task.integrator, task.rtol, task.atol,
        max_steps=task.max_steps, at=angles,
    ).path  # fmt: skip
    noised = coordinates.whiten(_noised(task, x, index, coordinates.first), coordinates.first)
    end = integrate.adaptive(
        whitened_flow(coordinates, net), noised, coordinates.start, coordinates.stop, task.integrator, task.rtol,
        task.atol, max_steps=task.max_steps,
    ).x  # fmt: skip
    on_path: list[_ScoreFeatures] = []
    without_noise: list[_ScoreFeatures] = []
    for k, t in enumerate(path_levels):
        state = coordinates.unwhiten(path[k], t)  # type: ignore[index]
        on_path.append(_score_features(net, state, t, _FIRST_NODE + 2 * k))
        without_noise.append(_score_features(net, t.alpha * x.double(), t, _FIRST_NODE + 2 * k + 1))
    eps, eps_at_data = (torch.stack([f.eps for f in features], 1) for features in (on_path, without_noise))
    bend = eps.diff(dim=1) / kappa.log().diff()[:, None].to(eps.device)
    divergence, divergence_at_data = (
        torch.stack([f.divergence for f in features], 1) for features in (on_path, without_noise)
    )
    return {
        "score_norm": eps.square().mean(2).sqrt(),
        "bend": bend.square().mean(2).sqrt(),
        "divergence": divergence,
        "divergence_error": torch.stack([f.error for f in on_path], 1),
        "dimension": dims + divergence_at_data + eps_at_data.square().sum(2),
        "dimension_error": torch.stack([f.error for f in without_noise], 1),
        "calls": torch.from_numpy(net.calls),
        "noised_latent": coordinates.unwhiten(end, coordinates.last),
    }


def _noised(task: Task, x: Tensor, index: np.ndarray, first: Level) -> Tensor:
    """A state at t0 of data x: with the noise there, unless x is such a state already."""
    if task.end == "t0":
        return x.double()
    z = torch.from_numpy(normals(task.seed, index, _NOISE, tuple(x.shape[1:]))).to(x)
    return first.alpha * x.double() + first.sigma * z


def _score_features(net: Network, x: Tensor, level: Level, node: int) -> _ScoreFeatures:
    """eps and sigma^2 tr grad s = -sigma tr(d eps/dx) at states x (b, ...), with the probes of a node."""
    output = net.traced(x, level, torch.arange(len(x)), node, net.task.probes)
    p, q = output.pair("eps")
    eps = p * output.x.double() + q * output.raw.double()
    estimates = -level.sigma * (p * x[0].numel() + q * output.trace)
    return _ScoreFeatures(eps.flatten(1), estimates.mean(0), output.spread.scaled(level.sigma * q).std_error)


def _p_value(model: ScoreModel, likelihood: Likelihood, latent: Tensor) -> Tensor:
    """The two-sided chance (B,) that the prior's chi-square of D degrees of freedom is as far out as the latent's.

    latent: of data with the noise at t0. Without it, data narrower than sigma(t0) would lie too close to the mean.
    """
    end, plain = level_at(model.sde, model.sde.t_max), likelihood.prior in ("sigma", "unit")
    mean = (
        torch.zeros_like(latent[:1]) if model.stats is None or plain else end.alpha * model.stats.mean[None].to(latent)
    )
    # The log density of a normal is that at its mean less half the square.
    half_square = (log_prior(likelihood.prior, model, mean) - log_prior(likelihood.prior, model, latent)).clamp(min=0)
    half_dims = torch.full_like(half_square, likelihood.dims / 2)
    below = torch.special.gammainc(half_dims, half_square)
    above = torch.special.gammaincc(half_dims, half_square)
    good = torch.tensor([word == "ok" for word in likelihood.status])
    return (2 * torch.minimum(below, above)).cpu().where(good, math.nan)
