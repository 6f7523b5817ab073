"""`SweepWork`: a sweep as long work, whose units are cells; `make_sweep` makes it from its arguments."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sdediff._utils.errors import Error, InputError, StepsWarning
from sdediff._utils.machine import machine, versions
from sdediff.benchmark.cells import FAILED, OK, REAL_DATA, REFUSED, column_types, distance_columns, empty, full_name
from sdediff.benchmark.contenders.registry import LIBRARIES
from sdediff.benchmark.entries import Drawn, Entry, Facts, Point, RealData, Spent, Starts
from sdediff.benchmark.exact_bias import ExactBias
from sdediff.benchmark.measures import Distance
from sdediff.benchmark.references import ExactFlows, flow_errors
from sdediff.benchmark.tasks import Task
from sdediff.benchmark.watching import NetworkWatch
from sdediff.jobs import Batch, Work
from sdediff.jobs.identity import described, model_parts
from sdediff.jobs.tables import described_schema
from sdediff.model.network import placement
from sdediff.model.parts import states_of

if TYPE_CHECKING:
    import pyarrow as pa

# So many runs that fail, without one that does not, are the fault of the whole sweep.
_HOPELESS = 16


class PlannedCell(NamedTuple):
    """A cell that is to be computed."""

    task: Task
    entry: Entry
    point: Point
    seed: int


@dataclass(eq=False)
class SweepWork(Work):
    """Cells of a sweep: every one a pure function of its task, entry, point and seed, but for the times.

    base: the number of cells of the fixed design, behind which others may follow.
    """

    planned: list[PlannedCell]
    tasks: Sequence[Task]
    entries: Sequence[Entry]
    distances: dict[str, Distance]
    samples: dict[str, int]
    batch_size: int
    threads: int
    settings: dict[str, Any]
    skip_failed: bool = False
    dtype: torch.dtype | None = None
    device: Any = None
    base: int = 0
    _failures: int = 0
    _warm: set[str] = field(default_factory=set)

    name = "sweep"
    unit = "cell"

    def __post_init__(self) -> None:
        self.units = len(self.planned)
        self.places = {task.name: placement(task.model, self.dtype, self.device) for task in self.tasks}
        place = next(iter(self.places.values()))[1]
        kinds = {name: kind for name, (kind, _) in self.places.items()}
        self.bias = ExactBias()
        self.flows = ExactFlows(self.samples, self.batch_size, kinds, place)
        about = machine(place)
        self._machine = {"cpu": about["cpu"], "device": about["device"]}

    def check_distances(self) -> None:
        """Refuse numbers of samples that cannot be compared with the truth."""
        for task in self.tasks:
            starts = Starts(task, 0, 0, self.samples[task.name], *self.places[task.name])
            try:
                real = RealData().draw(task.model, starts, Point()).x
                for distance in self.distances.values():
                    distance(real.cpu(), task.truth.cpu())
            except ValueError as error:
                raise InputError(f"samples={starts.size} of {task.name} cannot be compared: {error}") from error

    @property
    def result(self) -> str:
        return "cells.parquet"

    def further(self, cells: Sequence[PlannedCell]) -> None:
        """Add cells behind those of the fixed design."""
        self.planned = [*self.planned[: self.base], *cells]
        self.units = len(self.planned)

    @property
    def peers(self) -> list[str]:
        """The distributions of the libraries whose samplers run."""
        return sorted({entry.library.replace("_", "-") for entry in self.entries if entry.library in LIBRARIES})

    def describe(self) -> dict[str, dict[str, Any]]:
        return self._described

    @functools.cached_property
    def _described(self) -> dict[str, dict[str, Any]]:
        data = {t.name: {n: described(getattr(t, n)) for n in ("truth", "real", "cond", "modes")} for t in self.tasks}
        models = {
            task.name: {"summary": task.describe(), "of": states_of(task.model), **model_parts(task.model)}
            for task in self.tasks
        }
        where = {
            name: {"dtype": str(kind).removeprefix("torch."), "device": place.type, "samples": self.samples[name]}
            for name, (kind, place) in self.places.items()
        }
        settings = {
            **self.settings, "tasks": where,
            "entries": {full_name(entry.library, entry.label): repr(entry) for entry in self.entries},
            "references": {task.name: repr(tuple(task.reference)) for task in self.tasks},
            "distances": list(self.distances), "batch": self.batch_size, "threads": self.threads,
            "columns": column_types(list(self.distances)), "result": self.result, "versions": versions(*self.peers),
        }  # fmt: skip
        return {"data": data, "model": models, "settings": settings}

    @functools.cached_property
    def _schema(self) -> pa.Schema:
        return described_schema(self.describe())

    def schema(self) -> pa.Schema:
        return self._schema

    def common(self, facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {}

    def failed(self, unit: int, message: str) -> dict[str, Any]:
        return {**self._row(unit), "status": f"{FAILED}: {message}"}

    def batch(self, content: Any, units: Sequence[int]) -> Batch:
        rows: list[dict[str, Any]] = []
        times: dict[str, Any] = {}
        for unit in units:
            row, times = self.cell(unit)
            rows.append(row)
        return Batch({name: [row.get(name) for row in rows] for name in self.schema().names}, {"times": times})

    def _row(self, unit: int) -> dict[str, Any]:
        """The columns that say which cell it is."""
        task, entry, point, seed = self.planned[unit]
        return {
            **empty(), "index": unit, "task": task.name, "library": entry.library, "solver": entry.label,
            "grid": point.grid, "budget": point.budget, "tolerance": point.tolerance, "seed": seed,
            "samples": self.samples[task.name], "stochastic": entry.stochastic,
        }  # fmt: skip

    def cell(self, unit: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The columns of a cell and its times. What a solver refuses, or a network raises, becomes its status."""
        task, entry, point, _ = self.planned[unit]
        row = self._row(unit)
        try:
            facts = entry.prepare(task, point)
        except (Error, ValueError) as error:
            return {**row, "status": f"{REFUSED}: {_line(error)}"}, {}
        try:
            with warnings.catch_warnings():  # how few steps are too few is what is measured here
                warnings.simplefilter("ignore", StepsWarning)
                columns, times = self._measured(unit, facts)
        except Exception as error:  # a network or a contender may raise anything
            self._failures += self._failures >= 0
            if self._failures >= _HOPELESS and not self.skip_failed:
                raise
            return {**row, "status": f"{FAILED}: {_line(error)}"}, {}
        self._failures = -1
        return {**row, **columns, "status": OK}, times

    def _measured(self, unit: int, facts: Facts) -> tuple[dict[str, Any], dict[str, Any]]:
        task, entry, point, seed = self.planned[unit]
        drawn, calls, times = self.drawn(unit)
        if not torch.isfinite(drawn.x).all():
            raise InputError(f"{entry.label} gave samples that are not finite")
        columns: dict[str, Any] = {"steps": facts.steps, "grid": facts.grid, "calls": calls}
        columns.update(end=drawn.end, remark=drawn.remark, gaussian=self.bias.of(task, entry, point))
        if entry.follows_flow and drawn.compared:
            modes = task.truth if task.modes is None else task.modes
            columns.update(flow_errors(drawn.x, self.flows.ends(task, seed, drawn.end), modes.cpu()))
        for name, distance in self.distances.items():
            estimate = distance(drawn.x, task.truth.cpu())
            figures = (estimate.value, estimate.std_error, *estimate.interval)
            columns.update(zip(distance_columns(name), figures, strict=True))
        return columns, times

    def drawn(self, unit: int) -> tuple[Drawn, int, dict[str, Any]]:
        """All samples of a cell, a batch at a time, the network evaluations a sample, and the times."""
        task, entry, point, seed = self.planned[unit]
        dtype, device = self.places[task.name]
        parts, total, evaluated, seconds, inside, ratios = [], self.samples[task.name], 0.0, [], [], []
        if entry.library != REAL_DATA:
            self._warm_up(task)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        for first in range(0, total, self.batch_size):
            starts = Starts(task, seed, first, min(self.batch_size, total - first), dtype, device)
            watched = NetworkWatch(device)
            model = task.model.map_net(watched.wrap)
            began = watched.clock.mark()
            drawn = entry.draw(model, starts, point)
            taken = watched.clock.total([(began, watched.clock.mark())])
            parts.append(drawn._replace(x=drawn.x.detach().cpu()))
            spent = drawn.spent or Spent(watched.rows / starts.size, taken, watched.seconds)
            evaluated += spent.calls * starts.size
            seconds.append(spent.seconds / starts.size)
            inside.append(spent.network_seconds / starts.size)
            ratios.append(spent.seconds / spent.network_seconds if spent.network_seconds else 0.0)
        whole = parts[0]._replace(x=torch.cat([part.x for part in parts]))
        return whole, round(evaluated / total), self._times(device, seconds, inside, ratios)

    def _times(
        self, device: torch.device, seconds: list[float], inside: list[float], ratios: list[float]
    ) -> dict[str, Any]:
        if not any(inside):
            return {}
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        clock = {"seconds": median(seconds), "network_seconds": median(inside), "ratio": median(ratios)}
        return {**clock, "peak_bytes": peak, **self._machine}

    def _warm_up(self, task: Task) -> None:
        """One evaluation before the first that is timed."""
        if task.name not in self._warm:
            self._warm.add(task.name)
            dtype, device = self.places[task.name]
            count = min(self.batch_size, self.samples[task.name])
            cond = task.conditions(0, count)
            model = task.model.given(**cond) if cond else task.model
            with torch.no_grad():
                model(torch.zeros((count, *task.shape), dtype=dtype, device=device), model.sde.t_max / 2)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, Error) and text else f"{type(error).__name__}: {text}"
