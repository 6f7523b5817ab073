"""A step as numbers: what becomes of x and of the network's outputs, and what a corrector makes of two steps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sdediff._utils.tensors import Columns, LookedUp, product
from sdediff.grids.levels import Level
from sdediff.model.data_statistics import Axes
from sdediff.model.prediction import Prediction

# An output is a factor times a tensor, which saves an addition.
Output = tuple[float, Tensor]
# The coordinates of states as they are, where a constant is itself.
STATES = Axes(1.0, torch.ones(()), None, plain=True)


@dataclass(frozen=True, eq=False)
class Move:
    """A step x_s = on_x x_t + sum_j on_outputs[j] P_j + constant mean, the newest output first.

    Numbers, or arrays (C,) with one a coordinate of `axes`, in which outputs are given then; mean is that of the axes.
    """

    on_x: Any
    on_outputs: Sequence[Any]
    constant: Any = 0.0
    axes: Axes = STATES

    @functools.cached_property
    def _columns(self) -> Columns:
        return Columns(self.on_x, self.constant, *self.on_outputs)

    def __call__(self, x: Tensor, past: Sequence[Output]) -> Tensor:
        """x (B, ...) after the step over the outputs `past`, without noise; a fresh tensor."""
        if type(self.on_x) is float:
            new = product(x, self.on_x)
            for weight, (unit, value) in zip(self.on_outputs, past, strict=False):
                if weight:
                    new.add_(value, alpha=weight * unit)
            if self.constant:
                new.add_(_mean(self.axes, x.shape), alpha=self.constant)
            return new
        y = self.axes.split(x)
        on_x, constant, *on_outputs = self._columns.like(y)
        new = (y * on_x).addcmul_(constant, self.axes.mean)  # which may be a number on the CPU, in this place
        for weight, (_, value) in zip(on_outputs, past, strict=False):
            new.addcmul_(value, weight)
        return self.axes.join(new, x.shape)


@functools.lru_cache(maxsize=64)
def _mean(axes: Axes, shape: torch.Size) -> Tensor:
    """The mean of coordinates that are dimensions, as states of this shape have it."""
    return axes.mean.reshape(shape[1:]) if axes.mean.ndim else axes.mean


class Maker(Protocol):
    """How outputs are formed of predictions, and the move from t to s over outputs at the levels `past`, newest first.

    A value that no other kind of maker equals, so that moves are looked up by it. size: how many numbers each
    coefficient in them is, 0 where it is a float.
    """

    @property
    def size(self) -> int: ...

    def output(self, prediction: Prediction, /) -> Output: ...

    def __call__(self, t: Level, s: Level, past: tuple[Level, ...], /) -> Move: ...


@LookedUp
def moves(
    make: Maker,
    t: Level,
    s: Level,
    row: tuple[Level, ...],
    points: int,
    corrector: int,
    before: tuple[Level, Move] | None,
) -> tuple[Move, Move]:
    """The move from t to s over the first `points` outputs at the levels `row`; with the last correction, and without.

    before: where the last step began and its move without correction, or None. Kept, since one grid serves many
    batches: the levels of a kept grid are looked up by what they are.
    """
    made = make(t, s, row[:points])
    if before is None:
        return made, made
    start, taken = before
    return _corrected(made, taken, make(start, t, row[:corrector])), made


def _corrected(move: Move, taken: Move, better: Move) -> Move:
    """A move from where `better`, which knows x_t's output too, ends, to be made from where `taken` ended.

    Both begin at the same x, so they differ in outputs alone: that x need not be known any more.
    """
    c = move.on_x
    total = [0.0] * max(len(move.on_outputs), len(better.on_outputs), 1 + len(taken.on_outputs))
    for factor, weights, later in ((1.0, move.on_outputs, 0), (c, better.on_outputs, 0), (-c, taken.on_outputs, 1)):
        for i, weight in enumerate(weights, later):
            total[i] = total[i] + factor * weight
    return Move(c, total, move.constant + c * (better.constant - taken.constant), move.axes)
