"""Exponential Adams methods: the one family that most fast samplers are members of.

Over a step the network's output, in some basis, is replaced by a polynomial through its last values in some
variable, and the rest is integrated exactly (`weights`).
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from sdediff._utils.suggestions import nearest
from sdediff.grids.levels import Level
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Noise
from sdediff.sde.base import linear
from sdediff.solvers.base import Solver, SolverError
from sdediff.solvers.moves import Maker, Move, Output, moves
from sdediff.solvers.weights import BASES, VARIABLES, Rule, Times, rule, weights, whitened

_VARIABLES = (*VARIABLES, "t")


@dataclass(frozen=True)
class Multistep(Solver):
    """A step through the last `points` outputs, and a corrector that the next step's call brings for free.

    points: the predictor's outputs, 1 to 4. corrector: the outputs that correct the last step, the new one
    included; 0 for none. Subclasses say what an output is and how outputs move x.
    """

    points: int = 2
    corrector: int = 0
    variable: str = "lam"

    def __post_init__(self) -> None:
        if not 1 <= self.points <= 4 or not 0 <= self.corrector <= 5 or self.corrector == 1:
            raise SolverError(
                f"points={self.points}, corrector={self.corrector}: write 1 to 4 points, 0 or 2 to 5 to correct with"
            )
        if self.variable not in _VARIABLES:
            raise SolverError(nearest(self.variable, _VARIABLES, "variable"))

    @property
    def order(self) -> int | None:
        return min(self.corrector, self.points + 1) if self.corrector else self.points

    @property
    def grid(self) -> str:
        return "karras" if self.variable in ("sigma", "rho") else "log_snr"

    def lowered(self, order: int) -> Solver:
        return replace(self, points=max(1, min(self.points, order)))

    @abstractmethod
    def maker(self, model: ScoreModel, x: Tensor) -> Maker:
        """What an output is and how outputs move x, for states like x."""

    def kick(self, t: Level, s: Level) -> float:
        """The standard deviation of a step's noise."""
        return 0.0

    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        row, past, before = state or ((), (), None)
        make = self.maker(model, x)
        row, past = (t, *row), (make.output(model(x, t)), *past)
        move, made = moves.sized(make.size)(make, t, s, row, self.points, self.corrector, before)
        new = move(x, past)
        if self.stochastic:
            new.add_(noise(t, s, x), alpha=self.kick(t, s))
        kept = self._kept
        return new, (row[:kept], past[:kept], (t, made) if self.corrector else None)

    @functools.cached_property
    def _kept(self) -> int:
        """How many outputs the next step looks back at."""
        return max(self.points, self.corrector - 1)


class _AdamsMaker(NamedTuple):
    """Moves by the rule `outside` of the noise's interval of sigma/alpha and the one `inside`."""

    outside: Rule
    inside: Rule
    within: tuple[float, float] | None = None
    t_of_lam: Times | None = None

    @property
    def size(self) -> int:
        """Coefficients are floats."""
        return 0

    def output(self, prediction: Prediction) -> Output:
        """x0, eps, or the whitened velocity over the rule's scale."""
        if self.inside.basis == "F":
            return prediction.weighed(whitened, self.inside.parameter)
        return prediction.factored(self.inside.basis)

    def rule(self, t: Level) -> Rule:
        """The rule of a step that begins at t."""
        if self.within is None:
            return self.outside
        return self.inside if self.within[0] <= math.exp(-t.lam) <= self.within[1] else self.outside

    def __call__(self, t: Level, s: Level, past: tuple[Level, ...]) -> Move:
        used = self.rule(t)
        if not t.alpha and used.basis == "eps":
            raise SolverError(f"at t={t.time} alpha is 0, where eps does not move x: start below it (start=sde.t_max)")
        return weights(t, s, past, used, self.t_of_lam)


@dataclass(frozen=True)
class Adams(Multistep):
    """x_s = c x_t + sum_j w_j P_j + sigma_s sqrt(1 - e^(-2 eta^2 h)) z over the last `points` outputs P.

    basis: x0, eps, or F (the whitened velocity, over `scale`). variable: lam, sigma, rho = sigma^(1/7),
    angle, t. eta: 0 the flow, 1 the reverse SDE (x0 basis), where sigma/alpha lies in `within`.
    scaler: "power", or "er" for ER-SDE's noise. second, third: how two and three points are weighted
    (`weights.weigh`). Order `points`, with a corrector one more; 1 call a step.
    """

    basis: str = "x0"
    eta: float = 0.0
    scale: float = 1.0
    second: str = "exact"
    third: str = "exact"
    scaler: str = "power"
    within: tuple[float, float] | None = None

    reference = "Lu et al. 2022b; Zhang and Chen 2023; Zhao et al. 2023"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise SolverError(nearest(getattr(self, name), known, name))
        if not self.eta >= 0 or not self.scale > 0:
            raise SolverError(f"eta={self.eta}, scale={self.scale}: eta must not be negative, scale must be positive")
        if self.stochastic and self.basis != "x0":
            raise SolverError(f"eta={self.eta}, scaler={self.scaler!r} need basis='x0', given {self.basis!r}")

    @property
    def order(self) -> int | None:
        if self.stochastic:
            return None
        return 2 if self.third != "exact" and self.points > 2 and not self.corrector else super().order

    @property
    def at_zero_alpha(self) -> bool:
        return self.basis != "eps"

    @functools.cached_property
    def stochastic(self) -> bool:
        return self.eta > 0 or self.scaler == "er"

    @functools.cached_property
    def _maker(self) -> _AdamsMaker:
        more = (self.variable, self.scale, self.second, self.third)
        if self.basis != "x0":
            return _AdamsMaker(*(rule(self.basis, self.scale, *more),) * 2)
        kind = "er" if self.scaler == "er" else "x0"
        outside = rule(kind, 0.0 if self.within else self.eta**2, *more)
        return _AdamsMaker(outside, rule("x0", self.eta**2, *more), self.within)

    def maker(self, model: ScoreModel, x: Tensor) -> Maker:
        if self.variable != "t":
            return self._maker
        outside, inside, within, _ = self._maker
        return _AdamsMaker(outside, inside, within, linear(model.sde).t_of_lam)

    def kick(self, t: Level, s: Level) -> float:
        return _kick(t, s, self._maker.rule(t))


@functools.lru_cache(maxsize=1 << 12)
def _kick(t: Level, s: Level, used: Rule) -> float:
    kept = BASES[used.basis].transfer(t, s, used.parameter) * t.sigma / s.sigma
    return float(s.sigma * math.sqrt(max(1 - kept, 0.0) * (1 + kept)))


_CHOICES = {
    "basis": ("x0", "eps", "F"),
    "second": ("exact", "bh1", "bh2"),
    "third": ("exact", "half", "er"),
    "scaler": ("power", "er"),
}
