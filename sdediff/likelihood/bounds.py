"""Variational bounds on log p(x): of the discrete chain, with all its terms, and of infinitely many steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.progress import track
from sdediff.grids.grids import grid
from sdediff.grids.levels import Level, level, levels
from sdediff.likelihood.decoder import gaussian_log_prob, level_log_prob
from sdediff.likelihood.ends import prior_divergence, prior_name
from sdediff.likelihood.network import Network
from sdediff.likelihood.result import Likelihood
from sdediff.likelihood.settings import NODES, STEPS, Settings
from sdediff.model.prediction import Prediction
from sdediff.noise.counter import normals
from sdediff.sde.base import linear

_STREAM = 0x48000000
_CLEAN = (1 << 20) - 1


class _Base(NamedTuple):
    """Where the data are: at no noise (alpha 1, sigma 0), or at a level; what is said of x_t is relative to it."""

    alpha: float
    sigma: float
    lam: float

    def kernel(self, t: Level) -> tuple[float, float]:
        """Scale and variance of x_t given the data."""
        return t.alpha / self.alpha, t.sigma**2 * -math.expm1(2 * (t.lam - self.lam))

    def denoised(self, prediction: Prediction) -> Tensor:
        """E[data | x_t] (b, ...), float64."""
        t = prediction.level
        x, raw = prediction.x.double(), prediction.raw.double()
        if not self.sigma:
            p, q = prediction.pair("x0")
            return p * x + q * raw
        scale, variance = self.kernel(t)
        p, q = prediction.pair("eps")
        share = variance / (t.sigma * scale)
        return (1 / scale - share * p) * x - share * q * raw


class _Walk:
    """The bound of one micro-batch: its noise, its network, and the sum of what was found with its variance."""

    def __init__(self, job: Settings, x: Tensor, index: np.ndarray, cond: dict[str, Any]) -> None:
        self.job, self.x, self.index = job, x.double(), index
        self.net, self.all = Network(job, x, index, cond), torch.arange(len(x))
        here = level(job.model.sde, job.t0)
        self.base = _Base(here.alpha, here.sigma, here.lam) if job.end == "t0" else _Base(1.0, 0.0, math.inf)
        self.variance = torch.zeros(len(x), dtype=torch.float64, device=x.device)

    def noised(self, t: Level, number: int, draw: int) -> Tensor:
        """x_t with the noise of one number and draw, float64."""
        stream = (_STREAM + (number if self.job.fresh else 0), draw)
        z = torch.from_numpy(normals(self.job.seed, self.index, stream, tuple(self.x.shape[1:])))
        scale, variance = self.base.kernel(t)
        return scale * self.x + math.sqrt(variance) * z.to(self.x)

    def summed(self, terms: Iterable[Tensor]) -> Tensor:
        """The sum (b,) of terms (draws, b), each with noise of its own; their variance is kept.

        Where there is one draw a term, neighbours that share no noise tell of it, a little too much: (a - b)^2.
        """
        found = torch.stack(list(terms))
        draws = found.shape[1]
        if not self.job.fresh:
            # One noise for all terms: the draws alone tell.
            total = found.sum(0)
            self.variance += total.var(0) / draws if draws > 1 else math.nan
            return total.mean(0)
        if draws > 1:
            self.variance += found.var(1).sum(0) / draws
        elif len(found) > 1:
            single = found[:, 0]
            self.variance += (single[0:-1:2] - single[1::2]).square().sum(0)
            if len(single) % 2:
                self.variance += (single[-1] - single[-2]).square() / 2
        else:
            self.variance += math.nan
        return found.mean(1).sum(0)

    def result(self, t0: float, top: Level, terms: dict[str, Tensor], steps: int, error: float) -> Likelihood:
        """The record: the bound is the sum of its terms."""
        job, count = self.job, len(self.x)
        log_prob = torch.stack(tuple(terms.values())).sum(0)
        whole = torch.full((count,), steps, dtype=torch.int64)
        words = [
            "ok" if ok else "not finite" if math.isnan(t) else f"the network is not finite at t={t:.4g}"
            for ok, t in zip(torch.isfinite(log_prob).tolist(), self.net.failed.tolist(), strict=True)
        ]
        return Likelihood(
            log_prob=log_prob, std_error=self.variance.sqrt(), latent=self.noised(top, 0, 0),
            calls=torch.from_numpy(self.net.calls), status=tuple(words), dims=self.x[0].numel(), t0=t0, end=job.end,
            prior_log_prob=terms["prior"], solver_error=torch.full_like(log_prob, error), steps=whole,
            rejected=torch.zeros_like(whole), method=job.method,
            prior=prior_name(job.prior, job.model, tuple(self.x.shape[1:])), terms=terms,
            mass=job.discrete is not None,
        )  # fmt: skip


@torch.no_grad()
def chain(job: Settings, x: Tensor, index: np.ndarray, cond: dict[str, Any]) -> Likelihood:
    """The bound of the ancestral chain: -L_T - sum L_{t-1} - L_0, from one micro-batch x (b, ...).

    Sohl-Dickstein et al. 2015; Ho et al. 2020, eq. 5; a learned variance as Nichol and Dhariwal 2021 have it.
    """
    walk, row = _Walk(job, x, index, cond), _chain_levels(job)
    moves = list(enumerate(itertools.pairwise(row)))
    shown = track(moves, len(moves), "variational bound", job.progress)
    terms = {
        "prior": -prior_divergence(job.prior, job.model, *_moments(walk, row[0])),
        "diffusion": -walk.summed(_transition(walk, *move, number) for number, move in shown),
        "decoder": walk.summed([_decoded(walk, row)]),
    }
    return walk.result(level(job.model.sde, job.t0).time, row[0], terms, len(moves), 0.0)


def _chain_levels(job: Settings) -> tuple[Level, ...]:
    """The chain's levels, falling; the data are below the last."""
    sde = linear(job.model.sde)
    knots = hasattr(sde, "n")
    kind = "strided" if knots and job.steps else "knots" if knots else "log_snr"
    times = grid(kind, sde, None if kind == "knots" else job.steps or STEPS, sde.t_max, sde.t_min if knots else job.t0)
    row = levels(sde, times)
    return row[:-1] if job.end == "t0" else row


def _moments(walk: _Walk, t: Level) -> tuple[Tensor, float]:
    scale, variance = walk.base.kernel(t)
    return scale * walk.x, variance


def _transition(walk: _Walk, t: Level, s: Level, number: int) -> Tensor:
    """KL(q(x_s | x_t, data) || p(x_s | x_t)), (draws, b)."""
    (scale, variance), (scale_s, variance_s) = walk.base.kernel(t), walk.base.kernel(s)
    noise = variance - (scale / scale_s) ** 2 * variance_s
    small, move = noise * variance_s / variance, noise * scale_s / variance
    found = []
    for draw in range(walk.job.noises):
        prediction = walk.net.at(walk.noised(t, number, draw), t, walk.all)
        apart = (move * (walk.x - walk.base.denoised(prediction))).square()
        log_variance = prediction.log_variance(walk.job.variance, small, noise)
        log_variance = torch.as_tensor(log_variance, dtype=torch.float64)
        ratio = math.log(small) - log_variance
        each = (ratio.exp() - 1 - ratio + apart * (-log_variance).exp()) / 2
        found.append(each.expand_as(apart).flatten(1).sum(1))
    return torch.stack(found)


def _decoded(walk: _Walk, row: tuple[Level, ...]) -> Tensor:
    """log p(data | x_t) at the last level, (draws, b), two draws at least: it has no neighbour.

    On a table it is the chain's own last step, whose variance beta_1 is clipped to btilde_2 where it is not learned
    (Ho et al. 2020); elsewhere the posterior of the levels, which needs no network.
    """
    job, last = walk.job, row[-1]
    number = _CLEAN if job.fresh else 0
    found = []
    for draw in range(max(2, job.noises) if job.fresh else job.noises):
        noised = walk.noised(last, number, draw)
        if job.end != "t0" and not hasattr(job.model.sde, "n"):
            found.append(level_log_prob(walk.x, noised, last, job.discrete))
            continue
        prediction = walk.net.at(noised, last, walk.all)
        scale, variance = walk.base.kernel(last)
        small = large = variance / scale**2
        if job.end != "t0" and len(row) > 1:
            above, wide = walk.base.kernel(row[-2])
            small = variance / wide * (wide - (above / scale) ** 2 * variance)
            large = small if job.variance == "large" else variance
        log_std = prediction.log_variance(job.variance, small, large) / 2
        found.append(gaussian_log_prob(walk.x, walk.base.denoised(prediction), log_std, job.discrete))
    return torch.stack(found)


@torch.no_grad()
def continuous(job: Settings, x: Tensor, index: np.ndarray, cond: dict[str, Any]) -> Likelihood:
    """The bound of infinitely many steps: -L_T - L_diff(inf) - L_0, L_diff(inf) = int ||eps - eps_hat||^2 dlam.

    Between two ends it is the same for every schedule. By Gauss-Legendre nodes over lam or over the process's
    time. Kingma et al. 2021, eq. 17 and 18.
    """
    walk, sde = _Walk(job, x, index, cond), job.model.sde
    top, last = level(sde, sde.t_max), level(sde, job.t0)
    nodes = _nodes(job, top, last)
    shown = track(list(enumerate(nodes)), len(nodes), "variational bound", job.progress)
    clean = [
        level_log_prob(walk.x, walk.noised(last, _CLEAN, draw), last, job.discrete)
        for draw in range(max(2, job.noises))
    ]
    terms = {
        "prior": -prior_divergence(job.prior, job.model, *_moments(walk, top)),
        "diffusion": -walk.summed(_missed(walk, here, weight, number) for number, (here, weight) in shown),
        "decoder": torch.stack(clean).mean(0),
    }
    walk.variance += torch.stack(clean).var(0) / len(clean)
    return walk.result(last.time, top, terms, len(nodes), math.nan)


def _nodes(job: Settings, top: Level, last: Level) -> list[tuple[Level, float]]:
    """Levels and their weights of the integral over lam, from noise to data."""
    sde = linear(job.model.sde)
    places, weights = np.polynomial.legendre.leggauss(job.steps or NODES)
    shares, weights = (places + 1) / 2, weights / 2
    if job.variable == "t":
        row = levels(sde, top.time + (last.time - top.time) * shares)
        falls = [v.sigma_dot / v.sigma - v.alpha_dot / v.alpha for v in row]
        return [(v, w * fall * (top.time - last.time)) for v, w, fall in zip(row, weights.tolist(), falls, strict=True)]
    row = levels(sde, sde.t_of_lam(top.lam + (last.lam - top.lam) * torch.from_numpy(shares)))
    return [(v, w * (last.lam - top.lam)) for v, w in zip(row, weights.tolist(), strict=True)]


def _missed(walk: _Walk, t: Level, weight: float, number: int) -> Tensor:
    """weight ||eps - eps_hat||^2 at one node, (draws, b), as SNR ||x0 - D||^2."""
    found = []
    for draw in range(walk.job.noises):
        prediction = walk.net.at(walk.noised(t, number, draw), t, walk.all)
        apart = (walk.x - walk.base.denoised(prediction)).square().flatten(1).sum(1)
        found.append(weight * apart / t.kappa**2)
    return torch.stack(found)
