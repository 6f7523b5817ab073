"""How a level meets a network: the scale of its input, what its clock reads, what its output means there."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff.grids.levels import Level, level, levels
from sdediff.model.prediction import PARAMETRISATIONS, ModelError
from sdediff.sde.base import SDE, LinearSDE

# What the network's second argument is, from the level of the process it was trained on.
CLOCKS: dict[str, Callable[[Level], Any]] = {
    "t": lambda t: t.time,
    "index": lambda t: t.time,
    "lam": lambda t: t.lam,
    "log_snr": lambda t: 2 * t.lam,
    "sigma": lambda t: t.kappa,
    "c_noise": lambda t: -t.lam / 4,
}


_NUMBERS = {float, int}


class Frame(NamedTuple):
    """One level and a network: its input's scale and the affine pair of its output (None where alpha = 0).

    says: the property that the output is, "moved" where it is none at this level, "" where there is no pair at all.
    """

    says: str
    scale: Any
    a: Any = None
    b: Any = None


class Ready(NamedTuple):
    """A run's frames and its own clocks, each (size,), by the times of its levels."""

    size: int
    at: dict[float, tuple[Frame, Tensor]]


@dataclass(frozen=True)
class Terms:
    """What a network reads and returns; the fields are ScoreModel's."""

    sde: SDE
    predicts: str
    time: str | Callable[[Level], Any]
    sigma_data: float
    offset: int
    trained: SDE | None

    def on(self, row: tuple[Level, ...], x: Tensor) -> Ready:
        """Frames and clocks of every level of a grid, those that its moves visit included, for states like x.

        Frames and readings are kept where nothing can change them. Clocks are tensors, which a network may write
        into, so every run has its own.
        """
        steady = self.sde.constant and (self.trained is None or self.trained.constant) and isinstance(self.time, str)
        times, frames, readings = (_kept if steady else _made)(self, row)
        return Ready(len(x), dict(zip(times, zip(frames, _clocks(readings, x), strict=True), strict=True)))

    def at(self, here: Level, x: Tensor) -> tuple[Frame, Tensor]:
        """The frame and the clock of one level."""
        old = level(self.trained, self.trained.t_of_lam(here.lam)) if isinstance(self.trained, LinearSDE) else here
        return self._frame(here, old), _clocks((self._reading(old),), x)[0]

    def _frame(self, here: Level, old: Level) -> Frame:
        if not self.sde.linear:
            return Frame("", 1.0)
        says = "moved" if self.trained is not None and self.predicts not in ("x0", "eps") else self.predicts
        try:
            a, b = PARAMETRISATIONS[self.predicts](old, self.sigma_data)
        except ZeroDivisionError:
            return Frame(says, 1.0)
        if isinstance(a, Tensor) and not bool(torch.isfinite(a).all()):
            return Frame(says, 1.0)
        scale = 1.0
        if self.predicts == "edm":
            scale = ((old.alpha * self.sigma_data) ** 2 + old.sigma**2) ** -0.5
        if self.trained is None:
            return Frame(says, scale, a, b)
        shrink = old.sigma / here.sigma
        return Frame(says, scale * shrink, a * shrink, b)

    def _reading(self, old: Level) -> Any:
        """What the clock reads at a level of the process that the network was trained on."""
        if not isinstance(self.time, str):
            return self.time(old)
        try:
            reading = CLOCKS[self.time](old)
        except ZeroDivisionError:
            reading = math.inf
        if not isinstance(reading, Tensor) and not math.isfinite(reading):
            raise ModelError(
                f"the clock {self.time!r} reads {reading} at t={old.time}: start below it (start=sde.t_max)"
            )
        return reading - self.offset if self.time == "index" else reading


def _clocks(readings: Sequence[Any], x: Tensor) -> Sequence[Tensor]:
    """What the network reads at every level, each (B,), on the states' device; floats travel at once."""
    dtype = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
    if not _NUMBERS.issuperset(map(type, readings)):
        return [torch.as_tensor(r).to(device=x.device, dtype=dtype).expand(len(x)) for r in readings]
    return torch.tensor(readings, dtype=dtype, device=x.device)[:, None].expand(-1, len(x)).contiguous().unbind()


def _made(terms: Terms, row: tuple[Level, ...]) -> tuple[tuple[float, ...], tuple[Frame, ...], tuple[Any, ...]]:
    """The times, frames and readings of a grid's levels."""
    every = tuple([v for here in row for v in (*here.inner, here)])
    sources = every
    if isinstance(terms.trained, LinearSDE):
        lam = torch.tensor([v.lam for v in every], dtype=torch.float64)
        sources = levels(terms.trained, terms.trained.t_of_lam(lam))
    times, readings = tuple([v.time for v in every]), tuple([terms._reading(old) for old in sources])
    return times, tuple([terms._frame(here, old) for here, old in zip(every, sources, strict=True)]), readings


_kept = functools.lru_cache(maxsize=64)(_made)
