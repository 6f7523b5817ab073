"""One trial of a sweep: a solver at one budget on one task, measured."""

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
from sdediff.benchmark.results import SolverResult
from sdediff.benchmark.tasks import Task
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.api import sample
from sdediff.sampling.run import make_plan
from sdediff.solvers import Solver

Distance = Callable[[Tensor, Tensor], metrics.Estimate]

# Number of samples whose exact flow is computed: a median over more would cost time and change little.
PAIRED = 32


class Trial(NamedTuple):
    """A solver and its budget: network evaluations, or the tolerance of an adaptive solver."""

    name: str
    solver: Solver
    budget: int | float | None

    @property
    def calls(self) -> int | None:
        """The budget of network evaluations; None for an adaptive solver."""
        return self.budget if isinstance(self.budget, int) else None


@dataclasses.dataclass(frozen=True)
class TaskSetup:
    """A task with the settings that all of its trials share."""

    task: Task
    samples: int
    batch: int
    seed: int
    dtype: torch.dtype
    device: torch.device
    distance: Distance
    threads: int
    exact: Tensor | None = None


@contextmanager
def preserve_thread_count() -> Iterator[None]:
    """Restore torch's number of threads on leaving the block."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fastest_thread_count(model: ScoreModel, x: Tensor, cond: dict[str, Any] | None = None) -> int:
    """The number of threads, all or one, that evaluates the network on states like x faster at present.

    Threads that share a busy core wait for each other: on small networks two can take ten times as long as one.
    """
    seconds: dict[int, float] = {}
    model = model.given(**cond) if cond else model
    with preserve_thread_count(), torch.no_grad():
        for count in sorted({1, torch.get_num_threads()}):
            torch.set_num_threads(count)
            times = []
            for _ in range(5):
                began = time.perf_counter()
                model(x, model.sde.t_max / 2)
                times.append(time.perf_counter() - began)
            seconds[count] = median(times)
    return min(seconds, key=seconds.__getitem__)


def follows_flow(solver: Solver) -> bool:
    """Whether a solver follows the probability flow, so that its error against it is defined."""
    return not solver.corrector and not solver.stochastic


def exact_flow(setup: TaskSetup) -> Tensor:
    """The end points of the exact flow from the first samples' noise, by the task's reference solver."""
    task, (solver, calls, dtype) = setup.task, setup.task.reference
    torch.set_num_threads(setup.threads)
    shape = (min(setup.samples, PAIRED), *task.shape)
    return sample(
        task.model, shape, solver=solver, calls=calls, seed=setup.seed, cond=task.conditions(0, shape[0]),
        dtype=dtype or setup.dtype, device=setup.device, progress=False,
    )  # fmt: skip


class _TimedNetwork:
    """A network that measures the time spent in it."""

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


def run_trial(setup: TaskSetup, trial: Trial) -> SolverResult:
    """Draw the samples of a trial a batch at a time, timed, and measure their error and distance."""
    model, solver = setup.task.model, trial.solver
    parts, counts, times, ratios = [], [], [], []
    steps = len(make_plan(model, solver, calls=trial.calls).times) - 1
    torch.set_num_threads(setup.threads)
    for first in range(0, setup.samples, setup.batch):
        size = min(setup.batch, setup.samples - first)
        timed = _TimedNetwork(model.net, setup.device)
        began = timed.now()
        record = sample(
            model.map_net(lambda _, timed=timed: timed), (size, *setup.task.shape),  # type: ignore[misc]
            solver=solver, calls=trial.calls, seed=setup.seed, index=first, cond=setup.task.conditions(first, size),
            dtype=setup.dtype, device=setup.device, full=True, progress=False,
        )  # fmt: skip
        seconds = timed.now() - began
        parts.append(record.x.cpu())
        counts.append(record.calls)
        times.append(1e3 * seconds / size)
        ratios.append(seconds / timed.seconds)
    x, grid = torch.cat(parts), solver.grid if model.sde.linear else ""
    finite = bool(torch.isfinite(x).all())
    estimate = setup.distance(x, setup.task.truth.cpu()) if finite else None
    return SolverResult(
        setup.task.name, trial.name, repr(solver), grid or model.sde.grid, steps, trial.budget,
        round(sum(counts) / len(counts)), _error(setup, trial, x),
        estimate.value if estimate else None, estimate.std_error if estimate else None, median(times), median(ratios),
    )  # fmt: skip


def _error(setup: TaskSetup, trial: Trial, x: Tensor) -> float | None:
    if setup.exact is None or not follows_flow(trial.solver):
        return None
    gap = (x[: len(setup.exact)].double() - setup.exact.cpu().double()).flatten(1)
    error = gap.square().mean(1).sqrt().median().item()
    return error if error < float("inf") else None
