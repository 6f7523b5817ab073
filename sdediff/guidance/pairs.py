"""Two evaluations of one network, under a condition and without it: in one call where their shapes allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import shown
from sdediff._utils.errors import InputTypeError
from sdediff._utils.suggestions import nearest
from sdediff.model.bound import BoundModel
from sdediff.model.conditions import as_tensors, rows_of_conditions
from sdediff.model.null_conditions import null_rows
from sdediff.model.prediction import ModelError, Prediction
from sdediff.model.score_model import ScoreModel


class Pair:
    """The predictions under a model's conditions and under others in their place: pair(x, t) -> (with, without).

    Where every condition has a row a sample or is the same for both, and no change comes before, the two are rows of
    one network call of twice the batch; the others are two calls.
    """

    def __init__(self, model: BoundModel, negative: dict[str, Any]) -> None:
        self._given, self._other = model, model.given(**_shaped(negative, model.cond))
        self._wide: BoundModel | None = None
        joined = None if model.changes or model.table.like is None else _joined(model, self._other.cond)
        if joined is not None:
            self._wide = model.repeated(2, joined)

    def __call__(self, x: Tensor, t: Any) -> tuple[Prediction, Prediction]:
        if self._wide is None or not self._given.in_run(x, t):
            return self._given(x, t), self._other(x, t)
        both, n = self._wide(torch.cat([x, x]), t), len(x)
        first, second = _half(both, x, slice(0, n)), _half(both, x, slice(n, 2 * n))
        return first, second

    def first(self, x: Tensor, t: Any) -> Prediction:
        """The prediction under the model's own conditions alone, one call."""
        return self._given(x, t)


def _half(both: Prediction, x: Tensor, rows: slice) -> Prediction:
    half = both.reading(both.raw[rows], _cut(both.extra, rows, 2 * len(x)))
    half.x = x
    return half


def _cut(extra: Any, rows: slice, batch: int) -> Any:
    """What a network returned beside its output, for some of the rows."""
    if isinstance(extra, tuple):
        return tuple(_cut(part, rows, batch) for part in extra)
    return extra[rows] if isinstance(extra, Tensor) and extra.ndim and len(extra) == batch else extra


def _shaped(negative: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Negative conditions in the shapes of the given ones: a number or one row stands for every sample."""
    shaped = dict(negative)
    for name, value in negative.items():
        like = given.get(name)
        if isinstance(like, Tensor) and like.ndim and (isinstance(value, int | float | Tensor)):
            row = torch.as_tensor(value).to(like)
            if row.shape != like.shape:
                shaped[name] = row.expand_as(like)
    return shaped


def _joined(model: BoundModel, other: dict[str, Any]) -> dict[str, Any] | None:
    """The conditions of twice the batch, given ones first; None where a network call cannot hold both."""
    given, batch, kept = model.cond, model.table.batch, model.model
    if given.keys() != other.keys():
        return None
    declared = null_rows(kept.net)
    joined: dict[str, Any] = {}
    twice = torch.arange(2 * batch) % batch
    for name, value in given.items():
        second = other[name]
        if second is value:
            joined[name] = value
            continue
        if name in declared and isinstance(value, int) and isinstance(second, int):
            value, second = (torch.full((batch,), v, device=model.device) for v in (value, second))
        if not (isinstance(value, Tensor) and isinstance(second, Tensor) and value.shape == second.shape):
            return None
        if name in kept.shared or not value.ndim or len(value) != batch or value.dtype is not second.dtype:
            return None
        joined[name] = torch.cat([value, second])
    same = {name: value for name, value in joined.items() if other[name] is value}
    try:
        return joined | rows_of_conditions(same, twice, batch, kept.per_sample, kept.shared)
    except ValueError:  # of a condition that leaves open whether it has a row a sample
        return None


def negative_conditions(model: ScoreModel, negative: Any, what: str) -> dict[str, Any]:
    """The conditions to steer away from: as given, else those that the network itself has for no condition."""
    if negative is None:
        null = null_rows(model.net)
        if not null:
            raise ModelError(
                f"{what} needs to know what stands for no condition, which this network does not say by a method "
                'null_conditions(): write negative={"label": value}'
            )
        return null
    if not isinstance(negative, dict) or not negative:
        raise InputTypeError(f'negative={shown(negative)}: give a dictionary of conditions, such as {{"label": 4}}')
    return as_tensors(negative)


def check_conditions(model: BoundModel, negative: dict[str, Any], what: str) -> None:
    """Refuse a run that has none of the conditions that guidance compares with others."""
    if not any(name in model.cond for name in negative):
        first = next(iter(negative))
        raise ModelError(
            f"{what} compares conditions, and {first!r} was not given: write cond={{{first!r}: value}}, or "
            f"model.given({first}=value)"
        )


def check_space(name: str) -> str:
    """The name of a quantity in which predictions may be rescaled."""
    if name not in SPACES:
        raise ModelError(nearest(name, SPACES, "space"))
    return name


SPACES = ("x0", "eps", "v", "velocity", "score")
Combine = Callable[[Prediction, Prediction], Prediction]
