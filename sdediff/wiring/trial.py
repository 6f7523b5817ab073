"""A wiring tried on a few noised rows that all wirings share: its score, as every reading of the output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff.grids.levels import Evaluation, level
from sdediff.model.bound import BoundModel, read_levels
from sdediff.model.conditions import rows_of_conditions
from sdediff.model.prediction import PARAMETRISATIONS
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import normals
from sdediff.wiring.candidates import Wiring
from sdediff.wiring.gaussian_fit import Denoiser, cross_fitted
from sdediff.wiring.rows import Rows

# What one level adds to a score at least and at most; a level that the process does not reach adds the most.
_LEAST, MOST = -3.0, 0.5
_STREAM = 0x1FE12


@dataclass(frozen=True, eq=False)
class Trial:
    """score: the mean over levels of log(error/error of the best Gaussian denoiser), bounded; shares (n,): what each
    row adds to it, relative to the mean error of its level."""

    wiring: Wiring
    score: float
    shares: Tensor

    def difference(self, other: Trial) -> tuple[float, float]:
        """How much greater this score is than the other, and the standard error of that, rows being shared."""
        rest = self.shares - other.shares
        error = rest.std().item() / math.sqrt(len(rest)) if len(rest) > 1 else math.inf
        return self.score - other.score, error


@dataclass(eq=False)
class SharedRows:
    """Rows, their noise and the Gaussian denoiser, the same for every wiring of the network of `given`.

    calls: rows evaluated so far.
    """

    rows: Rows
    given: ScoreModel
    cond: dict[str, Any]
    seed: int
    dtype: torch.dtype
    device: Any
    calls: int = 0
    fits: list[tuple[Tensor, Denoiser]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fits = cross_fitted(self.rows.x.flatten(1), self.rows.others)

    def noise(self, stage: int, number: int, n: int) -> Tensor:
        """The noise of one level, float64 (n, *shape)."""
        stream = (16 * stage + number, _STREAM)
        return torch.from_numpy(normals(self.seed, np.arange(n), stream, tuple(self.rows.x.shape[1:]))).double()

    def gaussian(self, noised: Tensor, kappa: float) -> float:
        """The mean squared error of the best Gaussian denoiser on the first rows, noised by kappa."""
        n, total = len(noised), 0.0
        flat, clean = noised.flatten(1), self.rows.x[: len(noised)].flatten(1)
        for part, denoise in self.fits:
            chosen = part[part < n]
            total += (denoise(flat[chosen], kappa) - clean[chosen]).square().sum().item()
        return total / n


def attempt(wiring: Wiring, shared: SharedRows, scales: Sequence[float], n: int, stage: int) -> list[Trial]:
    """The trials of one input on n rows at these scales, one a reading. Raises what the network raises."""
    model = wiring.model(shared.given)
    base = shared.rows.x[:n]
    evaluation, reached, noised, references = _noised(model, wiring, shared, scales, n, stage)
    if not reached:
        return []
    x = torch.cat(noised)
    times = torch.tensor([evaluation.levels[i].time for i in range(len(reached))], dtype=torch.float64)
    row = torch.arange(n).repeat(len(reached))
    numbers = torch.from_numpy(shared.rows.index)[row]
    cond = rows_of_conditions(shared.cond, numbers, shared.rows.total, model.per_sample, model.shared)
    given = x.to(device=shared.device, dtype=shared.dtype)
    with torch.no_grad():
        raw = BoundModel(model, cond=cond, changes=())(given, times.repeat_interleave(n).to(shared.device)).raw
    shared.calls += len(x)
    output, state = (v.double().cpu().reshape(len(reached), n, -1) for v in (raw, given))
    target = wiring.values(base).flatten(1)
    names = ("edm",) if wiring.sigma_data is not None else tuple(p for p in PARAMETRISATIONS if p != "edm")
    found = []
    for name in names:
        _, _, a, b = (list(v) for v in read_levels(model._with(predicts=name), evaluation))
        if None in a:
            continue
        on_x, on_output = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (a, b))
        for sign in (1, -1):
            errors = (on_x * state + sign * on_output * output - target).square().sum(2) / wiring.values.scale**2
            found.append(_scored(wiring.reading(name if sign > 0 else f"-{name}"), errors, references, len(scales)))
    return found


def _noised(
    model: ScoreModel, wiring: Wiring, shared: SharedRows, scales: Sequence[float], n: int, stage: int
) -> tuple[Evaluation, list[int], list[Tensor], Tensor]:
    """The levels that the process reaches, their numbers, the noised rows, and the Gaussian denoiser's errors."""
    sde, base, std = wiring.sde, shared.rows.x[:n], shared.rows.std
    most, least = (level(sde, t).lam for t in (sde.t_min, sde.t_max))
    lams = [-math.log(scale * std * wiring.values.scale) for scale in scales]
    reached = [i for i, lam in enumerate(lams) if least <= lam <= most]
    evaluation = Evaluation(sde)
    times = sde.t_of_lam([lams[i] for i in reached])
    whole = not isinstance(wiring.time, str) and wiring.time.whole
    if hasattr(sde, "n") and whole:
        times = times.round()
    levels = evaluation.at(times) if reached else ()
    noised, references = [], []
    for i, at in zip(reached, levels, strict=True):
        noise = shared.noise(stage, i, n)
        kappa = at.kappa / wiring.values.scale
        noised.append(at.alpha * wiring.values(base) + at.sigma * noise)
        references.append(shared.gaussian(base + kappa * noise, kappa))
    return evaluation, reached, noised, torch.tensor(references, dtype=torch.float64)


def _scored(wiring: Wiring, errors: Tensor, references: Tensor, levels: int) -> Trial:
    """The trial of one reading from its errors (L, n)."""
    means = errors.mean(1)
    logs = torch.log(means / references).nan_to_num(MOST, MOST, _LEAST).clamp(_LEAST, MOST)
    missing = levels - len(means)
    score = (logs.sum().item() + missing * MOST) / levels
    shares = (errors / means[:, None]).nan_to_num(0.0).sum(0) / levels
    return Trial(wiring, score, shares)
