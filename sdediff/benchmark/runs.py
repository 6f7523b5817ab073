"""One solver at one budget on one problem, measured."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff import metrics
from sdediff.benchmark.problems import Problem
from sdediff.benchmark.report import Row
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.api import sample
from sdediff.sampling.plan import plan
from sdediff.solvers import Solver

Distance = Callable[[Tensor, Tensor], metrics.Estimate]

# Samples whose exact flow is computed: a median over more would cost time and change little.
PAIRED = 32


class Job(NamedTuple):
    """A solver and its budget: calls, or the tolerance of an adaptive one."""

    name: str
    solver: Solver
    asked: int | float | None

    @property
    def calls(self) -> int | None:
        return self.asked if isinstance(self.asked, int) else None


@dataclasses.dataclass(frozen=True)
class Setting:
    """One problem with everything that its rows share."""

    problem: Problem
    samples: int
    batch: int
    seed: int
    dtype: torch.dtype
    device: torch.device
    distance: Distance
    threads: int
    exact: Tensor | None = None


@contextmanager
def threads_kept() -> Iterator[None]:
    """Torch's number of threads is afterwards what it was."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def quickest(model: ScoreModel, x: Tensor) -> int:
    """The number of threads, all or one, that runs the network on states like x faster right now.

    Threads that share a busy core wait for each other: on small networks two can take ten times as long as one.
    """
    found: dict[int, float] = {}
    with threads_kept(), torch.no_grad():
        for count in sorted({1, torch.get_num_threads()}):
            torch.set_num_threads(count)
            times = []
            for _ in range(5):
                began = time.perf_counter()
                model(x, model.sde.t_max / 2)
                times.append(time.perf_counter() - began)
            found[count] = median(times)
    return min(found, key=found.__getitem__)


def on_flow(s: Solver) -> bool:
    """Whether a solver follows the probability flow, so has an error against it."""
    return s.moves and not s.stochastic


def exact_flow(setting: Setting) -> Tensor:
    """The flow's own end points from the first samples' noise, by the problem's reference."""
    problem, (used, calls, dtype) = setting.problem, setting.problem.reference
    torch.set_num_threads(setting.threads)
    shape = (min(setting.samples, PAIRED), *problem.shape)
    return sample(
        problem.model, shape, solver=used, calls=calls, seed=setting.seed,
        dtype=dtype or setting.dtype, device=setting.device, progress=False,
    )  # fmt: skip


class _Timed:
    """The network, its time measured."""

    def __init__(self, net: Callable[..., Any], device: torch.device) -> None:
        self.net, self.device, self.seconds = net, device, 0.0

    def __call__(self, *args: Any, **cond: Any) -> Any:
        began = self.now()
        out = self.net(*args, **cond)
        self.seconds += self.now() - began
        return out

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def row(setting: Setting, job: Job) -> Row:
    """The samples of a job, drawn a batch at a time and timed, with their error and distance."""
    model, used, parts, counts, times, ratios = setting.problem.model, job.solver, [], [], [], []
    made = plan(model, used, calls=job.calls)
    torch.set_num_threads(setting.threads)
    for first in range(0, setting.samples, setting.batch):
        size = min(setting.batch, setting.samples - first)
        timed = _Timed(model.net, setting.device)
        began = timed.now()
        record = sample(
            model.map_net(lambda _, timed=timed: timed), (size, *setting.problem.shape),  # type: ignore[misc]
            solver=used, calls=job.calls, seed=setting.seed, index=first,
            dtype=setting.dtype, device=setting.device, full=True, progress=False,
        )  # fmt: skip
        seconds = timed.now() - began
        parts.append(record.x.cpu())
        counts.append(record.calls)
        times.append(1e3 * seconds / size)
        ratios.append(seconds / timed.seconds)
    x, name = torch.cat(parts), used.grid if model.sde.linear else ""
    finite = bool(torch.isfinite(x).all())
    value = setting.distance(x, setting.problem.truth.cpu()) if finite else None
    return Row(
        setting.problem.name, job.name, repr(used), name or model.sde.grid, len(made.times) - 1, job.asked,
        round(sum(counts) / len(counts)), _error(setting, job, x),
        value.value if value else None, value.std_error if value else None, median(times), median(ratios),
    )  # fmt: skip


def _error(setting: Setting, job: Job, x: Tensor) -> float | None:
    if setting.exact is None or not on_flow(job.solver):
        return None
    gap = (x[: len(setting.exact)].double() - setting.exact.cpu().double()).flatten(1)
    error = gap.square().mean(1).sqrt().median().item()
    return error if error < float("inf") else None
