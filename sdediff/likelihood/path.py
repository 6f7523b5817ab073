"""`path_statistics`: what the score does along a sample's own way to noise, and how typical that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff import integrate
from sdediff._utils.progress import track
from sdediff._utils.tensors import times64
from sdediff.grids.levels import Level, level, levels
from sdediff.likelihood.api import conditions, log_likelihood, prepared
from sdediff.likelihood.ends import log_prior
from sdediff.likelihood.network import Network
from sdediff.likelihood.result import Likelihood
from sdediff.likelihood.settings import Settings, settled
from sdediff.likelihood.trace import trace_error
from sdediff.likelihood.two_pass import flow
from sdediff.likelihood.typical import PathStatistics
from sdediff.likelihood.whitened import Whitened
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import indices
from sdediff.sampling.run import placement
from sdediff.sde.base import LinearSDE

# Probes are numbered by the place where they are used: no node of a path, nor the heat term, has these numbers.
_PLACES = (1 << 20) + 1
# Where a number of levels is spread: below, the data's finest structure; above, they are as good as one Gaussian.
_FROM, _TO = 0.01, 10.0


class _Read(NamedTuple):
    """At states of one level: eps (b, D), sigma^2 tr grad s (b,), and its standard error."""

    eps: Tensor
    spread: Tensor
    error: Tensor


def path_statistics(
    model: ScoreModel,
    x: Tensor,
    *,
    kappa: int | Sequence[float] | Tensor = 16,
    rtol: float | None = None,
    atol: float | None = None,
    trace: str = "hadamard",
    probes: int = 4,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    cond: dict[str, Any] | None = None,
    micro_batch: int = 256,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
) -> PathStatistics:
    """What the score says of data x (B, ...) at noise levels kappa = sigma/alpha, a row a sample, with log p(x).

    kappa: K rising levels that the process reaches, or how many, log-evenly between 0.01 and 10 scales of the data
    (of the model's statistics, else 1). Norms and divergences are read on the sample's own probability flow, the
    dimension at alpha x without noise: two traced calls a level, on top of the likelihood's. trace, probes, seed,
    index, cond and all else as in `log_likelihood`, by two passes. Refuses what that refuses, and levels that do not
    rise or lie outside the process.
    """
    if not isinstance(model.sde, LinearSDE):
        raise ValueError("path_statistics needs a process with alpha and sigma: write it as a LinearSDE")
    at = _levels(model, model.sde, kappa)
    options: dict[str, Any] = {"rtol": rtol, "atol": atol, "trace": trace, "probes": probes}
    likelihood = log_likelihood(
        model, x, **options, seed=seed, index=index, cond=cond, micro_batch=micro_batch, dtype=dtype, device=device,
        progress=progress,
    )  # fmt: skip
    shared, own = conditions(cond or {}, len(x))
    found = settled("two_pass", None, options)
    job = prepared(model.given(**shared), tuple(x.shape[1:]), found, seed, micro_batch, "estimate")
    kind, place = placement(model, dtype, device, x)
    numbers, starts = indices(index, len(x)), range(0, len(x), micro_batch)
    parts: list[dict[str, Tensor]] = []
    for i in track(starts, len(starts), "path statistics", progress):
        pick = slice(i, i + micro_batch)
        given = {k: v[pick] for k, v in own.items()}
        parts.append(_along(job, at, x[pick].to(kind).to(place), numbers[pick], given))
    columns = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    columns["calls"] += likelihood.calls
    return PathStatistics(kappa=at, p_value=_p_value(model, likelihood), likelihood=likelihood, **columns)


def _levels(model: ScoreModel, sde: LinearSDE, asked: int | Sequence[float] | Tensor) -> Tensor:
    """Noise levels (K,), float64, from what was asked for."""
    low, high = (level(sde, t).kappa for t in (sde.t0, sde.t_max))
    if isinstance(asked, int):
        if asked < 2:
            raise ValueError(f"kappa={asked}: at least two levels, or write the levels themselves")
        scale = 1.0 if model.stats is None else model.stats.std
        ends = [math.log(min(max(share * scale, low), high)) for share in (_FROM, _TO)]
        # The exponential of a logarithm may lie an ulp beyond the end.
        return torch.linspace(ends[0], ends[1], asked, dtype=torch.float64).exp().clamp(low, high)
    found = times64(asked).detach().cpu()
    rising = found.ndim == 1 and len(found) > 0 and bool((found.diff() > 0).all())
    if not rising or not bool(((found >= low) & (found <= high)).all()):
        raise ValueError(
            f"kappa={found.tolist()}: needed are rising noise levels sigma/alpha between {low:.4g}, "
            f"where t={sde.t0:.4g}, and {high:.4g}"
        )
    return found


@torch.no_grad()
def _along(job: Settings, kappa: Tensor, x: Tensor, index: np.ndarray, cond: dict[str, Tensor]) -> dict[str, Tensor]:
    """The columns of one micro-batch x (b, ...) in the network's dtype."""
    frame, net, dims = Whitened(job.model, job.t0, x), Network(job, x, index, cond), x[0].numel()
    times = frame.sde.t_of_lam(-kappa.log()).clamp(frame.first.time, frame.last.time)
    places = levels(frame.sde, times)
    angles = [min(max(frame.angle(here), frame.start), frame.stop) for here in places]
    begin = frame.inward(frame.first.alpha * x.double(), frame.first)
    path = integrate.adaptive(
        flow(frame, net), begin, frame.start, angles[-1], job.integrator, job.rtol, job.atol,
        max_steps=job.max_steps, at=angles,
    ).path  # fmt: skip
    on: list[_Read] = []
    off: list[_Read] = []
    for k, here in enumerate(places):
        on.append(_read(net, frame.outward(path[k], here), here, _PLACES + 2 * k))  # type: ignore[index]
        off.append(_read(net, here.alpha * x.double(), here, _PLACES + 2 * k + 1))
    eps, still = (torch.stack([read.eps for read in reads], 1) for reads in (on, off))
    bend = eps.diff(dim=1) / kappa.log().diff()[:, None].to(eps.device)
    divergence, flat = (torch.stack([read.spread for read in reads], 1) for reads in (on, off))
    errors = (torch.stack([read.error for read in reads], 1) for reads in (on, off))
    return {
        "score_norm": eps.square().mean(2).sqrt(),
        "bend": bend.square().mean(2).sqrt(),
        "divergence": divergence,
        "dimension": dims + flat + still.square().sum(2),
        **dict(zip(("divergence_error", "dimension_error"), errors, strict=True)),
        "calls": torch.from_numpy(net.calls),
    }


def _read(net: Network, x: Tensor, here: Level, place: int) -> _Read:
    """eps and sigma^2 tr grad s = -sigma tr(d eps/dx) at states x (b, ...), with probes of that place."""
    there = net.traced(x, here, torch.arange(len(x)), place)
    p, q = there.pair("eps")
    eps = p * there.x.double() + q * there.raw.double()
    spread = -here.sigma * (p * x[0].numel() + q * there.trace)
    return _Read(eps.flatten(1), spread.mean(0), trace_error(net.job.trace, spread, x[0].numel()).sqrt())


def _p_value(model: ScoreModel, r: Likelihood) -> Tensor:
    """The two-sided chance (B,) that the prior's chi-square of D degrees of freedom is as far out as the latent's."""
    end = level(model.sde, model.sde.t_max)
    mean = torch.zeros_like(r.latent[:1]) if model.stats is None else end.alpha * model.stats.mean[None].to(r.latent)
    # A normal's logarithm is half its square below that of its mean.
    square = (log_prior(r.prior, model, mean).to(r.prior_log_prob) - r.prior_log_prob).clamp(min=0)
    half = torch.full_like(square, r.dims / 2)
    below, above = torch.special.gammainc(half, square), torch.special.gammaincc(half, square)
    return (2 * torch.minimum(below, above)).cpu()
