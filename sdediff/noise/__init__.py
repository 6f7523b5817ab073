"""Where randomness comes from: pure functions of (seed, sample index, level, draw)."""

from sdediff.noise.brownian import Brownian
from sdediff.noise.counter import Counter, Noise
from sdediff.noise.stream import Stream

__all__ = ["Brownian", "Counter", "Noise", "Stream"]
