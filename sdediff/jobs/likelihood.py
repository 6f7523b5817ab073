"""`likelihood_job`: the likelihood of every sample of a data set, shard by shard."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from sdediff._utils.machine import versions
from sdediff.datasets import DataSet
from sdediff.jobs import inputs
from sdediff.jobs.errors import JobError, Stopped
from sdediff.jobs.fitting import fitted
from sdediff.jobs.locks import Say
from sdediff.jobs.manifest import Manifest, described, model_parts, stored_threads
from sdediff.jobs.scoring import Scorer, fit_settings
from sdediff.jobs.shards import Shards
from sdediff.jobs.signals import stoppable, threads
from sdediff.jobs.summary import Summary
from sdediff.jobs.worker import Worker
from sdediff.likelihood import Discrete, LikelihoodSettings
from sdediff.likelihood.ends import Prior
from sdediff.likelihood.settings import merged
from sdediff.model.conditions import as_tensors
from sdediff.model.data_card import DataCard
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Counter
from sdediff.sampling.run import check_eval, placement

_MOST_SHARDS = 512


def likelihood_job(
    model: ScoreModel,
    data: DataSet | str | Path | np.ndarray | Tensor | TorchDataset[Any] | Sequence[Any],
    out: str | Path,
    *,
    settings: LikelihoodSettings | None = None,
    method: str | None = None,
    preset: str | None = None,
    integrator: str | None = None,
    variable: str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    t0: float | None = None,
    trace: str | None = None,
    probes: int | None = None,
    nodes: int | None = None,
    autograd: bool | None = None,
    prior: Prior | None = None,
    end: str | None = None,
    discrete: Discrete | None = None,
    steps: int | None = None,
    noises: int | None = None,
    fresh: bool | None = None,
    variance: str | None = None,
    solver_error: str | None = None,
    max_steps: int | None = None,
    frozen: bool | None = None,
    cond: dict[str, Any] | None = None,
    levels: int | None = None,
    range: tuple[float, float] | None = None,
    key: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    draws: int = 1,
    micro_batch: int = 64,
    shard: int | None = None,
    skip_bad: bool = False,
    join: bool | None = None,
    num_threads: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool | None = None,
    say: Say | None = None,
) -> Summary:
    """Score a data set into a folder: likelihood.parquet (a row a sample), summary.json, report.html.

    A job that was interrupted continues. data: a path (levels, range, key as in `sdediff.datasets.read`), an array or
    tensor (N, ...), a DataSet or a torch Dataset. The settings are those of `log_likelihood`; a condition with N rows
    has a row a sample. draws: dequantisations a sample. shard: rows that are written together, a multiple of
    micro_batch. skip_bad: report means in spite of rows with NaN. join: work beside other processes on the same job,
    by default where WORLD_SIZE is above 1. say: called with each message, by default written to stderr. Raises
    JobError, DataError, Stopped, and what log_likelihood raises.
    """
    chosen = merged(
        settings, method=method, preset=preset, integrator=integrator, variable=variable, rtol=rtol, atol=atol, t0=t0,
        trace=trace, probes=probes, nodes=nodes, autograd=autograd, prior=prior, end=end, discrete=discrete,
        steps=steps, noises=noises, fresh=fresh, variance=variance, solver_error=solver_error, max_steps=max_steps,
        frozen=frozen,
    )  # fmt: skip
    check_eval(model)
    rows, say = inputs.data_set(data, levels, range, key, limit), say or _stderr
    rows = fitted(model, rows, say)
    Counter(seed)  # refuses a seed that is not an integer in [0, 2**64)
    shard = _shard(rows, draws, micro_batch, shard)
    dtype, device = placement(model, dtype, device)
    bounds, folder = DataCard.of(model.card).bounds, Path(out).expanduser()
    chosen = fit_settings(chosen, model, rows, bounds, draws, say)
    count = num_threads or stored_threads(folder) or torch.get_num_threads()
    described_settings = {
        "seed": seed, "draws": draws, "micro_batch": micro_batch, "shard": shard, "threads": count,
        "dtype": str(dtype).removeprefix("torch."), "device": device.type, "model_range": list(bounds),
        "cond": described(cond), **{name: described(value) for name, value in chosen.values().items()},
    }  # fmt: skip
    scorer = Scorer(model, rows, bounds, seed, draws, dtype, device, chosen, as_tensors(cond or {}))
    manifest = Manifest(folder, _inputs(model, rows, described_settings))
    shared = int(os.environ.get("WORLD_SIZE") or 1) > 1 if join is None else join
    shards = Shards(folder / "shards", len(rows), shard, manifest.id)
    return _run(Worker(folder, scorer, manifest, shards, shared, say, progress, skip_bad), count)


def _run(worker: Worker, count: int) -> Summary:
    """The summary of the job, run with that many threads; a signal or a full disk ends it in one sentence."""
    try:
        with threads(count), stoppable():
            return worker.run()
    except Stopped as stop:
        raise Stopped(stop.number, worker.progress_text()) from None
    except OSError as error:
        reason = error.strerror or error
        raise JobError(
            f"{worker.folder} cannot be written ({reason}): finished shards stay; fix that and run it again"
        ) from error


def _shard(data: DataSet, draws: int, micro_batch: int, shard: int | None) -> int:
    """The number of rows of a shard; JobError for counts that are out of range."""
    for name, value in (("draws", draws), ("micro_batch", micro_batch), ("shard", shard or micro_batch)):
        if value < 1:
            raise JobError(f"{name}={value}: give at least 1")
    if shard is not None and shard % micro_batch:
        near = micro_batch * math.ceil(shard / micro_batch)
        raise JobError(f"shard={shard} is not a multiple of micro_batch={micro_batch}: write {near}")
    if draws > 1 and data.levels is None:
        raise JobError(f"draws={draws}: {data.name} is continuous and has nothing to dequantise: leave draws out")
    return shard or micro_batch * math.ceil(len(data) / (micro_batch * _MOST_SHARDS))


def _stderr(line: str) -> None:
    print(f"sdediff: {line}", file=sys.stderr, flush=True)


def _inputs(model: ScoreModel, data: DataSet, settings: dict[str, Any]) -> dict[str, Any]:
    """The content of the manifest."""
    about = {
        "rows": len(data),
        "shape": list(data.shape),
        "levels": data.levels,
        "range": data.range and list(data.range),
    }
    return {
        "data": {"name": data.name, **about, "sha256": inputs.data_hash(data)},
        "model": model_parts(model),
        "settings": settings,
        "versions": {"sdediff": versions()["sdediff"], "torch": torch.__version__},
    }
