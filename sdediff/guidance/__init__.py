"""Guidance: functions from model to model that change what is predicted."""

from sdediff.guidance.changes import Clip, Threshold, clip, map_prediction, of_x0, threshold

__all__ = ["Clip", "Threshold", "clip", "map_prediction", "of_x0", "threshold"]
