"""From nats to bits per dimension of integer data."""

from __future__ import annotations

import math

from torch import Tensor

from sdediff.likelihood.result import Likelihood
from sdediff.names import nearest

_MAPS = ("cells", "ends")


def offset(levels: int, range: tuple[float, float], mapping: str = "cells") -> float:
    """log2(dk/dx) of the affine map from level k to x, bits a dimension.

    "cells": x = lo + (hi - lo)(k + u)/levels, log2 levels on [0, 1] (8 for 256) and one less on [-1, 1];
    "ends": x = lo + (hi - lo) k/(levels - 1), Ho et al.'s k/127.5 - 1 (log2 127.5 for 256).
    """
    if mapping not in _MAPS:
        raise ValueError(nearest(mapping, _MAPS, "mapping"))
    low, high = range
    if levels < 2 or not high > low:
        raise ValueError(f"levels={levels}, range={range}: at least two levels and a rising range are needed")
    return math.log2((levels if mapping == "cells" else levels - 1) / (high - low))


def bits_per_dim(
    result: Likelihood | Tensor,
    *,
    levels: int,
    range: tuple[float, float],
    mapping: str = "cells",
    dims: int | None = None,
) -> Tensor:
    """Bits per dimension (B,) of dequantised integer data: -log p / (D ln 2) + log2(dk/dx).

    result: of log_likelihood, or log densities (B,) in nats with dims=. levels and range are those of the
    map that made x; for continuous data there are no bits per dimension, report nats.
    """
    if isinstance(result, Tensor):
        if dims is None:
            raise ValueError("bits_per_dim of a tensor needs dims=, the numbers a sample")
        return -result / (dims * math.log(2)) + offset(levels, range, mapping)
    return -result.log_prob / (result.dims * math.log(2)) + offset(levels, range, mapping)
