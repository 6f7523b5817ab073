"""`Sweep`: a sweep that is computed in a folder, once, or in rounds until its time is spent."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdediff._utils.errors import InputError
from sdediff._utils.files import whole
from sdediff.benchmark.densities import write_likelihoods
from sdediff.benchmark.making import further, sweep_recipe
from sdediff.benchmark.provenance import circumstances
from sdediff.benchmark.racing import contested
from sdediff.benchmark.reading import RACED, SUMMARY, read_cells, write_times
from sdediff.benchmark.sheets import write_sheets
from sdediff.benchmark.sweep_work import SweepWork
from sdediff.jobs.launching import Launch
from sdediff.jobs.manifest import stored_manifest

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(budget: float | str) -> float:
    """Seconds from a number or a text such as 90s, 3m or 1.5h; InputError for anything else."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d*)?)\s*([smh]?)", str(budget).strip())
    if match is None or float(match[1]) <= 0:
        raise InputError(f"budget={budget!r:.60} is no time: write such as 90s, 3m or 1h")
    return float(match[1]) * _UNITS[match[2]]


@dataclass(eq=False)
class Sweep:
    """The work of a sweep, how it is run, and the arguments from which other processes make it."""

    work: SweepWork
    launch: Launch
    arguments: dict[str, Any]
    likelihoods: int = 0

    def run(self, raced: list[int]) -> bool:
        """Compute the fixed design and further seeds of `raced`; whether all of it is finished."""
        work = self.work
        work.further(further(work.planned[: work.base], raced, self.arguments["seed"] + self.arguments["seeds"]))
        recipe = sweep_recipe(self.launch.engine, {**self.arguments, "raced": raced}, work)
        if self.launch.outcome(work, recipe) is None:
            return False
        self._describe()
        return True

    def race(self, deadline: float) -> None:
        """The fixed design, then rounds of a further seed for what is contested, until no round fits before the end.

        A round is expected to take as long a second of sampling as the last one did.
        """
        raced = self._stored()
        began = time.monotonic()
        self.run(raced)
        pace = None
        while True:
            cells = read_cells(self.launch.folder, list(self.work.distances))
            costs = {cell.index: (cell.seconds or 0.0) * cell.samples for cell in cells}
            chosen = contested(cells, next(iter(self.work.distances)))
            sampling = sum(costs[number] for number in chosen)
            if pace is None:
                pace = (time.monotonic() - began) / max(sum(costs.values()), 1e-9)
            if not chosen or time.monotonic() + pace * sampling > deadline:
                return
            raced = [*raced, *chosen]
            self._store(raced)
            began = time.monotonic()
            self.run(raced)
            pace = max(1.0, (time.monotonic() - began) / max(sampling, 1e-9))

    def _store(self, raced: list[int]) -> None:
        with whole(self.launch.folder / RACED) as unfinished:
            unfinished.write_text(json.dumps({"raced": raced}) + "\n", encoding="utf-8")

    def _stored(self) -> list[int]:
        """The further cells that an earlier run of the same sweep began."""
        path = self.launch.folder / RACED
        try:
            numbers = json.loads(path.read_text(encoding="utf-8"))["raced"]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error}): begin anew in another folder") from error
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < self.work.base for n in numbers):
            raise InputError(f"{path} is not of this sweep: begin anew in another folder")
        return numbers

    def _describe(self) -> None:
        """Write times, sheets of samples and what this run was, beside the cells.

        seconds: of computing, in all runs and processes.
        """
        folder: Path = self.launch.folder
        stored = stored_manifest(folder)
        seconds = 0.0 if stored is None else float(stored["result"].get("seconds", 0.0))
        about = circumstances(self.work.device or "cpu", self.work.peers)
        write_times(folder, about)
        write_sheets(self.work, folder)
        write_likelihoods(self.work, folder, self.likelihoods)
        with whole(folder / SUMMARY) as unfinished:
            content = {**about, "seconds": round(seconds, 3), "cells": self.work.units, **self.work.describe()}
            unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
