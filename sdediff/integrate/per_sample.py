"""A step of its own for every sample: finished samples leave the batch, and none waits for its mates.

`march` tries steps, judges them and lets samples go, whatever a step is; `adaptive` is `march` with an
embedded Runge-Kutta pair. Times and the control of steps live on the host in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.errors import InputError

# What a sample's status number says.
STATUS = ("ok", "step limit", "not finite", "step too small")
_LIMIT, _NOT_FINITE, _TOO_SMALL = 1, 2, 3

RowField = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Result:
    """Where B samples arrived: x (B, ...) at t (B,), and at the times asked for, path (n, B, ...), or None.

    status (B,): numbers into STATUS; a sample that failed is at its last accepted t, its path NaN beyond.
    steps, rejected, calls (B,): accepted and rejected tries, calls a sample. evaluations: calls of the batch.
    size (B,): the step that would be tried next.
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


class Step(NamedTuple):
    """A try of the b samples that are left: their rows (b,), t and t + h = end (b,), states and what they keep.

    again: where the last try failed, so that x and kept are as they were. last: the error of the last success.
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
    """What came of a try: x at its end, error (b,), what to keep if it is accepted, and if not; RK's slopes h k."""

    x: Tensor
    error: np.ndarray
    kept: tuple[Tensor, ...]
    held: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...] = ()


# (error, step) -> by what the step is multiplied, and whether it is accepted.
Control = Callable[[np.ndarray, Step], tuple[np.ndarray, np.ndarray]]


class Counted:
    """A field with its calls counted by sample and by batch; its slopes must be shaped and typed like x."""

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
        """The slope at the beginning of a step: kept[0] where the last try failed, asked for elsewhere."""
        if step.kept and step.again.all():
            return step.kept[0]
        if not step.again.any():
            return self(step.t, step.x, step.rows)
        new = torch.from_numpy(np.flatnonzero(~step.again))
        fresh = self(step.t[new.numpy()], step.x[new], step.rows[new])
        return step.kept[0].index_copy(0, new.to(fresh.device), fresh)


def rows_of(value: np.ndarray, x: Tensor) -> Tensor:
    """Numbers (b,) as a tensor (b, 1, ...) that meets states x (b, ...) in their type."""
    return torch.from_numpy(value).to(device=x.device, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def scaled_norm(error: Tensor, one: Tensor, two: Tensor, rtol: float, atol: float, floor: bool = False) -> np.ndarray:
    """Root mean square (b,) of error / (atol + rtol max(|one|, |two|)), a sample; floor: of the larger term alone."""
    with torch.no_grad():
        scale = torch.maximum(one.abs(), two.abs()).mul_(rtol)
        scale = scale.clamp_(min=atol) if floor else scale.add_(atol)
        ratio = (error / scale).flatten(1)
        ratio = ratio if ratio.dtype in (torch.float32, torch.float64) else ratio.float()
        norm = torch.linalg.vector_norm(ratio, dim=1) / math.sqrt(ratio.shape[1])
        found: np.ndarray = norm.cpu().double().numpy()
    return found


def pi_control(order: int) -> Control:
    """h <- 0.9 h e^-(1/order - 0.75 m) e_last^m within (0.2 h, 10 h), m = 0.2/order; accepts e <= 1.

    After a rejection a step does not grow. Hairer and Wanner 1996, IV.2.
    """
    memory = 0.2 / order
    power = 1 / order - 0.75 * memory

    def control(error: np.ndarray, step: Step) -> tuple[np.ndarray, np.ndarray]:
        good = error <= 1
        known = np.clip(np.where(np.isfinite(error), error, np.inf), 1e-10, 1e10)
        factor = 0.9 * known**-power * np.maximum(step.last, 1e-4) ** memory
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
    """States x (B, ...) taken from start to stop (floats or (B,)) by tries of which each sample has its own.

    first: the first step's size. kept: what the first try finds kept, as if a try had failed. unclipped: the
    control scales the step proposed, not the one cut to land on stop. visit is shown every try.
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
        # A step that was cut to land on stop says nothing against the longer one that was proposed.
        h, t = np.where(good & closing, np.maximum(h, scaled), scaled), np.where(good, step.end, t)
        x = _where(good, tried.x, x)
        kept = tuple(_where(good, new, old) for new, old in zip(tried.kept, tried.held, strict=True))
        again, last = ~good, np.where(good, tried.error, last)
        done.count(rows, good, max_steps)
        leave = (good & closing) | (done.status[rows] > 0)
        if not good.all():
            leave |= done.failed(rows, step, tried, good, h)


def _where(good: np.ndarray, new: Tensor, old: Tensor) -> Tensor:
    if new is old or good.all():
        return new
    return torch.where(torch.from_numpy(good).to(new.device).reshape(-1, *[1] * (new.ndim - 1)), new, old)


def host(value: Any) -> np.ndarray:
    """Numbers or a tensor of any device as a float64 array on the host."""
    given = value.detach().cpu() if isinstance(value, Tensor) else value
    found: np.ndarray = torch.as_tensor(given, dtype=torch.float64).numpy()
    return found


def each(value: Any, batch: int) -> np.ndarray:
    """A number, or one a sample, as float64 (B,) of its own on the host."""
    return np.broadcast_to(host(value), (batch,)).copy()


class _Done:
    """Where the samples that left have arrived, and the book of all tries."""

    def __init__(self, x: Tensor, t: np.ndarray, h: np.ndarray) -> None:
        self.x, self.t, self.size = torch.empty_like(x), t.copy(), h.copy()
        self.status, self.steps, self.rejected = (np.zeros(len(x), dtype=np.int64) for _ in range(3))

    def count(self, rows: np.ndarray, good: np.ndarray, max_steps: int) -> None:
        self.steps[rows] += good
        self.rejected[rows] += ~good
        self.status[rows[self.steps[rows] + self.rejected[rows] >= max_steps]] = _LIMIT

    def failed(self, rows: np.ndarray, step: Step, tried: Tried, good: np.ndarray, h: np.ndarray) -> np.ndarray:
        """Samples (b,) that no smaller step can help: what they hold is not finite, or h is lost in t."""
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
        to, here = rows[leave], torch.from_numpy(np.flatnonzero(leave))
        if len(to) == len(self.x):
            self.x = x.clone()
        else:
            self.x.index_copy_(0, torch.from_numpy(to).to(x.device), x[here])
        self.t[to], self.size[to] = t[leave], h[leave]

    def result(self, field: Counted) -> Result:
        numbers = (self.t, self.status, self.steps, self.rejected, field.calls, self.size)
        t, status, steps, rejected, calls, size = (torch.from_numpy(v) for v in numbers)
        return Result(self.x, t, status, steps, rejected, calls, size, field.evaluations)
