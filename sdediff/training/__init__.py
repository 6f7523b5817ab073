"""Training: objectives, and a small loop with warm-up, cosine decay, gradient clipping and averaged weights."""

from __future__ import annotations

from sdediff.training.loop import Options, Record, build, dequantised, train
from sdediff.training.objectives import WEIGHTINGS, loss, times

__all__ = ["WEIGHTINGS", "Options", "Record", "build", "dequantised", "loss", "times", "train"]
