"""log p(x) by the probability-flow ODE with its density beside it, through any black-box integrator."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff import integrate
from sdediff.grids.levels import Level
from sdediff.grids.levels import level as level_at
from sdediff.likelihood.decoder import flow_start
from sdediff.likelihood.ends import log_prior, prior_name
from sdediff.likelihood.heat import heat
from sdediff.likelihood.network import Network
from sdediff.likelihood.prior_error import prior_mismatch
from sdediff.likelihood.probe_variance import probe_spread
from sdediff.likelihood.result import Likelihood, joined
from sdediff.likelihood.student import Spread
from sdediff.likelihood.task import Conditions, Task, from_row
from sdediff.likelihood.trace import Moments, check_gradient, moments, probe_vectors
from sdediff.likelihood.whitened import per_row
from sdediff.model.network import look
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import LinearSDE, linear


class _NotFinite(Exception):
    """The network's velocity or divergence was NaN or infinite."""


class _CallCounter:
    """Counts the evaluations of the network that it wraps."""

    def __init__(self) -> None:
        self.calls = 0

    def wrap(self, net: Callable[..., Any]) -> Callable[..., Any]:
        """The network, counted."""

        def call(*args: Any, **cond: Any) -> Any:
            self.calls += 1
            return net(*args, **cond)

        return call


def score(task: Task, x: Tensor, index: np.ndarray, cond: Conditions) -> Likelihood:
    """The likelihood of one micro-batch; where the network fails it is halved until the failing samples are alone."""
    try:
        return _integrate(task, x, index, cond)
    except _NotFinite as failure:
        if len(x) > 1:
            half = len(x) // 2
            first = score(task, x[:half], index[:half], cond)
            return joined([first, score(task, x[half:], index[half:], from_row(cond, half))])
        nan = torch.full((1,), math.nan, dtype=torch.float64, device=x.device)
        latent = torch.full_like(x.double(), math.nan)
        end_terms = {"heat": ("heat", "curvature"), "noised": ("decoder", "entropy")}.get(task.end, ())
        terms = dict.fromkeys(("prior", "divergence", "width", *end_terms), nan)
        return _likelihood(task, Spread(nan, nan), latent, 0, terms).with_(status=(str(failure),))


def measured(task: Task, x: Tensor, index: np.ndarray, cond: Conditions, result: Likelihood) -> Likelihood:
    """A result with its solver's error: the difference to a second run at a larger tolerance, and those of the ends.

    Both runs take the same probes.
    """
    coarse, net = score(task.coarser(), x, index, cond), Network(task, x, index, cond)
    good, last = (
        np.isfinite(result.log_prob.detach().cpu().numpy()),
        level_at(net.task.model.sde, linear(task.model.sde).t_max),
    )
    error = (result.log_prob - coarse.log_prob).detach().abs() + prior_mismatch(net, last, result.latent, good)
    if task.end == "heat":
        first = level_at(task.model.sde, task.t0)
        error = error + heat(net, first.alpha * x.double(), first, torch.arange(len(x))).error.detach()
    return result.with_(solver_error=error, calls=result.calls + coarse.calls + torch.from_numpy(net.calls))


def _integrate(task: Task, x: Tensor, index: np.ndarray, cond: Conditions) -> Likelihood:
    counter = _CallCounter()
    conditioned, sde = task.model.given(**cond(torch.arange(len(x)))), linear(task.model.sde)
    vectors = probe_vectors(task.trace, x, task.probes, task.seed, index)
    size, dims, columns = len(x), x[0].numel(), 1 if vectors is None else len(vectors)
    first, coordinates = level_at(sde, task.t0), _Coordinates(sde, task.t0, task.variable)
    graph = bool(task.gradient)
    jacobian = _PulledIntegral()
    velocity_at = partial(_velocity, conditioned.map_net(counter.wrap), vectors=vectors, graph=graph, counter=counter)

    def field(u: Any, both: Tensor) -> Tensor:
        level, *rates = coordinates.level(u)
        y = both[:, :dims]
        w, speed, growth = (per_row(v, y) for v in (coordinates.width(level), *rates))
        velocity, div = velocity_at((w * y).reshape(x.shape).to(x.dtype), level)
        slope = velocity.reshape(size, dims).double() / w - growth * y
        jacobian.add(u, div.pulled, speed)
        return _finite(torch.cat([slope, div.trace.T - dims * growth], 1) / speed, level)

    start, start_terms = flow_start(task, x, index, first)
    low, high = coordinates.width(first), coordinates.width(level_at(sde, sde.t_max))
    width = dims * (math.log(high) - math.log(low) + (math.log(first.alpha) if task.end == "heat" else 0.0))
    zeros = torch.zeros(size, columns, dtype=torch.float64, device=x.device)
    ends = integrate.odeint(
        field, torch.cat([start.reshape(size, dims) / low, zeros], 1), coordinates.start, coordinates.stop,
        task.integrator, task.rtol, task.atol, gradient=task.gradient, parameters=_parameters(conditioned),
    )  # fmt: skip
    latent = high * ends[:, :dims].reshape(x.shape)
    terms = {
        "prior": log_prior(task.prior, task.model, latent),
        "divergence": ends[:, dims:].mean(1),
        "width": torch.full_like(zeros[:, 0], width),
        **start_terms,
    }
    spread = probe_spread(task.trace, vectors, jacobian.total, zeros[:, 0])
    if task.end != "heat":
        return _likelihood(task, spread, latent, counter.calls, terms)
    net = Network(task, x, index, cond)
    terms["heat"], heat_spread, terms["curvature"], _ = heat(net, start, first, torch.arange(size))
    return _likelihood(task, spread + heat_spread, latent, counter.calls + int(net.calls[0]), terms)


def _finite(slopes: Tensor, level: Level) -> Tensor:
    """The slopes, or _NotFinite with the time of the first that is not finite."""
    finite = torch.isfinite(slopes).all(1)
    if not bool(finite.all()):
        t = level.time[~finite][0] if isinstance(level.time, Tensor) else level.time
        raise _NotFinite(f"the network is not finite at t={float(t):.4g}")
    return slopes


def _parameters(model: ScoreModel) -> tuple[Tensor, ...]:
    """The conditions and the parameters of all modules that the network reaches, which require gradients, each once."""
    tensors = (*(p for module in look(model.net).modules for p in module.parameters()), *model.cond.values())
    return tuple({id(v): v for v in tensors if isinstance(v, Tensor) and v.requires_grad}.values())


def _velocity(
    model: ScoreModel, x: Tensor, t: Level, vectors: Tensor | None, graph: bool, counter: _CallCounter
) -> tuple[Tensor, Moments]:
    """The flow's velocity at x and the moments of its Jacobian, from one network call.

    graph: both stay differentiable. counter: of the network's calls, the first of which is looked at.
    """
    with torch.enable_grad():
        inside = x if graph and x.requires_grad else x.detach().requires_grad_(True)
        prediction = model(inside, t)
        if counter.calls == 1:
            check_gradient(prediction.raw, inside, lambda other: model(other, t).raw)
        velocity = prediction.velocity
        found = moments(velocity, inside, vectors, graph)
    return velocity if graph else velocity.detach(), found


class _PulledIntegral:
    """J^T v of the probes (P, B, ...) integrated over u by the trapezoidal rule over the evaluations that an ODE
    method makes anyway: about the integral's own Jacobian, for the variance of its trace.

    An evaluation goes on from the latest one that does not lie beyond it: a first trial of the step and steps that
    are rejected drop out. total: None before two evaluations, and for the exact trace.
    """

    def __init__(self) -> None:
        self.total: Tensor | None = None
        # u, J^T v and its integral up to there; a step has fewer evaluations than are kept.
        self._points: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=16)

    def add(self, u: Any, pulled: Tensor | None, speed: Any) -> None:
        """An evaluation at u, a number or (B,)."""
        if pulled is None:
            return
        pulled = pulled.detach() / per_row(speed, pulled[0])
        u = torch.as_tensor(u, dtype=torch.float64).detach()
        total = torch.zeros_like(pulled)
        if self._points:
            before, slope, total = self._points[0]
            for point in self._points:
                here = point[0] <= u
                row = per_row(here, pulled[0]) if here.ndim else here
                before = torch.where(here, point[0], before)
                slope, total = torch.where(row, point[1], slope), torch.where(row, point[2], total)
            rise = (u - before).clamp(min=0)
            width = per_row(rise, pulled[0]) if rise.ndim else rise
            total = total + (width / 2).to(pulled) * (pulled + slope)
            self.total = total
        self._points.append((u, pulled, total))


class _Coordinates:
    """The coordinates in which the flow is integrated: u = t and x, or u = atan(sigma/alpha) and x/w.

    w = sqrt(alpha^2 + sigma^2). In the second pair the flow of data of unit scale is zero.
    """

    def __init__(self, sde: LinearSDE, t0: float, variable: str) -> None:
        self._sde, self._over_time = sde, variable == "t"
        self._ends = {self._of(end): end for end in (level_at(sde, t0), level_at(sde, sde.t_max))}
        self.start, self.stop = self._ends

    def _of(self, level: Level) -> float:
        """u at a level."""
        return level.time if self._over_time else math.atan2(level.sigma, level.alpha)

    def width(self, level: Level) -> Any:
        """The number that x is divided by."""
        return 1.0 if self._over_time else (level.alpha**2 + level.sigma**2) ** 0.5

    def level(self, u: Any) -> tuple[Level, Any, Any]:
        """The level at u, a number or (b,), with du/dt and the slope of log w in t there."""
        level = None if isinstance(u, Tensor) else self._ends.get(u)
        if level is None:
            level = level_at(self._sde, u if self._over_time else self._sde.t_of_lam(_lam(u)))
        if self._over_time:
            return level, 1.0, 0.0
        w2 = level.alpha**2 + level.sigma**2
        turn = level.alpha * level.sigma_dot - level.sigma * level.alpha_dot
        return level, turn / w2, (level.alpha * level.alpha_dot + level.sigma * level.sigma_dot) / w2


def _lam(angle: Any) -> Any:
    """lam = log(alpha/sigma) at an angle atan(sigma/alpha), a number or (b,)."""
    return -torch.log(torch.tan(angle)) if isinstance(angle, Tensor) else -math.log(math.tan(angle))


def _likelihood(task: Task, spread: Spread, latent: Tensor, calls: int, terms: dict[str, Tensor]) -> Likelihood:
    """The result of a batch that took its steps together."""
    dims, log_prob = latent[0].numel(), torch.stack(tuple(terms.values())).sum(0)
    status = tuple("ok" if ok else "not finite" for ok in torch.isfinite(log_prob).tolist())
    unknown = torch.full((len(latent),), -1, dtype=torch.int64)
    return Likelihood(
        log_prob=log_prob, std_error=spread.std_error, latent=latent, calls=torch.full_like(unknown, calls),
        status=status, dims=dims, t0=task.t0, end=task.end, prior_log_prob=terms["prior"],
        solver_error=torch.full_like(log_prob, math.nan), steps=unknown, rejected=unknown, method="ode",
        prior=prior_name(task.prior, task.model, tuple(latent.shape[1:])), terms=terms, mass=task.discrete is not None,
    )  # fmt: skip
