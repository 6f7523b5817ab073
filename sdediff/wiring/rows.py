"""The data of a check: rows that are denoised, and others that the Gaussian denoiser is fitted on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import samples
from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import late
from sdediff.datasets import DataSet
from sdediff.datasets.readers import as_samples
from sdediff.model.data_card import DataCard
from sdediff.model.data_check import Extent, compare
from sdediff.model.score_model import ScoreModel, check_card

# The most rows that the Gaussian denoiser is fitted on.
_MOST_FITTED = 2048


@dataclass(frozen=True, eq=False)
class Rows:
    """x (n, *shape), the rows that are denoised, their numbers in the data, and other rows (m, D); float64.

    total: how many rows the data have. findings: what speaks against the data's preparation, a sentence each.
    """

    x: Tensor
    index: np.ndarray
    others: Tensor
    total: int
    findings: tuple[str, ...]

    @property
    def dims(self) -> int:
        """The number D of values in a sample."""
        return math.prod(self.x.shape[1:])

    @property
    def deviation(self) -> float:
        """The standard deviation of all values, which trainers measure as sigma_data."""
        return torch.cat([self.x.flatten(1), self.others]).std().item()

    @property
    def std(self) -> float:
        """The isotropic scale of the data: the root of the mean variance over dimensions, of all rows read."""
        every = torch.cat([self.x.flatten(1), self.others])
        return math.sqrt(every.var(0).mean().item()) if len(every) > 1 else 0.0


def rows_of(model: ScoreModel, data: Any, most: int, seed: int) -> Rows:
    """The rows of data for a check of this model: at most `most` to denoise, evenly spread over the data.

    data: a DataSet, which is mapped to the network's range and dequantised where it has levels, unless by its card the
    network was trained on the levels themselves; a path to one, an array of bytes, or values (N, ...) as the network
    takes them.
    """
    data = data_of(data)
    card = DataCard.of(model.card)
    total = len(data)
    numbers = np.setdiff1d(np.arange(total), getattr(data, "bad_rows", ()))
    chosen = numbers[_spread(len(numbers), most)]
    rest = np.setdiff1d(numbers, chosen)
    rest = rest[_spread(len(rest), _MOST_FITTED)] if len(rest) else rest
    x, others = (_mapped(data, index, card, seed) for index in (chosen, rest))
    for part, index in ((x, chosen), (others, rest)):
        _refuse_bad(part, index)
    check_card(model, x.shape)
    every = torch.cat([x, others])
    findings = [*_levels(card, data, every), *_range(model, every)]
    return Rows(x, chosen, others.flatten(1), total, tuple(findings))


def data_of(data: Any) -> Any:
    """A DataSet, or a tensor of states."""
    if isinstance(data, str | Path):
        return late("sdediff.jobs.names:named_data")(data)
    if isinstance(data, DataSet):
        return data
    x = samples("data", data)
    if x.dtype is torch.uint8:
        return DataSet(*as_samples(x.numpy(), None, None))
    if x.ndim < 2 or not x.numel():
        raise InputError(f"data of the shape {tuple(x.shape)}: give samples (N, ...), as the network takes them")
    if not x.is_floating_point():
        raise InputError(
            f"data of {x.dtype}: declare their levels, sdediff.datasets.DataSet(data, levels=256), or give them as the "
            "network takes them, floating-point numbers"
        )
    return x


def _spread(total: int, most: int) -> np.ndarray:
    """At most so many of the numbers below `total`, evenly spread."""
    if total <= most:
        return np.arange(total)
    return np.linspace(0, total - 1, most).round().astype(np.int64)


def _mapped(data: Any, index: np.ndarray, card: DataCard, seed: int) -> Tensor:
    if isinstance(data, Tensor):
        return data[torch.from_numpy(index)].double().cpu()
    if data.levels is not None and card.dequantised is not False:
        return data.dequantised(seed=seed, index=index, range=card.bounds, dtype=torch.float64)
    return data.tensor(range=card.bounds, index=index, dtype=torch.float64)


def _refuse_bad(x: Tensor, index: np.ndarray) -> None:
    bad = (~torch.isfinite(x.flatten(1)).all(1)).nonzero().flatten().tolist()
    if bad:
        raise InputError(f"row {index[bad[0]]} of the data holds NaN or Inf: leave such rows out")


def _levels(card: DataCard, data: Any, x: Tensor) -> list[str]:
    """What speaks against the number of levels: another than the card's, or values that are not dequantised."""
    if isinstance(data, DataSet) and data.levels is not None:
        if card.levels in (None, data.levels):
            return []
        return [f"the data have {data.levels} levels, by its card the network was trained on {card.levels}"]
    most, (low, high) = card.levels or 256, card.bounds
    # Strictly inside of the range lie the middles of bins, which differ little from dequantised values.
    if x.numel() < 4 * most or (card.range is not None and low < x.min() and x.max() < high):
        return []
    distinct = len(torch.unique(x))
    if distinct > most:
        return []
    trained = "" if card.levels is None else f", and by its card the network was trained on {card.levels}"
    return [
        f"the values are {distinct} distinct numbers{trained}: networks of data with levels are trained on dequantised "
        "values, DataSet(...).dequantised()"
    ]


def _range(model: ScoreModel, x: Tensor) -> list[str]:
    """What speaks against the values, by the card's range or else by the process."""
    finding = compare(model, Extent.of(x))
    return [] if finding is None else [f"the data hold {finding.fault}"]
