"""The likelihood of each model of a sweep on rows of its data, in bits or nats a dimension."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from sdediff._utils.files import whole
from sdediff.benchmark.sweep_work import SweepWork
from sdediff.benchmark.tasks import Task
from sdediff.likelihood import bits_per_dim, log_likelihood
from sdediff.model.data_card import DataCard
from sdediff.targets import ExactNet

NAME = "likelihoods.json"
# Looser than the default: the rows' spread is a hundred times what this costs in accuracy.
_SETTINGS: dict[str, Any] = {"rtol": 1e-2, "atol": 1e-2, "probes": 4}
_LARGEST = 1 << 20
UNITS = ("bits/dim", "nats/dim")


def write_likelihoods(work: SweepWork, folder: Path, rows: int) -> None:
    """Write likelihoods.json unless it is there: mean over rows of the true data, its standard error, the unit."""
    if rows and not (folder / NAME).exists():
        found = {task.name: _of(task, rows, work.device) for task in work.tasks}
        with whole(folder / NAME) as unfinished:
            unfinished.write_text(json.dumps({k: v for k, v in found.items() if v}, indent=1) + "\n", encoding="utf-8")


def read_likelihoods(folder: Path) -> dict[str, dict[str, Any]]:
    """The likelihoods of a folder by task; none where they were not computed or are damaged."""
    path = folder / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < _LARGEST else {}
    except (OSError, ValueError, RecursionError):
        return {}
    kinds = {"value": float, "std_error": float, "unit": str, "rows": int}
    return {
        task: entry
        for task, entry in (found if isinstance(found, dict) else {}).items()
        if isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in kinds.items())
    }


def _of(task: Task, rows: int, device: Any) -> dict[str, Any]:
    """The likelihood of one model; nothing for a target, whose density is known, and where none exists."""
    if isinstance(task.model.net, ExactNet):
        return {}
    x, card = task.truth[:rows], DataCard.of(task.model.card)
    try:
        found = log_likelihood(
            task.model, x, cond=task.conditions(0, len(x)), device=device, progress=False, **_SETTINGS
        )  # fmt: skip
        if card.levels is None:
            values, unit = -found.log_prob / x[0].numel(), "nats/dim"
        else:
            values, unit = bits_per_dim(found, levels=card.levels, range=card.bounds), "bits/dim"
    except Exception:  # of the user's network: what its cells say is worth more than a likelihood
        return {}
    values = values[torch.isfinite(values)].double()
    if len(values) < 2:
        return {}
    error = values.std().item() / math.sqrt(len(values))
    return {"value": values.mean().item(), "std_error": error, "unit": unit, "rows": len(values)}
