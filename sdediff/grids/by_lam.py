"""Grids by half the log-SNR: times where lam, or a function of it, falls by equal steps."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.sde.base import LinearSDE, SDEError


def _finite(ends: np.ndarray, sde: LinearSDE, start: float) -> tuple[float, float]:
    """Half the log-SNR at both ends; SDEError where it is infinite."""
    low, high = ends.tolist()
    if not math.isfinite(low):
        raise SDEError(f"a grid over the log-SNR needs alpha > 0 at its start, not so at t={start}: start={sde.t_max}")
    return low, high


def log_snr(sde: LinearSDE, n: int, start: float, stop: float) -> Tensor:
    """Equal steps in lam, half the log-SNR, so in log(sigma/alpha): also called "exponential". Lu et al. 2022."""
    return sde.times_between(start, stop, lambda ends: np.linspace(*_finite(ends, sde, start), n + 1))


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
        return -rho * np.log(np.linspace(high, low, n + 1))

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
