"""Grids by time alone: even steps, quantiles, and the training timesteps of a table."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.sde.base import SDE, SDEError


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
