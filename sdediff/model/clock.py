"""Clocks: what the network's second argument is."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from sdediff.grids.levels import Level

# From the level of the process that the network was trained on: floats, arrays or tensors.
CLOCKS: dict[str, Callable[[Level], Any]] = {
    "t": attrgetter("time"),
    "index": attrgetter("time"),
    "lam": attrgetter("lam"),
    "log_snr": lambda t: 2 * t.lam,
    "sigma": attrgetter("kappa"),
    "c_noise": lambda t: -t.lam / 4,
}
