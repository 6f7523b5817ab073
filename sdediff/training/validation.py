"""What is measured on held-out rows while a model trains: its loss, gain and gap, bits/dim, and a grid of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import shown, whole
from sdediff._utils.errors import InputError, InputTypeError
from sdediff.datasets import DataSet, save_grid
from sdediff.likelihood import bits_per_dim, log_likelihood
from sdediff.model.data_card import DataCard
from sdediff.model.score_model import ScoreModel
from sdediff.sampling import sample
from sdediff.training.batches import Batch, as_batch
from sdediff.training.conditions import null_rows
from sdediff.training.draws import Draws
from sdediff.wiring import check

# The fewest rows on which the check measures.
_FEWEST = 50


@dataclass(frozen=True)
class Validation:
    """Figures of the averaged weights on rows that are not trained on, after every so many updates and at the end.

    data: a DataSet, x (N, ...), (x, label) or {"x": x, ...}; its first `rows` are used. loss: the objective's, at the
    same times and noise each time. gain, gap: as `sd.check` measures them, on 50 rows or more. bits_per_dim:
    of `likelihood_rows` rows with one probe a row (nats where the data have no levels, under the name nats); 0 for
    none. samples: how many are drawn with `calls` calls for the grid samples/update-N.png of images; 0 for none.
    """

    data: Any
    every: int = 500
    rows: int = 128
    likelihood_rows: int = 16
    samples: int = 36
    calls: int = 20

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("rows", 1), ("likelihood_rows", 0), ("samples", 0), ("calls", 2)):
            whole(name, getattr(self, name), least)
        if not isinstance(self.data, DataSet | Tensor | dict | tuple | list):
            raise InputTypeError(f"data={shown(self.data)}: give a DataSet, a tensor (N, ...) or a pair (x, label)")
        if isinstance(self.data, DataSet) and len(self.data) == 0:
            raise InputError("the data for validation have no rows: give some that are not trained on")

    def due(self, done: int, updates: int) -> bool:
        """Whether to measure after so many updates."""
        return done % self.every == 0 or done == updates

    def batch(self, model: ScoreModel, labelled: bool) -> Batch:
        """The rows and their conditions, integer levels dequantised by seed 0."""
        if not isinstance(self.data, DataSet):
            x, cond = as_batch(self.data)
            return x[: self.rows], {
                k: v[: self.rows] if isinstance(v, Tensor) and v.ndim else v for k, v in cond.items()
            }
        rows, bounds = range(min(self.rows, len(self.data))), DataCard.of(model.card).bounds
        dataset = self.data
        x = dataset.tensor(bounds, index=rows) if dataset.levels is None else dataset.dequantised(0, rows, bounds)
        labels = dataset.labels if labelled else None
        return x, {} if labels is None else {"label": torch.from_numpy(np.array(labels)).flatten()[rows]}

    @torch.no_grad()
    def measure(self, model: ScoreModel, objective: Any, seed: int, device: torch.device) -> dict[str, float]:
        """The figures by name, without those that the model cannot have: a classifier's gain, a marked model's bits."""
        labelled = "label" in null_rows(model.net) or bool(getattr(objective, "needs_labels", False))
        x, cond = self.batch(model, labelled)
        x, cond = x.to(device), {k: v.to(device) if isinstance(v, Tensor) else v for k, v in cond.items()}
        with torch.enable_grad():  # implicit score matching differentiates
            losses = objective(model, x, cond, Draws(seed, 0, 0, len(x)))
        found = {"held_out_loss": float(losses.detach().double().mean())}
        if bool(getattr(objective, "needs_labels", False)):
            return found
        if len(x) >= _FEWEST:
            report = check(model, x.cpu(), cond=cond, rows=len(x), device=device)
            if report.gain is not None and report.gap is not None:
                found |= {"gain": report.gain.value, "gap": report.gap.value}
        if self.likelihood_rows and not model.velocity_only:
            found |= self._likelihood(model, x, cond)
        return found

    def _likelihood(self, model: ScoreModel, x: Tensor, cond: dict[str, Any]) -> dict[str, float]:
        count = min(self.likelihood_rows, len(x))
        given = {k: v[:count] if isinstance(v, Tensor) and v.ndim else v for k, v in cond.items()}
        result = log_likelihood(model, x[:count], probes=1, cond=given or None, progress=False)
        card = DataCard.of(model.card)
        if card.levels is None or card.range is None:
            return {"nats": float(-result.log_prob.mean())}
        low, high = card.range
        return {"bits_per_dim": float(bits_per_dim(result, levels=card.levels, range=(low, high)).mean())}

    @torch.no_grad()
    def draw(self, model: ScoreModel, path: Path, device: torch.device) -> Path | None:
        """A grid of samples as PNG, the same noise each time; None for data that are no images."""
        x, cond = self.batch(model, "label" in null_rows(model.net))
        if x.ndim != 4 or x.shape[1] not in (1, 3) or not self.samples:
            return None
        given = {k: v[torch.arange(self.samples) % len(v)] for k, v in cond.items() if isinstance(v, Tensor) and v.ndim}
        drawn = sample(
            model, (self.samples, *x.shape[1:]), solver="heun" if model.velocity_only else "dpmpp_2m", calls=self.calls,
            cond=given or None, device=device, progress=False,
        )  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        return save_grid(drawn.cpu(), path, range=DataCard.of(model.card).bounds)


def finite(figures: dict[str, float]) -> dict[str, float | None]:
    """The figures as JSON holds them."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
