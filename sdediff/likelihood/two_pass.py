"""log p(x) in two passes: the path alone, a step a sample, then the divergence at nodes along it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff import integrate
from sdediff.integrate.per_sample import RowField
from sdediff.levels import Level
from sdediff.likelihood.ends import heat_term, log_prior, prior_name
from sdediff.likelihood.network import Network
from sdediff.likelihood.quadrature import Nodes, quadrature_error
from sdediff.likelihood.result import Likelihood
from sdediff.likelihood.settings import Settings
from sdediff.likelihood.trace import trace_error
from sdediff.likelihood.whitened import Whitened

# The number of the heat term's node: no node of a path reaches it.
_HEAT = 1 << 20


class _Sums(NamedTuple):
    """What pass 2 adds up: the integral, the probes' variance (b,), and each node's value and variance (n,)."""

    total: Tensor
    variance: Tensor
    value: Tensor
    spread: Tensor


def scored(job: Settings, x: Tensor, index: np.ndarray, cond: dict[str, Any]) -> Likelihood:
    """One micro-batch x (b, ...) in the network's dtype, scored. A sample that fails is told of in its status."""
    frame = Whitened(job.model, job.t0, x)
    net = Network(job, x, index, cond)
    dims, heat = x[0].numel(), job.end == "heat"
    begin = x.double() * (frame.first.alpha if heat else 1.0)
    found, nodes = _path(job, frame, net, frame.inward(begin, frame.first))
    status = found.status.numpy().copy()
    sums = _divergence(job, frame, net, nodes)
    latent = frame.outward(found.x, frame.last)
    latent[torch.from_numpy(status > 0)] = math.nan
    first, last = frame.width(frame.first), frame.width(frame.last)
    width = dims * (math.log(last / first) + (math.log(frame.first.alpha) if heat else 0.0))
    terms = {
        "prior": log_prior(job.prior, job.model, latent).to(x.device),
        "divergence": sums.total,
        "width": torch.full_like(sums.total, width),
    }
    variance = sums.variance
    if heat:
        terms["heat"], more = _heat(net, begin, frame.first)
        variance = variance + more
    log_prob = torch.stack(tuple(terms.values())).sum(0)
    # Errors of the steps add up like noise; what they do to log p is of the same size a dimension, as measured.
    path = (job.atol + job.rtol) * (dims * found.steps.double()).sqrt().to(x.device)
    return Likelihood(
        log_prob=log_prob, std_error=variance.sqrt(), latent=latent,
        calls=torch.from_numpy(net.calls), status=_words(status, log_prob, net),
        dims=dims, t0=job.t0, end=job.end, prior_log_prob=terms["prior"],
        solver_error=torch.hypot(quadrature_error(nodes, sums.value, sums.spread, len(x)).to(x.device), path),
        steps=found.steps, rejected=found.rejected, method="two_pass",
        prior=prior_name(job.prior, job.model, tuple(x.shape[1:])), scale=frame.name, terms=terms,
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
def _path(job: Settings, frame: Whitened, net: Network, y: Tensor) -> tuple[integrate.Result, Nodes]:
    """Pass 1: the flow from data to noise, and Gauss nodes in every accepted step."""
    nodes = Nodes(job.integrator, job.nodes, len(y))
    found = integrate.adaptive(
        flow(frame, net), y, frame.start, frame.stop, job.integrator, job.rtol, job.atol,
        max_steps=job.max_steps, visit=nodes.visit,
    )  # fmt: skip
    nodes.close(y)
    return found, nodes


def _divergence(job: Settings, frame: Whitened, net: Network, nodes: Nodes) -> _Sums:
    """Pass 2: at the j-th node of every sample at once, with probes of its own."""
    total, variance = torch.zeros(2, len(net.index), dtype=torch.float64, device=net.device)
    value, spread = torch.zeros(2, len(nodes.row), dtype=torch.float64)
    dims = nodes.y[0].numel() if len(nodes.y) else 1
    for number, pick in nodes.batches():
        rows, here = nodes.row[pick], frame.level(nodes.phi[pick])
        there = net.traced(frame.outward(nodes.y[pick], here), here, rows, number)
        p, q, _ = frame.pair(here, there.pair)
        place, w = there.trace.device, frame.width(here)
        div = (w * p * dims).to(place) + (w * q).to(place) * there.trace
        mean, noise = div.mean(0), trace_error(job.trace, div, dims)
        weight = nodes.weight[pick].to(place)
        total.index_add_(0, rows.to(place), weight * mean)
        variance.index_add_(0, rows.to(place), weight**2 * noise)
        value[pick], spread[pick] = mean.cpu(), noise.cpu()
    return _Sums(total, variance, value, spread)


def _heat(net: Network, x: Tensor, here: Level) -> tuple[Tensor, Tensor]:
    """The heat term (b,) at the un-noised alpha x0, and its probes' variance."""
    there = net.traced(x, here, torch.arange(len(x)), _HEAT)
    p, q = there.pair("score")
    score = p * there.x.double() + q * there.raw.double()
    terms = heat_term(here, score, p * x[0].numel() + q * there.trace)
    return terms.mean(0), trace_error(net.job.trace, terms, x[0].numel())
