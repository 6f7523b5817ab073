"""log p(x) in two passes: the path alone, a step a sample, then the divergence at nodes along it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff import integrate
from sdediff.grids.levels import Level
from sdediff.integrate.per_sample import RowField
from sdediff.likelihood.decoder import beginning
from sdediff.likelihood.ends import heat_term, log_prior, prior_name, prior_sample
from sdediff.likelihood.network import Network
from sdediff.likelihood.quadrature import Nodes, quadrature_error
from sdediff.likelihood.result import Likelihood
from sdediff.likelihood.settings import Settings
from sdediff.likelihood.trace import most_probes, trace_error
from sdediff.likelihood.whitened import Whitened

# The number of the heat term's node: no node of a path reaches it.
_HEAT = 1 << 20
# What share of the path's term is told as an error, for the network's score is not quite the gradient of the density
# of its flow: on the digits network a sixth was left.
_LEFT = 0.25


class _Sums(NamedTuple):
    """What pass 2 adds up, (b,): the divergence, its probes' variance, the path's term; the nodes' parts (n,)."""

    total: Tensor
    variance: Tensor
    path: Tensor
    value: Tensor
    spread: Tensor


class _Walk(NamedTuple):
    """What pass 1 found: where the samples arrived, the nodes on the way, and 1, or -1 from noise to data."""

    found: integrate.Result
    nodes: Nodes
    sign: float

    @property
    def end(self) -> Tensor:
        """The states y at the end, NaN where a sample failed."""
        return self.found.x


def scored(job: Settings, x: Tensor, index: np.ndarray, cond: dict[str, Any]) -> Likelihood:
    """One micro-batch x (b, ...) in the network's dtype, scored. A sample that fails is told of in its status."""
    frame, net = Whitened(job.model, job.t0, x), Network(job, x, index, cond)
    begin, between = beginning(job, x, index, frame.first)
    walk = _path(job, frame, net, frame.inward(begin, frame.first), frame.start, frame.stop)
    latent = frame.outward(walk.end, frame.last)
    return _told(job, frame, net, walk, begin, latent, between)


def sampled(job: Settings, z: Tensor, index: np.ndarray, cond: dict[str, Any]) -> tuple[Tensor, Likelihood]:
    """One micro-batch of samples from unit normals z (b, ...) in the network's dtype, scored along their own paths."""
    frame, net = Whitened(job.model, job.t0, z), Network(job, z, index, cond)
    latent = prior_sample(job.prior, job.model, z)
    walk = _path(job, frame, net, frame.inward(latent, frame.last), frame.stop, frame.start)
    begin = frame.outward(walk.end, frame.first)
    x = begin / frame.first.alpha if job.end == "heat" else begin
    return x.to(z.dtype), _told(job, frame, net, walk, begin, latent, {})


def _told(
    job: Settings, frame: Whitened, net: Network, walk: _Walk, begin: Tensor, latent: Tensor, between: dict[str, Tensor]
) -> Likelihood:
    """Pass 2 and the record, for a path between `begin` at t0 and `latent` at T."""
    found, dims, heat = walk.found, begin[0].numel(), job.end == "heat"
    sums = _divergence(job, frame, net, walk.nodes)
    first, last = frame.width(frame.first), frame.width(frame.last)
    width = dims * (math.log(last / first) + (math.log(frame.first.alpha) if heat else 0.0))
    terms = {
        "prior": log_prior(job.prior, job.model, latent).to(begin.device),
        "divergence": walk.sign * sums.total,
        "path": walk.sign * sums.path,
        "width": torch.full_like(sums.total, width),
        **between,
    }
    variance = sums.variance
    if heat:
        terms["heat"], more = _heat(net, begin, frame.first)
        variance = variance + more
    log_prob = torch.stack(tuple(terms.values())).sum(0)
    log_prob[found.status > 0] = math.nan
    error = torch.hypot(
        quadrature_error(walk.nodes, sums.value, sums.spread, len(begin)).to(begin.device), _LEFT * sums.path
    )
    return Likelihood(
        log_prob=log_prob, std_error=variance.sqrt(), latent=latent,
        calls=torch.from_numpy(net.calls), status=_words(found.status.numpy(), log_prob, net),
        dims=dims, t0=job.t0, end=job.end, prior_log_prob=terms["prior"], solver_error=error,
        steps=found.steps, rejected=found.rejected, method="two_pass",
        prior=prior_name(job.prior, job.model, tuple(begin.shape[1:])), scale=frame.name, terms=terms,
        mass=job.discrete is not None,
    )  # fmt: skip


def _words(status: np.ndarray, log_prob: Tensor, net: Network) -> tuple[str, ...]:
    """A word a sample; where the network was the cause, its time."""
    finite = torch.isfinite(log_prob).tolist()
    words = []
    for i, number in enumerate(status.tolist()):
        wild = not math.isnan(net.failed[i]) and (number != 0 or not finite[i])
        word = f"the network is not finite at t={net.failed[i]:.4g}" if wild else integrate.STATUS[number]
        words.append("not finite" if word == "ok" and not finite[i] else word)
    return tuple(words)


def flow(frame: Whitened, net: Network) -> RowField:
    """dy/dphi of the samples that are left, as `integrate.adaptive` asks for it."""

    def field(phi: Tensor, inside: Tensor, rows: Tensor) -> Tensor:
        here = frame.level(phi)
        return frame.slope(net.at(frame.outward(inside, here), here, rows))

    return field


@torch.no_grad()
def _path(job: Settings, frame: Whitened, net: Network, y: Tensor, start: float, stop: float) -> _Walk:
    """Pass 1: the flow from y at one angle to another, and Gauss nodes in every accepted step."""
    nodes = Nodes(job.integrator, job.nodes, len(y))
    found = integrate.adaptive(
        flow(frame, net), y, start, stop, job.integrator, job.rtol, job.atol,
        max_steps=job.max_steps, visit=nodes.visit,
    )  # fmt: skip
    nodes.close(y)
    found.x[(found.status > 0).to(y.device)] = math.nan
    return _Walk(found, nodes, 1.0 if stop > start else -1.0)


def _divergence(job: Settings, frame: Whitened, net: Network, nodes: Nodes) -> _Sums:
    """Pass 2: at the j-th node of every sample at once, with probes of its own."""
    total, variance, path = torch.zeros(3, len(net.index), dtype=torch.float64, device=net.device)
    value, spread = torch.zeros(2, len(nodes.row), dtype=torch.float64)
    dims = nodes.y[0].numel() if len(nodes.y) else 1
    for number, probes, pick in nodes.batches(nodes.probes(job.probes, most_probes(job.trace, dims))):
        rows, here = nodes.row[pick], frame.level(nodes.phi[pick])
        there = net.traced(frame.outward(nodes.y[pick], here), here, rows, number, probes)
        p, q, _ = frame.pair(here, there.pair)
        place, w = there.trace.device, frame.width(here)
        div = (w * p * dims).to(place) + (w * q).to(place) * there.trace
        mean, noise = div.mean(0), trace_error(job.trace, div, dims)
        weight = nodes.weight[pick].to(place)
        total.index_add_(0, rows.to(place), weight * mean)
        variance.index_add_(0, rows.to(place), weight**2 * noise)
        astray = nodes.rate[pick].to(place) - frame.slope(there)
        path.index_add_(0, rows.to(place), -weight * (frame.score(there) * astray).flatten(1).sum(1))
        value[pick], spread[pick] = mean.cpu(), noise.cpu()
    return _Sums(total, variance, path, value, spread)


def _heat(net: Network, x: Tensor, here: Level) -> tuple[Tensor, Tensor]:
    """The heat term (b,) at the un-noised alpha x0, and its probes' variance."""
    there = net.traced(x, here, torch.arange(len(x)), _HEAT)
    p, q = there.pair("score")
    score = p * there.x.double() + q * there.raw.double()
    terms = heat_term(here, score, p * x[0].numel() + q * there.trace)
    return terms.mean(0), trace_error(net.job.trace, terms, x[0].numel())
