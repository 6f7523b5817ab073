"""The tasks of a sweep: a model, the data that its samples should follow, and an independent draw of real data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff import hub
from sdediff._utils.checks import states
from sdediff._utils.errors import InputError, InputTypeError
from sdediff.datasets import DataSet
from sdediff.model.conditions import as_tensors, conditions_in_turn
from sdediff.model.data_card import DataCard
from sdediff.model.data_check import check_data
from sdediff.model.network import parameter_count
from sdediff.model.score_model import ScoreModel
from sdediff.sde.processes import VP
from sdediff.solvers import ODE, Solver, solver
from sdediff.targets import TARGETS, target

# How many true samples of a target a task holds; as many again serve as real data.
_TRUTH_SIZE = 4000
# How many samples a solver draws from one seed, of a target and of a network.
_TARGET_SAMPLES, _NETWORK_SAMPLES = 128, 64


class ReferenceSolver(NamedTuple):
    """How the exact flow is computed: a solver, its calls unless it is adaptive, and the states' dtype."""

    solver: Solver
    calls: int | None = None
    dtype: torch.dtype | None = None


# Trained networks are not smooth enough for more to pay: on the digits this is within 7e-5 of DOP853 at 200 calls.
_NETWORK_REFERENCE = ReferenceSolver(solver("adams", points=3, basis="x0", variable="lam"), 200)


@dataclass(frozen=True, eq=False)
class Task:
    """A model, true data (N, *shape) that its samples are compared with, and real data (M, *shape).

    real: a draw independent of truth; its own distance to truth is the floor. samples: how many a solver draws from a
    seed by default. reference: how the exact flow is computed. cond: conditions of the network; tensors give their rows
    to the samples in turn, those that the model's `shared` names are the same for all. modes (K, *shape): points of
    which a sample belongs to the nearest, by default truth. truth_cond: the conditions of the rows of truth, None where
    cond has no row a row of the data.
    """

    name: str
    model: ScoreModel
    truth: Tensor
    real: Tensor
    samples: int = _NETWORK_SAMPLES
    reference: ReferenceSolver = _NETWORK_REFERENCE
    cond: dict[str, Any] | None = None
    modes: Tensor | None = None
    truth_cond: dict[str, Any] | None = None

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
        size = parameter_count(net)
        name = type(net).__name__ + (f" of {size} parameters" if size else "")
        trained = f", trained on {model.trained!r}" if model.trained is not None else ""
        return f"ScoreModel({name}, {model.sde!r}, predicts={model.predicts!r}, time={model.time!r}{trained})"


def resolve_task(
    model: str | ScoreModel | Task,
    device: Any = None,
    dtype: torch.dtype | None = None,
    data: Any = None,
    cond: dict[str, Any] | None = None,
    trust: Sequence[str] = (),
) -> Task:
    """The task of a model, its name or folder, or a Task as it is.

    data: what samples of the model follow, a DataSet or a tensor (N, ...) of its states; by default the data of the
    package that its card names. Every second row is the truth, the others are the real data.
    """
    if isinstance(model, Task):
        return model if cond is None else replace(model, cond=cond)
    if isinstance(model, ScoreModel):
        return _network_task(str(model.card.get("name", "model")), model, data, cond)
    if not isinstance(model, str):
        raise InputTypeError(f"give names, models or benchmark.Task objects, given {type(model).__name__}")
    if model in TARGETS:
        raise InputError(f"{model!r} is a target, whose score is exact: write targets=[{model!r}] (--targets {model})")
    return _network_task(model, hub.load(model, device, dtype, trust), data, cond)


def target_task(name: str, device: Any = None, dtype: torch.dtype | None = None) -> Task:
    """The task of a target of sdediff.targets, with its exact score, under VP."""
    distribution, dtype = target(name), dtype or torch.get_default_dtype()
    model = distribution.model(VP())
    net: Any = model.net
    net.to(device or "cpu")
    truth, real = (distribution.sample(_TRUTH_SIZE, index=first, dtype=dtype) for first in (0, _TRUTH_SIZE))
    reference = ReferenceSolver(ODE("DOP853", 1e-8, 1e-8), None, torch.float64)
    modes = distribution.means.reshape(-1, *distribution.shape)
    return Task(name, model, truth, real, _TARGET_SAMPLES, reference, modes=modes)


def _network_task(name: str, model: ScoreModel, data: Any, cond: dict[str, Any] | None) -> Task:
    card = DataCard.of(model.card)
    if data is None:
        stored = (model.card.get("data") or {}).get("name")
        if stored not in ("digits",):
            raise InputError(f"{name}: the data of this model are not in the package: give data= (--data FILE)")
        truth, real = (hub.data(stored, part).dequantised(range=card.bounds) for part in ("test", "train"))
        return Task(name, model, truth, real, cond=cond, truth_cond=_of_rows(cond, len(truth), 1, model))
    rows = _states(data, card)
    if len(rows) < 4:
        raise InputError(f"{len(rows)} rows of data: give at least 4, better some hundreds")
    check_data(model, rows, "data", depth=5)
    truth_cond = _of_rows(cond, len(rows), 2, model)
    samples = min(_NETWORK_SAMPLES, len(rows) // 2)
    return Task(name, model, rows[::2], rows[1::2], samples, cond=cond, truth_cond=truth_cond)


def _of_rows(cond: dict[str, Any] | None, count: int, stride: int, model: ScoreModel) -> dict[str, Any] | None:
    """The conditions of every stride-th of `count` rows of data; None unless each has a row a row or is shared."""
    own = {name: value for name, value in as_tensors({} if cond is None else cond).items() if name not in model.shared}
    if not own or not all(isinstance(v, Tensor) and v.ndim and len(v) == count for v in own.values()):
        return None
    return conditions_in_turn(cond, range(0, count, stride), model.shared)


def _states(data: Any, card: DataCard) -> Tensor:
    """Data as states of the network."""
    if isinstance(data, DataSet):
        if data.levels is not None:
            return data.dequantised(range=card.bounds)
        return data.tensor(range=card.bounds)
    return states("data", data)
