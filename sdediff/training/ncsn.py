"""Noise levels of score networks on a ladder of sigmas, and NCSNv2's techniques that compute them from the data."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import number, samples, whole
from sdediff._utils.errors import InputError
from sdediff.sde.table import Table

_ROWS = 1024


def noise_ladder(largest: float = 1.0, smallest: float = 0.01, levels: int = 10) -> Table:
    """A table of `levels` sigmas in geometric progression, training timestep 1 being the smallest.

    By default those of NCSN for data in [0, 1] (Song and Ermon 2019); the largest of data of another range is
    `largest_distance`, and `ladder_size` gives their number.
    """
    if not 0 < number("smallest", smallest) < number("largest", largest):
        raise InputError(f"largest={largest}, smallest={smallest}: needed is 0 < smallest < largest")
    steps = torch.linspace(math.log(smallest), math.log(largest), whole("levels", levels, 2), dtype=torch.float64)
    return Table.from_sigmas(steps.exp())


def largest_distance(x: Tensor) -> float:
    """The largest Euclidean distance between two samples of x (N, ...): NCSNv2's largest sigma.

    Song and Ermon 2020, technique 1. Compares all pairs, a block at a time.
    """
    rows = samples("x", x).double().flatten(1)
    if len(rows) < 2:
        raise InputError(f"x has {len(rows)} samples: a distance needs two")
    blocks = rows.split(_ROWS)
    found = 0.0
    for i, block in enumerate(blocks):
        for other in blocks[i:]:
            found = max(found, torch.cdist(block, other, compute_mode="donot_use_mm_for_euclid_dist").max().item())
    return found


def ladder_ratio(dims: int) -> float:
    """The ratio gamma of neighbouring sigmas for data of so many numbers.

    Phi(sqrt(2 D) (gamma - 1) + 3 gamma) - Phi(sqrt(2 D) (gamma - 1) - 3 gamma) = 1/2. Song and Ermon 2020, technique 2.
    """
    root = math.sqrt(2 * whole("dims", dims, 1))

    def overlap(ratio: float) -> float:
        shift, spread = root * (ratio - 1), 3 * ratio
        return (math.erf((shift + spread) / math.sqrt(2)) - math.erf((shift - spread) / math.sqrt(2))) / 2

    low, high = 1.0, 2.0
    while overlap(high) > 0.5 and high < 1e6:
        high *= 2
    if overlap(high) > 0.5:
        raise InputError(f"dims={dims}: neighbouring sigmas overlap whatever their ratio: choose the levels by hand")
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if overlap(middle) > 0.5 else (low, middle)
    return (low + high) / 2


def ladder_size(largest: float, smallest: float, dims: int) -> int:
    """The number of levels, 1 + log(largest/smallest)/log(gamma), rounded up."""
    if not 0 < number("smallest", smallest) < number("largest", largest):
        raise InputError(f"largest={largest}, smallest={smallest}: needed is 0 < smallest < largest")
    return math.ceil(1 + math.log(largest / smallest) / math.log(ladder_ratio(dims)) - 1e-6)


def step_error(step: float, ratio: float, smallest: float, steps: int) -> float:
    """(1 - q)^(2 T) (gamma^2 - k) + k with q = step/smallest^2, k = 2 q/(1 - (1 - q)^2): 1 where Langevin is right.

    The variance after T steps at a level over the level's own, begun at the level above. Song and Ermon 2020, prop. 3.
    """
    q = step / smallest**2
    k = 2 * q / (1 - (1 - q) ** 2)
    return (1 - q) ** (2 * steps) * (ratio**2 - k) + k


def langevin_step(ratio: float, smallest: float, steps: int) -> float:
    """The step of annealed Langevin dynamics at the smallest sigma whose `step_error` is nearest to 1.

    ratio: of neighbouring sigmas; steps: T, those at each level. Song and Ermon 2020, technique 4; in the convention
    x + step score + sqrt(2 step) z, of which Song and Ermon 2019 write the double.
    """
    if not (number("ratio", ratio) > 1 and number("smallest", smallest) > 0):
        raise InputError(f"ratio={ratio}, smallest={smallest}: needed are ratio > 1 and smallest > 0")
    whole("steps", steps, 1)

    def distance(q: np.ndarray) -> np.ndarray:
        k = 2 / (2 - q)
        return np.abs((1 - q) ** (2 * steps) * (ratio**2 - k) + k - 1)

    low, high = 1e-8, 1.0
    for _ in range(12):
        shares = np.geomspace(low, high, 401)
        best = int(distance(shares).argmin())
        low, high = shares[max(best - 1, 0)], shares[min(best + 1, 400)]
    return float(math.sqrt(low * high) * smallest**2)
