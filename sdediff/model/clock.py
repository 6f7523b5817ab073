"""Clocks: what the network's second argument is."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
from torch import Tensor

from sdediff._utils.checks import shown
from sdediff.grids.levels import Level, level
from sdediff.model.prediction import ModelError
from sdediff.sde.base import SDE

# From the level of the process that the network was trained on: floats, arrays or tensors.
CLOCKS: dict[str, Callable[[Level], Any]] = {
    "t": attrgetter("time"),
    "index": attrgetter("time"),
    "lam": attrgetter("lam"),
    "log_snr": lambda t: 2 * t.lam,
    "sigma": attrgetter("kappa"),
    "c_noise": lambda t: -t.lam / 4,
}


def check_clock(clock: Callable[[Level], Any], sde: SDE) -> None:
    """Refuse a function whose reading of one level, between the ends, is not one finite number."""
    time = 0.5 * (sde.t_min + sde.t_max)
    try:
        reading = clock(level(sde, time))
    except Exception as error:
        raise ModelError(f"the clock {clock!r} raised {type(error).__name__} at t={time:.6g}: {error}") from error
    value = reading.item() if isinstance(reading, Tensor | np.ndarray | np.generic) and _single(reading) else reading
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"the clock {clock!r} read {shown(reading)} at t={time:.6g}: needed is one number a level")
    if not math.isfinite(value):
        raise ModelError(f"the clock {clock!r} read {value} at t={time:.6g}: needed is a finite number")


def read_clock(clock: Callable[[Level], Any], at: Level, batch: int) -> Any:
    """A function's reading of a level of floats or of (B,) tensors: a number, or one a sample."""
    try:
        reading = clock(at)
    except ZeroDivisionError:
        raise
    except Exception as error:
        raise ModelError(
            f"the clock {clock!r} raised {type(error).__name__} ({error}): a level's values are floats, or tensors "
            "with one a sample, so write it with torch functions"
        ) from error
    if isinstance(reading, Tensor) and reading.shape not in ((), (1,), (batch,)):
        raise ModelError(f"the clock {clock!r} read shape {tuple(reading.shape)}: needed is one number a sample")
    return reading


def _single(reading: Any) -> bool:
    return reading.numel() == 1 if isinstance(reading, Tensor) else reading.size == 1
