"""Ranges of values that a network may have been trained on, as affine maps of the data that are given."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sdediff.model.data_card import Range
from sdediff.model.data_check import Extent, usual_range

_USUAL: tuple[Range, ...] = ((-1.0, 1.0), (0.0, 1.0), (-0.5, 0.5), (0.0, 255.0))


@dataclass(frozen=True)
class RangeMap:
    """Values scale * x + shift of data x; range: what they fill, None where it has no name."""

    scale: float
    shift: float
    range: Range | None
    name: str

    def __call__(self, x: Tensor) -> Tensor:
        """The mapped values."""
        return self.scale * x + self.shift

    def __str__(self) -> str:
        return self.name


def ranges_of(x: Tensor, declared: Range | None, std: float) -> list[RangeMap]:
    """The values as given, over the usual ranges where theirs is known, and standardised.

    declared: the range of the values, where their data set says it.
    """
    source = declared or usual_range(Extent.of(x))
    if source is None:
        found = [RangeMap(1.0, 0.0, None, "values as given")]
    else:
        targets = sorted(_USUAL, key=lambda target: target != source)
        found = []
        for low, high in targets:
            scale = (high - low) / (source[1] - source[0])
            found.append(RangeMap(scale, low - scale * source[0], (low, high), f"values in [{low:g}, {high:g}]"))
    mean = x.mean().item()
    return [*found, RangeMap(1 / std, -mean / std, None, f"(values - {mean:.3g}) / {std:.3g}")]
