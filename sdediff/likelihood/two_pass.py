"""log p(x) in two passes: the path alone, with steps of each sample's own, then the divergence at nodes along it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff import integrate
from sdediff.integrate.per_sample import RowField
from sdediff.likelihood.decoder import flow_start
from sdediff.likelihood.divergence_pass import Integrals, integrate_divergence
from sdediff.likelihood.ends import log_prior, prior_name, prior_sample
from sdediff.likelihood.heat import heat
from sdediff.likelihood.network import Network
from sdediff.likelihood.path_steps import PathSteps
from sdediff.likelihood.prior_error import prior_mismatch
from sdediff.likelihood.result import Likelihood
from sdediff.likelihood.student import Spread
from sdediff.likelihood.task import Conditions, Task
from sdediff.likelihood.whitened import Whitened


class _Path(NamedTuple):
    """The result of pass 1: the integrated flow, its steps, and a sign: 1 from data to noise, -1 from noise to data."""

    flow: integrate.Result
    steps: PathSteps
    sign: float

    @property
    def end(self) -> Tensor:
        """The whitened states at the end, NaN where a sample failed."""
        return self.flow.x


def score(task: Task, x: Tensor, index: np.ndarray, cond: Conditions) -> Likelihood:
    """The likelihood of one micro-batch x (b, ...) in the network's dtype; `status` says which samples failed."""
    coordinates, net = Whitened(task.model, task.t0, x), Network(task, x, index, cond)
    start, terms = flow_start(task, x, index, coordinates.first)
    net.check_rows(start, coordinates.first, coordinates.last)
    y = coordinates.whiten(start, coordinates.first)
    path = _integrate_path(task, coordinates, net, y, coordinates.start, coordinates.stop)
    latent = coordinates.unwhiten(path.end, coordinates.last)
    result, integrals = _likelihood(task, coordinates, net, path, start, latent, terms)
    error = result.solver_error
    if task.solver_error == "measure":
        error = _measured_error(task, coordinates, net, y, result, integrals)
    mismatch = prior_mismatch(net, coordinates.last, latent, path.flow.status.numpy() == 0)
    return result.with_(solver_error=error + mismatch, calls=torch.from_numpy(net.calls))


def sample(task: Task, z: Tensor, index: np.ndarray, cond: Conditions) -> tuple[Tensor, Likelihood]:
    """One micro-batch of samples from unit normals z (b, ...) in the network's dtype, scored along their own paths."""
    coordinates, net = Whitened(task.model, task.t0, z), Network(task, z, index, cond)
    latent = prior_sample(task.prior, task.model, z)
    net.check_rows(latent, coordinates.first, coordinates.last)
    y = coordinates.whiten(latent, coordinates.last)
    path = _integrate_path(task, coordinates, net, y, coordinates.stop, coordinates.start)
    start = coordinates.unwhiten(path.end, coordinates.first)
    x = start / coordinates.first.alpha if task.end == "heat" else start
    return x.to(z.dtype), _likelihood(task, coordinates, net, path, start, latent, {})[0]


def _likelihood(
    task: Task,
    coordinates: Whitened,
    net: Network,
    path: _Path,
    start: Tensor,
    latent: Tensor,
    start_terms: dict[str, Tensor],
) -> tuple[Likelihood, Integrals]:
    """Pass 2 and the result, for a path between `start` at t0 and `latent` at T."""
    flow, dims, device, heated = path.flow, start[0].numel(), start.device, task.end == "heat"
    integrals = integrate_divergence(task, coordinates, net, path.steps, flow.status.numpy() == 0)
    first, last = coordinates.width(coordinates.first), coordinates.width(coordinates.last)
    width = dims * (math.log(last / first) + (math.log(coordinates.first.alpha) if heated else 0.0))
    terms = {
        "prior": log_prior(task.prior, task.model, latent).to(device),
        "divergence": path.sign * integrals.divergence.to(device),
        "path": path.sign * integrals.correction.to(device),
        "width": torch.full((len(start),), width, dtype=torch.float64, device=device),
        **start_terms,
    }
    spread, end_error = Spread(*(part.to(device) for part in integrals.spread)), torch.zeros((), dtype=torch.float64)
    if heated:
        terms["heat"], heat_spread, terms["curvature"], end_error = heat(
            net, start, coordinates.first, torch.arange(len(start))
        )
        spread = spread + heat_spread
    log_prob = torch.stack(tuple(terms.values())).sum(0)
    log_prob[flow.status > 0] = math.nan
    result = Likelihood(
        log_prob=log_prob, std_error=spread.std_error, latent=latent,
        calls=torch.from_numpy(net.calls), status=_statuses(flow.status.numpy(), log_prob, net),
        dims=dims, t0=task.t0, end=task.end, prior_log_prob=terms["prior"],
        solver_error=integrals.error.to(device) + end_error.to(device),
        steps=flow.steps, rejected=flow.rejected, method="two_pass",
        prior=prior_name(task.prior, task.model, tuple(start.shape[1:])), scale=coordinates.name, terms=terms,
        mass=task.discrete is not None,
    )  # fmt: skip
    return result, integrals


@torch.no_grad()
def _measured_error(
    task: Task, coordinates: Whitened, net: Network, y: Tensor, result: Likelihood, integrals: Integrals
) -> Tensor:
    """A third of the difference (b,) to a second run at eight times the tolerance beside the estimate.

    The difference sees what no single path shows, the estimate what both runs share. It is mostly the second run's own
    error: of one that falls with the power 2/3 of the tolerance, by 8^(2/3) = 4, the first run has a third of it.

    Both runs take the probe that a sample has at all of its nodes, so that their difference has no noise of probes.
    """
    coarse = task.coarser()
    path = _integrate_path(coarse, coordinates, net, y, coordinates.start, coordinates.stop)
    other = integrate_divergence(coarse, coordinates, net, path.steps, path.flow.status.numpy() == 0, fresh=False)
    prior = log_prior(task.prior, task.model, coordinates.unwhiten(path.end, coordinates.last)).to(y.device)
    fine = result.prior_log_prob + (integrals.common + integrals.correction).to(y.device)
    difference = fine - prior - (other.common + other.correction).to(y.device)
    estimate = integrals.error.to(y.device)
    return torch.hypot(difference / 3, estimate) + (result.solver_error - estimate)


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
    """Pass 1: the flow from y at one angle to another, and every accepted step."""
    steps = PathSteps(task.integrator)
    flow = integrate.adaptive(
        whitened_flow(coordinates, net), y, start, stop, task.integrator, task.rtol, task.atol,
        max_steps=task.max_steps, visit=steps.visit,
    )  # fmt: skip
    steps.close(y)
    flow.x[(flow.status > 0).to(y.device)] = math.nan
    return _Path(flow, steps, 1.0 if stop > start else -1.0)
