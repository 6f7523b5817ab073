"""Models and data by name, as other processes load them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sdediff import hub
from sdediff.datasets import DataSet
from sdediff.jobs.errors import JobError
from sdediff.jobs.inputs import Range, data_set
from sdediff.jobs.work import Recipe
from sdediff.model.score_model import ScoreModel


def named_model(
    reference: str, trust: Sequence[str] = (), device: Any = None, dtype: torch.dtype | None = None
) -> ScoreModel:
    """The model of a name, folder, hub id or reference to code."""
    return hub.load(reference, device, dtype, trust)


def named_data(
    data: Any,
    levels: int | None = None,
    range: Range | None = None,
    key: str | None = None,
    limit: int | None = None,
) -> DataSet:
    """Data of any kind; a text that is no path may be data inside the package, as "digits:test"."""
    if isinstance(data, str) and not ("/" in data or Path(data).suffix or Path(data).expanduser().exists()):
        name, _, split = data.partition(":")
        data = hub.data(name, split or "test")
    return data_set(data, levels, range, key, limit)


def recipe_for(engine: str, make: str, arguments: dict[str, Any], **changes: Any) -> Recipe | None:
    """The recipe for the processes of an engine; None for this process. Objects that they cannot load are refused.

    A model that `sdediff.load` gave goes by its reference. changes: arguments that replace others.
    """
    if engine == "local":
        return None
    model, trust = arguments["model"], arguments["trust"]
    if isinstance(model, ScoreModel) and not model.changes:
        origin = hub.provenance(model)
        model, trust = (model, trust) if origin.reference is None else (origin.reference, origin.trust)
    for name, value in {"model": model, "data": arguments.get("data", "")}.items():
        if not isinstance(value, str | Path):
            raise JobError(
                f"{name}= is a {type(value).__name__}, which the processes of engine={engine!r} cannot load by "
                "themselves: give a name, a folder or a file, or compute in this process"
            )
    return Recipe(make, {**arguments, **changes, "model": model, "trust": trust}, arguments["threads"])
