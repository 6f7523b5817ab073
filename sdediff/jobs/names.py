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
from sdediff.model.score_model import ScoreModel


def named_model(
    reference: str, trust: Sequence[str] = (), device: Any = None, dtype: torch.dtype | None = None
) -> ScoreModel:
    """The model of a name, folder or hub id."""
    return hub.load(reference, "cpu" if device is None else device, dtype, trust)


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


def needs_names(what: str, **objects: Any) -> None:
    """Refuse live objects for engines whose processes load everything themselves."""
    for name, value in objects.items():
        if not isinstance(value, str | Path):
            raise JobError(
                f"{name}= is a {type(value).__name__}, which {what} cannot load by themselves: give a name, a folder "
                "or a file, or compute in this process"
            )
