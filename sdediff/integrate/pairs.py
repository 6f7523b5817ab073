"""Embedded Runge-Kutta pairs with a step size for every sample, independent of diffusion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import known
from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff.integrate.arrays import each, host, rows_of, scaled_norm
from sdediff.integrate.per_sample import Counted, Result, RowField, Step, Tried, march, pi_control
from sdediff.integrate.tableaus import PAIRS, TABLEAUS, Tableau


def adaptive(
    field: RowField,
    x: Tensor,
    start: Any,
    stop: Any,
    method: str = "dopri5",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    first_step: Any = None,
    max_steps: int = 10_000,
    at: Any = None,
    visit: Callable[[Step, Tried, np.ndarray], None] | None = None,
) -> Result:
    """x(stop) of dx/dt = field(t, x, rows) from x (B, ...) at start, with step sizes of its own for every sample.

    field: (t (b,) float64, x (b, ...), rows (b,) int64) -> (b, ...) for the unfinished samples `rows`; t and
    rows are on the host. start, stop: floats or (B,), in either direction; nothing is evaluated beyond stop.
    method: one of PAIRS. A sample's error is its own root mean square of error / (atol + rtol |x|). first_step:
    its size, by default Hairer's estimate at the cost of one call. max_steps: attempts a sample. at: times (n,) or
    (n, B) within start and stop, whose states are Result.path; visit, where at is None, as in `march`. Raises
    InputError on bad arguments; failures of samples are in status.
    """
    if not known(method, PAIRS):
        raise InputError(nearest(method, PAIRS, "embedded pair"))
    if not (rtol >= 0 and atol > 0):
        raise InputError(f"needed are rtol >= 0 and atol > 0, given rtol={rtol}, atol={atol}")
    tableau, batch = TABLEAUS[method], len(x)
    counted, t, end = Counted(field, batch), each(start, batch), each(stop, batch)
    if not (np.isfinite(t).all() and np.isfinite(end).all()):
        raise InputError(f"start and stop must be finite, given {start} and {stop}")
    order = tableau.embedded + 1
    kept: tuple[Tensor, ...] = ()
    moving = np.flatnonzero(t != end)
    path = None if at is None else _Path(tableau, x, t, end, at)
    if first_step is None and len(moving):
        first, slope = _first_step(counted, x, t, end, moving, order, rtol, atol)
        kept = (slope,)
    else:
        first = each(0.0 if first_step is None else first_step, batch)
        if not (np.abs(first)[moving] > 0).all():
            raise InputError(f"first_step={first_step}: it must be positive")
    attempt = _pair(tableau, counted, rtol, atol)
    visitor = visit if path is None else path.visit
    result = march(attempt, counted, x, t, end, pi_control(order), first, kept, max_steps, visit=visitor)
    return result if path is None else replace(result, path=path.states)


def _pair(tableau: Tableau, field: Counted, rtol: float, atol: float) -> Callable[[Step], Tried]:
    stages = tuple(zip(tableau.nodes, tableau.rows, strict=True))

    def attempt(step: Step) -> Tried:
        x, rows = step.x, step.rows
        slope = step.kept[0] if tableau.fsal and step.kept else field.first(step)
        h = rows_of(step.h, x)
        slopes = [slope * h]
        for node, row in stages:
            t = step.end if node == 1 else step.t + node * step.h
            slopes.append(field(t, _sum(x, row, slopes), rows) * h)
        new, last = _sum(x, tableau.weights, slopes), slope
        if tableau.fsal:
            last = field(step.end, new, rows)
            slopes.append(last * h)
        error = scaled_norm(_sum(None, tableau.error, slopes), x, new, rtol, atol)
        return Tried(new, error, (last,), (slope,), tuple(slopes))

    return attempt


def _sum(x: Tensor | None, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """x + sum of weight times slope: one addition for each, so that a row's bits do not depend on its position."""
    total = None
    for weight, slope in zip(weights, slopes, strict=True):
        if not weight:
            continue
        if total is not None:
            total.add_(slope, alpha=weight)
        else:
            total = slope * weight if x is None else torch.add(x, slope, alpha=weight)
    return torch.zeros_like(slopes[0]) if total is None else total


def _first_step(
    field: Counted,
    x: Tensor,
    t: np.ndarray,
    end: np.ndarray,
    moving: np.ndarray,
    order: int,
    rtol: float,
    atol: float,
) -> tuple[np.ndarray, Tensor]:
    """Step sizes (B,) from the predicted error of an Euler step, and slopes. Hairer, Norsett, Wanner 1993, II.4."""
    pick = torch.from_numpy(moving)
    whole = len(moving) == len(x)
    part, begin, span = (x if whole else x[pick]), t[moving], end[moving] - t[moving]
    slope = field(begin, part, pick)
    high, rise = (scaled_norm(v, part, part, rtol, atol) for v in (part, slope))
    bounded = np.where(np.isfinite(rise), rise, 1.0)
    tiny = (high < 1e-5) | (bounded < 1e-5)
    small = np.where(tiny, 1e-6, 0.01 * high / np.where(tiny, 1.0, bounded))
    small = np.minimum(small, np.abs(span))
    h = np.sign(span) * small
    ahead = torch.add(part, slope * rows_of(h, part))
    bend = scaled_norm(field(begin + h, ahead, pick) - slope, part, part, rtol, atol) / small
    worst = np.maximum(bounded, np.where(np.isfinite(bend), bend, 1.0))
    power = np.where(worst <= 1e-15, np.maximum(1e-6, small * 1e-3), (0.01 / np.maximum(worst, 1e-15)) ** (1 / order))
    sizes, slopes = np.ones(len(x)), slope
    sizes[moving] = np.minimum(np.minimum(100 * small, power), np.abs(span))
    if not whole:
        slopes = torch.zeros_like(x).index_copy(0, pick.to(x.device), slope)
    return sizes, slopes


class _Path:
    """The states at given times, from the continuous extension of the steps that they lie in."""

    def __init__(self, tableau: Tableau, x: Tensor, start: np.ndarray, stop: np.ndarray, at: Any) -> None:
        times = host(at)
        if times.ndim not in (1, 2) or (times.ndim == 2 and times.shape[1] != len(x)):
            raise InputError(f"at must be (n,) or (n, {len(x)}), given the shape {times.shape}")
        self._at = np.broadcast_to(times.reshape(len(times), -1), (len(times), len(x)))
        if not ((self._at >= np.minimum(start, stop)) & (self._at <= np.maximum(start, stop))).all():
            raise InputError(f"times to visit must lie between start and stop, given {at}")
        self._tableau = tableau
        first = torch.from_numpy(self._at == start).to(x.device).reshape(*self._at.shape, *[1] * (x.ndim - 1))
        self.states = torch.where(first, x, math.nan)

    def visit(self, step: Step, tried: Tried, good: np.ndarray) -> None:
        rows = step.rows.numpy()
        share = (self._at[:, rows] - step.t) / step.h
        inside = (share > 0) & (share <= 1) & good
        # Despite rounding, a time that equals the end is visited, and one just beyond it only once.
        which, who = np.nonzero(inside | ((self._at[:, rows] == step.end) & good))
        if not len(which):
            return
        pick = torch.from_numpy(who)
        x = step.x[pick]
        weights = self._tableau.between(np.minimum(share[which, who], 1.0))
        for weight, slope in zip(weights, tried.slopes, strict=True):
            x = x + rows_of(weight, x) * slope[pick]
        self.states[torch.from_numpy(which), step.rows[pick]] = x
