"""Processes: how data becomes noise."""

from sdediff.sde.base import SDE, LinearSDE, SDEError, linear
from sdediff.sde.coefficients import Kernel, Reverse, Schedule
from sdediff.sde.learned import LearnedVP, first_gamma
from sdediff.sde.processes import EDM, VE, VP, Cosine, RectifiedFlow, SubVP
from sdediff.sde.table import Table

__all__ = [
    "EDM",
    "SDE",
    "VE",
    "VP",
    "Cosine",
    "Kernel",
    "LearnedVP",
    "LinearSDE",
    "RectifiedFlow",
    "Reverse",
    "SDEError",
    "Schedule",
    "SubVP",
    "Table",
    "first_gamma",
    "linear",
]
