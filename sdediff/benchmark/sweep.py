"""`bench`: every solver at every budget on every task, from the same starts, as a job that resumes."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from sdediff._utils.errors import InputError
from sdediff._utils.files import expanded, whole
from sdediff.benchmark.cells import OK
from sdediff.benchmark.entries import Solvers
from sdediff.benchmark.making import Models, make_sweep, sweep_recipe
from sdediff.benchmark.provenance import circumstances
from sdediff.benchmark.reading import SUMMARY, write_times
from sdediff.benchmark.report import Report
from sdediff.benchmark.sweep_work import SweepWork
from sdediff.jobs.launching import Launch, stderr
from sdediff.jobs.manifest import stored_threads
from sdediff.jobs.work import Say
from sdediff.targets import ExactNet
from sdediff.wiring import warn_of_misfit


def bench(
    models: Models | None = None,
    solvers: Solvers | None = None,
    calls: Sequence[int] = (5, 10, 20, 50),
    *,
    targets: Sequence[str] | None = None,
    data: Any = None,
    grids: Sequence[str] | None = None,
    tolerances: Sequence[float] = (1e-2, 1e-3, 1e-4),
    seeds: int = 3,
    samples: int | None = None,
    batch: int = 100,
    distances: Any = ("frechet[pca32]", "energy"),
    cond: dict[str, Any] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    part: str | None = None,
    engine: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    trust: Sequence[str] = (),
    num_threads: int | None = None,
    skip_failed: bool = False,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
    check: bool = True,
    say: Say | None = None,
) -> Report:
    """Run every solver at every number of network evaluations on every task; the report has quality and time.

    models: names as in `sdediff.load`, models or Task objects, or these by a label. data: what their samples follow,
    a path, a DataSet or a tensor (N, ...), where the package does not hold them. targets: names of sdediff.targets,
    whose score is exact. solvers: names, objects, or these by a label; adaptive ones run at `tolerances` in place of
    calls. grids: names of grids for every solver, in place of its own. seeds: runs from seed, seed + 1, ..., `samples`
    samples each, `batch` at a time. distances: names of metrics.DISTANCES, frechet with its features in brackets, or
    functions. out: the folder of the job, which continues where it was interrupted; part, engine, workers, address: as
    in `likelihood_job`. Qualities are equal to the digit in every run with the same arguments; times are not.
    """
    say = say or (stderr if out is not None else _quiet)
    with ExitStack() as stack:
        folder = Path(out) if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = expanded(folder, "the folder")
        arguments: dict[str, Any] = {
            "models": models, "targets": targets, "data": data, "solvers": solvers, "grids": grids, "calls": calls,
            "tolerances": tolerances, "seeds": seeds, "seed": seed, "samples": samples, "batch": batch,
            "distances": distances, "cond": cond, "threads": num_threads or stored_threads(folder),
            "skip_failed": skip_failed, "trust": trust, "dtype": dtype, "device": device,
        }  # fmt: skip
        work = make_sweep(**arguments)
        arguments["threads"] = work.threads
        launch = Launch.of(
            folder, engine=engine, workers=workers, address=address, part=part, num_threads=work.threads, micro_batch=1,
            shard=1, keep=skip_failed, progress=progress, say=say,
        )  # fmt: skip
        recipe = sweep_recipe(launch.engine, arguments, work)
        if check and launch.first:
            _check_wiring(work)
        began = time.perf_counter()
        if launch.outcome(work, recipe) is not None:
            _describe(folder, work, time.perf_counter() - began)
        report = Report.load(folder)
        if report.finished and not any(cell.status == OK for cell in report.cells if cell.calls):
            raise InputError(f"nothing could run: {report.skipped[0].status}")
        return report


def _check_wiring(work: SweepWork) -> None:
    """The check of each network on up to 128 true samples."""
    for task in work.tasks:
        # Conditions go with the samples, not with the rows of the data.
        if not isinstance(task.model.net, ExactNet) and not task.cond:
            warn_of_misfit(task.model, task.truth, None, work.dtype, work.device)


def _describe(folder: Path, work: SweepWork, seconds: float) -> None:
    """Write the times and what this run was, beside the cells."""
    about = circumstances(work.device or "cpu")
    write_times(folder, about)
    with whole(folder / SUMMARY) as unfinished:
        content = {**about, "seconds": round(seconds, 3), "cells": work.units, **work.describe()}
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _quiet(text: str) -> None:
    """Messages of a job in a folder that nobody sees."""
