"""The whitened basis: Adams methods in the velocity of x over the data's own mean and scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.model.bound import BoundModel
from sdediff.model.data_statistics import KINDS, Axes
from sdediff.solvers.base import SolverError
from sdediff.solvers.coordinates import Columns, Scales, tensor
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
            return self._family(levels, axes, np.array([[axes]]))[0]
        if isinstance(axes.scale, float):
            family, every = self._family(levels, axes.scale, np.array([[axes.scale]]))
            return _with_mean(family, every, axes.scale, axes.mean.reshape(model.shape))
        # Where every coordinate has a scale of its own, outputs lie in the angle of the mean one.
        scales = Scales(axes, model)
        family, every = self._family(levels, model.stats.std if model.stats else 1.0, scales.nodes[None])

        def columns(w: np.ndarray, added: np.ndarray) -> Columns:
            nodes, scale = scales.nodes, tensor(scales.scale, model)
            on_eps, on_x0 = whitened(every, nodes)
            # Relative to w at the step's end, and to 1/sd: what remains has the same size at every scale.
            width = torch.hypot(tensor(every.alpha[1:], model) * scale, tensor(every.sigma[1:], model))
            w = w / np.hypot(every.alpha[1:] * nodes, every.sigma[1:])[:, None]
            return Columns(
                scales.spread(family.transfer), scales.spread(w) * width[:, None], scales.spread(added) * axes.mean,
                scales.spread(on_eps), scales.spread(on_x0 * nodes) / scale,
            )  # fmt: skip

        return _with_mean(family, every, scales.nodes, axes.mean)._replace(axes=axes, columns=columns)

    def _family(self, levels: Sequence[Level], place: float, scale: np.ndarray) -> tuple[Family, Level]:
        """For data of mean 0, and the levels as arrays. place: the angle's scale in the variable; scale: (1, K)."""
        weights = Weights(levels, Rule("F", self.variable, place), scale)
        every = weights.columns(np.s_[:])
        return Family(weights.transfer, weights.of, whitened(every, scale)), every


def _with_mean(family: Family, every: Level, scale: np.ndarray | float, mean: Tensor) -> Family:
    """The family for data of a mean, whose part of v is added."""
    offsets = every.sigma / (np.hypot(every.alpha * scale, every.sigma) * scale)
    return family._replace(base=every.alpha[1:] - family.transfer * every.alpha[:-1], offsets=offsets, mean=mean)
