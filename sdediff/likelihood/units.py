"""Integer data: the values of its levels, and the conversion of nats to bits per dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sdediff._utils.checks import known, number, shown, whole
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.suggestions import nearest
from sdediff.likelihood.result import Likelihood
from sdediff.model.data_card import DataCard

_MAPS = ("cells", "ends")


@dataclass(frozen=True)
class Discrete:
    """Data of integer levels k = 0 .. levels - 1 at values x, each in the middle of a bin.

    mapping: "cells" is x = lo + (hi - lo)(2k + 1)/(2 levels), as in VDM (Kingma et al. 2021); "ends" is
    x = lo + (hi - lo) k/(levels - 1), Ho et al.'s k/127.5 - 1.
    """

    levels: int
    range: tuple[float, float] = (-1.0, 1.0)
    mapping: str = "cells"

    def __post_init__(self) -> None:
        if not known(self.mapping, _MAPS):
            raise InputError(nearest(self.mapping, _MAPS, "mapping"))
        whole("levels", self.levels)
        if not isinstance(self.range, tuple | list) or len(self.range) != 2:
            raise InputTypeError(f"range={shown(self.range)}: give two numbers, (lowest, highest)")
        low, high = (number("range", end) for end in self.range)
        if self.levels < 2 or not high > low:
            raise InputError(
                f"levels={self.levels}, range={self.range}: at least two levels and a rising range are needed"
            )

    @property
    def width(self) -> float:
        """The width of a bin."""
        low, high = self.range
        return (high - low) / (self.levels if self.mapping == "cells" else self.levels - 1)

    @property
    def values(self) -> Tensor:
        """The values (levels,), rising, float64."""
        first = self.range[0] + (self.width / 2 if self.mapping == "cells" else 0.0)
        return first + self.width * torch.arange(self.levels, dtype=torch.float64)

    def fits(self, card: DataCard) -> Discrete:
        """These levels themselves; ValueError where the model's card has another number or range of levels."""
        _check_card(card, self.levels, self.range, "discrete: ")
        return self

    def checked(self, x: Tensor) -> Tensor:
        """x itself; ValueError where it does not lie on the levels."""
        level = (x.double() - self.values[0].item()) / self.width
        distance = (level - level.round().clamp(0, self.levels - 1)).abs().flatten(1).amax(1)
        bad = (distance > 1e-3).nonzero().flatten()
        if len(bad):
            raise InputError(
                f"row {bad[0].item()} of x is {distance[bad[0]].item():.3g} of a bin away from the values of {self}: "
                "a probability of levels takes the levels themselves, by DataSet.tensor(), not dequantised data"
            )
        return x


def offset(levels: int, range: tuple[float, float], mapping: str = "cells") -> float:
    """log2(dk/dx) of the affine map from level k to x, bits a dimension.

    "cells": x = lo + (hi - lo)(k + u)/levels, log2 levels on [0, 1] (8 for 256) and one less on [-1, 1];
    "ends": x = lo + (hi - lo) k/(levels - 1), Ho et al.'s k/127.5 - 1 (log2 127.5 for 256).
    """
    return -math.log2(Discrete(levels, range, mapping).width)


def bits_per_dim(
    result: Likelihood | Tensor,
    *,
    levels: int | None = None,
    range: tuple[float, float] | None = None,
    mapping: str = "cells",
    dims: int | None = None,
) -> Tensor:
    """Bits per dimension (B,) of integer data: -log p / (D ln 2), plus log2(dk/dx) where p is a density.

    result: the result of log_likelihood, or log densities (B,) in nats with dims=, the numbers a sample. levels and
    range are those of the map from levels to x; a probability of levels (`Likelihood.mass`) needs neither. Continuous
    data have no bits per dimension: report nats.
    """
    if not isinstance(result, Likelihood | Tensor):
        raise InputTypeError(f"result={shown(result)}: give a result of log_likelihood, or a tensor (B,) with dims=")
    if isinstance(result, Likelihood) and dims is not None:
        raise InputError(f"dims={shown(dims)} has no effect beside a Likelihood, which has its own: leave it out")
    if dims is not None:
        dims = whole("dims", dims, 1)
    log_prob, mass = (result, False) if isinstance(result, Tensor) else (result.log_prob, result.mass)
    size = dims if isinstance(result, Tensor) else result.dims
    if size is None:
        raise InputError("bits_per_dim of a tensor needs dims=, the numbers a sample")
    bits = 0.0
    if levels is not None and range is not None:
        bits = offset(levels, range, mapping)
        if not isinstance(result, Tensor):
            _check_card(result.data, levels, range)
    elif not mass:
        raise InputError("bits_per_dim of a density needs levels= and range= of the map from levels to x")
    # Levels beside their own probability are checked like any, and change nothing.
    return -log_prob / (size * math.log(2)) + (0.0 if mass else bits)


def _check_card(card: DataCard, levels: int, range: tuple[float, float], where: str = "") -> None:
    """InputError for levels or a range other than those of the model's card."""
    if card.levels is not None and levels != card.levels:
        raise InputError(
            f"{where}levels={levels}, and the model has {card.levels} levels by its card: write levels={card.levels}"
        )
    if card.range is not None and max(abs(range[0] - card.range[0]), abs(range[1] - card.range[1])) > 1e-6:
        low, high = card.range
        raise InputError(
            f"{where}range={tuple(range)}, and the model takes data in [{low:g}, {high:g}] by its card: levels are "
            f"mapped to the range that the network takes, so write range=({low:g}, {high:g})"
        )
