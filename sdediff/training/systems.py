"""Models and objectives from the sections of a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.suggestions import nearest
from sdediff.datasets import DataSet
from sdediff.hub.processes import sde_from
from sdediff.likelihood.units import Discrete
from sdediff.model.data_statistics import statistics
from sdediff.model.score_model import ScoreModel
from sdediff.nets import NETS
from sdediff.sde.base import SDE
from sdediff.sde.learned import LearnedVP, first_gamma
from sdediff.sde.processes import Cosine
from sdediff.sde.table import Table
from sdediff.training.classifier import ClassifierLoss
from sdediff.training.loop import build
from sdediff.training.loss_history import LossHistory
from sdediff.training.ncsn import ladder_size, largest_distance, noise_ladder
from sdediff.training.objective import Objective, TrainingObjective
from sdediff.training.score_matching import ImplicitScoreMatching
from sdediff.training.settings import TrainingError
from sdediff.training.spreads import SPREADS
from sdediff.training.variational import VariationalBound
from sdediff.training.vdm import VariationalDiffusion

Range = tuple[float, float]
OBJECTIVES: dict[str, Callable[..., TrainingObjective]] = {
    "denoising": Objective, "implicit": ImplicitScoreMatching, "bound": VariationalBound, "vdm": VariationalDiffusion,
    "classifier": ClassifierLoss,
}  # fmt: skip
_ROWS = 4096


def made_model(
    sections: dict[str, dict[str, Any]], data: DataSet, bounds: Range, card: dict[str, Any], seed: int
) -> ScoreModel:
    """The untrained model of a configuration for these data; its first weights depend on the seed alone."""
    values = _values(data, bounds)
    process = _process(dict(sections["process"]), data, values)
    given, network = dict(sections["model"]), dict(sections["network"])
    name = str(network.pop("class", "UNet"))
    if name not in NETS:
        raise TrainingError(f"network.class: {nearest(name, NETS, 'network')}")
    takes = inspect.signature(NETS[name]).parameters
    for key in network:
        if key not in takes:
            raise TrainingError(f"network.{key}: {nearest(key, takes, 'field')}")
    size = {"dim": data.dims} if name == "MLP" else {"channels_in": data.shape[0]}
    if given.get("sigma_data") == "measured":
        given["sigma_data"] = float(values.double().std())
    for key in given:
        if key not in ("predicts", "time", "sigma_data", "offset", "velocity_only"):
            known = ("predicts", "time", "sigma_data", "offset", "velocity_only")
            raise TrainingError(f"model.{key}: {nearest(key, known, 'field')}")
    net = _named("network", lambda: build(lambda: NETS[name](**{**size, **network}), seed))
    return _named("model", lambda: ScoreModel(net, process, card=card, stats=statistics(values), **given))


def made_objective(section: dict[str, Any], data: DataSet, bounds: Range) -> TrainingObjective:
    """The objective of a configuration for these data."""
    given = dict(section)
    kind = str(given.pop("kind", "denoising"))
    if kind not in OBJECTIVES:
        raise TrainingError(nearest(kind, OBJECTIVES, "kind"))
    takes = inspect.signature(OBJECTIVES[kind]).parameters
    for key in given:
        if key not in takes:
            raise TrainingError(f"{key}: {nearest(key, takes, 'field')}")
    if isinstance(given.get("spread"), dict):
        given["spread"] = _spread(given["spread"])
    if given.get("discrete") is True:
        if data.levels is None:
            raise TrainingError("discrete = true, and the data have no levels: leave it out")
        given["discrete"] = Discrete(data.levels, bounds)
    elif given.get("discrete") is False:
        given["discrete"] = None
    if isinstance(given.get("history"), int):
        given["history"] = LossHistory(given["history"])
    return OBJECTIVES[kind](**given)


def _spread(given: dict[str, Any]) -> Any:
    """A distribution of times from a table with its name."""
    fields = dict(given)
    name = str(fields.pop("name", None))
    if name not in SPREADS:
        raise TrainingError(f"spread.name: {nearest(name, SPREADS, 'spread of training times')}")
    nested = {key: _spread(value) if isinstance(value, dict) else value for key, value in fields.items()}
    return SPREADS[name](**nested)


def _process(given: dict[str, Any], data: DataSet, values: Tensor) -> SDE:
    """A process by its class and fields; tables by their schedule."""
    schedule = given.pop("schedule", None)
    if given.get("class") == "LearnedVP":
        given.pop("class")
        if given.get("gamma0") == "measured":
            if data.levels is None:
                raise TrainingError('process.gamma0 = "measured", and the data have no levels: give a number')
            given["gamma0"] = first_gamma(data.levels)
        return _named("process", lambda: LearnedVP(**given))
    if schedule is None:
        return sde_from(given, "process")
    given.pop("class", None)
    if schedule not in _SCHEDULES:
        raise TrainingError(f"process.schedule: {nearest(str(schedule), _SCHEDULES, 'schedule')}")
    return _named("process", lambda: _SCHEDULES[schedule](values, **given))


def _linear(values: Tensor, steps: int = 1000, first: float = 1e-4, last: float = 0.02, zero: bool = False) -> Table:
    return Table.from_betas(torch.linspace(first, last, steps, dtype=torch.float64), zero_terminal_snr=zero)


def _cosine(values: Tensor, steps: int = 1000, s: float = 0.008, cap: float = 0.999) -> Table:
    return Table.from_betas(Cosine(s=s).betas(steps, cap))


def _ladder(values: Tensor, levels: Any = 10, smallest: float = 0.01, largest: Any = 1.0) -> Table:
    """NCSN's sigmas; "measured" takes NCSNv2's largest distance and number of levels."""
    top = largest_distance(values) if largest == "measured" else float(largest)
    count = ladder_size(top, smallest, values[0].numel()) if levels == "measured" else int(levels)
    return noise_ladder(top, smallest, count)


_SCHEDULES: dict[str, Callable[..., Table]] = {"linear": _linear, "cosine": _cosine, "ladder": _ladder}


def _values(data: DataSet, bounds: Range) -> Tensor:
    """Some of the data as the network sees them, for what is measured."""
    rows = range(0, len(data), max(1, len(data) // _ROWS))
    return data.tensor(bounds, index=rows) if data.levels is None else data.dequantised(0, rows, bounds)


def _named(where: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{where}: {error}") from error
