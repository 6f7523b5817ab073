"""The whitened basis: Adams methods in the velocity of x over the data's own mean and scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sdediff.grids.levels import Level
from sdediff.model.bound import BoundModel
from sdediff.model.data_statistics import KINDS, Axes
from sdediff.solvers.base import SolverError
from sdediff.solvers.multistep import Family, Multistep
from sdediff.solvers.weights import Rule, Weights, whitened


@dataclass(frozen=True)
class Angle(Multistep):
    """y_s = y_t + int v dphi, y = (x - alpha m)/w, w^2 = (alpha sd)^2 + sigma^2, phi = atan(sigma/(alpha sd)).

    v = cos(phi) eps - sin(phi) (x0 - m)/sd is zero for Gaussian data of mean m and scale sd; it is
    extrapolated over `variable` (angle, lam, rho, sigma). scale: a number with m = 0, or of the model's
    statistics one for all ("std"), one a dimension ("dims") or a principal direction ("pca"); "auto" is
    "std" where the model has statistics, else 1. Order `points`, with a corrector one more; 1 call a step.
    """

    corrector_points: int = 3
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

    def _axes(self, model: BoundModel) -> Axes | float:
        """The coordinates and their scales, or one scale of data whose mean is 0."""
        scale, stats = self.scale, model.stats
        if scale == "auto":
            scale = 1.0 if stats is None else "std"
        if not isinstance(scale, str):
            return float(scale)
        if stats is None:
            raise SolverError(
                f"scale={scale!r} needs the data's statistics, which this model lacks: "
                "ScoreModel(..., stats=sd.statistics(data)), or write a number"
            )
        return stats.axes(scale, model.dtype, model.device)

    def family(self, model: BoundModel, levels: Sequence[Level]) -> Family:
        axes = self._axes(model)
        if not isinstance(axes, Axes):
            return self._family(levels, axes, np.array([[axes]]))
        if isinstance(axes.scale, float):
            one = Axes(axes.scale, axes.mean.reshape(model.shape), None)
            return self._family(levels, axes.scale, np.array([[axes.scale]]), one)
        # Where every coordinate has a scale of its own, outputs lie in the angle of the mean one.
        return self._family(levels, model.stats.std if model.stats else 1.0, axes.scale[None], axes)

    def _family(self, levels: Sequence[Level], place: float, scale: np.ndarray, axes: Axes | None = None) -> Family:
        """place: the angle's scale in the variable; scale: (1, C). The mean's part of v is added."""
        weights = Weights(levels, Rule("F", self.variable, place), scale)
        every, transfer = weights.columns(np.s_[:]), weights.transfer
        if axes is None:
            return Family(transfer, weights.of, whitened(every, scale))
        offsets = every.sigma / (np.hypot(every.alpha * scale, every.sigma) * scale)
        base = every.alpha[1:] - transfer * every.alpha[:-1]
        coordinates = None if scale.shape[1] == 1 else axes
        return Family(transfer, weights.of, whitened(every, scale), base, offsets, axes.mean, coordinates)
