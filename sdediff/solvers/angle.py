"""The whitened basis: Adams methods in the velocity of x over the data's own mean and scales."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.model.data_statistics import KINDS, Axes
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import ScoreModel
from sdediff.solvers.base import SolverError
from sdediff.solvers.moves import Maker, Move, Output
from sdediff.solvers.multistep import Multistep
from sdediff.solvers.weights import BASES, Rule, rule, solve, weights, whitened


@functools.cache
def _plain(scale: float) -> Axes:
    return Axes(float(scale), torch.zeros(1), None, plain=True)


_UNIT = _plain(1.0)


@dataclass(frozen=True)
class Angle(Multistep):
    """y_s = y_t + int v dphi, y = (x - alpha m)/w, w^2 = (alpha sd)^2 + sigma^2, phi = atan(sigma/(alpha sd)).

    v = cos(phi) eps - sin(phi) (x0 - m)/sd is zero for Gaussian data of mean m and scale sd; it is
    extrapolated over `variable` (angle, lam, rho, sigma). scale: a number with m = 0, or of the model's
    statistics one for all ("std"), one a dimension ("dims") or a principal direction ("pca"); "auto" is
    "std" where the model has statistics, else 1. Order `points`, with a corrector one more; 1 call a step.
    """

    corrector: int = 3
    variable: str = "angle"
    scale: float | str = "auto"

    at_zero_alpha = True
    reference = "sdediff, docs/analysis"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variable == "t":
            raise SolverError("the whitened basis is extrapolated over angle, lam, rho or sigma, given 't'")
        if isinstance(self.scale, str) and self.scale not in (*KINDS, "auto"):
            raise SolverError(f"scale={self.scale!r}: write a number or one of auto, {', '.join(KINDS)}")
        if not isinstance(self.scale, str) and not self.scale > 0:
            raise SolverError(f"scale={self.scale}: a scale is positive")

    def _axes(self, model: ScoreModel, x: Tensor) -> Axes:
        scale, stats = self.scale, model.stats
        if scale == "auto":
            if stats is None:
                return _UNIT
            scale = "std"
        if not isinstance(scale, str):
            return _plain(scale)
        if stats is None:
            raise SolverError(
                f"scale={scale!r} needs the data's statistics, which this model lacks: "
                "ScoreModel(..., stats=sd.statistics(data)), or write a number"
            )
        return stats.axes(scale, x.dtype, x.device)

    def maker(self, model: ScoreModel, x: Tensor) -> Maker:
        return _AngleMaker(self._axes(model, x), self.variable, 1.0 if model.stats is None else model.stats.std)


def _whitened(t: Level, axes: Axes) -> dict[str, Any]:
    return whitened(t, axes.scale)


class _AngleMaker(NamedTuple):
    """Moves in coordinates; std: the scale of the angle in which outputs lie where the coordinates have several."""

    axes: Axes
    variable: str
    std: float

    @property
    def size(self) -> int:
        """How many coordinates have a scale each; 0 for one number."""
        return self.axes.size

    def output(self, prediction: Prediction) -> Output:
        """v as if the mean were 0; what it brings is a multiple of m, in the move."""
        axes = self.axes
        if isinstance(axes.scale, float):
            return prediction.weighed(whitened, axes.scale)
        return prediction.along(axes, axes.size, _whitened, axes)

    def __call__(self, t: Level, s: Level, past: tuple[Level, ...]) -> Move:
        axes, scale = self.axes, self.axes.scale
        if isinstance(scale, float):
            found = weights(t, s, past, rule("F", scale, self.variable, scale))
            if axes.plain:
                return found
            c, w = found.on_x, found.on_outputs
        else:
            rows = scale[:, None]
            c = BASES["F"].transfer(t, s, rows)[:, 0]
            w = list(solve(t, s, past, Rule("F", rows, self.variable, self.std)))
        means = [p.sigma / (np.hypot(p.alpha * scale, p.sigma) * scale) for p in past]
        constant = s.alpha - c * t.alpha + sum(weight * on_mean for weight, on_mean in zip(w, means, strict=True))
        return Move(c, w, float(constant) if isinstance(scale, float) else constant, axes)
