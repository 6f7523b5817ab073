"""`likelihood_job`: every sample of a data set scored, shard by shard."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

import torch

from sdediff._utils.machine import versions
from sdediff.jobs import inputs
from sdediff.jobs.errors import JobError, Stopped
from sdediff.jobs.locks import Say
from sdediff.jobs.manifest import Manifest, begun_threads, described, model_parts
from sdediff.jobs.scoring import Scorer, estimator_settings, fitted
from sdediff.jobs.shards import Shards
from sdediff.jobs.stops import stoppable, threads
from sdediff.jobs.summary import Summary
from sdediff.jobs.work import Job
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Counter
from sdediff.sampling.run import check_eval, placement

_MOST_SHARDS = 512


def likelihood_job(
    model: ScoreModel,
    data: Any,
    out: str | Path,
    *,
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
    device: Any = None,
    progress: bool | None = None,
    say: Say | None = None,
    **options: Any,
) -> Summary:
    """Scores data into a folder: likelihood.parquet (a row a sample), summary.json, report.html. Goes on if begun.

    data: a path (see `sdediff.datasets.read` for levels, range, key), an array or tensor (N, ...), a DataSet or a
    torch Dataset. draws: dequantisations a sample. shard: rows that are written together, a multiple of
    micro_batch. skip_bad: means in spite of rows with NaN. join: work beside other processes on the same job
    (by default where WORLD_SIZE says that there are some). say: takes a line of what happens, by default to
    stderr. options: of log_likelihood; conditions of N rows go by row. Raises JobError, DataError, Stopped, and what
    log_likelihood raises.
    """
    check_eval(model)
    found = inputs.data_set(data, levels, range, key, limit)
    inputs.fitting(model, found)
    Counter(seed)
    shard = _shard(found, draws, micro_batch, shard)
    kind, place = placement(model, dtype, device)
    bounds, tell = inputs.model_range(model), say or _stderr
    options = fitted(options, model, found, bounds, draws, tell)
    folder = Path(out).expanduser()
    count = num_threads or begun_threads(folder) or torch.get_num_threads()
    settings = {
        "seed": seed, "draws": draws, "micro_batch": micro_batch, "shard": shard, "threads": count,
        "dtype": str(kind).removeprefix("torch."), "device": place.type, "model_range": list(bounds),
        **{name: described(value) for name, value in estimator_settings(options).items()},
    }  # fmt: skip
    scorer = Scorer(model, found, bounds, seed, draws, kind, place, options)
    manifest = Manifest(folder, _made_of(model, found, settings))
    ranks = int(os.environ.get("WORLD_SIZE") or 1)
    shared = ranks > 1 if join is None else join
    shards = Shards(folder / "shards", len(found), shard, manifest.id)
    job = Job(folder, scorer, manifest, shards, shared, tell, progress, skip_bad)
    try:
        with threads(count), stoppable():
            return job.run()
    except Stopped as stop:
        raise Stopped(stop.number, job.where()) from None
    except OSError as error:
        reason = error.strerror or error
        raise JobError(
            f"{folder} cannot be written ({reason}): finished shards stay; mend that and run the same again"
        ) from error


def _shard(data: Any, draws: int, micro_batch: int, shard: int | None) -> int:
    """The rows of a shard; refuses counts that no job can have."""
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


def _made_of(model: ScoreModel, data: Any, settings: dict[str, Any]) -> dict[str, Any]:
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
