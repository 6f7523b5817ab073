"""The loop of a run as one CUDA graph: recorded once, replayed with another start and other noise.

A small network's time on a GPU is mostly the launching of its kernels, one by one, step after step. A graph
launches all of them at once. What a graph cannot hold is made outside of it: levels and clocks before it is
recorded, normals before every replay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.noise.counter import Noise
from sdediff.sampling.not_finite import lost
from sdediff.sampling.run import Run, RunTable, make_table


class Graph(Protocol):
    """Something that records a function's kernels and runs them again on the same memory, on one type of device."""

    device: ClassVar[str]

    def record(self, body: Callable[[], None]) -> None:
        """Run `body` until it is warm, then record it."""

    def replay(self) -> None:
        """Run what was recorded."""


class CudaGraph:
    """torch.cuda.CUDAGraph, warmed up on a stream of its own as recording demands."""

    device: ClassVar[str] = "cuda"

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def record(self, body: Callable[[], None]) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                body()
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(self._graph):
            body()

    def replay(self) -> None:
        self._graph.replay()


@dataclass(frozen=True)
class Drawn(Noise):
    """Normals in memory of their own: drawn from `source` when first asked for, drawn anew by `refill`."""

    source: Noise | None = None
    shifts: int = 0
    drawn: dict[Any, tuple[Any, Any, int, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, t: Any, s: Any, like: Tensor, draw: int = 0) -> Tensor:
        key = (t.time, t.index, s.time, s.index, draw, self.shifts)
        if key not in self.drawn:
            self.drawn[key] = (t, s, draw, _shifted(self.source, self.shifts)(t, s, like, draw).clone())
        return self.drawn[key][3]

    def shifted(self, draws: int = 1 << 20) -> Noise:
        return replace(self, shifts=self.shifts + draws)

    def refill(self, source: Noise) -> None:
        """The same draws of another noise, in the same memory and, for paths and streams, the same order."""
        for key, (t, s, draw, z) in self.drawn.items():
            z.copy_(_shifted(source, key[-1])(t, s, z, draw))


def _shifted(source: Noise | None, draws: int) -> Noise:
    if source is None:
        raise InputError("Drawn needs the noise that it draws from: Drawn(source=...)")
    return source.shifted(draws) if draws else source


class Recorded:
    """One run's loop in a graph, with the memory that it reads and writes."""

    def __init__(self, run: Run, table: RunTable, graph: Graph) -> None:
        self.start, self.noise, self.graph = run.x.clone(), Drawn(source=run.noise), graph
        self.out = self.start
        # What the graph's kernels point into lives as long as the graph.
        self.run, self.table = run._replace(x=self.start, noise=self.noise), table
        self._loop()  # fills the noise
        graph.record(self._loop)

    def _loop(self) -> None:
        *_, state = self.run.states(self.table, check=False)
        self.out = state.x if state.prediction is None else state.prediction.x0

    def __call__(self, run: Run) -> Tensor:
        """The result of a run that differs in its start and its noise alone."""
        self.start.copy_(run.x)
        self.noise.refill(run.noise.for_run(len(self.table.levels) - 1))
        self.graph.replay()
        return self.out.clone()


def recordable(run: Run, graph: type[Graph]) -> bool:
    """Whether such a graph holds the loop of a run: its device, and that all its randomness is the noise's."""
    solver = run.plan.solver
    return run.x.device.type == graph.device and solver.recordable and not solver.adaptive


def replayed(run: Run, recorded: dict[Any, Recorded], graph: type[Graph]) -> Tensor:
    """The result of a run by the loop recorded for states and conditions like its own, or recorded now."""
    cond = tuple(sorted((name, id(value)) for name, value in run.model.cond.items()))
    kind = run.x.shape, run.x.dtype, run.x.device, cond
    if kind not in recorded:
        recorded[kind] = Recorded(run, make_table(run.model, run.plan, run.x, run.dtypes), graph())
    final = recorded[kind](run)
    if not bool(torch.isfinite(final).all()):
        raise lost(run.states(check=False), run.plan.solver)
    return final
