"""Solvers of the probability flow that choose their steps, for every sample its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff import integrate
from sdediff._utils.checks import known
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import per_sample
from sdediff.grids.levels import Level, level
from sdediff.integrate import Counted, Result, Step, Tried, rows_of
from sdediff.model.conditions import rows_of_conditions
from sdediff.model.network import beyond_rounding
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.sde.base import linear
from sdediff.solvers.base import Solver, SolverError, finite


class Left:
    """The model at the samples that are left: conditions with a row a sample are cut to theirs.

    x, t, s: the states (B, ...) and the ends of the step. trial: try first whether samples may have different times.
    """

    def __init__(self, model: Model, x: Tensor, t: Level, s: Level, trial: bool) -> None:
        self._model, self._batch = model, len(x)
        self._rows: Tensor | None = None
        self._cut = model
        if trial and len(x) > 1:
            self._try(x, t, s)

    def __call__(self, x: Tensor, t: Any, rows: Tensor) -> Prediction:
        """The prediction at states x (b, ...) of the samples `rows` (b,), in rising order, at times t."""
        if len(rows) == self._batch:
            return self._model(x, t)
        if rows is not self._rows:
            self._rows, self._cut = rows, self._of(rows)
        return self._cut(x, t)

    def _of(self, rows: Tensor) -> Model:
        """The model under the conditions of these samples."""
        model: Any = getattr(self._model, "model", self._model)
        declared = model.per_sample, model.shared
        cond = rows_of_conditions(self._model.cond, rows, self._batch, *declared) if self._model.cond else {}
        return self._model.given(**cond) if cond else self._model

    def _try(self, x: Tensor, t: Level, s: Level) -> None:
        """Refuse a network that reads the time of one sample for all: two of them, side by side both ways round."""
        times = torch.tensor([t.time, s.time], dtype=torch.float64)

        def outputs(*pick: int) -> Tensor:
            return self._of(torch.tensor(pick))(x[list(pick)], times[list(pick)]).raw.detach()

        one = outputs(0, 1)
        # A network that draws noise differs from itself.
        if beyond_rounding(one, outputs(1, 0).flip(0)) and torch.equal(one, outputs(0, 1)):
            raise SolverError(
                "the network's output for a sample changes with its place in the batch: it reads the time of one "
                "sample for all (t[0]). Let it use t (B,), a time a sample; or take a solver with one time for all, "
                "such as ode"
            )


def arrived(solver: Solver, result: Result, variable: str) -> Tensor:
    """The states of a march that every sample finished, else an IntegrationError that names the first that did not."""
    bad = result.status.nonzero().flatten().tolist()
    if bad:
        word, where = integrate.STATUS[int(result.status[bad[0]])], result.t[bad[0]].item()
        raise integrate.IntegrationError(
            f"{solver!r} gave up on {len(bad)} of {len(result.x)} samples: {word} at {variable}={where:.6g} "
            f"(sample {bad[0]}); give larger tolerances, or look at the network's output there"
        )
    return result.x


class OwnSteps(Solver):
    """A solver that takes one step of the grid in as many of its own as every sample needs.

    Two evaluations of two samples come first, which refuse a network that reads one time for all.
    """

    calls = None
    adaptive = True
    steps = 1


@dataclass(frozen=True)
class AdaptiveRK(OwnSteps):
    """The probability flow from t to s by an embedded Runge-Kutta pair with steps of its own for every sample.

    variable: "angle", in which the flow is not stiff, dy/dphi = cos(phi) eps - sin(phi) x0/scale for y = x/w,
    phi = atan(sigma/(alpha scale)), w^2 = (alpha scale)^2 + sigma^2; or "t", dx/dt = velocity. method: heun12,
    bosh3, dopri5 or tsit5. Deterministic; calls are chosen at run time. Dormand and Prince 1980.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    variable: str = "angle"
    scale: float = 1.0
    max_steps: int = 10_000

    at_zero_alpha = True
    reference = "Dormand and Prince 1980; Song et al. 2021, section 4.3"

    def __post_init__(self) -> None:
        positive(rtol=self.rtol, atol=self.atol, scale=self.scale, max_steps=self.max_steps)
        if not known(self.method, integrate.PAIRS):
            raise SolverError(nearest(self.method, integrate.PAIRS, "embedded pair"))
        if self.variable not in ("angle", "t"):
            raise SolverError(nearest(self.variable, ("angle", "t"), "variable"))
        if self.variable == "t" and self.scale != 1:
            raise SolverError(f'scale={self.scale} has no effect with variable="t": it is for "angle"')

    @property
    def needs_alpha(self) -> bool:
        return self.variable == "angle"

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        left, sde = Left(model, x, t, s, state is None), model.sde
        settings = (self.method, self.rtol, self.atol, state, self.max_steps)
        if self.variable == "t":
            result = integrate.adaptive(lambda u, y, rows: left(y, u, rows).velocity, x, t.time, s.time, *settings)
            return arrived(self, result, "t"), result.size
        low, high = min(s.time, t.time), max(s.time, t.time)

        def field(phi: Tensor, y: Tensor, rows: Tensor) -> Tensor:
            times = linear(sde).t_of_lam(-torch.log(self.scale * torch.tan(phi))).clamp(low, high)
            at = level(sde, times)
            w = torch.hypot(at.alpha * self.scale, at.sigma)
            prediction = left(y * per_sample(w, y), at, rows)
            return prediction.mix(0.0, eps=at.alpha * self.scale / w, x0=-at.sigma / (w * self.scale))

        (start, wide), (stop, narrow) = (
            (math.atan2(v.sigma, v.alpha * self.scale), math.hypot(v.sigma, v.alpha * self.scale)) for v in (t, s)
        )
        result = integrate.adaptive(field, x / wide, start, stop, *settings)
        return arrived(self, result, "angle") * narrow, result.size


def positive(**given: float) -> None:
    """Refuse what is not positive, by its name."""
    for name, value in given.items():
        if not value > 0:
            raise SolverError(f"{name}={value}: it must be positive")


@dataclass(frozen=True)
class DPMAdaptive(OwnSteps):
    """DPM-Solver-12 or -23: x/alpha over lam by singlestep orders p - 1 and p of `pair`, h <- h l(e^(-1/p)).

    l(u) = 1 + atan(u - 1), accepted where it is at least `accept_safety`; e is the root mean square of the two
    orders' difference over max(atol, rtol |x/alpha|), a sample's own. Deterministic; p calls a try, one less after
    a rejection. Lu et al. 2022, appendix C, with k-diffusion's controller of the step.
    """

    pair: int = 23
    rtol: float = 0.05
    atol: float = 0.0078
    first_step: float = 0.05
    accept_safety: float = 0.81
    max_steps: int = 10_000

    reference = "Lu et al. 2022, appendix C"

    def __post_init__(self) -> None:
        if self.pair not in (12, 23):
            raise SolverError(f"pair={self.pair}: write 12 or 23, for DPM-Solver-12 or DPM-Solver-23")
        positive(rtol=self.rtol, atol=self.atol, first_step=self.first_step, max_steps=self.max_steps)

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        left, sde = Left(model, x, t, s, state is None), model.sde
        low, high = min(s.time, t.time), max(s.time, t.time)
        finite(t, t.lam, "lam")

        def eps(lam: Tensor, y: Tensor, rows: Tensor) -> Tensor:
            at = level(sde, linear(sde).t_of_lam(lam).clamp(low, high))
            return left(y * per_sample(at.alpha, y), at, rows).eps

        field = Counted(eps, len(x))
        first = self.first_step if state is None else state
        ends = x / t.alpha, t.lam, s.lam
        result = integrate.march(
            lambda step: self._try(field, step), field, *ends, self._control, first, (), self.max_steps, unclipped=True
        )
        return arrived(self, result, "lam") * s.alpha, result.size

    def _control(self, error: np.ndarray, step: Step) -> tuple[np.ndarray, np.ndarray]:
        inverse = 1 / (np.where(np.isfinite(error), error, np.inf) + 1e-8)
        factor = 1 + np.arctan(inverse ** (1 / (self.pair % 10)) - 1)
        return factor, factor >= self.accept_safety

    def _try(self, field: Counted, step: Step) -> Tried:
        """Both orders in the eps form, y_s = y - kappa_s (e^h - 1) eps - ..., nodes at 1/2, or at 1/3 and 2/3."""
        y, h = step.x, step.h
        before = step.kept[1] if step.kept else y
        e0 = field.first(step)

        def first_order(share: float) -> tuple[np.ndarray, Tensor]:
            lam = step.end if share == 1 else step.t + share * h
            return lam, torch.add(y, rows_of(-np.exp(-lam) * np.expm1(share * h), y) * e0)

        def phi(share: float) -> np.ndarray:
            value: np.ndarray = np.expm1(share * h) / (share * h) - 1
            return value

        node = 1 / 2 if self.pair == 12 else 1 / 3
        end, straight = first_order(1.0)
        lam, inner = first_order(node)
        turn = field(lam, inner, step.rows) - e0
        bent = torch.add(straight, rows_of(-np.exp(-end) * np.expm1(h) / (2 * node), y) * turn)
        if self.pair == 12:
            rough, fine = straight, bent
        else:
            lam, inner = first_order(2 / 3)
            inner = inner + rows_of(-np.exp(-lam) * 2 * phi(2 / 3), y) * turn
            turn = field(lam, inner, step.rows) - e0
            rough, fine = bent, torch.add(straight, rows_of(-np.exp(-end) * 1.5 * phi(1.0), y) * turn)
        error = integrate.scaled_norm(fine - rough, rough, before, self.rtol, self.atol, floor=True)
        return Tried(fine, error, (e0, rough), (e0, before))
