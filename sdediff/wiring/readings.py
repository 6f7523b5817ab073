"""How well a network's output is read: its error against the Gaussian denoiser's, and against its own best reading."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sdediff.model.bound import read_levels
from sdediff.model.prediction import PARAMETRISATIONS, signed
from sdediff.model.score_model import ScoreModel
from sdediff.wiring.moments import Moments

# The most that one level adds to the gap.
_MOST = 2.0
# A second reading counts as the same where the gaps differ by less.
_SAME = 1e-9


class Estimate(NamedTuple):
    """A figure and its standard error."""

    value: float
    error: float


class Reading(NamedTuple):
    """The network's output read as another quantity: its gap, and its error against the Gaussian denoiser's (gain)."""

    predicts: str
    gap: float
    gain: float


@dataclass(frozen=True, eq=False)
class References:
    """What any reading is compared with, at each level (L, n): the least errors without and with the output.

    gaussian: of the best Gaussian denoiser, or of a x + c where that is less. free: of the least-squares a x + b F + c.
    weights (L,): how much the output knows beyond Gaussian data, max(0, log(gaussian/free)).
    """

    gaussian: Tensor
    free: Tensor
    weights: Tensor

    @classmethod
    def of(cls, moments: Moments) -> References:
        """The references of one measurement."""
        total, n = moments.gram.sum(1), moments.gram.shape[1]
        own = 1 + 3 / (n * moments.dims)
        free = moments.errors(*_fitted(total, (1, 2, 3))) * own
        affine = moments.errors(*_fitted(total, (1, 3)))
        least = torch.where((moments.gaussian.sum(1) <= affine.sum(1))[:, None], moments.gaussian, affine)
        weights = torch.log(least.sum(1) / free.sum(1)).clamp(min=0)
        return cls(least, free, weights)

    @property
    def info(self) -> float:
        """The mean over levels of the weights."""
        return self.weights.mean().item()


def _fitted(total: Tensor, used: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The coefficients (L,) of the least-squares fit of x0 by some of x, F and 1, zero for the others."""
    gram, right = total[:, used][:, :, used], total[:, used, 0]
    scale = torch.diagonal(gram, dim1=1, dim2=2).sqrt().clamp(min=1e-150)
    inverse = torch.linalg.pinv(gram / (scale[:, :, None] * scale[:, None, :]), rtol=1e-12, hermitian=True)
    solved = (inverse @ (right / scale)[..., None])[..., 0] / scale
    found = torch.zeros(len(total), 4, dtype=total.dtype)
    found[:, list(used)] = solved
    return found[:, 1], found[:, 2], found[:, 3]


def errors_of(model: ScoreModel, moments: Moments, predicts: str, sigma_data: float) -> Tensor:
    """The squared errors (L, n) of the denoised state where the output is read as `predicts`."""
    read = model._with(predicts=predicts, sigma_data=sigma_data)
    _, _, a, b = read_levels(read, moments.evaluation)
    rows = [level.row for level in moments.levels]
    pairs = [[torch.tensor(v[i] if v[i] is not None else math.nan, dtype=torch.float64) for i in rows] for v in (a, b)]
    return moments.errors(*(torch.stack(pair) for pair in pairs))


def gap_of(errors: Tensor, references: References, row: Tensor) -> Estimate:
    """The weighted mean over levels of log(error/free), each at most 2, and its standard error over rows."""
    means, free = errors.mean(1), references.free.mean(1)
    logs = torch.log(means / free)
    weights = references.weights / references.weights.sum().clamp(min=1e-12)
    if not bool(weights.any()):
        weights = torch.full_like(weights, 1 / len(weights))
    value = (weights * logs.nan_to_num(_MOST, _MOST).clamp(max=_MOST)).sum().item()
    return Estimate(value, _error(weights, errors / means[:, None] - references.free / free[:, None], row))


def gain_of(errors: Tensor, references: References, row: Tensor) -> Estimate:
    """The mean over levels of log(error/gaussian), and its standard error over rows."""
    means, gaussian = errors.mean(1), references.gaussian.mean(1)
    value = torch.log(means / gaussian).mean().item()
    weights = torch.full_like(means, 1 / len(means))
    return Estimate(value, _error(weights, errors / means[:, None] - references.gaussian / gaussian[:, None], row))


def _error(weights: Tensor, influence: Tensor, row: Tensor) -> float:
    """The standard error over rows of a weighted sum over levels of what a sample adds, (L, n)."""
    each = (weights[:, None] * influence).sum(0)
    count = int(row.max()) + 1
    by_row = torch.zeros(count, dtype=each.dtype).index_add(0, row, each) / (len(each) / count)
    return by_row.std().item() / math.sqrt(count) if count > 1 else math.inf


def readings(model: ScoreModel, moments: Moments, references: References, std: float) -> tuple[Reading, ...]:
    """The output read as every parametrisation of either sign, the least gap first, the model's own before equals."""
    own, found = signed(model.predicts), []
    others = [name for name in (*PARAMETRISATIONS, *map("-".__add__, PARAMETRISATIONS)) if signed(name) != own]
    for predicts in (model.predicts, *others):
        edm = signed(predicts)[0] == "edm"
        sigma_data = 1.0 if not edm else model.sigma_data if own[0] == "edm" else float(f"{std:.1g}")
        errors = errors_of(model, moments, predicts, sigma_data)
        gap = gap_of(errors, references, moments.row).value
        found.append(Reading(predicts, gap, gain_of(errors, references, moments.row).value))
    return tuple(sorted(found, key=lambda reading: round(reading.gap / _SAME) * _SAME))
