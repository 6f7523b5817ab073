"""log p(x) in two passes: the path alone, with steps of each sample's own, then the divergence at nodes along it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff import integrate
from sdediff.grids.levels import Level
from sdediff.integrate.per_sample import RowField
from sdediff.likelihood.decoder import flow_start
from sdediff.likelihood.ends import heat_term, log_prior, prior_name, prior_sample
from sdediff.likelihood.network import Network
from sdediff.likelihood.quadrature import Nodes, quadrature_error
from sdediff.likelihood.result import Likelihood
from sdediff.likelihood.task import Task
from sdediff.likelihood.trace import most_probes, trace_error
from sdediff.likelihood.whitened import Whitened

# The node number of the heat term: no node of a path reaches it.
_HEAT_NODE = 1 << 20
# The share of the path correction that is reported as an error, for the network's score is not quite the gradient of
# the density of its flow: on the digits network a sixth of the path's error was left.
_UNCORRECTED = 0.25


class _Path(NamedTuple):
    """The result of pass 1: the integrated flow, its nodes, and a sign: 1 from data to noise, -1 from noise to data."""

    flow: integrate.Result
    nodes: Nodes
    sign: float

    @property
    def end(self) -> Tensor:
        """The whitened states at the end, NaN where a sample failed."""
        return self.flow.x


class _Integrals(NamedTuple):
    """The result of pass 2.

    Per sample (b,): the integral of the divergence, the variance of its probes, and the correction of the path. Per
    node (n,): the divergence and the variance of its probes.
    """

    divergence: Tensor
    variance: Tensor
    correction: Tensor
    node_divergence: Tensor
    node_variance: Tensor


def score(task: Task, x: Tensor, index: np.ndarray, cond: dict[str, Any]) -> Likelihood:
    """The likelihood of one micro-batch x (b, ...) in the network's dtype; `status` says which samples failed."""
    coordinates, net = Whitened(task.model, task.t0, x), Network(task, x, index, cond)
    start, terms = flow_start(task, x, index, coordinates.first)
    y = coordinates.whiten(start, coordinates.first)
    path = _integrate_path(task, coordinates, net, y, coordinates.start, coordinates.stop)
    latent = coordinates.unwhiten(path.end, coordinates.last)
    return _likelihood(task, coordinates, net, path, start, latent, terms)


def sample(task: Task, z: Tensor, index: np.ndarray, cond: dict[str, Any]) -> tuple[Tensor, Likelihood]:
    """One micro-batch of samples from unit normals z (b, ...) in the network's dtype, scored along their own paths."""
    coordinates, net = Whitened(task.model, task.t0, z), Network(task, z, index, cond)
    latent = prior_sample(task.prior, task.model, z)
    y = coordinates.whiten(latent, coordinates.last)
    path = _integrate_path(task, coordinates, net, y, coordinates.stop, coordinates.start)
    start = coordinates.unwhiten(path.end, coordinates.first)
    x = start / coordinates.first.alpha if task.end == "heat" else start
    return x.to(z.dtype), _likelihood(task, coordinates, net, path, start, latent, {})


def _likelihood(
    task: Task,
    coordinates: Whitened,
    net: Network,
    path: _Path,
    start: Tensor,
    latent: Tensor,
    start_terms: dict[str, Tensor],
) -> Likelihood:
    """Pass 2 and the result, for a path between `start` at t0 and `latent` at T."""
    flow, dims, heat = path.flow, start[0].numel(), task.end == "heat"
    integrals = _integrate_divergence(task, coordinates, net, path.nodes)
    first, last = coordinates.width(coordinates.first), coordinates.width(coordinates.last)
    width = dims * (math.log(last / first) + (math.log(coordinates.first.alpha) if heat else 0.0))
    terms = {
        "prior": log_prior(task.prior, task.model, latent).to(start.device),
        "divergence": path.sign * integrals.divergence,
        "path": path.sign * integrals.correction,
        "width": torch.full_like(integrals.divergence, width),
        **start_terms,
    }
    variance = integrals.variance
    if heat:
        terms["heat"], heat_variance = _heat(net, start, coordinates.first)
        variance = variance + heat_variance
    log_prob = torch.stack(tuple(terms.values())).sum(0)
    log_prob[flow.status > 0] = math.nan
    error = quadrature_error(path.nodes, integrals.node_divergence, integrals.node_variance, len(start))
    return Likelihood(
        log_prob=log_prob, std_error=variance.sqrt(), latent=latent,
        calls=torch.from_numpy(net.calls), status=_statuses(flow.status.numpy(), log_prob, net),
        dims=dims, t0=task.t0, end=task.end, prior_log_prob=terms["prior"],
        solver_error=torch.hypot(error.to(start.device), _UNCORRECTED * integrals.correction),
        steps=flow.steps, rejected=flow.rejected, method="two_pass",
        prior=prior_name(task.prior, task.model, tuple(start.shape[1:])), scale=coordinates.name, terms=terms,
        mass=task.discrete is not None,
    )  # fmt: skip


def _statuses(codes: np.ndarray, log_prob: Tensor, net: Network) -> tuple[str, ...]:
    """The status of each sample; where the network was the cause, with the time."""
    finite = torch.isfinite(log_prob).tolist()
    statuses = []
    for row, code in enumerate(codes.tolist()):
        if not math.isnan(net.failed[row]) and (code != 0 or not finite[row]):
            status = f"the network is not finite at t={net.failed[row]:.4g}"
        else:
            status = integrate.STATUS[code]
        statuses.append("not finite" if status == "ok" and not finite[row] else status)
    return tuple(statuses)


def whitened_flow(coordinates: Whitened, net: Network) -> RowField:
    """dy/dphi at whitened states y (n, ...) of some rows, the field that `integrate.adaptive` takes."""

    def field(phi: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        level = coordinates.level(phi)
        return coordinates.slope(net.at(coordinates.unwhiten(y, level), level, rows))

    return field


@torch.no_grad()
def _integrate_path(task: Task, coordinates: Whitened, net: Network, y: Tensor, start: float, stop: float) -> _Path:
    """Pass 1: the flow from y at one angle to another, and Gauss nodes in every accepted step."""
    nodes = Nodes(task.integrator, task.nodes, len(y))
    flow = integrate.adaptive(
        whitened_flow(coordinates, net), y, start, stop, task.integrator, task.rtol, task.atol,
        max_steps=task.max_steps, visit=nodes.visit,
    )  # fmt: skip
    nodes.close(y)
    flow.x[(flow.status > 0).to(y.device)] = math.nan
    return _Path(flow, nodes, 1.0 if stop > start else -1.0)


def _integrate_divergence(task: Task, coordinates: Whitened, net: Network, nodes: Nodes) -> _Integrals:
    """Pass 2: the divergence at the j-th node of all samples at once, with new probes at each node.

    The first-order correction of the path error by the score is summed at the same nodes.
    """
    total, variance, correction = torch.zeros(3, len(net.index), dtype=torch.float64, device=net.device)
    node_divergence, node_variance = torch.zeros(2, len(nodes.row), dtype=torch.float64)
    dims = nodes.y[0].numel() if len(nodes.y) else 1
    probe_counts = nodes.probes(task.probes, most_probes(task.trace, dims))
    for number, probes, pick in nodes.batches(probe_counts):
        rows, level = nodes.row[pick], coordinates.level(nodes.phi[pick])
        output = net.traced(coordinates.unwhiten(nodes.y[pick], level), level, rows, number, probes)
        p, q, _ = coordinates.pair(level, output.pair)
        device, width = output.trace.device, coordinates.width(level)
        estimates = (width * p * dims).to(device) + (width * q).to(device) * output.trace
        mean, mean_variance = estimates.mean(0), trace_error(task.trace, estimates, dims)
        weights, rows = nodes.weight[pick].to(device), rows.to(device)
        total.index_add_(0, rows, weights * mean)
        variance.index_add_(0, rows, weights**2 * mean_variance)
        slope_error = nodes.rate[pick].to(device) - coordinates.slope(output)
        along_score = (coordinates.score(output) * slope_error).flatten(1).sum(1)
        correction.index_add_(0, rows, -weights * along_score)
        node_divergence[pick], node_variance[pick] = mean.cpu(), mean_variance.cpu()
    return _Integrals(total, variance, correction, node_divergence, node_variance)


def _heat(net: Network, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    """The heat term (b,) at the un-noised alpha x0, and the variance of its probes."""
    output = net.traced(x, level, torch.arange(len(x)), _HEAT_NODE)
    p, q = output.pair("score")
    score = p * output.x.double() + q * output.raw.double()
    estimates = heat_term(level, score, p * x[0].numel() + q * output.trace)
    return estimates.mean(0), trace_error(net.task.trace, estimates, x[0].numel())
