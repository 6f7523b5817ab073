"""What a model's card says of its data, and whether statistics fit it."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

from sdediff._utils.errors import DataWarning
from sdediff.model.data_statistics import Statistics
from sdediff.model.prediction import ModelError

Range = tuple[float, float]
# Values beyond either end of the range by more than this share of its width are doubtful: dequantised values stay
# inside, and samples of a network leave it by less.
TOLERANCE = 1 / 8


class DataCard(NamedTuple):
    """The entries "levels", "range", "shape" and "dequantised" of a card's data, None where it does not say.

    dequantised: whether the network was trained on levels with uniform noise over their cells.
    """

    levels: int | None = None
    range: Range | None = None
    shape: tuple[int, ...] | None = None
    dequantised: bool | None = None

    @classmethod
    def of(cls, card: dict[str, Any]) -> DataCard:
        """What a model's card says. ModelError: entries of another kind."""
        given = card.get("data") or {}
        if not isinstance(given, dict):
            raise ModelError(f"the card's data={given!r}: write a dictionary with levels, range and shape")
        levels, bounds, shape = given.get("levels"), given.get("range"), given.get("shape")
        if levels is not None and not (isinstance(levels, int) and levels >= 2):
            raise ModelError(f"the card's levels={levels!r}: write an integer >= 2, or leave it out")
        try:
            bounds = None if bounds is None else (float(bounds[0]), float(bounds[1]))
            shape = None if shape is None else tuple(int(size) for size in shape)
        except (TypeError, ValueError, IndexError, KeyError):
            raise ModelError(
                f"the card's range={bounds!r}, shape={shape!r}: write such as [-1, 1] and [1, 8, 8], or leave them out"
            ) from None
        if bounds is not None and not -math.inf < bounds[0] < bounds[1] < math.inf:
            raise ModelError(f"the card's range={bounds!r}: write two finite numbers, the lower first")
        dequantised = given.get("dequantised")
        if dequantised is not None and not isinstance(dequantised, bool):
            raise ModelError(f"the card's dequantised={dequantised!r}: write true or false, or leave it out")
        return cls(levels, bounds, shape, dequantised)

    @property
    def bounds(self) -> Range:
        """The range of values that the network was trained on; (-1, 1) where the card does not say."""
        return self.range or (-1.0, 1.0)


def check_statistics(entries: dict[str, Any], stats: Statistics) -> None:
    """Compare statistics with a card: shape, mean within the range, no spread beyond what the range allows.

    ModelError for what no data of that range have; DataWarning where all means lie in the range's upper half and all
    spreads are at most a quarter of its width, as of data in [0, 1] for a network in [-1, 1].
    """
    card = DataCard.of(entries)
    if card.shape is not None and tuple(stats.mean.shape) != card.shape:
        raise ModelError(f"statistics of shape {tuple(stats.mean.shape)}, by its card the model takes {card.shape}")
    if card.range is None:
        return
    (low, high), (least, most, std) = card.range, stats.extent
    width = high - low
    fault = (
        f"statistics with means in [{least:.4g}, {most:.4g}] and standard deviations up to {std:.4g}, the network was "
        f"trained on data in [{low:g}, {high:g}] by its card: measure them on data of that range, "
        f"sd.statistics(data.dequantised(range=({low:g}, {high:g})))"
    )
    margin = TOLERANCE * width
    if least < low - margin or most > high + margin or std > width / 2 + margin:
        raise ModelError(fault)
    if stats.mean.numel() >= 8 and least >= low + width / 2 and std <= width / 4:
        warnings.warn(fault, DataWarning, stacklevel=3)
