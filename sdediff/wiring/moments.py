"""One measurement of a network: data noised to a few levels, and the second moments of what came out.

Every reading of the output, x0 = a x + b F + c, has an error that is a quadratic form of these moments, so that all
readings come from the same network evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.grids.levels import Evaluation, Level
from sdediff.grids.levels import level as level_at
from sdediff.model.bound import BoundModel
from sdediff.model.conditions import rows_of_conditions
from sdediff.model.network import check_eval, placement
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import normals
from sdediff.sde.base import linear
from sdediff.wiring.gaussian_fit import cross_fitted
from sdediff.wiring.rows import Rows

# Noise levels over the data's standard deviation.
SCALES = tuple(np.geomspace(0.1, 5.0, 10).tolist())
# Numbers of a level that are wanted: low-dimensional rows are noised several times.
_NUMBERS = 4096
# Rows that the network sees at once, and numbers of them that are held in float64.
_ROWS, _HELD = 128, 1 << 21
# The stream of the noise, which no run of a solver shares.
_STREAM = 0x5C7EC


@dataclass(frozen=True, eq=False)
class Moments:
    """levels (L) and for each and every sample n the moments (L, n, 4, 4) of x0, x, F and 1, sums over dimensions.

    gaussian (L, n): squared errors of the best Gaussian denoiser, sums over dimensions. row (n,): a sample's row.
    variance: of the data, summed over dimensions. calls: rows that the network evaluated.
    """

    evaluation: Evaluation
    levels: tuple[Level, ...]
    gram: Tensor
    gaussian: Tensor
    row: Tensor
    dims: int
    variance: float
    calls: int

    def errors(self, a: Any, b: Any, c: Any = 0.0) -> Tensor:
        """Squared errors (L, n) of x0 = a x + b F + c, coefficients (L,) or numbers."""
        one = torch.ones(len(self.levels), dtype=torch.float64)
        weights = torch.stack([one, -a * one, -b * one, -c * one], 1)
        return torch.einsum("li,lnij,lj->ln", weights, self.gram, weights).clamp(min=0)


def levels_within(
    model: ScoreModel, std: float, scales: Sequence[float] = SCALES
) -> tuple[Evaluation, tuple[Level, ...]]:
    """The levels at these scales that the process reaches; of a table, its training timesteps nearest to them."""
    sde = linear(model.sde)
    lams = [-math.log(scale * std) for scale in scales]
    for process in (sde, sde if model.trained is None else linear(model.trained)):
        most, least = (level_at(process, t).lam for t in (process.t_min, process.t_max))
        lams = [lam for lam in lams if least - 1e-9 <= lam <= most + 1e-9]
    evaluation = Evaluation(sde)
    times = sde.t_of_lam(lams)
    if hasattr(sde, "n"):
        times = times.round().unique()
    return evaluation, evaluation.at(times)


def measure(
    model: ScoreModel,
    rows: Rows,
    cond: dict[str, Any],
    seed: int,
    dtype: torch.dtype | None,
    device: Any,
    scales: Sequence[float] = SCALES,
) -> Moments:
    """Evaluate the network on noised rows at the levels that the process reaches.

    InputError: a network that raises or whose output is not finite everywhere.
    """
    check_eval(model)
    dtype, device = placement(model, dtype, device)
    evaluation, levels = levels_within(model, rows.std, scales)
    n, flat = len(rows.x), rows.x.flatten(1)
    repeats = max(1, min(32, math.ceil(_NUMBERS / (n * rows.dims))))
    row = torch.arange(n).repeat(repeats)
    fits = cross_fitted(flat, rows.others)
    grams, gaussians = [], []
    for number, level in enumerate(levels):
        noise = torch.from_numpy(
            normals(seed, np.arange(len(row)), (number, _STREAM), tuple(rows.x.shape[1:]))
        ).double()  # fmt: skip
        x = level.alpha * rows.x[row] + level.sigma * noise
        grams.append(_gram(model, rows, row, x, level, cond, dtype, device))
        gaussian = torch.empty(len(row), dtype=torch.float64)
        clean = x.flatten(1) / level.alpha
        for part, denoise in fits:
            chosen = torch.isin(row, part)
            gaussian[chosen] = ((denoise(clean[chosen], level.kappa) - flat[row[chosen]]) ** 2).sum(1)
        gaussians.append(gaussian)
    variance = rows.std**2 * rows.dims
    calls = len(row) * len(levels)
    return Moments(evaluation, levels, torch.stack(grams), torch.stack(gaussians), row, rows.dims, variance, calls)


def _gram(
    model: ScoreModel, rows: Rows, row: Tensor, x: Tensor, level: Level, cond: dict[str, Any], dtype: Any, device: Any
) -> Tensor:
    """The moments (n, 4, 4) of one level."""
    size, parts = max(1, min(_ROWS, _HELD // rows.dims)), []
    for first in range(0, len(row), size):
        part = row[first : first + size]
        numbers = torch.from_numpy(rows.index)[part]
        given = rows_of_conditions(cond, numbers, rows.total, model.per_sample, model.shared)
        noised = x[first : first + size].to(device=device, dtype=dtype)
        with torch.no_grad():
            output = BoundModel(model, cond=given, changes=())(noised, level).raw
        clean = rows.x[part].flatten(1)
        vectors = [clean, noised.double().cpu().flatten(1), output.double().cpu().flatten(1), torch.ones_like(clean)]
        stacked = torch.stack(vectors, 1)
        parts.append(stacked @ stacked.mT)
    gram = torch.cat(parts)
    if not bool(torch.isfinite(gram).all()):
        raise InputError(
            f"the network's output is not finite at t={level.time:.6g}, where sigma/alpha is {level.kappa:.3g}: it "
            "cannot be checked there"
        )
    return gram
