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
import torch
from torch import Tensor

from sdediff._utils.checks import number, real_tensor, whole
from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import times64
from sdediff.grids.by_lam import angle, karras, log_snr, polynomial, time_shift
from sdediff.grids.grid_options import check_options, of_function
from sdediff.sde.base import SDE, SDEError, linear
from sdediff.sde.checks import check_process

GridLike = str | Callable[..., Tensor] | Sequence[float] | Tensor


def uniform(sde: SDE, n: int, start: float, stop: float) -> Tensor:
    """Equal steps in t."""
    return torch.linspace(start, stop, n + 1, dtype=torch.float64)


def quadratic(sde: SDE, n: int, start: float, stop: float, power: float = 2.0) -> Tensor:
    """Equal steps in t^(1/power). DDIM (Song et al. 2020, appendix D) has power 2."""
    return uniform(sde, n, start ** (1 / power), stop ** (1 / power)) ** power


def beta(sde: SDE, n: int, start: float, stop: float, alpha: float = 0.6, beta: float = 0.6) -> Tensor:
    """Even quantiles of the distribution Beta(alpha, beta) from stop to start: both ends are crowded. Lee et al. 2024.

    In t; on EDM's process, where t is sigma, these are the "beta sigmas" of other libraries.
    """
    from scipy.special import betaincinv

    if not (alpha > 0 and beta > 0):
        raise InputError(f"alpha={alpha}, beta={beta}: a Beta distribution needs both positive")
    share = betaincinv(alpha, beta, np.linspace(1, 0, n + 1))
    return stop + (start - stop) * torch.from_numpy(share)


def knots(sde: SDE, n: int | None, start: float, stop: float) -> Tensor:
    """Every knot of a table from start down: its N knots are N - 1 moves."""
    _check_knots(sde)
    _whole_ends("knots", start, stop)
    times = torch.arange(math.floor(start), math.ceil(stop) - 1, -1, dtype=torch.float64)
    if n is not None and n != len(times) - 1:
        raise InputError(
            f"the grid 'knots' has {len(times) - 1} moves, asked for {n}: leave steps out, or use 'strided'"
        )
    return times


def strided(sde: SDE, n: int, start: float, stop: float, spacing: str = "linspace") -> Tensor:
    """n + 1 knots of a table. spacing: "leading" and "trailing" step by N/(n + 1) from either end (leading
    rounds the stride down), "linspace" holds both ends. As common discrete samplers name them."""
    total = math.floor(start) - math.ceil(stop) + 1
    count = n + 1
    _check_knots(sde)
    _whole_ends("strided", start, stop)
    if count > total:
        raise InputError(
            f"{count} distinct knots were asked of a table with {total}: ask for at most {total - 1} steps"
        )
    if spacing == "leading":
        times = torch.arange(count, dtype=torch.float64).mul(total // count).flip(0) + 1
    elif spacing == "trailing":
        times = (total - torch.arange(count, dtype=torch.float64) * total / count).round()
    elif spacing == "linspace":
        times = torch.from_numpy(np.linspace(0, total - 1, count).round()[::-1].copy()) + 1
    else:
        raise InputError(f"spacing={spacing!r}: write 'leading', 'trailing' or 'linspace'")
    return times + math.ceil(stop) - 1


def _whole_ends(kind: str, start: float, stop: float) -> None:
    for name, time in (("start", start), ("stop", stop)):
        if time != math.floor(time) or time < 1:
            near = max(1, round(time))
            raise InputError(f"{name}={time} is no training timestep, as the grid {kind!r} needs: write {name}={near}")


def _check_knots(sde: SDE) -> None:
    if getattr(sde, "n", None) is None:
        raise SDEError(f"{type(sde).__name__} has no knots: use another grid, or make a Table of it")


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
        if times.ndim != 1 or len(times) < 2:
            return _checked(times, sde, at_data=not by_lam)
        if make not in (knots, strided):
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
    if times.ndim != 1 or len(times) < 2:
        raise InputError(f"a grid is a row of at least two times, given the shape {tuple(times.shape)}")
    values = times.tolist()
    if not all(map(operator.gt, values, values[1:])):
        raise InputError(f"a grid falls strictly from noise to data, given {values[:4]}...: sort it downwards")
    if not (0 <= values[-1] and values[0] <= sde.T):
        raise InputError(f"grid times must lie in [0, {sde.T}], given {values[0]} to {values[-1]}")
    if at_data and sde.linear and linear(sde).sigma(times[-1:]).item() == 0:
        raise InputError(f"sigma is 0 at t={values[-1]}: end above it, at t_min={sde.t_min}; denoise=True jumps on")
    return times
