"""log p(x) by the probability-flow ODE and the instantaneous change of variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff import integrate
from sdediff.levels import Level, level
from sdediff.likelihood.trace import divergence, probe_vectors
from sdediff.model import ScoreModel
from sdediff.names import nearest
from sdediff.noise import Counter as Draws
from sdediff.noise import indices
from sdediff.plan import check_eval, placement
from sdediff.progress import track
from sdediff.run import Counter
from sdediff.sde import LinearSDE

Prior = str | Callable[[Tensor], Tensor]
_ENDS = ("t0", "heat")
_VARIABLES = ("angle", "t")


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Log densities of B samples: log_prob (B,) nats, float64, and what is known of their error.

    std_error (B,): of the trace estimate, from the spread of the probes (0 for the exact trace, NaN for one
    probe). latent (B, ...): the state at T. calls (B,): network calls. status: "ok" or what went wrong, a
    word a sample. dims: numbers a sample. t0, end: which density it is. prior_log_prob (B,): its last term.
    """

    log_prob: Tensor
    std_error: Tensor
    latent: Tensor
    calls: Tensor
    status: tuple[str, ...]
    dims: int
    t0: float
    end: str
    prior_log_prob: Tensor

    def __len__(self) -> int:
        return len(self.log_prob)


@dataclass(frozen=True, eq=False)
class _Job:
    """One micro-batch's settings."""

    model: ScoreModel
    method: str
    variable: str
    rtol: float
    atol: float
    t0: float
    trace: str
    probes: int
    seed: int
    prior: Prior
    end: str


def log_likelihood(
    model: ScoreModel,
    x: Tensor,
    *,
    integrator: str = "dopri5",
    variable: str = "angle",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    t0: float | None = None,
    trace: str = "rademacher",
    probes: int = 1,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    prior: Prior = "sigma",
    end: str = "t0",
    cond: dict[str, Any] | None = None,
    micro_batch: int = 256,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
) -> Likelihood:
    """log p(x) of data x (B, ...) in nats, by the probability-flow ODE. Song et al. 2021, eq. 39.

    integrator: any ODE method of torchdiffeq or scipy, with rtol, atol, over the angle atan(sigma/alpha),
    with x whitened, in which the flow is not stiff, or over "t" as published. trace: "exact", "rademacher" or
    "gaussian" with `probes` probes, functions of (seed, sample index). prior: "sigma" N(0, sigma_T^2 I),
    "unit" N(0, I), or a function x_T -> log density (B,). end: "t0" gives log p_{t0}(x), "heat" log p_0(x)
    to O(sigma(t0)^4). The state and the density are float64, the network keeps its dtype.
    """
    check_eval(model)
    if not isinstance(model.sde, LinearSDE):
        raise ValueError("log_likelihood needs a process with alpha and sigma: write it as a LinearSDE")
    for given, known, what in ((end, _ENDS, "end"), (variable, _VARIABLES, "variable")):
        if given not in known:
            raise ValueError(nearest(given, known, what))
    t0 = model.sde.t0 if t0 is None else float(t0)
    if not 0 < t0 < model.sde.T:
        raise ValueError(f"t0={t0} must lie between 0 and T={model.sde.T}")
    x = _checked(x)
    if micro_batch < 1:
        raise ValueError(f"micro_batch={micro_batch}: at least one sample is scored at a time")
    Draws(seed)
    kind, place = placement(model, dtype, device, x)
    bound = model.given(**cond) if cond else model
    job = _Job(bound, integrator, variable, rtol, atol, t0, trace, probes, seed, prior, end)
    numbers = indices(index, len(x))
    starts = range(0, len(x), micro_batch)
    parts: list[Likelihood] = []
    for i in track(starts, len(starts), "log likelihood", progress):
        parts += _isolated(job, x[i : i + micro_batch].to(kind).to(place), numbers[i : i + micro_batch])
    return _joined(parts)


def _checked(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a floating-point tensor, given {given}: dequantise integer data first")
    if x.ndim < 2 or not x.numel():
        raise ValueError(f"x must be (B, ...) with at least one sample and one dimension, given {tuple(x.shape)}")
    bad = (~torch.isfinite(x.flatten(1)).all(1)).nonzero().flatten()
    if len(bad):
        raise ValueError(f"row {bad[0].item()} of x holds NaN or infinity ({len(bad)} such rows)")
    return x


class _NotFinite(Exception):
    """The network's velocity or divergence was NaN or infinite."""


def _isolated(job: _Job, x: Tensor, index: np.ndarray) -> list[Likelihood]:
    """The micro-batch scored; where the network fails it is halved until the failing samples are alone."""
    try:
        return [_scored(job, x, index)]
    except _NotFinite as failure:
        if len(x) > 1:
            half = len(x) // 2
            return _isolated(job, x[:half], index[:half]) + _isolated(job, x[half:], index[half:])
        nan = torch.full((1,), math.nan, dtype=torch.float64, device=x.device)
        none = torch.zeros(1, dtype=torch.int64)
        latent, words = torch.full_like(x.double(), math.nan), (str(failure),)
        return [Likelihood(nan, nan, latent, none, words, x[0].numel(), job.t0, job.end, nan)]


def _scored(job: _Job, x: Tensor, index: np.ndarray) -> Likelihood:
    counter = Counter()
    model = job.model.map_net(counter.wrap)
    vectors = probe_vectors(job.trace, x, job.probes, job.seed, index)
    size, dims = len(x), x[0].numel()
    columns = 1 if vectors is None else len(vectors)
    sde: LinearSDE = model.sde  # type: ignore[assignment]
    first = level(sde, job.t0)

    def slope(t: Any, state: Tensor) -> tuple[Tensor, Tensor, Any]:
        with torch.enable_grad():
            inside = state.to(x.dtype).detach().requires_grad_(True)
            prediction = model(inside, t)
            velocity = prediction.velocity
            div = divergence(velocity, inside, vectors)
        return velocity.detach(), div, prediction

    clock = _Clock(sde, job.t0, job.variable)

    def field(u: float, both: Tensor) -> Tensor:
        here, speed, growth = clock.level(u)
        y, w = both[:, :dims], clock.width(here)
        velocity, div, _ = slope(here, (w * y).reshape(x.shape))
        turned = velocity.reshape(size, dims).double() / w - growth * y
        slopes = torch.cat([turned, div.T - dims * growth], 1) / speed
        if not bool(torch.isfinite(slopes).all()):
            raise _NotFinite(f"the network is not finite at t={here.t:.4g}")
        return slopes

    begin = x.double() * (first.alpha if job.end == "heat" else 1.0)
    gain = torch.zeros(columns, size, dtype=torch.float64, device=x.device)
    if job.end == "heat":
        _, div, prediction = slope(first, begin)
        score = prediction.score.detach().double().flatten(1)
        spread = 2 / first.g2 * (dims * first.f - div)
        gain += dims * math.log(first.alpha) - first.sigma**2 / 2 * (spread + score.square().sum(1))
    low, high = clock.width(first), clock.width(level(sde, sde.t_max))
    gain += dims * (math.log(high) - math.log(low))
    both = torch.cat([begin.reshape(size, dims) / low, gain.T], 1)
    ends = integrate.odeint(field, both, clock.start, clock.stop, job.method, job.rtol, job.atol)
    latent = high * ends[:, :dims].reshape(x.shape)
    tail = job.prior(latent) if callable(job.prior) else sde.prior_log_prob(latent, job.prior)
    return _result(job, ends[:, dims:] + tail.double()[:, None], tail, latent, counter.calls, dims)


class _Clock:
    """The coordinates that the flow is integrated in: u = t and x, or u = atan(sigma/alpha) and x/w.

    w = sqrt(alpha^2 + sigma^2). In the second pair the flow of data of unit scale stands still.
    """

    def __init__(self, sde: LinearSDE, t0: float, variable: str) -> None:
        self._sde, self._plain = sde, variable == "t"
        self._ends = {self._of(end): end for end in (level(sde, t0), level(sde, sde.t_max))}
        self.start, self.stop = self._ends

    def _of(self, here: Level) -> float:
        return here.t if self._plain else math.atan2(here.sigma, here.alpha)

    def width(self, here: Level) -> float:
        """What x is divided by."""
        return 1.0 if self._plain else math.hypot(here.alpha, here.sigma)

    def level(self, u: float) -> tuple[Level, float, float]:
        """The level at u, du/dt there, and the slope of log w in t."""
        here = self._ends.get(u)
        if here is None:
            here = level(self._sde, u if self._plain else self._sde.t_of_lam(-math.log(math.tan(u))))
        if self._plain:
            return here, 1.0, 0.0
        w2 = here.alpha**2 + here.sigma**2
        turn = here.alpha * here.sigma_dot - here.sigma * here.alpha_dot
        return here, turn / w2, (here.alpha * here.alpha_dot + here.sigma * here.sigma_dot) / w2


def _result(job: _Job, values: Tensor, tail: Tensor, latent: Tensor, calls: int, dims: int) -> Likelihood:
    size, columns = values.shape
    error = torch.zeros(size, dtype=torch.float64, device=values.device)
    if job.trace != "exact":
        error = values.std(1) / math.sqrt(columns) if columns > 1 else torch.full_like(error, math.nan)
    mean = values.mean(1)
    status = tuple("ok" if ok else "not finite" for ok in torch.isfinite(mean).tolist())
    counts = torch.full((size,), calls, dtype=torch.int64)
    return Likelihood(mean, error, latent, counts, status, dims, job.t0, job.end, tail)


def _joined(parts: list[Likelihood]) -> Likelihood:
    joined = {
        name: torch.cat([getattr(p, name) for p in parts])
        for name in ("log_prob", "std_error", "latent", "calls", "prior_log_prob")
    }
    status = tuple(word for p in parts for word in p.status)
    return Likelihood(status=status, dims=parts[0].dims, t0=parts[0].t0, end=parts[0].end, **joined)
