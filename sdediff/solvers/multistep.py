"""Exponential Adams methods: the one family that most fast samplers are members of.

Over a step the network's output, in some basis, is replaced by a polynomial through its last values in some
variable, and the rest is integrated exactly (`weights`). What all steps need is computed together, before the first.
"""

from __future__ import annotations

import functools
import operator
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import weighted_sum
from sdediff.grids.levels import Level
from sdediff.model.bound import BoundModel
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.solvers.base import Solver, SolverError
from sdediff.solvers.coordinates import ByDimension, ByDirection
from sdediff.solvers.kernel import NO_NOISE, StepKernel
from sdediff.solvers.weights import VARIABLES, used_of

_VARIABLES = (*VARIABLES, "t")


class Family(NamedTuple):
    """How outputs change x over the steps of one run; C parameters side by side, 1 where all coordinates share them.

    A step is x_s = transfer x_t + sum_j w_j P_j + added mean + noise z, the newest output first, `added` being
    base + sum_j w_j offset_j. transfer: (steps, C). weights: (start, newest, counts) -> w, as `Weights.of`. output:
    what P is, a quantity or weights (levels, C) of eps and x0. base: (steps, C), offsets: (levels, C), None where
    nothing is added. mean: one state, or 1. steps: (weights, added) -> the steps with coefficients of every
    dimension, where C > 1. noise: (steps,), or None.
    """

    transfer: np.ndarray
    weights: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    output: str | tuple[np.ndarray, np.ndarray]
    base: np.ndarray | None = None
    offsets: np.ndarray | None = None
    mean: Tensor | float = 1.0
    steps: Callable[[np.ndarray, np.ndarray], Sequence[ByDimension]] | None = None
    noise: np.ndarray | None = None


@dataclass(frozen=True)
class Multistep(Solver):
    """A step through the last `points` outputs, and a corrector that the next step's evaluation brings for free.

    points: the predictor's outputs, 1 to 4. corrector_points: the outputs that correct the last step, the new one
    included; 0 for none. Subclasses say what an output is and how outputs change x (`family`).
    """

    points: int = 2
    corrector_points: int = 0
    variable: str = "lam"

    calls_at_end, corrector, needs_alpha = False, False, True

    def __post_init__(self) -> None:
        if not 1 <= self.points <= 4 or not 0 <= self.corrector_points <= 5 or self.corrector_points == 1:
            raise SolverError(
                f"points={self.points}, corrector_points={self.corrector_points}: write 1 to 4 points, "
                "0 or 2 to 5 to correct with"
            )
        if not isinstance(self.variable, str) or self.variable not in _VARIABLES:
            raise SolverError(nearest(self.variable, _VARIABLES, "variable"))

    @property
    def order(self) -> int | None:
        return min(self.corrector_points, self.points + 1) if self.corrector_points else self.points

    @property
    def tried(self) -> int:
        # Linear parts are exact, so that without noise the size is right from five steps on, for any process.
        return 9 if self.stochastic else 4

    @property
    def grid(self) -> str:
        return "karras" if self.variable in ("sigma", "rho") else "log_snr"

    def lowered(self, order: int) -> Solver:
        return replace(self, points=max(1, min(self.points, order)))

    @abstractmethod
    def family(self, model: BoundModel, levels: Sequence[Level]) -> Family:
        """What an output is and how outputs change x, over the steps between these levels."""

    def coefficients(
        self, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
    ) -> list[tuple[Any, ...]]:
        """For each step: factor of x, weights of outputs, what is added, noise, the output's own weights, None.

        Where coordinates have coefficients of their own: the weights, noise and at the end a `ByDimension` or
        `ByDirection`.
        """
        counts, corrected = self.counts(len(levels) - 1, orders)
        # Where alpha = 0 the half log-SNR is infinite, and so are numbers that are then not used.
        with np.errstate(all="ignore"):
            family = self.family(model, levels)
            w = self._weights(family, counts, corrected)
        added = None
        if family.base is not None and family.offsets is not None:
            added = family.base.copy()
            for j in range(min(w.shape[1], len(counts))):
                added[j:] += w[j:, j] * family.offsets[: len(counts) - j]
        if family.steps is not None and added is not None:
            return entries(family.steps(w, added))
        return _entries(family, w, added)

    def counts(self, steps: int, orders: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Over how many outputs each step goes, and with how many each but the last is corrected; empty for none."""
        reached = np.arange(1, steps + 1)
        counts = np.minimum(reached, self.points if orders is None else np.minimum(self.points, orders))
        return counts, np.minimum(reached[1:], self.corrector_points) if self.corrector_points else reached[:0]

    def _weights(self, family: Family, counts: np.ndarray, corrected: np.ndarray) -> np.ndarray:
        """Weights of outputs in every step, (steps, J, C), the correction of the step before included."""
        n = len(counts)
        start = np.arange(n)
        if not len(corrected):
            return family.weights(start, np.zeros_like(start), counts)
        # The predictor's steps, and each but the last once more as the corrector sees it.
        both = np.concatenate([start, start[:-1]]), np.repeat([0, 1], [n, n - 1]), np.concatenate([counts, corrected])
        w = family.weights(*both)
        width = w.shape[1]
        total = np.zeros((n, width + 1, w.shape[2]))
        total[:, :width] = w[:n]
        # The corrector replaces x_t. Predictor and corrector begin at the same x, so that they differ in outputs alone,
        # and no x of an earlier level is needed.
        total[1:, :width] += family.transfer[1:, None] * w[n:]
        total[1:, 1:] -= family.transfer[1:, None] * w[: n - 1]
        return total

    @functools.cached_property
    def _history(self) -> int:
        """How many outputs the next step looks back at."""
        return max(self.points, self.corrector_points - 1) if self.corrector_points else self.points - 1

    def kernel(self, model: Model, x: Tensor, t: Level, s: Level, state: Any = None) -> StepKernel:
        mean, later = self.step(model, x, t, s, state, NO_NOISE)
        return StepKernel(mean, s.coefficients[3], later)

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        on_x, on_outputs, added, on_noise, output, own = s.coefficients
        prediction = model(x, t)
        if own is not None:
            newest = own.output(prediction, x)
        elif type(output) is str:
            newest = prediction.factored(output)
        else:
            newest = prediction.scaled(eps=output[0], x0=output[1])
        past = (newest, *(state or ()))
        if len(past) < len(on_outputs):
            raise SolverError(f"{self!r} has {len(past)} outputs at {t!r}, needed: {len(on_outputs)}; keep its history")
        x = weighted_sum(x, on_x, on_outputs, past) if own is None else own.combined(x, past)
        if added is not None:
            x.add_(added)
        if on_noise:
            x.add_(noise(t, s, x), alpha=on_noise)
        return x, past[: self._history] or None


def entries(steps: Sequence[ByDimension] | Sequence[ByDirection]) -> list[tuple[Any, ...]]:
    """The coefficients of steps whose coordinates have their own."""
    return [(None, step.on_outputs, None, 0.0, None, step) for step in steps]


def _entries(family: Family, w: np.ndarray, added: np.ndarray | None) -> list[tuple[Any, ...]]:
    """The arrays of a run as an entry a step."""
    steps, transfer = len(w), family.transfer
    on_noise = [0.0] * steps if family.noise is None else family.noise.tolist()
    outputs: Any = [family.output] * steps
    if not isinstance(family.output, str):
        outputs = list(zip(*(v[:steps, 0].tolist() for v in family.output), strict=True))
    rows = list(map(operator.getitem, w[..., 0].tolist(), map(slice, used_of(w[..., 0]))))
    shifts: Any = [None] * steps if added is None else added[:, 0].tolist()
    if isinstance(family.mean, Tensor):
        shifts = torch.outer(torch.tensor(shifts, dtype=torch.float64).to(family.mean), family.mean.flatten())
        shifts = shifts.reshape(steps, *family.mean.shape).unbind()
    return list(zip(transfer[:, 0].tolist(), rows, shifts, on_noise, outputs, [None] * steps, strict=True))
