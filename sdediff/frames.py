"""How a level meets a network: the scale of its input, what its clock reads, what its output means there."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff.levels import Level, level, levels
from sdediff.prediction import PARAMETRISATIONS, ModelError
from sdediff.sde import SDE, LinearSDE

# What the network's second argument is, from the level of the process it was trained on.
CLOCKS: dict[str, Callable[[Level], Any]] = {
    "t": lambda t: t.t,
    "index": lambda t: t.t,
    "lam": lambda t: t.lam,
    "log_snr": lambda t: 2 * t.lam,
    "sigma": lambda t: t.kappa,
    "c_noise": lambda t: -t.lam / 4,
}


class Frame(NamedTuple):
    """One level and a network: input scale, clock (size,), and the affine pair (None where alpha = 0).

    says: the property that the output is, "moved" where it is none at this level, "" where there is no pair at all.
    """

    size: int
    says: str
    scale: Any
    clock: Tensor
    a: Any = None
    b: Any = None


class Place(NamedTuple):
    """What states are like as far as clocks care: how many there are, in what dtype, where."""

    size: int
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Terms:
    """What a network reads and returns; the fields are ScoreModel's."""

    sde: SDE
    predicts: str
    time: str | Callable[[Level], Any]
    sigma_data: float
    offset: int
    trained: SDE | None

    def on(self, row: tuple[Level, ...], place: Place) -> dict[float, Frame]:
        """The frames of every level of a grid, those that its moves visit included, by their times.

        Kept where nothing can change them: grids are, and a network that writes into its clock gets a new one.
        """
        steady = self.sde.constant and (self.trained is None or self.trained.constant) and isinstance(self.time, str)
        if not steady:
            return _frames(self, row, place)
        found = _kept(self, row, place)
        if found[row[0].t].clock._version:
            _kept.cache_clear()
            found = _kept(self, row, place)
        return found

    def at(self, here: Level, place: Place) -> Frame:
        """The frame of one level."""
        old = level(self.trained, self.trained.t_of_lam(here.lam)) if isinstance(self.trained, LinearSDE) else here
        return self._frame(here, old, place.size, self._clocks([old], place)[0])

    def _frame(self, here: Level, old: Level, size: int, clock: Tensor) -> Frame:
        if not self.sde.linear:
            return Frame(size, "", 1.0, clock)
        says = "moved" if self.trained is not None and self.predicts not in ("x0", "eps") else self.predicts
        try:
            a, b = PARAMETRISATIONS[self.predicts](old, self.sigma_data)
        except ZeroDivisionError:
            return Frame(size, says, 1.0, clock)
        if isinstance(a, Tensor) and not bool(torch.isfinite(a).all()):
            return Frame(size, says, 1.0, clock)
        scale = 1.0
        if self.predicts == "edm":
            scale = ((old.alpha * self.sigma_data) ** 2 + old.sigma**2) ** -0.5
        if self.trained is None:
            return Frame(size, says, scale, clock, a, b)
        shrink = old.sigma / here.sigma
        return Frame(size, says, scale * shrink, clock, a * shrink, b)

    def _clocks(self, row: Sequence[Level], place: Place) -> Sequence[Tensor]:
        """What the network reads at every level, each (size,), on the states' device; floats travel at once."""
        size, dtype, device = place
        dtype = dtype if dtype in (torch.float32, torch.float64) else torch.float32
        readings = [self._reading(old) for old in row]
        if any(isinstance(reading, Tensor) for reading in readings):
            return [torch.as_tensor(r).to(device=device, dtype=dtype).expand(size) for r in readings]
        for old, reading in zip(row, readings, strict=True):
            if not math.isfinite(reading):
                raise ModelError(
                    f"the clock {self.time!r} reads {reading} at t={old.t}: start below it (start=sde.t_max)"
                )
        return torch.tensor(readings, dtype=dtype, device=device)[:, None].repeat(1, size).unbind()

    def _reading(self, old: Level) -> Any:
        if not isinstance(self.time, str):
            return self.time(old)
        try:
            reading = CLOCKS[self.time](old)
        except ZeroDivisionError:
            return math.inf
        return reading - self.offset if self.time == "index" else reading


def _frames(terms: Terms, row: tuple[Level, ...], place: Place) -> dict[float, Frame]:
    every = [v for here in row for v in (*here.inner, here)]
    sources = every
    if isinstance(terms.trained, LinearSDE):
        lam = torch.tensor([v.lam for v in every], dtype=torch.float64)
        sources = list(levels(terms.trained, terms.trained.t_of_lam(lam)))
    # What is kept must serve a run that keeps gradients, too.
    with torch.inference_mode(mode=False):
        clocks = terms._clocks(sources, place)
    pairs = zip(every, sources, clocks, strict=True)
    return {here.t: terms._frame(here, old, place.size, clock) for here, old, clock in pairs}


_kept = functools.lru_cache(maxsize=32)(_frames)
