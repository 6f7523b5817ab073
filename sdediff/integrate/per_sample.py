"""Adaptive integration with a step size for every sample; finished samples leave the batch.

`march` attempts steps of any kind, accepts or rejects them for each sample and drops the finished samples; `adaptive`
is `march` with an embedded Runge-Kutta pair. Times and step sizes are float64 on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.integrate.arrays import each

# The meaning of a sample's status number.
STATUS = ("ok", "step limit", "not finite", "step too small")
_LIMIT, _NOT_FINITE, _TOO_SMALL = 1, 2, 3

RowField = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The states x (B, ...) reached at t (B,); path (n, B, ...) at the requested times, or None.

    status (B,): indices into STATUS; a failed sample stays at its last accepted t, and its path is NaN beyond.
    steps, rejected, calls (B,): accepted and rejected attempts and calls of each sample. evaluations: calls of the
    batch. size (B,): the size of the next attempt.
    """

    x: Tensor
    t: Tensor
    status: Tensor
    steps: Tensor
    rejected: Tensor
    calls: Tensor
    size: Tensor
    evaluations: int
    path: Tensor | None = None

    def __repr__(self) -> str:
        failed = int((self.status > 0).sum())
        return f"Result({len(self.x)} samples, {failed} failed, {self.evaluations} evaluations)"


class Step(NamedTuple):
    """An attempt of the b unfinished samples: their rows (b,), t and t + h = end (b,), states, and tensors they carry.

    kept: carried from the last attempt. again: where it was rejected, so that x and kept are unchanged. last: the
    error of the last accepted attempt.
    """

    rows: Tensor
    t: np.ndarray
    h: np.ndarray
    end: np.ndarray
    x: Tensor
    kept: tuple[Tensor, ...]
    again: np.ndarray
    last: np.ndarray


class Tried(NamedTuple):
    """The result of an attempt: x at its end, error (b,), tensors to carry if accepted (kept) and if rejected (held).

    slopes: the stages h k of a Runge-Kutta pair.
    """

    x: Tensor
    error: np.ndarray
    kept: tuple[Tensor, ...]
    held: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...] = ()


# (error, step) -> the factor for the next step size, and whether the attempt is accepted.
Control = Callable[[np.ndarray, Step], tuple[np.ndarray, np.ndarray]]


class Counted:
    """A field that counts its calls for each sample and for the batch; its slopes must be shaped and typed like x."""

    def __init__(self, field: RowField, batch: int) -> None:
        self._field = field
        self.calls, self.evaluations = np.zeros(batch, dtype=np.int64), 0

    def __call__(self, t: np.ndarray, x: Tensor, rows: Tensor) -> Tensor:
        slope = self._field(torch.from_numpy(t), x, rows)
        if slope.shape != x.shape or slope.dtype != x.dtype:
            raise InputError(
                f"the field gave {tuple(slope.shape)} {slope.dtype} for states {tuple(x.shape)} {x.dtype}: "
                "needed is a slope of the same shape and type"
            )
        self.calls[rows.numpy()] += 1
        self.evaluations += 1
        return slope

    def first(self, step: Step) -> Tensor:
        """The slope at the beginning of a step: kept[0] where the last attempt was rejected, evaluated elsewhere."""
        if step.kept and step.again.all():
            return step.kept[0]
        if not step.again.any():
            return self(step.t, step.x, step.rows)
        new = torch.from_numpy(np.flatnonzero(~step.again))
        fresh = self(step.t[new.numpy()], step.x[new], step.rows[new])
        return step.kept[0].index_copy(0, new.to(fresh.device), fresh)


def pi_control(order: int) -> Control:
    """h <- 0.9 h e^-(1/order - 0.75 m) e_last^m within (0.2 h, 10 h), m = 0.2/order; accepts e <= 1.

    After a rejection a step does not grow. Hairer and Wanner 1996, IV.2.
    """
    memory = 0.2 / order
    power = 1 / order - 0.75 * memory

    def control(error: np.ndarray, step: Step) -> tuple[np.ndarray, np.ndarray]:
        good = error <= 1
        bounded = np.clip(np.where(np.isfinite(error), error, np.inf), 1e-10, 1e10)
        factor = 0.9 * bounded**-power * np.maximum(step.last, 1e-4) ** memory
        return np.clip(factor, 0.2, np.where(good & ~step.again, 10.0, 1.0)), good

    return control


def march(
    attempt: Callable[[Step], Tried],
    field: Counted,
    x: Tensor,
    start: Any,
    stop: Any,
    control: Control,
    first: Any,
    kept: tuple[Tensor, ...] = (),
    max_steps: int = 10_000,
    unclipped: bool = False,
    visit: Callable[[Step, Tried, np.ndarray], None] | None = None,
) -> Result:
    """Integrate states x (B, ...) from start to stop (floats or (B,)), with step sizes of its own for each sample.

    first: the size of the first step. kept: tensors carried into the first attempt, as if one had been rejected.
    unclipped: the control scales the proposed step, not the one shortened to land on stop. visit: called each time.
    """
    batch = len(x)
    t, end, h = each(start, batch), each(stop, batch), np.abs(each(first, batch))
    done = _Done(x, t, h)
    rows, sign, last, again = np.arange(batch), np.sign(end - t), np.ones(batch), np.full(batch, bool(kept))
    index = torch.from_numpy(rows)
    leave = end == t
    while True:
        if leave.any():
            done.take(rows, leave, x, t, h)
            stay = np.flatnonzero(~leave)
            rows, again = rows[stay], again[stay]
            t, end, h, sign, last = (v[stay] for v in (t, end, h, sign, last))
            pick = torch.from_numpy(stay)
            index, x, kept = torch.from_numpy(rows), x[pick], tuple(v[pick] for v in kept)
        if not len(rows):
            return done.result(field)
        left = np.abs(end - t)
        closing = h >= left * (1 - 1e-12)
        used = np.where(closing, left, h)
        step = Step(index, t, used * sign, np.where(closing, end, t + used * sign), x, kept, again, last)
        tried = attempt(step)
        factor, good = control(tried.error, step)
        if visit is not None:
            visit(step, tried, good)
        scaled = (h if unclipped else used) * factor
        # A step shortened to land on stop is no reason to shrink the longer one that was proposed.
        h, t = np.where(good & closing, np.maximum(h, scaled), scaled), np.where(good, step.end, t)
        x = _where(good, tried.x, x)
        kept = tuple(_where(good, new, old) for new, old in zip(tried.kept, tried.held, strict=True))
        again, last = ~good, np.where(good, tried.error, last)
        arrived = good & closing
        done.count(rows, good, arrived, max_steps)
        leave = arrived | (done.status[rows] > 0)
        if not good.all():
            leave |= done.failed(rows, step, tried, good, h)


def _where(good: np.ndarray, new: Tensor, old: Tensor) -> Tensor:
    if new is old or good.all():
        return new
    return torch.where(torch.from_numpy(good).to(new.device).reshape(-1, *[1] * (new.ndim - 1)), new, old)


class _Done:
    """The states of finished samples, and the counts of all attempts."""

    def __init__(self, x: Tensor, t: np.ndarray, h: np.ndarray) -> None:
        self.x, self.t, self.size = torch.empty_like(x), t.copy(), h.copy()
        self.status, self.steps, self.rejected = (np.zeros(len(x), dtype=np.int64) for _ in range(3))

    def count(self, rows: np.ndarray, good: np.ndarray, arrived: np.ndarray, max_steps: int) -> None:
        self.steps[rows] += good
        self.rejected[rows] += ~good
        self.status[rows[~arrived & (self.steps[rows] + self.rejected[rows] >= max_steps)]] = _LIMIT

    def failed(self, rows: np.ndarray, step: Step, tried: Tried, good: np.ndarray, h: np.ndarray) -> np.ndarray:
        """Whether samples (b,) have failed: their tensors are not finite, or h is below the resolution of t."""
        status = np.zeros(len(rows), dtype=np.int64)
        wild = ~good & ~np.isfinite(tried.error)
        small = ~good & (h <= 16 * np.spacing(np.maximum(np.abs(step.t), np.abs(step.end))))
        status[small] = np.where(wild[small], _NOT_FINITE, _TOO_SMALL)
        if wild.any():
            for held in (step.x, *tried.held):
                lost = ~torch.isfinite(held).flatten(1).all(1).cpu().numpy()
                status[wild & lost] = _NOT_FINITE
        self.status[rows] = np.where(status > 0, status, self.status[rows])
        return status > 0

    def take(self, rows: np.ndarray, leave: np.ndarray, x: Tensor, t: np.ndarray, h: np.ndarray) -> None:
        finished, positions = rows[leave], torch.from_numpy(np.flatnonzero(leave))
        if len(finished) == len(self.x):
            self.x = x.clone()
        else:
            self.x.index_copy_(0, torch.from_numpy(finished).to(x.device), x[positions])
        self.t[finished], self.size[finished] = t[leave], h[leave]

    def result(self, field: Counted) -> Result:
        numbers = (self.t, self.status, self.steps, self.rejected, field.calls, self.size)
        t, status, steps, rejected, calls, size = (torch.from_numpy(v) for v in numbers)
        return Result(self.x, t, status, steps, rejected, calls, size, field.evaluations)
