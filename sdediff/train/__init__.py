"""Training: a small loop with warm-up, cosine decay, gradient clipping and averaged weights."""

from __future__ import annotations

from sdediff.train.loop import Options, Record, build, dequantised, train

__all__ = ["Options", "Record", "build", "dequantised", "train"]
