"""Exponential single-step methods over lam: DPM-Solver, DPM-Solver++, and their stochastic and fast forms."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import product
from sdediff.grids.levels import Evaluation, Level
from sdediff.model.bound import BoundModel
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.sde.base import SDE
from sdediff.solvers.base import Solver, SolverError, members
from sdediff.solvers.exponential import ancestral, exact, places
from sdediff.solvers.seeds import increments, stirred


def slope_weight(k: float) -> float:
    """(e^k - 1)/k - 1 = k/2 + k^2/6 + ..., without cancellation near 0."""
    if abs(k) > 0.1:
        return math.expm1(k) / k - 1
    total = 0.0
    for n in range(10, 1, -1):
        total = k / n * (1 + total)
    return total


@dataclass(frozen=True)
class Singlestep(Solver):
    """x_s = (a_s/a_t) x - b_s [(e^k - 1) P_0 + w (P_r - P_0)], P_0 at t, P_r at lam_t + r h by the same rule.

    basis "eps": P = eps, a = alpha, b = sigma, k = h (DPM-Solver); "x0": P = x0, a = sigma, b = alpha, k = -h
    (DPM-Solver++). stages 2: w = (e^k - 1)/(2 r1); 3: w = ((e^k - 1)/k - 1)/r2, the inner stage likewise over
    r2 h. r1, r2: by default at equal shares. Deterministic, calls = order = stages (2 of 3 unless r2 = 2/3).
    Lu et al. 2022, algorithms 1 and 2; Lu et al. 2022b, algorithm 1.
    """

    stages: int = 2
    basis: str = "eps"
    r1: float | None = None
    r2: float | None = None

    calls_at_end = False
    grid = "log_snr"
    reference = "Lu et al. 2022, algorithms 1 and 2; Lu et al. 2022b"

    def __post_init__(self) -> None:
        if self.basis not in ("eps", "x0"):
            raise SolverError(nearest(self.basis, ("eps", "x0"), "basis"))
        if self.stages not in (1, 2, 3):
            raise SolverError(f"stages={self.stages}: write 1, 2 or 3")
        row = (0.0, *self.shares, 1.0)
        if any(a >= b for a, b in itertools.pairwise(row)):
            raise SolverError(f"r1={self.r1}, r2={self.r2}: needed is 0 < r1 < r2 < 1")

    @functools.cached_property
    def shares(self) -> tuple[float, ...]:
        """Where the inner stages lie, as shares of the step's rise in lam."""
        given = (self.r1, self.r2)[: self.stages - 1]
        return tuple(i / self.stages if r is None else r for i, r in enumerate(given, 1))

    @property
    def order(self) -> int | None:
        # A line through two of the three outputs is of third order at r2 = 2/3 alone.
        return 2 if self.stages == 3 and not math.isclose(self.shares[1], 2 / 3) else self.stages

    @property
    def calls(self) -> int | None:
        return self.stages

    @property
    def tried(self) -> int:
        return 4 if self.stages == 1 else 9  # one stage is DDIM

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        return places(t, s, self.shares)

    def lowered(self, order: int) -> Singlestep:
        return replace(self, stages=min(order, self.stages))

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        row = (*s.inner, s)
        first = model(x, t).factored(self.basis)
        stage = self._to(x, t, row[0], first)
        for before, after in itertools.pairwise(row):
            stage = self._to(x, t, after, first, before, model(stage, before).factored(self.basis))
        return stage, None

    def _to(
        self,
        x: Tensor,
        t: Level,
        s: Level,
        first: tuple[float, Tensor],
        at: Level | None = None,
        last: tuple[float, Tensor] = (0.0, torch.empty(0)),
    ) -> Tensor:
        """A stage at s: P constant, or on the line through P at t and the last stage's P, at its level."""
        eps = self.basis == "eps"
        k = s.lam - t.lam if eps else t.lam - s.lam
        a, b = (s.alpha / t.alpha, s.sigma) if eps else (s.sigma / t.sigma, s.alpha)
        total, w = math.expm1(k), 0.0
        if at is not None:
            share = (at.lam - t.lam) / (s.lam - t.lam)
            w = (total / 2 if self.stages == 2 else slope_weight(k)) / share
        x = product(x, a).add_(first[1], alpha=-b * (total - w) * first[0])
        return x.add_(last[1], alpha=-b * w * last[0]) if w else x


@dataclass(frozen=True)
class DPMFast(Solver):
    """DPM-Solver-fast: Singlestep's x_s of order 3 at every step, and of the orders `tail` at the grid's end.

    tail: (2,), (1,) or (2, 1) as the calls leave 2, 1 or 0 when divided by 3: a run of n steps spends
    3 (n - 1) and that rest. Deterministic, order 3 with the tail (2,), else 2. Lu et al. 2022, section 3.3.
    """

    tail: tuple[int, ...] = (2,)
    basis: str = "eps"

    calls = None
    calls_at_end = False
    grid = "log_snr"
    reference = "Lu et al. 2022, section 3.3"

    def __post_init__(self) -> None:
        if self.tail not in ((2, 1), (1,), (2,)):
            raise SolverError(f"tail={self.tail}: write (2,), (1,) or (2, 1)")
        Singlestep(basis=self.basis)

    @property
    def order(self) -> int | None:
        return min(self.tail) + 1

    def orders(self, steps: int) -> tuple[int, ...]:
        """The order of every step of a run; one step alone has the tail's last."""
        return (*(3,) * (steps - len(self.tail)), *self.tail)[-steps:]

    def spent(self, steps: int) -> int:
        return sum(self.orders(steps))

    def fit(self, calls: int) -> tuple[Solver, int] | None:
        tail = ((2, 1), (1,), (2,))[calls % 3]
        return (replace(self, tail=tail), calls // 3 + 1) if calls > 2 else super().fit(calls)

    def step_orders(self, steps: int, orders: Sequence[int] | None = None) -> tuple[Solver, Sequence[int]]:
        own = self.orders(steps)
        return Singlestep(3, self.basis), own if orders is None else [*map(min, own, orders)]

    def visit(
        self, evaluation: Evaluation, steps: Sequence[tuple[Level, Level]], orders: Sequence[int] | None = None
    ) -> None:
        solver, orders = self.step_orders(len(steps), orders)
        solver.visit(evaluation, steps, orders)

    def coefficients(
        self, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
    ) -> list[Solver]:
        """The method of each step."""
        solver, orders = self.step_orders(len(levels) - 1, orders)
        return members(solver, len(levels) - 1, orders)

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        member: Solver = s.coefficients
        return member.step(model, x, t, s, state, noise)


@dataclass(frozen=True)
class DPMppSDE(Solver):
    """x_s = (sigma_s/sigma_t) e^-q x + alpha_s (1 - e^-(h+q)) D + s_noise sigma_s sqrt(1 - e^-2q) z, D of a stage.

    u at lam_t + r h by the same step with D_t, then D = D_t + (D_u - D_t)/(2 r); q as in an ancestral step
    of eta. The draws of z are the rises of one Wiener path over sigma/alpha, which makes the marginals'
    error fall with the step's square. Stochastic, 2 calls a step. k-diffusion's DPM++ SDE, after Lu et al. 2022b.
    """

    eta: float = 1.0
    s_noise: float = 1.0
    r: float = 0.5

    calls_at_end = False
    grid = "log_snr"
    calls = 2
    reference = "Lu et al. 2022b; k-diffusion's DPM++ SDE"
    no_kernel = "the network is evaluated after a part of the noise: take dpmpp_2m_sde"

    def __post_init__(self) -> None:
        if not (0 < self.eta <= 1 and self.s_noise >= 0 and 0 < self.r < 1):
            raise SolverError(
                f"eta={self.eta}, s_noise={self.s_noise}, r={self.r}: needed is 0 < eta <= 1, s_noise >= 0, 0 < r < 1"
            )

    @property
    def stochastic(self) -> bool:
        return True

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        return places(t, s, (self.r,))

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        (u,) = s.inner
        early, late = increments((t, u, s))
        draws = noise(t, s, x), noise(t, s, x, 1)
        first, d = model(x, t).factored("x0")
        on_x, on_x0, on_z = exact(t, u, ancestral(t, u, self.eta))
        stage = product(x, on_x).add_(d, alpha=on_x0 * first)
        factor, d_u = model(stirred(stage, draws, self.s_noise * on_z, early), u).factored("x0")
        on_x, on_x0, on_z = exact(t, s, ancestral(t, s, self.eta))
        shared = (t.kappa - u.kappa) / (t.kappa - s.kappa)
        near, far = math.sqrt(shared), math.sqrt(1 - shared)
        whole = [near * a + far * b for a, b in zip(early, late, strict=True)]
        share = on_x0 / (2 * self.r)
        x = product(x, on_x).add_(d, alpha=(on_x0 - share) * first).add_(d_u, alpha=share * factor)
        return stirred(x, draws, self.s_noise * on_z, whole), None
