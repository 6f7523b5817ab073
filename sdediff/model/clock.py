"""Clocks: what the network's second argument is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from torch import Tensor

from sdediff._utils.checks import flag, known, number, shown
from sdediff._utils.suggestions import nearest
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
# Clocks that are not finite where alpha = 0.
WITHOUT_END = ("lam", "log_snr", "sigma", "c_noise")


@dataclass(frozen=True)
class Clock:
    """The clock scale * base + offset, base one of CLOCKS: Clock("t", 1000), Clock("t", -1, 1) for 1 - t.

    whole: rounded to the nearest integer and given as int64, for networks that look their clock up (nn.Embedding); a
    time between two integers is read as the nearer one. "index" reads as time="index" does: from 0, or the labels of a
    descending table. Plain values, which a model folder keeps.
    """

    base: str
    scale: float = 1.0
    offset: float = 0.0
    whole: bool = False

    def __post_init__(self) -> None:
        if not known(self.base, CLOCKS):
            raise ModelError(nearest(self.base, CLOCKS, "clock"))
        flag("whole", self.whole)
        for name in ("scale", "offset"):
            object.__setattr__(self, name, number(name, getattr(self, name)))
        if self.scale == 0:
            raise ModelError("scale=0: the clock would not tell times from each other, give another factor")

    def __repr__(self) -> str:
        fields = [repr(self.base)]
        for name, default in (("scale", 1.0), ("offset", 0.0)):
            value = getattr(self, name)
            if value != default:
                fields.append(f"{name}={int(value) if value.is_integer() else value!r}")
        return f"Clock({', '.join([*fields, 'whole=True'] if self.whole else fields)})"


def base_of(time: Any) -> str | None:
    """The named clock that a model's `time` reads, None for a function of the user's."""
    return time.base if isinstance(time, Clock) else time if isinstance(time, str) else None


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
