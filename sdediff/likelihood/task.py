"""One evaluation of log p: its settings with all defaults filled in, its model, and its micro-batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import whole
from sdediff._utils.errors import InputError
from sdediff._utils.progress import track
from sdediff.likelihood.ends import Prior, prior_name
from sdediff.likelihood.settings import NODES, LikelihoodSettings
from sdediff.likelihood.trace import TRACES, most_probes
from sdediff.likelihood.units import Discrete
from sdediff.model.conditions import as_tensors, check_names, rows_of_conditions
from sdediff.model.score_model import ScoreModel
from sdediff.model.velocity_only import WHY
from sdediff.model.wrappers import uncompiled
from sdediff.noise.counter import Counter, indices
from sdediff.sampling.run import check_eval, placement
from sdediff.sde.base import linear

# The conditions of a network by rows (b,) of its batch, which may repeat.
Conditions = Callable[[Tensor], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Task:
    """What a method evaluates: a model and the values of `LikelihoodSettings`.

    The settings of other methods have the values below, which nothing reads.
    """

    model: ScoreModel
    seed: int
    method: str
    t0: float
    prior: Prior
    end: str
    solver_error: str
    discrete: Discrete | None
    # The batch size that network calls are padded to, where finished samples stay in the batch; 0 where they leave.
    padded_size: int = 0
    progress: bool | None = False
    integrator: str = ""
    variable: str = ""
    rtol: float = 1.0
    atol: float = 1.0
    trace: str = "exact"
    probes: int = 1
    nodes: int = 1
    autograd: bool = True
    gradient: str | None = None
    max_steps: int = 1
    steps: int | None = None
    noises: int = 1
    fresh: bool = True
    variance: str = "small"

    def coarser(self) -> Task:
        """The second run that measures the error of the first, at eight times the tolerance."""
        return replace(self, rtol=8 * self.rtol, atol=8 * self.atol)

    def finer(self) -> Task:
        """The second run that measures the error of a bound, with twice the nodes and other noise."""
        return replace(self, steps=2 * (self.steps or NODES), seed=self.seed ^ 1 << 63)


def prepare(
    model: ScoreModel,
    settings: LikelihoodSettings,
    shape: Sequence[int],
    seed: int,
    cond: dict[str, Any] | None,
    micro_batch: int,
) -> tuple[Task, Conditions]:
    """The task for states of a shape (B, ...), and all conditions, those bound to the model too, by rows."""
    check_eval(model)
    model = model.map_net(uncompiled)
    sde = linear(model.sde)
    if model.velocity_only and (settings.values()["method"] != "ode" or settings.values()["end"] != "t0"):
        raise InputError(f'{WHY}: write method="ode", end="t0", which follow the flow alone')
    micro_batch = whole("micro_batch", micro_batch, 1)
    Counter(seed)  # refuses a seed that is not an integer in [0, 2**64)
    every = {**model.cond, **as_tensors({} if cond is None else cond)}
    check_names(model.net, every)
    values = settings.values()
    named = {f.name: values[f.name] for f in fields(Task) if values.get(f.name) is not None}
    padded_size = micro_batch if values["frozen"] else 0
    if values.get("trace") in TRACES and (values["probes"] or 0) >= most_probes("hadamard", math.prod(shape[1:])):
        # As many orthogonal probes give the trace exactly, and the unit vectors do so with no more.
        named |= {"trace": "exact", "probes": 1}
    task = Task(**{
        "discrete": None, **named, "model": model, "seed": seed, "t0": settings.start_time(sde),
        "padded_size": padded_size,
    })  # fmt: skip
    prior_name(task.prior, model, tuple(shape[1:]))
    return task, partial(_rows, every, shape[0], model)


def _rows(cond: dict[str, Any], batch: int, model: ScoreModel, rows: Tensor) -> dict[str, Any]:
    return rows_of_conditions(cond, rows, batch, model.per_sample, model.shared)


def place(
    model: ScoreModel, dtype: torch.dtype | None, device: torch.device | str | None, like: Tensor | None = None
) -> tuple[torch.dtype, torch.device]:
    """Dtype and device of the states, as `placement` finds them; refuses what states cannot have."""
    return placement(model, dtype, device, like)


def micro_batches(
    size: int,
    micro_batch: int,
    index: int | Sequence[int],
    cond: Conditions,
    title: str,
    progress: bool | None,
) -> Iterator[tuple[slice, np.ndarray, Conditions]]:
    """For each micro-batch of `size` samples: its rows, their sample indices, and their conditions by its rows."""
    numbers, starts = indices(index, size), range(0, size, micro_batch)
    for start in track(starts, len(starts), title, progress):
        rows = slice(start, start + micro_batch)
        yield rows, numbers[rows], from_row(cond, start)


def from_row(cond: Conditions, start: int) -> Conditions:
    """The conditions of a part of a batch that starts at this row, by the part's own rows."""
    return lambda rows: cond(rows + start)
