"""The tasks of a sweep: a model, the data that its samples should follow, and an independent draw of real data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff import hub
from sdediff._utils.checks import states
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.suggestions import nearest
from sdediff.datasets import DataSet
from sdediff.model.conditions import conditions_in_turn
from sdediff.model.data_card import DataCard
from sdediff.model.data_check import check_data
from sdediff.model.score_model import ScoreModel
from sdediff.sde.processes import VP
from sdediff.solvers import ODE, Solver, solver
from sdediff.targets import TARGETS, target

# The default network has a short name.
_SHORT_NAMES = {"digits": "digits-vp"}
# How many true samples of a target a task holds; as many again serve as real data.
_TRUTH_SIZE = 4000


class ReferenceSolver(NamedTuple):
    """How the exact flow is computed: a solver, its calls unless it is adaptive, and the states' dtype."""

    solver: Solver
    calls: int | None = None
    dtype: torch.dtype | None = None


# Trained networks are not smooth enough for a high order to pay: on the digits this is within 2e-5 of DOP853 at 1e-8.
_NETWORK_REFERENCE = ReferenceSolver(solver("dpmpp_2m"), 400)


@dataclass(frozen=True, eq=False)
class Task:
    """A model, true data (N, *shape) that its samples are compared with, and real data (M, *shape).

    real: a draw independent of truth; its own distance to truth is the floor. samples: how many a solver draws
    by default. reference: how the exact flow is computed. cond: conditions of the network; tensors give their rows to
    the samples in turn, those that the model's `shared` names are the same for all.
    """

    name: str
    model: ScoreModel
    truth: Tensor
    real: Tensor
    samples: int = 200
    reference: ReferenceSolver = _NETWORK_REFERENCE
    cond: dict[str, Any] | None = None

    def conditions(self, first: int, count: int) -> dict[str, Any] | None:
        """The conditions of `count` samples from number `first` on."""
        return conditions_in_turn(self.cond, range(first, first + count), self.model.shared)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return tuple(self.truth.shape[1:])

    def __repr__(self) -> str:
        return f"Task({self.name!r}, {self.describe()}, truth={tuple(self.truth.shape)}, real={tuple(self.real.shape)})"

    def describe(self) -> str:
        """The model in one line: the network by class and size, the process and parametrisation by value."""
        net, model = self.model.net, self.model
        size = sum(p.numel() for p in net.parameters()) if isinstance(net, torch.nn.Module) else 0
        name = type(net).__name__ + (f" of {size} parameters" if size else "")
        trained = f", trained on {model.trained!r}" if model.trained is not None else ""
        return f"ScoreModel({name}, {model.sde!r}, predicts={model.predicts!r}, time={model.time!r}{trained})"


def resolve_task(
    task: str | ScoreModel | Task,
    device: Any = None,
    dtype: torch.dtype | None = None,
    data: Any = None,
    cond: dict[str, Any] | None = None,
) -> Task:
    """A task by name: a target of sdediff.targets under VP, or any name of a model, or a model itself, with its data.

    data: what samples of a model follow, a DataSet or a tensor (N, ...) of its states; by default the data of the
    package that its card names. Every second row is the truth, the others are the real data.
    """
    if isinstance(task, Task):
        return task if cond is None else replace(task, cond=cond)
    if isinstance(task, ScoreModel):
        return _network_task(str(task.card.get("name", "model")), task, data, cond)
    if not isinstance(task, str):
        raise InputTypeError(f"a task is a name, a model or a benchmark.Task, given {type(task).__name__}")
    if task in TARGETS:
        return _target_task(task, device, dtype)
    stored = _SHORT_NAMES.get(task, task)
    try:
        model = hub.load(stored, device, dtype)
    except hub.HubError as error:
        if str(error).startswith("no model"):
            raise InputError(nearest(task[:200], {*TARGETS, *hub.models(), *_SHORT_NAMES}, "task")) from error
        raise
    return _network_task(task, model, data, cond)


def _target_task(name: str, device: Any, dtype: torch.dtype | None) -> Task:
    distribution, dtype = target(name), dtype or torch.get_default_dtype()
    model = distribution.model(VP())
    model.net.to(device or "cpu")  # type: ignore[attr-defined]
    truth, real = (distribution.sample(_TRUTH_SIZE, index=first, dtype=dtype) for first in (0, _TRUTH_SIZE))
    reference = ReferenceSolver(ODE("DOP853", 1e-8, 1e-8), None, torch.float64)
    return Task(name, model, truth, real, 400, reference)


def _network_task(name: str, model: ScoreModel, data: Any, cond: dict[str, Any] | None) -> Task:
    card = DataCard.of(model.card)
    if data is None:
        stored = (model.card.get("data") or {}).get("name")
        if stored not in ("digits",):
            raise InputError(f"{name}: the data of this model are not in the package: give data= (--data FILE)")
        truth, real = (hub.data(stored, part).dequantised(range=card.bounds) for part in ("test", "train"))
        return Task(name, model, truth, real, cond=cond)
    rows = _states(data, card)
    if len(rows) < 4:
        raise InputError(f"{len(rows)} rows of data: give at least 4, better some hundreds")
    check_data(model, rows, "data", depth=5)
    return Task(name, model, rows[::2], rows[1::2], min(200, len(rows) // 2), cond=cond)


def _states(data: Any, card: DataCard) -> Tensor:
    """Data as states of the network."""
    if isinstance(data, DataSet):
        if data.levels is not None:
            return data.dequantised(range=card.bounds)
        return data.tensor(range=card.bounds)
    return states("data", data)
