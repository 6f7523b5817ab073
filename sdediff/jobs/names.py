"""Models and data by name, as other processes load them."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sdediff import hub
from sdediff._utils.files import present
from sdediff.datasets import DataSet
from sdediff.jobs.errors import JobError
from sdediff.jobs.inputs import Range, data_set
from sdediff.jobs.work import Recipe
from sdediff.model.score_model import ScoreModel, check_model

# The fields of a model that may be set after it was loaded and that travel with its name.
_SET = ("cond", "per_sample", "shared", "stats", "output", "changes", "card")


@dataclasses.dataclass(frozen=True)
class NamedModel:
    """A model as another process makes it: loaded by its reference, with what was set on it since, pickled."""

    reference: str
    trust: tuple[str, ...] = ()
    fields: bytes = b""

    @classmethod
    def of(cls, model: ScoreModel) -> NamedModel | None:
        """The name of a model that `sdediff.load` gave; None for others, and where a field cannot travel."""
        origin = hub.provenance(model)
        if origin.reference is None:
            return None
        fields = {name: _on_cpu(getattr(model, name)) for name in _SET}
        try:
            return cls(origin.reference, origin.trust, pickle.dumps(fields))
        except (pickle.PicklingError, TypeError, AttributeError):  # a function of the main program, an open file
            return None

    def load(self, device: Any, dtype: torch.dtype | None) -> ScoreModel:
        """The model in this process."""
        model = hub.load(self.reference, device, dtype, self.trust)
        return dataclasses.replace(model, **pickle.loads(self.fields))


def _on_cpu(value: Any) -> Any:
    """A value without tensors on an accelerator, whose memory another process does not see."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(part) for key, part in value.items()}
    return type(value)(_on_cpu(part) for part in value) if type(value) in (list, tuple) else value


def as_model(
    model: ScoreModel | NamedModel | str, trust: Sequence[str] = (), device: Any = None, dtype: Any = None
) -> ScoreModel:
    """The model itself, or that of a name, folder, hub id or reference to code."""
    if isinstance(model, NamedModel):
        return model.load(device, dtype)
    return hub.load(model, device, dtype, trust) if isinstance(model, str | Path) else check_model(model)


def named_data(
    data: Any,
    levels: int | None = None,
    range: Range | None = None,
    key: str | None = None,
    limit: int | None = None,
) -> DataSet:
    """Data of any kind; a text that is no path may be data inside the package, as "digits:test"."""
    if isinstance(data, str) and not ("/" in data or Path(data).suffix or present(data)):
        data = hub.data(data)
    return data_set(data, levels, range, key, limit)


def recipe_for(engine: str, make: str, arguments: dict[str, Any], **changes: Any) -> Recipe | None:
    """The recipe for the processes of an engine; None for this process. Objects that they cannot load are refused.

    A model that `sdediff.load` gave goes by its reference, with the conditions, statistics and changes that were set on
    it. changes: arguments that replace others.
    """
    if engine == "local":
        return None
    model = arguments["model"]
    model = (NamedModel.of(model) or model) if isinstance(model, ScoreModel) else model
    for name, value in {"model": model, "data": arguments.get("data", "")}.items():
        if not isinstance(value, str | Path | NamedModel):
            raise JobError(
                f"{name}= is a {type(value).__name__}, which the processes of engine={engine!r} cannot load by "
                "themselves: give a name, a folder or a file, or compute in this process"
            )
    return Recipe(make, {**arguments, **changes, "model": model}, arguments["threads"])
