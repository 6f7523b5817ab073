"""The whitened basis: Adams methods in the velocity of x over the data's own mean and scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sdediff.grids.levels import Level
from sdediff.model.bound import BoundModel
from sdediff.solvers.base import SolverError
from sdediff.solvers.multistep import Family, Multistep, entries
from sdediff.solvers.weights import Rule, Weights, whitened
from sdediff.solvers.whitened import Integrals, by_dimension, by_direction

_KINDS = ("std", "dims", "pca")


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
        if isinstance(self.scale, str) and self.scale not in (*_KINDS, "auto"):
            raise SolverError(f"scale={self.scale!r}: write a number or one of auto, {', '.join(_KINDS)}")
        if not isinstance(self.scale, str) and not self.scale > 0:
            raise SolverError(f"scale={self.scale}: a scale is positive")

    def _kind(self, model: BoundModel) -> str | float:
        """One scale of data whose mean is 0, or which scales of the model's statistics."""
        stats, scale = model.stats, self.scale
        if scale == "auto":
            scale = 1.0 if stats is None else "std"
        if isinstance(scale, str) and stats is None:
            raise SolverError(
                f"scale={scale!r} needs the data's statistics, which this model lacks: "
                "ScoreModel(..., stats=sd.statistics(data)), or write a number"
            )
        return scale

    def family(self, model: BoundModel, levels: Sequence[Level]) -> Family:
        stats, kind = model.stats, self._kind(model)
        scale = stats.std if isinstance(kind, str) and stats is not None else float(kind)
        weights = Weights(levels, Rule("F", self.variable, scale), np.array([[scale]]))
        every = weights.columns(np.s_[:])
        family = Family(weights.transfer, weights.of, whitened(every, scale))
        if not isinstance(kind, str) or stats is None:
            return family
        # Data of a mean add their part of v.
        offsets = every.sigma / (np.hypot(every.alpha * scale, every.sigma) * scale)
        base = every.alpha[1:] - family.transfer * every.alpha[:-1]
        return family._replace(base=base, offsets=offsets, mean=stats.mean.to(model.device, model.dtype))

    def coefficients(
        self, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
    ) -> list[tuple[Any, ...]]:
        kind, stats = self._kind(model), model.stats
        if kind not in ("dims", "pca") or stats is None:
            return super().coefficients(model, levels, orders)
        counts, corrected = self.counts(len(levels) - 1, orders)
        # Outputs lie in the angle of the mean scale.
        with np.errstate(all="ignore"):
            integrals = Integrals(levels, self.variable, stats.std, counts, corrected, torch.finfo(model.dtype).eps)
        return entries((by_dimension if kind == "dims" else by_direction)(integrals, stats, model))
