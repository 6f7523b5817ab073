"""The tasks of a sweep: a model, the data that its samples should follow, and an independent draw of real data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff import hub
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.suggestions import nearest
from sdediff.model.data_card import DataCard
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
    by default. reference: how the exact flow is computed.
    """

    name: str
    model: ScoreModel
    truth: Tensor
    real: Tensor
    samples: int = 200
    reference: ReferenceSolver = _NETWORK_REFERENCE

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


def resolve_task(task: str | Task, device: Any = None, dtype: torch.dtype | None = None) -> Task:
    """A task by name: a target of sdediff.targets under VP, or a model of the package with its data."""
    if isinstance(task, Task):
        return task
    if not isinstance(task, str):
        raise InputTypeError(f"a task is a name or a benchmark.Task, given {type(task).__name__}")
    if task in TARGETS:
        return _target_task(task, device, dtype)
    stored = _SHORT_NAMES.get(task, task)
    if stored not in hub.models():
        raise InputError(nearest(task, {*TARGETS, *hub.models(), *_SHORT_NAMES}, "task"))
    return _network_task(task, stored, device, dtype)


def _target_task(name: str, device: Any, dtype: torch.dtype | None) -> Task:
    distribution, dtype = target(name), dtype or torch.get_default_dtype()
    model = distribution.model(VP())
    model.net.to(device or "cpu")  # type: ignore[attr-defined]
    truth, real = (distribution.sample(_TRUTH_SIZE, index=first, dtype=dtype) for first in (0, _TRUTH_SIZE))
    reference = ReferenceSolver(ODE("DOP853", 1e-8, 1e-8), None, torch.float64)
    return Task(name, model, truth, real, 400, reference)


def _network_task(name: str, stored: str, device: Any, dtype: torch.dtype | None) -> Task:
    model = hub.load(stored, device or "cpu", dtype)
    name_of_data, bounds = model.card["data"]["name"], DataCard.of(model.card).bounds
    truth, real = (hub.data(name_of_data, part).dequantised(range=bounds) for part in ("test", "train"))
    return Task(name, model, truth, real)
