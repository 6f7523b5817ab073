"""Clocks: what the network's second argument is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import flag, known, number, shown
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import times64
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
        fields += [f"scale={self.scale:.17g}"] if self.scale != 1 else []
        fields += [f"offset={self.offset:.17g}"] if self.offset else []
        return f"Clock({', '.join([*fields, 'whole=True'] if self.whole else fields)})"


class Clocked(Protocol):
    """What is read of a ScoreModel."""

    @property
    def sde(self) -> SDE: ...
    @property
    def trained(self) -> SDE | None: ...
    @property
    def time(self) -> Any: ...
    @property
    def offset(self) -> int: ...


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


def clock_rows(model: Clocked, columns: Level, levels: Sequence[Level]) -> list[Any]:
    """The readings at levels, which are given in columns too."""
    return [model.time(v) for v in levels] if callable(model.time) else _reading(model, columns).tolist()


def reading_at(model: Clocked, at: Level, batch: int) -> Any:
    """The reading of a level of floats or of (B,) tensors: a number, or one a sample."""
    clock = model.time
    if not callable(clock):
        return _reading(model, at)
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


def _reading(model: Clocked, trained: Level) -> Any:
    """What a named clock reads at a level of the process that the network was trained on."""
    base = str(base_of(model.time))
    reading = CLOCKS[base](trained)
    if not finite_reading(reading):
        readings, times = (times64(v).detach().cpu().reshape(-1) for v in (reading, trained.time))
        first = torch.isfinite(readings).int().argmin()
        raise no_reading(model, readings[first].item(), times[first].item())
    if base == "index":
        source: Any = model.trained or model.sde
        reading = (source.n + 1 - reading if getattr(source, "descending", False) else reading) - model.offset
    clock = model.time
    return clock.scale * reading + clock.offset if isinstance(clock, Clock) else reading


def no_reading(model: Clocked, reading: float, time: Any) -> ModelError:
    """The refusal of a level at which a clock is not finite."""
    hint = "start below it (start=sde.t_max)" if time > model.sde.T / 2 else "end above it, at t_min"
    return ModelError(f"the clock {model.time!r} reads {reading} at t={time}: {hint}")


def finite_reading(value: Any) -> bool:
    """Whether a number, an array or a tensor is finite; inside of vmap, where numbers have no truth, it is."""
    if isinstance(value, Tensor):
        return torch._C._functorch.is_functorch_wrapped_tensor(value) or bool(torch.isfinite(value).all())
    return bool(np.isfinite(value).all())


def clock_tensors(time: Any, readings: list[Any], x: Tensor) -> list[Tensor]:
    """What the network reads at every level, each (B,), on the states' device; floats travel together.

    Every run has its own, since a network may write into them.
    """
    whole = isinstance(time, Clock) and time.whole
    if Tensor in set(map(type, readings)):
        dtype = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
        made = [times64(r).to(device=x.device).expand(len(x)) for r in readings]
        return [r.round().to(torch.int64) if whole else r.to(dtype) for r in made]
    exact = np.array(readings, dtype=np.float64)
    rows = np.rint(exact).astype(np.int64) if whole else exact.astype(_NUMPY.get(x.dtype, np.float32))
    return list(torch.from_numpy(rows.repeat(len(x)).reshape(len(rows), -1)).to(x.device).unbind())


_NUMPY: dict[torch.dtype, Any] = {torch.float64: np.float64}


def _single(reading: Any) -> bool:
    return reading.numel() == 1 if isinstance(reading, Tensor) else reading.size == 1
