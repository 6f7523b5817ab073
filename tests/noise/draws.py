"""Times, empty states, and how far a correlation lies from none."""

import math
from types import SimpleNamespace

import numpy as np
import torch


def at(index, time=None):
    """What a noise reads of a level."""
    return SimpleNamespace(index=index, time=time)


def empty(*shape, dtype=torch.float64):
    return torch.empty(shape, dtype=dtype)


def correlation_z(a, b):
    """z-score of the correlation of two arrays of independent numbers: r sqrt(n) is N(0, 1)."""
    a, b = np.ravel(a), np.ravel(b)
    return np.corrcoef(a, b)[0, 1] * math.sqrt(len(a))
