"""Variational bounds on log p(x): of the discrete chain, with all its terms, and of infinitely many steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.progress import track
from sdediff.grids.grids import grid
from sdediff.grids.levels import Level, levels
from sdediff.grids.levels import level as level_at
from sdediff.likelihood.chain_terms import decoder_variances, posterior, step_divergence
from sdediff.likelihood.decoder import gaussian_log_prob, level_log_prob
from sdediff.likelihood.ends import prior_divergence, prior_name
from sdediff.likelihood.network import Network
from sdediff.likelihood.result import Likelihood
from sdediff.likelihood.settings import NODES, STEPS
from sdediff.likelihood.task import Conditions, Task
from sdediff.model.prediction import Prediction
from sdediff.noise.counter import normals
from sdediff.sde.base import linear

_STREAM = 0x48000000
# The number of the decoder's noise: no step or node reaches it.
_DECODER = (1 << 20) - 1


class _DataLevel(NamedTuple):
    """The level of the data: without noise (alpha 1, sigma 0), or that at t0. q(x_t | data) is relative to it."""

    alpha: float
    sigma: float
    lam: float

    def kernel(self, t: Level) -> tuple[float, float]:
        """Scale and variance of q(x_t | data)."""
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


class _Bound:
    """The bound of one micro-batch: its noise, its network, and the variance of the terms summed so far."""

    def __init__(self, task: Task, x: Tensor, index: np.ndarray, cond: Conditions) -> None:
        self.task, self.x, self.index = task, x.double(), index
        self.net, self.rows = Network(task, x, index, cond), torch.arange(len(x))
        start = level_at(task.model.sde, task.t0)
        at_t0 = task.end == "t0"
        self.data = _DataLevel(start.alpha, start.sigma, start.lam) if at_t0 else _DataLevel(1.0, 0.0, math.inf)
        self.variance = torch.zeros(len(x), dtype=torch.float64, device=x.device)

    def noised(self, t: Level, number: int, draw: int) -> Tensor:
        """x_t with the noise of a step or node and a draw, float64."""
        stream = (_STREAM + (number if self.task.fresh else 0), draw)
        z = torch.from_numpy(normals(self.task.seed, self.index, stream, tuple(self.x.shape[1:])))
        scale, variance = self.data.kernel(t)
        return scale * self.x + math.sqrt(variance) * z.to(self.x)

    def moments(self, t: Level) -> tuple[Tensor, float]:
        """Mean and variance of q(x_t | data)."""
        scale, variance = self.data.kernel(t)
        return scale * self.x, variance

    def total(self, terms: Iterable[Tensor]) -> Tensor:
        """The sum (b,) of terms (draws, b), each with noise of its own; their variance is added to `variance`.

        With one draw a term the variance is estimated from above by neighbours that share no noise, (a - b)^2.
        """
        values = torch.stack(list(terms))
        draws = values.shape[1]
        if not self.task.fresh:
            # All terms share one noise: only the draws are independent.
            total = values.sum(0)
            self.variance += total.var(0) / draws if draws > 1 else math.nan
            return total.mean(0)
        if draws > 1:
            self.variance += values.var(1).sum(0) / draws
        elif len(values) > 1:
            single = values[:, 0]
            self.variance += (single[0:-1:2] - single[1::2]).square().sum(0)
            if len(single) % 2:
                self.variance += (single[-1] - single[-2]).square() / 2
        else:
            self.variance += math.nan
        return values.mean(1).sum(0)

    def likelihood(self, t0: float, top: Level, terms: dict[str, Tensor], steps: int, error: float) -> Likelihood:
        """The result: the bound is the sum of its terms."""
        task, count = self.task, len(self.x)
        log_prob = torch.stack(tuple(terms.values())).sum(0)
        counts = torch.full((count,), steps, dtype=torch.int64)
        statuses = [
            "ok" if ok else "not finite" if math.isnan(t) else f"the network is not finite at t={t:.4g}"
            for ok, t in zip(torch.isfinite(log_prob).tolist(), self.net.failed.tolist(), strict=True)
        ]
        return Likelihood(
            log_prob=log_prob, std_error=self.variance.sqrt(), latent=self.noised(top, 0, 0),
            calls=torch.from_numpy(self.net.calls), status=tuple(statuses), dims=self.x[0].numel(), t0=t0,
            end=task.end, prior_log_prob=terms["prior"], solver_error=torch.full_like(log_prob, error), steps=counts,
            rejected=torch.zeros_like(counts), method=task.method,
            prior=prior_name(task.prior, task.model, tuple(self.x.shape[1:])), terms=terms,
            mass=task.discrete is not None,
        )  # fmt: skip


@torch.no_grad()
def chain(task: Task, x: Tensor, index: np.ndarray, cond: Conditions) -> Likelihood:
    """The bound of the ancestral chain: -L_T - sum L_{t-1} - L_0, from one micro-batch x (b, ...).

    Sohl-Dickstein et al. 2015; Ho et al. 2020, eq. 5; a learned variance as in Nichol and Dhariwal 2021.
    """
    bound, chain_levels = _Bound(task, x, index, cond), _chain_levels(task)
    steps = list(enumerate(itertools.pairwise(chain_levels)))
    tracked = track(steps, len(steps), "variational bound", task.progress)
    terms = {
        "prior": -prior_divergence(task.prior, task.model, *bound.moments(chain_levels[0])),
        "diffusion": -bound.total(_transition(bound, t, s, number) for number, (t, s) in tracked),
        "decoder": bound.total([_decoder(bound, chain_levels)]),
    }
    return bound.likelihood(level_at(task.model.sde, task.t0).time, chain_levels[0], terms, len(steps), 0.0)


def _chain_levels(task: Task) -> tuple[Level, ...]:
    """The chain's levels, falling; the data are below the last."""
    sde = linear(task.model.sde)
    table = hasattr(sde, "n")
    kind = "strided" if table and task.steps else "knots" if table else "log_snr"
    steps = None if kind == "knots" else task.steps or STEPS
    chain_levels = levels(sde, grid(kind, sde, steps, sde.t_max, sde.t_min if table else task.t0))
    return chain_levels[:-1] if task.end == "t0" else chain_levels


def _transition(bound: _Bound, t: Level, s: Level, number: int) -> Tensor:
    """KL(q(x_s | x_t, data) || p(x_s | x_t)), (draws, b)."""
    step = posterior(bound.data.kernel(t), bound.data.kernel(s))
    divergences = []
    for draw in range(bound.task.noises):
        prediction = bound.net.at(bound.noised(t, number, draw), t, bound.rows)
        squared = (step.weight * (bound.x - bound.data.denoised(prediction))).square()
        log_variance = prediction.log_variance(bound.task.variance, step.small, step.large)
        divergences.append(step_divergence(squared, step.small, log_variance))
    return torch.stack(divergences)


def _decoder(bound: _Bound, chain_levels: tuple[Level, ...]) -> Tensor:
    """log p(data | x_t) at the last level, (draws, b), with two draws at least: it has no neighbour.

    On a table it is the chain's own last step, whose variance beta_1 is clipped to btilde_2 where it is not learned
    (Ho et al. 2020); elsewhere the posterior of the levels, which needs no network.
    """
    task, last = bound.task, chain_levels[-1]
    number = _DECODER if task.fresh else 0
    log_probs = []
    for draw in range(max(2, task.noises) if task.fresh else task.noises):
        noised = bound.noised(last, number, draw)
        if task.end != "t0" and not hasattr(task.model.sde, "n"):
            log_probs.append(level_log_prob(bound.x, noised, last, task.discrete))
            continue
        prediction = bound.net.at(noised, last, bound.rows)
        above = bound.data.kernel(chain_levels[-2]) if task.end != "t0" and len(chain_levels) > 1 else None
        small, large = decoder_variances(bound.data.kernel(last), above, task.variance == "large")
        log_std = prediction.log_variance(task.variance, small, large) / 2
        log_probs.append(gaussian_log_prob(bound.x, bound.data.denoised(prediction), log_std, task.discrete))
    return torch.stack(log_probs)


@torch.no_grad()
def continuous(task: Task, x: Tensor, index: np.ndarray, cond: Conditions) -> Likelihood:
    """The bound of infinitely many steps: -L_T - L_diff(inf) - L_0, L_diff(inf) = int ||eps - eps_hat||^2 dlam.

    Between two ends it is the same for every schedule. By Gauss-Legendre nodes over lam or over the process's
    time. Kingma et al. 2021, eq. 17 and 18.
    """
    bound, sde = _Bound(task, x, index, cond), task.model.sde
    top, last = level_at(sde, sde.t_max), level_at(sde, task.t0)
    nodes = _nodes(task, top, last)
    tracked = track(list(enumerate(nodes)), len(nodes), "variational bound", task.progress)
    decoder = torch.stack([
        level_log_prob(bound.x, bound.noised(last, _DECODER, draw), last, task.discrete)
        for draw in range(max(2, task.noises))
    ])  # fmt: skip
    terms = {
        "prior": -prior_divergence(task.prior, task.model, *bound.moments(top)),
        "diffusion": -bound.total(_denoising_error(bound, t, weight, number) for number, (t, weight) in tracked),
        "decoder": decoder.mean(0),
    }
    bound.variance += decoder.var(0) / len(decoder)
    return bound.likelihood(last.time, top, terms, len(nodes), math.nan)


def _nodes(task: Task, top: Level, last: Level) -> list[tuple[Level, float]]:
    """Levels and their weights of the integral over lam, from noise to data."""
    sde = linear(task.model.sde)
    places, weights = np.polynomial.legendre.leggauss(task.steps or NODES)
    shares, weights = (places + 1) / 2, (weights / 2).tolist()
    if task.variable == "t":
        nodes = levels(sde, top.time + (last.time - top.time) * shares)
        rates = [t.sigma_dot / t.sigma - t.alpha_dot / t.alpha for t in nodes]
        return [(t, w * rate * (top.time - last.time)) for t, w, rate in zip(nodes, weights, rates, strict=True)]
    nodes = levels(sde, sde.t_of_lam(top.lam + (last.lam - top.lam) * torch.from_numpy(shares)))
    return [(t, w * (last.lam - top.lam)) for t, w in zip(nodes, weights, strict=True)]


def _denoising_error(bound: _Bound, t: Level, weight: float, number: int) -> Tensor:
    """weight ||eps - eps_hat||^2 at one node, (draws, b), as SNR ||x0 - D||^2."""
    errors = []
    for draw in range(bound.task.noises):
        prediction = bound.net.at(bound.noised(t, number, draw), t, bound.rows)
        squared = (bound.x - bound.data.denoised(prediction)).square().flatten(1).sum(1)
        errors.append(weight * squared / t.kappa**2)
    return torch.stack(errors)
