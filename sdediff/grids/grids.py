"""Grids: the times where a solver stops on its way from noise to data.

A grid is n + 1 decreasing float64 times, n moves; it never contains sigma = 0 (the jump to data is
`sample`'s `denoise`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sdediff._utils.checks import number, real_tensor, whole
from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import times64
from sdediff.grids.by_time import beta, knots, quadratic, strided, uniform
from sdediff.grids.grid_options import check_options, of_function
from sdediff.sde.base import SDE, LinearSDE, SDEError, linear
from sdediff.sde.checks import check_process

GridLike = str | Callable[..., Tensor] | Sequence[float] | Tensor


def _finite(ends: np.ndarray, sde: LinearSDE, start: float) -> tuple[float, float]:
    """Half the log-SNR at both ends; SDEError where it is infinite."""
    low, high = ends.tolist()
    if not math.isfinite(low):
        raise SDEError(f"a grid over the log-SNR needs alpha > 0 at its start, not so at t={start}: start={sde.t_max}")
    return low, high


def _even(start: float, stop: float, n: int) -> np.ndarray:
    """n + 1 numbers at even steps; `np.linspace` takes four times as long over so few."""
    values: np.ndarray = np.arange(n + 1) * ((stop - start) / n) + start
    return values


def log_snr(sde: LinearSDE, n: int, start: float, stop: float) -> Tensor:
    """Equal steps in lam, half the log-SNR, so in log(sigma/alpha): also called "exponential". Lu et al. 2022."""
    return sde.times_between(start, stop, lambda ends: _even(*_finite(ends, sde, start), n))


def polynomial(sde: LinearSDE, n: int, start: float, stop: float, rho: float = 1.0) -> Tensor:
    """Equal steps in the rho-th root of log(sigma/alpha) above its end; rho = 1 is log_snr, more crowds the data.

    Also called "polyexponential".
    """

    def place(ends: np.ndarray) -> np.ndarray:
        low, high = _finite(ends, sde, start)
        return high - (high - low) * np.linspace(1, 0, n + 1) ** rho

    return sde.times_between(start, stop, place)


def karras(sde: LinearSDE, n: int, start: float, stop: float, rho: float = 7.0) -> Tensor:
    """Equal steps in (sigma/alpha)^(1/rho). Karras et al. 2022, eq. 5."""

    def place(ends: np.ndarray) -> np.ndarray:
        high, low = (math.exp(-lam / rho) for lam in _finite(ends, sde, start))
        return -rho * np.log(_even(high, low, n))

    return sde.times_between(start, stop, place)


def angle(sde: LinearSDE, n: int, start: float, stop: float, sigma_data: float = 1.0, power: float = 1.0) -> Tensor:
    """Equal steps in phi^(1/power), phi = atan(sigma / (alpha sigma_data))."""

    def place(ends: np.ndarray) -> np.ndarray:
        high, low = np.arctan(np.exp(-ends) / sigma_data) ** (1 / power)
        return -np.log(sigma_data * np.tan(np.linspace(high, low, n + 1) ** power))

    return sde.times_between(start, stop, place)


def time_shift(sde: LinearSDE, n: int, start: float, stop: float, shift: float = 3.0) -> Tensor:
    """Equal steps in sigma/(sigma + shift alpha): a flow's even times with sigma/alpha multiplied by shift.

    On a rectified flow t = shift u / (1 + (shift - 1) u) of even u. Esser et al. 2024, eq. 23.
    """
    if shift <= 0:
        raise InputError(f"shift={shift}: sigma/alpha is multiplied by it, write a positive number")

    def place(ends: np.ndarray) -> np.ndarray:
        high, low = 1 / (1 + np.exp(ends + math.log(shift)))
        u = np.linspace(high, low, n + 1)
        return np.log1p(-u) - np.log(u) - math.log(shift)

    return sde.times_between(start, stop, place)


# A function (sde, n, start, stop, **options) -> times. `tuned` is added by the package's __init__, as the analysis that
# it rests on stands above this module.
GRIDS: dict[str, Callable[..., Tensor]] = {
    **{f.__name__: f for f in (uniform, quadratic, beta, log_snr, polynomial, karras, angle, time_shift)},
    "exponential": log_snr,
    "polyexponential": polynomial,
    "knots": knots,
    "strided": strided,
}
# These know t alone; the others read alpha and sigma.
_IN_TIME = ("uniform", "quadratic", "beta", "knots", "strided")
# These start at t_max unless told otherwise: where alpha = 0 lam is not finite.
FROM_T_MAX = ("log_snr", "exponential", "polynomial", "polyexponential", "karras", "tuned")


def grid(
    kind: GridLike,
    sde: SDE,
    n: int | None = None,
    start: float | None = None,
    stop: float | None = None,
    **options: Any,
) -> Tensor:
    """n + 1 decreasing float64 times from `start` (the process's T) down to `stop` (its t_min).

    kind: a name of GRIDS (uniform, quadratic, beta, log_snr = exponential, polynomial = polyexponential, karras,
    angle, time_shift, tuned, knots, strided), a function (sde, n, start, stop) -> times, or the times.
    options: the named grid's own, such as karras's rho. Where alpha(T) = 0 the grids over the log-SNR
    start at t_max, just below T. Raises ValueError on a grid that does not fall.
    """
    check_process(sde)
    return make_grid(kind, sde, n, start, stop, **options)


def make_grid(
    kind: GridLike,
    sde: SDE,
    n: int | None = None,
    start: float | None = None,
    stop: float | None = None,
    **options: Any,
) -> Tensor:
    """`grid` for a process that was checked before."""
    if isinstance(kind, str) and kind not in GRIDS:
        raise InputError(nearest(kind, GRIDS, "grid"))
    if isinstance(kind, str) or callable(kind):
        make = GRIDS[kind] if isinstance(kind, str) else kind
        if n is not None and type(n) is not int:
            n = whole("steps", n)
        if (n is None and kind != "knots") or (n is not None and not 1 <= n <= 10**7):
            raise InputError(f"steps={n}: a grid needs at least one step, a whole number of them, 10 million at most")
        by_lam = isinstance(kind, str) and kind in FROM_T_MAX
        if isinstance(kind, str) and kind not in _IN_TIME and not sde.linear:
            raise SDEError(f"the grid {kind!r} needs alpha and sigma, which {type(sde).__name__} does not give")
        start = (
            (sde.t_max if by_lam else sde.T)
            if start is None
            else start
            if type(start) is float
            else number("start", start)
        )
        stop = sde.t_min if stop is None else stop if type(stop) is float else number("stop", stop)
        if not sde.T >= start > stop >= 0:
            raise InputError(f"a grid falls from start to stop within [0, {sde.T}], given start={start}, stop={stop}")
        if options:
            check_options(make, kind, options)
        ends = sde, n, start, stop
        made = make(*ends, **options) if isinstance(kind, str) else of_function(make, *ends, **options)
        times = times64(made if isinstance(made, Tensor) else real_tensor("grid", made)).detach().clone()
        if times.ndim == 1 and times.shape[0] > 1 and make not in (knots, strided):
            row = times.numpy()  # which shares the memory of times
            row[0], row[-1] = start, stop
        return _checked(times, sde, at_data=not by_lam)
    ignored = {"steps": n, "start": start, "stop": stop, **options}
    for name in [name for name, value in ignored.items() if value is not None][:1]:
        raise InputError(
            f"the grid's times were given: leave steps and calls out, start, stop and options too ({name}=)"
        )
    return _checked(real_tensor("grid", kind).detach().clone(), sde, at_data=True)


def _checked(times: Tensor, sde: SDE, at_data: bool) -> Tensor:
    """at_data: whether the last time may be one where sigma is 0."""
    if times.ndim != 1 or times.shape[0] < 2:
        raise InputError(f"a grid is a row of at least two times, given the shape {tuple(times.shape)}")
    values = times.tolist()
    if not all(map(operator.gt, values, values[1:])):
        raise InputError(f"a grid falls strictly from noise to data, given {values[:4]}...: sort it downwards")
    if not (0 <= values[-1] and values[0] <= sde.T):
        raise InputError(f"grid times must lie in [0, {sde.T}], given {values[0]} to {values[-1]}")
    if at_data and sde.linear and linear(sde).sigma(times[-1:]).item() == 0:
        raise InputError(f"sigma is 0 at t={values[-1]}: end above it, at t_min={sde.t_min}; denoise=True jumps on")
    return times
