"""Data of a job against the model's card: shape, levels, range."""

from __future__ import annotations

import math

import numpy as np

from sdediff.datasets import DataError, DataSet, with_channel, without_channel
from sdediff.datasets.checks import pieces
from sdediff.jobs.work import Say
from sdediff.model.data_card import DataCard
from sdediff.model.data_check import Extent, compare, holds_levels, usual_range
from sdediff.model.score_model import ScoreModel

# Bytes of so many rows that reach less than half of 255 may have fewer levels than were assumed.
_ENOUGH_ROWS, _HALF_OF_BYTES = 50, 128
# How near to its ends data come that fill a range, in shares of its width.
_NEAR = 0.05


def fitted(model: ScoreModel, data: DataSet, say: Say) -> DataSet:
    """The data with the axes that the model's card says; DataError for data that are not what it was trained on.

    A channel axis of one is added or left out. Levels must be as many as the card's. Continuous data without a declared
    range are scored as they are stored, and are refused where `sdediff.log_likelihood` would refuse them, where 50 rows
    or more fill at most half of the card's range, and where they leave it and fill another usual one: a declared range
    maps them. Of 50 rows or more what else is doubtful is reported by `say`.
    """
    card = DataCard.of(model.card)
    data = _with_axes(data, card)
    if data.levels is not None:
        _check_levels(data, card, say)
    elif data.range is None:
        _check_values(model, data, card, say)
    return data


def _with_axes(data: DataSet, card: DataCard) -> DataSet:
    """The data in the card's shape, where one axis of size one after the rows makes the difference."""
    shape, given = card.shape, data.shape
    if shape is None or shape == given:
        return data
    if shape == (1, *given):
        x = with_channel(data.x)
    elif given == (1, *shape):
        x = without_channel(data.x)
    else:
        raise DataError(f"{data.name} has samples of shape {given}, the model takes {shape}")
    return DataSet(x, data.levels, data.range, data.labels, data.name, data.allow_bad)


def _check_levels(data: DataSet, card: DataCard, say: Say) -> None:
    """Refuse another number of levels than the card's; say where bytes seem to have fewer than were assumed."""
    assumed = data.x.dtype == np.uint8 and data.range == (0, 255) and len(data) >= _ENOUGH_ROWS
    if card.levels == data.levels or (card.levels is None and not assumed):
        return
    extent, low, high = extent_of(data), *(data.range or (0.0, 0.0))
    given = f"{data.name} has {data.levels} levels over [{low:g}, {high:g}] and holds {extent}"
    if card.levels is not None:
        top = card.levels - 1
        hint = (
            f"write --levels {card.levels} --range 0,{top}, in Python levels={card.levels}, range=(0, {top})"
            if holds_levels(card, extent)
            else f"give data of {card.levels} levels, or another model"
        )
        raise DataError(f"{given}, and the model has {card.levels} levels by its card: {hint}")
    if extent.most < _HALF_OF_BYTES:
        say(f"{given}: if its levels are fewer, write --levels and --range, in Python levels= and range=")


def _check_values(model: ScoreModel, data: DataSet, card: DataCard, say: Say) -> None:
    extent = extent_of(data)
    finding = compare(model, extent)
    if finding is None:
        return
    low, high = card.range or (-math.inf, math.inf)
    outside = extent.least < low or extent.most > high
    if card.range is None or (outside and not finding.impossible and not _fills_usual_range(extent)):
        if extent.rows >= _ENOUGH_ROWS:
            say(f"{data.name} holds {finding.fault}")
        return
    if holds_levels(card, extent):
        top = (card.levels or 2) - 1
        hint = f"write --levels {top + 1} --range 0,{top}, in Python levels={top + 1}, range=(0, {top})"
    else:
        first, last = usual_range(extent) or (extent.least, extent.most)
        hint = (
            f"declare their own range, --range {first:g},{last:g} for [{first:g}, {last:g}] (in Python range=), which "
            "is mapped to the network's" + ("" if outside else f"; --range {low:g},{high:g} takes them as they are")
        )
    raise DataError(f"{data.name} holds {finding.fault}: {hint}")


def _fills_usual_range(extent: Extent) -> bool:
    """Whether 50 rows or more reach both ends of [0, 1], [-1, 1] or [0, 255]."""
    low, high = usual_range(extent) or (-math.inf, math.inf)
    margin = _NEAR * (high - low)
    return extent.rows >= _ENOUGH_ROWS and extent.least <= low + margin and extent.most >= high - margin


def extent_of(data: DataSet) -> Extent:
    """The extent of the stored values, read in pieces; rows with NaN or infinity are left out."""
    least, most, squares, count, integers = math.inf, -math.inf, 0.0, 0, True
    for part in pieces(len(data), data.dims):
        values = np.asarray(data.x[part], np.float64).reshape(part.stop - part.start, -1)
        values = values[np.isfinite(values).all(axis=1)]
        least, most = min(least, values.min(initial=math.inf)), max(most, values.max(initial=-math.inf))
        squares, count = squares + float(np.square(values).sum()), count + values.size
        integers = integers and bool((values == np.rint(values)).all())
    if not count:
        return Extent(0, 0.0, 0.0, 0.0)
    return Extent(count // data.dims, float(least), float(most), math.sqrt(squares / count), integers and most > 1)
