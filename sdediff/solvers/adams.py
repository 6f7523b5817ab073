"""Exponential Adams methods: the one family that most fast samplers are members of.

Over a step the network's output, in some basis, is replaced by a polynomial through its last values in some
variable, and the rest is integrated exactly:

    x_s = c x_t + sum_j w_j P_j + noise,   w_j = int K(u) L_j(u) du,

P the output in the basis, u the variable, L_j the Lagrange polynomials of the nodes, K the kernel of the basis.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from sdediff.levels import Level
from sdediff.model import ScoreModel
from sdediff.names import nearest
from sdediff.noise import Noise
from sdediff.prediction import Prediction
from sdediff.solvers.base import Solver, SolverError

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)

BASES = ("x0", "eps", "F")
VARIABLES = ("lam", "sigma", "rho", "angle")


class _Point(NamedTuple):
    """What the weights depend on at one level."""

    lam: float
    alpha: float
    sigma: float


def _place(lam: float, variable: str, scale: float) -> float:
    """The variable's value where half the log-SNR is lam."""
    if variable == "lam":
        return lam
    kappa = math.exp(-lam)
    if variable == "sigma":
        return kappa
    return kappa ** (1 / 7) if variable == "rho" else math.atan(kappa / scale)


def _kappa(u: float, variable: str, scale: float) -> tuple[float, float]:
    """sigma/alpha and its slope in the variable."""
    if variable == "lam":
        return math.exp(-u), -math.exp(-u)
    if variable == "sigma":
        return u, 1.0
    if variable == "rho":
        return u**7, 7 * u**6
    return scale * math.tan(u), scale / math.cos(u) ** 2


def _kernel(u: float, basis: str, variable: str, s: _Point, eta2: float, scale: float) -> float:
    """K(u): what a unit of the basis adds to x_s over a unit of the variable."""
    kappa, slope = _kappa(u, variable, scale)
    if basis == "eps":
        return s.alpha * slope
    if basis == "x0":
        return -s.alpha * (1 + eta2) * math.exp((1 + eta2) * (-math.log(kappa) - s.lam)) * slope / kappa
    return math.hypot(s.alpha * scale, s.sigma) * slope * scale / (scale**2 + kappa**2)


def moments(t: _Point, s: _Point, count: int, basis: str, variable: str, eta2: float, scale: float) -> list[float]:
    """int K(u) (u - u_t)^k du over the step, k = 0..count - 1; in closed form where there is one."""
    start, stop = _place(t.lam, variable, scale), _place(s.lam, variable, scale)
    h = stop - start
    if (basis, variable) == ("x0", "lam"):
        found = [-s.alpha * math.expm1(-(1 + eta2) * h)]
        for k in range(1, count):
            found.append(s.alpha * h**k - k / (1 + eta2) * found[-1])
        return found
    if (basis, variable) == ("eps", "lam"):
        unit = -s.alpha * math.exp(-t.lam)
        found = [-unit * math.expm1(-h)]
        for k in range(1, count):
            found.append(k * found[-1] - unit * h**k * math.exp(-h))
        return found
    if (basis, variable) in (("eps", "sigma"), ("F", "angle")):
        unit = s.alpha if basis == "eps" else math.hypot(s.alpha * scale, s.sigma)
        return [unit * h ** (k + 1) / (k + 1) for k in range(count)]
    nodes = [h / 2 * (1 + n) for n in _NODES.tolist()]
    kernel = [
        h / 2 * w * _kernel(start + d, basis, variable, s, eta2, scale)
        for d, w in zip(nodes, _WEIGHTS.tolist(), strict=True)
    ]
    return [math.fsum(k * d**i for d, k in zip(nodes, kernel, strict=True)) for i in range(count)]


def lagrange(offsets: Sequence[float], m: Sequence[float]) -> list[float]:
    """Weights of the polynomial through values at `offsets` (from u_t), from the kernel's moments."""
    weights = []
    for j, here in enumerate(offsets):
        coefficients, scale = [1.0], 1.0
        for i, other in enumerate(offsets):
            if i != j:
                coefficients = [
                    (coefficients[k - 1] if k else 0.0) - other * (coefficients[k] if k < len(coefficients) else 0.0)
                    for k in range(len(coefficients) + 1)
                ]
                scale *= here - other
        weights.append(math.fsum(c * v for c, v in zip(coefficients, m, strict=False)) / scale)
    return weights


@functools.lru_cache(maxsize=1 << 14)
def _weights(
    t: _Point, s: _Point, nodes: tuple[float, ...], basis: str, variable: str, eta2: float, scale: float
) -> list[float]:
    """w_j for outputs where half the log-SNR is nodes[j]; kept, since one grid serves many batches."""
    at = _place(t.lam, variable, scale)
    offsets = [_place(lam, variable, scale) - at for lam in nodes]
    return lagrange(offsets, moments(t, s, len(nodes), basis, variable, eta2, scale))


@dataclass(frozen=True)
class Adams(Solver):
    """x_s = c x_t + sum_j w_j P_j + sigma_s sqrt(1 - e^(-2 eta^2 h)) z over the last `points` outputs P.

    basis: x0, eps, or F (the whitened velocity, over `scale`). variable: lam, sigma, rho = sigma^(1/7),
    angle. eta: 0 the flow, 1 the reverse SDE (x0 basis). corrector: the call of this step also corrects
    the step before, with one point more. Order `points`, with the corrector one more; 1 call a step.
    """

    points: int = 2
    basis: str = "x0"
    variable: str = "lam"
    eta: float = 0.0
    corrector: bool = False
    scale: float = 1.0

    grid = "log_snr"
    reference = "Lu et al. 2022b; Zhang and Chen 2023; Zhao et al. 2023"

    def __post_init__(self) -> None:
        if self.basis not in BASES:
            raise SolverError(nearest(self.basis, BASES, "basis"))
        if self.variable not in VARIABLES:
            raise SolverError(nearest(self.variable, VARIABLES, "variable"))
        if not 1 <= self.points <= 4:
            raise SolverError(f"points={self.points}: write 1 to 4")
        if self.eta and self.basis != "x0":
            raise SolverError(f"eta={self.eta} needs basis='x0', given {self.basis!r}")

    @property
    def order(self) -> int | None:  # type: ignore[override]
        return None if self.eta else self.points + self.corrector

    @property
    def holds_x(self) -> bool:  # type: ignore[override]
        return self.corrector

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def output(self, prediction: Prediction) -> Tensor:
        """The basis's value of a prediction."""
        if self.basis != "F":
            return prediction.x0 if self.basis == "x0" else prediction.eps
        t = prediction.level
        w = math.hypot(t.alpha * self.scale, t.sigma)
        return prediction.mix(0.0, eps=t.alpha * self.scale / w, x0=-t.sigma / (w * self.scale))

    def ratio(self, t: Level, s: Level) -> float:
        """c: what becomes of x where the basis is zero."""
        if self.basis == "x0":
            return s.sigma / t.sigma * math.exp(-(self.eta**2) * (s.lam - t.lam))
        if self.basis == "eps":
            return s.alpha / t.alpha
        return math.hypot(s.alpha * self.scale, s.sigma) / math.hypot(t.alpha * self.scale, t.sigma)

    def _over(self, x: Tensor, t: Level, s: Level, past: Sequence[tuple[Level, Tensor]]) -> Tensor:
        ends = (_Point(v.lam, v.alpha, v.sigma) for v in (t, s))
        nodes = tuple(n.lam for n, _ in past)
        weights = _weights(*ends, nodes, self.basis, self.variable, self.eta**2, self.scale)
        x = x * self.ratio(t, s)
        for weight, (_, value) in zip(weights, past, strict=True):
            x.add_(value, alpha=weight)
        return x

    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        past, before = state or ((), None)
        here = (t, self.output(model(x, t)))
        if before is not None:
            level, x_level, kick = before
            x = self._over(x_level, level, t, (here, *past))
            x = x if kick is None else x.add_(kick)
        past = (here, *past)[: self.points]
        kick = None
        if self.eta:
            std = s.sigma * math.sqrt(-math.expm1(-2 * self.eta**2 * (s.lam - t.lam)))
            kick = noise(t, s, x) * std
        new = self._over(x, t, s, past)
        new = new if kick is None else new + kick
        return new, (past, (t, x, kick) if self.corrector else None)
