"""Data compared with the card of the model that takes them, with its statistics or with its process."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff._utils.checks import pair
from sdediff._utils.errors import DataWarning, InputError, InputTypeError
from sdediff.grids.levels import level
from sdediff.model.data_card import TOLERANCE, DataCard, Range, check_statistics
from sdediff.model.data_statistics import Statistics
from sdediff.model.prediction import ModelError, signed
from sdediff.model.score_model import ScoreModel, check_card

# From the middle of the range, in half widths: no data of it, noised or not, come that far.
_IMPOSSIBLE = 8.0
# The fewest rows of which it is asked how much of the range they fill.
_ENOUGH_ROWS = 50
# Over the scale that the statistics or the process say.
_FAR = 30.0


class Extent(NamedTuple):
    """How far data of `rows` samples reach: least and greatest value, root mean square, whether all are integers."""

    rows: int
    least: float
    most: float
    rms: float
    integers: bool = False

    @classmethod
    def of(cls, x: Tensor) -> Extent:
        """The extent of states x (B, ...); InputError where they hold no value."""
        if x.dim() == 0 or x.numel() == 0 or x.is_meta:
            where = " on the meta device" if x.is_meta else ""
            raise InputError(f"data of shape {tuple(x.shape)}{where} hold no rows: give samples (B, ...)")
        values = x.detach()
        least, most = (v.item() for v in values.aminmax())
        rms = (torch.linalg.vector_norm(values, dtype=torch.float64) / math.sqrt(max(1, values.numel()))).item()
        return cls(len(values), least, most, rms, most > 1 and bool((values == values.round()).all()))

    def __str__(self) -> str:
        return f"values in [{self.least:.4g}, {self.most:.4g}]"


class Finding(NamedTuple):
    """What speaks against data: a sentence without its end, and whether they are impossible, not only doubtful."""

    fault: str
    impossible: bool


def check_data(model: ScoreModel, x: Tensor, name: str = "x", depth: int = 3) -> None:
    """Compare states x (B, ...), of finite values, with the model's card, its statistics or its process.

    InputError: another shape than the card's, and values more than 8 half widths from the middle of its range.
    DataWarning: values that leave the range by an eighth of its width or more; 50 rows or more that fill at most half
    of it; where the card has no range, values 30 standard deviations or more from the mean of the statistics, and
    without statistics data of an rms of 30 times the noise at t_max (of sigma_data for "edm"), or that this noise does
    not hide: alpha rms above sigma/2. depth: frames up to the caller that the warning names.
    """
    card = DataCard.of(model.card)
    extent = Extent.of(x)
    check_card(model, x.shape)
    finding = compare(model, extent) or _off_statistics(model, x)
    if finding is None:
        return
    sentence = f"{name} holds {finding.fault}: {_remedy(card, extent, name)}"
    if finding.impossible:
        raise InputError(sentence)
    warnings.warn(sentence, DataWarning, stacklevel=depth)


def check_range(model: ScoreModel, x: Tensor, name: str = "x", depth: int = 3) -> None:
    """`check_data` where the model's card states a range; nothing under torch.func, where numbers have no truth."""
    if DataCard.of(model.card).range is not None and not torch._C._functorch.is_functorch_wrapped_tensor(x):
        check_data(model, x, name, depth + 1)


def ranged(model: ScoreModel, bounds: Range) -> ScoreModel:
    """The model with the range of values that its network was trained on. ModelError: its card says another."""
    bounds = pair("model_range", bounds)
    said = DataCard.of(model.card).range
    card = {**model.card, "data": {**(model.card.get("data") or {}), "range": list(bounds)}}
    given = DataCard.of(card).range
    if said is not None and said != given:
        raise ModelError(
            f"the network was trained on data in [{said[0]:g}, {said[1]:g}] by its card, given is the range {bounds}: "
            "leave it out"
        )
    return model._with(card=card)


def compare(model: ScoreModel, extent: Extent) -> Finding | None:
    """What speaks against data of this extent on this model, by its card or else by its process."""
    bounds = DataCard.of(model.card).range
    if bounds is None:
        return None if model.stats is not None else _off_process(model, extent)
    low, high = bounds
    half, middle = (high - low) / 2, (high + low) / 2
    reach = max(extent.most - middle, middle - extent.least) / half
    trained = f"the network was trained on data in [{low:g}, {high:g}] by its card"
    if reach > 1 + 2 * TOLERANCE:
        return Finding(f"{extent}, {trained}", reach > _IMPOSSIBLE)
    if extent.rows >= _ENOUGH_ROWS and extent.most - extent.least <= half * (1 + 1e-6):
        return Finding(f"{extent} in {extent.rows} rows, half of the range or less, and {trained}", False)
    return None


def check_source(model: ScoreModel, data: Any) -> None:
    """Compare samples (N, ...) or statistics that are given beside a model with its card."""
    if isinstance(data, Statistics):
        return check_statistics(model.card, data)
    if not isinstance(data, Tensor) or not data.is_floating_point():
        given = str(data.dtype) if isinstance(data, Tensor) else type(data).__name__
        raise InputTypeError(
            f"data of type {given}: give a floating-point tensor (N, ...) in the network's range, such as "
            "DataSet.dequantised(), or statistics"
        )
    return check_data(model, data, "data", depth=4)


def _off_process(model: ScoreModel, extent: Extent) -> Finding | None:
    """Where the card says nothing: data that the noise at t_max does not hide, or of 30 times the scale expected."""
    if not model.sde.linear:
        return None
    end = level(model.sde, model.sde.t_max)
    left = end.alpha * extent.rms
    if left > end.sigma / 2:
        return Finding(
            f"{extent} of rms {extent.rms:.4g}, of which {left:.4g} is left at t_max beside noise of std "
            f"{end.sigma:.4g}, which is the prior alone",
            False,
        )
    edm = signed(model.predicts)[0] == "edm"
    scale = model.sigma_data if edm else float(end.sigma)
    if extent.rms > _FAR * scale:
        expected = f"sigma_data={scale:g}" if edm else f"the process ends in noise of std {scale:.4g}"
        return Finding(f"{extent} of rms {extent.rms:.4g}, and {expected}", False)
    return None


def _off_statistics(model: ScoreModel, x: Tensor) -> Finding | None:
    """Where the model has statistics and its card no range: values far from the mean."""
    stats = model.stats
    if stats is None or DataCard.of(model.card).range is not None or stats.mean.shape != x.shape[1:]:
        return None
    distance, std = (x.detach().double().cpu() - stats.mean).abs().max().item(), stats.extent[2]
    if distance <= _FAR * std:
        return None
    return Finding(
        f"values up to {distance:.4g} from the data's mean, whose standard deviation by the model's statistics is "
        f"{std:.4g}",
        False,
    )


def _remedy(card: DataCard, extent: Extent, name: str) -> str:
    """What to write instead."""
    if card.range is None:
        return "map them to the values that the network was trained on"
    low, high = card.range
    if card.levels is not None and holds_levels(card, extent):
        return (
            f"write sdediff.datasets.DataSet({name}, levels={card.levels}, range=(0, {card.levels - 1}))"
            f".dequantised(range=({low:g}, {high:g}))"
        )
    first, last = usual_range(extent) or card.range
    if (first, last) == card.range:
        return "map them to that range, unless they are meant to be outliers"
    shifted = f"({name} - {first:g})" if first > 0 else f"({name} + {-first:g})" if first else name
    slope = (high - low) / (last - first)
    return f"if they are data in [{first:g}, {last:g}], write {low:g} + {slope:.10g} * {shifted}"


def holds_levels(card: DataCard, extent: Extent) -> bool:
    """Whether the data are integers 0 .. levels - 1 of the card."""
    return card.levels is not None and extent.integers and 0 <= extent.least and extent.most <= card.levels - 1


def usual_range(extent: Extent) -> Range | None:
    """The usual range that values of this extent may come from."""
    usual = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
    return next((pair for pair in usual if pair[0] <= extent.least and extent.most <= pair[1]), None)
