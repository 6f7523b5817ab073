"""The heat equation's step from log p_{t0} to log p_0, its second order, and the error of both."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.likelihood.ends import heat_term
from sdediff.likelihood.network import Network
from sdediff.likelihood.student import Spread

# The node number of the heat term: no node of a path reaches it.
NODE = 1 << 20
# A share of the noise in the variance of a direction above which it is not extrapolated further: 1 - r is not known
# there, and the error is that of directions ten thousand times narrower than the noise.
_MOST, _WORST = 0.99, 1 - 1e-8


class Heat(NamedTuple):
    """(b,) nats: the term of first order and its probes' spread, the curvature beyond it, and the error of both."""

    term: Tensor
    spread: Spread
    curvature: Tensor
    error: Tensor


def heat(net: Network, x: Tensor, level: Level, rows: Tensor) -> Heat:
    """The step from t0 to 0 at the un-noised alpha x0 (b, ...) of `rows`: two calls.

    With R = -sigma^2 grad s, of eigenvalues r, Gaussian data have beyond the first order
    sum(-log(1 - r)/2 - r/2) + sigma^4/2 s^T grad s (1 - R)^-1 s: sigma^4/4 (|grad s|_F^2 + 2 s^T grad s s) and higher
    orders, which are completed as if r took one value besides 0, that of the traces of R and R^2, and likewise along s.
    """
    task, dims, variance = net.task, x[0].numel(), level.sigma**2
    output = net.traced(x, level, rows, NODE, task.probes)
    p, q = (float(v) for v in output.pair("score"))
    score = p * output.x.double() + q * output.raw.double()
    square = score.flatten(1).square().sum(1)
    estimates = heat_term(level, score, p * dims + q * output.trace)
    # The mean of |J^T v|^2 for J = p + q dF/dx.
    trace = output.trace.mean(0)
    first = -variance * (p * dims + q * trace)
    second = variance**2 * (p**2 * dims + 2 * p * q * trace + q**2 * output.square.mean(0)).clamp(min=0)
    along, along_square = net.along_score(output, rows)
    once = -variance * (p + q * along / dims)
    twice = variance**2 * (p**2 + 2 * p * q * along / dims + q**2 * along_square / dims)

    share, share_along = _ratio(second, first), _ratio(twice, once)
    spectrum = second * _log_beyond(share.clamp(max=_MOST))
    line = -variance / 2 * square * once / (1 - share_along.clamp(max=_MOST))
    curvature = spectrum + line
    more = torch.where(share > _MOST, second * _log_beyond(torch.full_like(share, _WORST)) - spectrum, 0.0)
    more = more + (variance / 2 * square * once / (1 - share_along) + line).abs()
    error = torch.maximum(torch.maximum(curvature.abs(), (spectrum.abs() + line.abs()) / 2), more)
    return Heat(estimates.mean(0), output.spread.scaled(variance / 2 * q), curvature, error)


def _ratio(second: Tensor, first: Tensor) -> Tensor:
    """The share r of the noise from the moments of r, between 0 and its greatest value."""
    return torch.where(first > 0, second / first, 0.0).nan_to_num(0.0).clamp(0, _WORST)


def _log_beyond(r: Tensor) -> Tensor:
    """(-log(1 - r)/2 - r/2)/r^2, 1/4 at 0."""
    series = 0.25 + r / 6 + r**2 / 8 + r**3 / 10
    return torch.where(r < 1e-3, series, (-torch.log1p(-r) / 2 - r / 2) / r.clamp(min=1e-3) ** 2)
