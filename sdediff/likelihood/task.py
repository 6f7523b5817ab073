"""One evaluation of log p: its settings with all defaults filled in, its model, and its micro-batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.progress import track
from sdediff.likelihood.ends import Prior, prior_name
from sdediff.likelihood.settings import NODES, LikelihoodSettings
from sdediff.likelihood.trace import TRACES, most_probes
from sdediff.likelihood.units import Discrete
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Counter, indices
from sdediff.sampling.run import check_eval
from sdediff.sde.base import linear


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
) -> tuple[Task, dict[str, Tensor]]:
    """The task for states of a shape (B, ...), and the conditions that have a row a sample.

    The conditions that all samples share become part of the model.
    """
    check_eval(model)
    sde = linear(model.sde)
    if micro_batch < 1:
        raise InputError(f"micro_batch={micro_batch}: at least one sample is scored at a time")
    Counter(seed)  # refuses a seed that is not an integer in [0, 2**64)
    per_sample = {
        name: value
        for name, value in (cond or {}).items()
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) == shape[0]
    }
    shared = {name: value for name, value in (cond or {}).items() if name not in per_sample}
    values = settings.values()
    named = {f.name: values[f.name] for f in fields(Task) if values.get(f.name) is not None}
    padded_size = micro_batch if values["frozen"] else 0
    if values.get("trace") in TRACES and (values["probes"] or 0) >= most_probes("hadamard", math.prod(shape[1:])):
        # As many orthogonal probes give the trace exactly, and the unit vectors do so with no more.
        named |= {"trace": "exact", "probes": 1}
    task = Task(**{
        "discrete": None, **named, "model": model.given(**shared), "seed": seed, "t0": settings.start_time(sde),
        "padded_size": padded_size,
    })  # fmt: skip
    prior_name(task.prior, model, tuple(shape[1:]))
    return task, per_sample


def micro_batches(
    size: int,
    micro_batch: int,
    index: int | Sequence[int],
    per_sample: dict[str, Tensor],
    title: str,
    progress: bool | None,
) -> Iterator[tuple[slice, np.ndarray, dict[str, Tensor]]]:
    """For each micro-batch of `size` samples: its rows, their sample indices, and their conditions."""
    numbers, starts = indices(index, size), range(0, size, micro_batch)
    for start in track(starts, len(starts), title, progress):
        rows = slice(start, start + micro_batch)
        yield rows, numbers[rows], {name: value[rows] for name, value in per_sample.items()}


def checked_states(x: Tensor) -> Tensor:
    """Data that can be scored: x itself, or a TypeError or ValueError that says what it lacks."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise InputTypeError(f"x must be a floating-point tensor, given {given}: dequantise integer data first")
    if x.ndim < 2 or not x.numel():
        raise InputError(f"x must be (B, ...) with at least one sample and one dimension, given {tuple(x.shape)}")
    bad = (~torch.isfinite(x.flatten(1)).all(1)).nonzero().flatten()
    if len(bad):
        raise InputError(f"row {bad[0].item()} of x holds NaN or infinity ({len(bad)} such rows)")
    return x
