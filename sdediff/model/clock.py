"""Clocks: what the network's second argument is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sdediff.grids.levels import Level

# From the level of the process that the network was trained on: floats, arrays or tensors.
CLOCKS: dict[str, Callable[[Level], Any]] = {
    "t": lambda t: t.time,
    "index": lambda t: t.time,
    "lam": lambda t: t.lam,
    "log_snr": lambda t: 2 * t.lam,
    "sigma": lambda t: t.kappa,
    "c_noise": lambda t: -t.lam / 4,
}
