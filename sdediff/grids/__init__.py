"""Grids: the times where a solver stops, and the process evaluated at them."""

from sdediff.grids.grids import (
    GRIDS,
    GridLike,
    angle,
    beta,
    grid,
    karras,
    knots,
    log_snr,
    polynomial,
    quadratic,
    strided,
    time_shift,
    uniform,
)
from sdediff.grids.levels import Level, level

__all__ = [
    "GRIDS",
    "GridLike",
    "Level",
    "angle",
    "beta",
    "grid",
    "karras",
    "knots",
    "level",
    "log_snr",
    "polynomial",
    "quadratic",
    "strided",
    "time_shift",
    "uniform",
]
