"""log p(x) by the probability-flow ODE with its density beside it, through any black-box integrator."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff import integrate
from sdediff.grids.levels import Level, level
from sdediff.likelihood.decoder import beginning
from sdediff.likelihood.ends import heat_term, log_prior, prior_name
from sdediff.likelihood.result import Likelihood, joined
from sdediff.likelihood.settings import Settings
from sdediff.likelihood.trace import divergence, probe_vectors, trace_error
from sdediff.likelihood.whitened import beside
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.run import Counter
from sdediff.sde.base import LinearSDE, linear


class _NotFinite(Exception):
    """The network's velocity or divergence was NaN or infinite."""


def scored(job: Settings, x: Tensor, index: np.ndarray, cond: dict[str, Tensor]) -> Likelihood:
    """The micro-batch scored; where the network fails it is halved until the failing samples are alone."""
    try:
        return _together(job, x, index, cond)
    except _NotFinite as failure:
        if len(x) > 1:
            half = len(x) // 2
            parts = (slice(half), slice(half, None))
            return joined([scored(job, x[p], index[p], {k: v[p] for k, v in cond.items()}) for p in parts])
        nan = torch.full((1,), math.nan, dtype=torch.float64, device=x.device)
        latent = torch.full_like(x.double(), math.nan)
        more = {"heat": ("heat",), "noised": ("decoder", "entropy")}.get(job.end, ())
        terms = dict.fromkeys(("prior", "divergence", "width", *more), nan)
        return _result(job, nan[:, None], latent, 0, terms).with_(status=(str(failure),))


def _together(job: Settings, x: Tensor, index: np.ndarray, cond: dict[str, Tensor]) -> Likelihood:
    counter = Counter()
    bare = job.model.given(**cond)
    model = bare.map_net(counter.wrap)
    vectors = probe_vectors(job.trace, x, job.probes, job.seed, index)
    size, dims = len(x), x[0].numel()
    columns = 1 if vectors is None else len(vectors)
    sde = linear(model.sde)
    first = level(sde, job.t0)

    clock, slope = _Clock(sde, job.t0, job.variable), partial(_slope, model, vectors=vectors, graph=bool(job.gradient))

    def field(u: Any, both: Tensor) -> Tensor:
        here, *found = clock.level(u)
        y = both[:, :dims]
        w, speed, growth = (beside(v, y) for v in (clock.width(here), *found))
        velocity, div, _ = slope((w * y).reshape(x.shape).to(x.dtype), here)
        turned = velocity.reshape(size, dims).double() / w - growth * y
        return _finite(torch.cat([turned, div.T - dims * growth], 1) / speed, here)

    begin, between = beginning(job, x, index, first)
    low, high = clock.width(first), clock.width(level(sde, sde.t_max))
    width = dims * (math.log(high) - math.log(low))
    none = torch.zeros(size, columns, dtype=torch.float64, device=x.device)
    heat = none
    if job.end == "heat":
        _, div, prediction = slope(begin.to(x.dtype), first)
        width += dims * math.log(first.alpha)
        score = prediction.score if job.gradient else prediction.score.detach()
        heat = heat_term(first, score, 2 / first.g2 * (dims * first.f - div)).T
    ends = integrate.odeint(
        field, torch.cat([begin.reshape(size, dims) / low, none], 1), clock.start, clock.stop,
        job.integrator, job.rtol, job.atol, gradient=job.gradient, parameters=_parameters(bare),
    )  # fmt: skip
    latent = high * ends[:, :dims].reshape(x.shape)
    terms = {
        "prior": log_prior(job.prior, job.model, latent),
        "divergence": ends[:, dims:].mean(1),
        "width": torch.full_like(none[:, 0], width),
        **between,
    }
    if job.end == "heat":
        terms["heat"] = heat.mean(1)
    return _result(job, ends[:, dims:] + heat, latent, counter.calls, terms)


def _finite(slopes: Tensor, here: Level) -> Tensor:
    good = torch.isfinite(slopes).all(1)
    if not bool(good.all()):
        t = here.time[~good][0] if isinstance(here.time, Tensor) else here.time
        raise _NotFinite(f"the network is not finite at t={float(t):.4g}")
    return slopes


def _parameters(model: ScoreModel) -> tuple[Tensor, ...]:
    """What the network's output depends on beside the state: its parameters and its conditions, where they learn."""
    every = (*getattr(model.net, "parameters", tuple)(), *model.cond.values())
    return tuple(v for v in every if isinstance(v, Tensor) and v.requires_grad)


def _slope(
    model: ScoreModel, x: Tensor, t: Level, vectors: Tensor | None, graph: bool
) -> tuple[Tensor, Tensor, Prediction]:
    """The flow's velocity at x, its divergence (P, B), and the prediction they came from: one call for all.

    graph: both stay differentiable.
    """
    with torch.enable_grad():
        inside = x if graph and x.requires_grad else x.detach().requires_grad_(True)
        prediction = model(inside, t)
        velocity = prediction.velocity
        div = divergence(velocity, inside, vectors, graph)
    return velocity if graph else velocity.detach(), div, prediction


class _Clock:
    """The coordinates that the flow is integrated in: u = t and x, or u = atan(sigma/alpha) and x/w.

    w = sqrt(alpha^2 + sigma^2). In the second pair the flow of data of unit scale stands still.
    """

    def __init__(self, sde: LinearSDE, t0: float, variable: str) -> None:
        self._sde, self._plain = sde, variable == "t"
        self._ends = {self._of(end): end for end in (level(sde, t0), level(sde, sde.t_max))}
        self.start, self.stop = self._ends

    def _of(self, here: Level) -> float:
        return here.time if self._plain else math.atan2(here.sigma, here.alpha)

    def width(self, here: Level) -> Any:
        """What x is divided by."""
        return 1.0 if self._plain else (here.alpha**2 + here.sigma**2) ** 0.5

    def level(self, u: Any) -> tuple[Level, Any, Any]:
        """The level at u, a number or one a sample (b,), du/dt there, and the slope of log w in t."""
        here = None if isinstance(u, Tensor) else self._ends.get(u)
        if here is None:
            lam = -torch.log(torch.tan(u)) if isinstance(u, Tensor) else -math.log(math.tan(u))
            here = level(self._sde, u if self._plain else self._sde.t_of_lam(lam))
        if self._plain:
            return here, 1.0, 0.0
        w2 = here.alpha**2 + here.sigma**2
        turn = here.alpha * here.sigma_dot - here.sigma * here.alpha_dot
        return here, turn / w2, (here.alpha * here.alpha_dot + here.sigma * here.sigma_dot) / w2


def _result(job: Settings, values: Tensor, latent: Tensor, calls: int, terms: dict[str, Tensor]) -> Likelihood:
    """The record of a batch that took its steps together; values (B, P): what the probes added up to."""
    dims, log_prob = latent[0].numel(), torch.stack(tuple(terms.values())).sum(0)
    error = trace_error(job.trace, values.detach().T, dims).sqrt()
    status = tuple("ok" if ok else "not finite" for ok in torch.isfinite(log_prob).tolist())
    unknown = torch.full((len(latent),), -1, dtype=torch.int64)
    return Likelihood(
        log_prob=log_prob, std_error=error, latent=latent, calls=torch.full_like(unknown, calls), status=status,
        dims=dims, t0=job.t0, end=job.end, prior_log_prob=terms["prior"],
        solver_error=torch.full_like(log_prob, math.nan), steps=unknown, rejected=unknown, method="ode",
        prior=prior_name(job.prior, job.model, tuple(latent.shape[1:])), terms=terms, mass=job.discrete is not None,
    )  # fmt: skip
