"""The ends of the exact flow that solvers are compared with, and how far from them samples are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdediff.benchmark.tasks import Task
from sdediff.sampling.api import sample

# Rows whose distances to modes are held at once.
_AT_ONCE = 256


class ExactFlows:
    """The ends of the exact flow, computed when they are first needed; the last few are held."""

    def __init__(self, samples: dict[str, int], batch: int, dtypes: dict[str, Any], device: torch.device) -> None:
        self._samples, self._batch, self._dtypes, self._device = samples, batch, dtypes, device
        self._held: dict[tuple[str, int, float | None], Tensor] = {}

    def ends(self, task: Task, seed: int, end: float | None = None) -> Tensor:
        """The states (samples, *shape) that the flow takes the starts of a seed to; end: a time, or None for data."""
        key = (task.name, seed, end)
        if key not in self._held:
            while len(self._held) > 3:
                self._held.pop(next(iter(self._held)))
            self._held[key] = self._computed(task, seed, end)
        return self._held[key]

    def _computed(self, task: Task, seed: int, end: float | None) -> Tensor:
        solver, calls, dtype = task.reference
        parts, total = [], self._samples[task.name]
        ends: dict[str, Any] = {}
        if end is not None:
            ends = {"stop": max(end, float(task.model.sde.t_min)), "denoise": False}
            if not solver.grid and hasattr(task.model.sde, "n"):
                ends["grid"] = "uniform"  # a table's own grids stop at its timesteps alone
        for first in range(0, total, self._batch):
            count = min(self._batch, total - first)
            x = sample(
                task.model, (count, *task.shape), solver=solver, calls=calls, seed=seed, index=first,
                cond=task.conditions(first, count), dtype=dtype or self._dtypes[task.name], device=self._device,
                progress=False, **ends,
            )  # fmt: skip
            parts.append(x.double().cpu())
        return torch.cat(parts)


def flow_errors(x: Tensor, exact: Tensor, modes: Tensor) -> dict[str, float]:
    """The columns of the error of samples x against the ends of the flow from the same starts."""
    errors = (x.double() - exact).flatten(1).square().mean(1).sqrt()
    median, q90, q99 = torch.quantile(errors, torch.tensor([0.5, 0.9, 0.99], dtype=torch.float64)).tolist()
    moved = (nearest_modes(x, modes) != nearest_modes(exact, modes)).double().mean().item()
    rms = errors.square().mean().sqrt().item()
    return {"error_median": median, "error_q90": q90, "error_q99": q99, "error_rms": rms, "other_mode": moved}


def nearest_modes(x: Tensor, modes: Tensor) -> Tensor:
    """The number of the mode (K, *shape) that is nearest to each state (N, *shape)."""
    points = modes.double().flatten(1)
    parts = [torch.cdist(part, points).argmin(1) for part in x.double().flatten(1).split(_AT_ONCE)]
    return torch.cat(parts)
