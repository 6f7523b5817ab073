"""Training: objectives, and a small loop with warm-up, cosine decay, gradient clipping and averaged weights."""

from sdediff.training.loop import TrainingError, TrainingLog, TrainingSettings, build, dequantised, train
from sdediff.training.objectives import WEIGHTINGS, loss, training_times

__all__ = [
    "WEIGHTINGS",
    "TrainingError",
    "TrainingLog",
    "TrainingSettings",
    "build",
    "dequantised",
    "loss",
    "train",
    "training_times",
]
