"""What the layer of jobs costs: shards without work, a job beside its bare computation, engines beside one another.

empty: 61,036 shards without work, as 10^9 rows in shards of 16,384 have; the gates are ten minutes and 1 GB.
overhead: a likelihood of the digits as a job and without one, in processor seconds, by turns in each micro-batch,
start and loading left out; --rows 1024 is a minute on one core, and the gate is 3 %. engines: likelihoods, samples and
a sweep by this process, workers, Ray and three parts: one hash a work, and the seconds of each.

    python benchmarks/jobs.py [empty] [overhead] [engines] [--rows 256] [--json benchmarks/results/jobs.json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from record import RESULTS, Gate, judged, versions, write

import sdediff as sd
from sdediff.benchmark import machine
from sdediff.jobs import Batch, Work, run
from sdediff.jobs.scoring import LikelihoodWork

SHARDS = 61_036
QUICK: dict[str, Any] = {"trace": "hadamard", "probes": 4, "rtol": 1e-2, "atol": 1e-2}


class Empty(Work):
    """Units without work."""

    name = "empty"

    def __init__(self, units: int) -> None:
        self.units = units

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"data": {}, "model": {}, "settings": {}}

    def schema(self) -> Any:
        import pyarrow as pa

        return pa.schema([("index", pa.int64())])

    def batch(self, content: Any, units: Sequence[int]) -> Batch:
        return Batch({"index": list(units)}, {})

    def failed(self, unit: int, message: str) -> dict[str, Any]:
        return {}


def quiet(line: str) -> None:
    """Messages of a job, of which benchmarks show none."""


def empty(shards: int) -> dict[str, float]:
    """Seconds, those of the processor, and memory of a job of so many shards without work; the machine's load."""
    with tempfile.TemporaryDirectory() as home:
        began, spent = time.perf_counter(), time.process_time()
        run(Empty(shards), Path(home) / "out", micro_batch=1, shard=1, progress=False, say=quiet)
        seconds, spent = time.perf_counter() - began, time.process_time() - spent
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {
        "shards": shards, "seconds": round(seconds, 1), "processor_seconds": round(spent, 1),
        "gigabytes": round(memory, 3), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def overhead(rows: int) -> dict[str, Any]:
    """Processor seconds of a likelihood as a job and without one, and how many of its rows differ.

    Each micro-batch is computed twice in turn, by the job and by itself, so that a busy moment meets both. The job has
    all else beside: the check, hashes, files, the summary and the report.
    """
    model, data = sd.load("digits-vp"), sd.data("digits")
    settings, own = sd.LikelihoodSettings(**QUICK), LikelihoodWork.batch
    spent, differ = 0.0, 0

    def bare(units: Sequence[int]) -> list[float]:
        nonlocal spent
        began = time.process_time()
        x, chosen = data.dequantised(index=list(units)), sd.LikelihoodSettings(**QUICK, end="heat")
        found = sd.log_likelihood(model, x, settings=chosen, index=list(units), progress=False).log_prob.tolist()
        spent += time.process_time() - began
        return found

    def both(work: LikelihoodWork, content: Any, units: Sequence[int]) -> Batch:
        nonlocal differ
        first = bare(units) if units[0] // 64 % 2 else None
        batch = own(work, content, units)
        alone = bare(units) if first is None else first
        differ += sum(a != b for a, b in zip(batch.columns["log_prob"], alone, strict=True))
        return batch

    torch.set_num_threads(1)
    with mock.patch.object(LikelihoodWork, "batch", both):
        for count in (64, rows):  # the first loads what is imported on first use
            with tempfile.TemporaryDirectory() as home:
                began, spent = time.process_time(), 0.0
                sd.likelihood_job(
                    model, data, Path(home) / "out", settings=settings, limit=count, micro_batch=64, num_threads=1,
                    progress=False, say=quiet,
                )  # fmt: skip
                job = time.process_time() - began - spent
    return {
        "rows": rows, "job": round(job, 2), "bare": round(spent, 2), "ratio": round(job / spent - 1, 4),
        "differ": differ,
    }  # fmt: skip


def works(rows: int) -> dict[str, tuple[str, Callable[..., Any]]]:
    """The three works: the file of the result, and the job into a folder by an engine."""
    common: dict[str, Any] = {"num_threads": 1, "progress": False, "say": quiet}
    cut = {**common, "micro_batch": 16, "shard": 32}
    scored = {**cut, "settings": sd.LikelihoodSettings(**QUICK), "limit": rows}

    def likelihood(out: Path, **more: Any) -> None:
        sd.likelihood_job("digits-vp", "digits:test", out, **scored, **more)

    def samples(out: Path, **more: Any) -> None:
        sd.sample_job("digits-vp", out, samples=rows, calls=10, **cut, **more)

    def sweep(out: Path, **more: Any) -> None:
        sd.bench(
            ["digits-vp"], ["ddim", "dpmpp_2m"], (5, 10), samples=max(rows, 64), seeds=2, out=out, **common, **more
        )

    return {
        "likelihood": ("likelihood.parquet", likelihood),
        "samples": ("samples.npz", samples),
        "sweep": ("cells.parquet", sweep),
    }


def engines(rows: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Each work by every engine: the hash of its result, and seconds with start and loading."""
    kinds: dict[str, list[dict[str, Any]]] = {
        "local": [{}], "2 workers": [{"workers": 2}], "3 parts": [{"part": f"{i}/3"} for i in range(3)],
        "ray, 2 at once": [{"engine": "ray", "workers": 2}],
    }  # fmt: skip
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for work, (file, job) in works(rows).items():
        for name, runs in kinds.items():
            with tempfile.TemporaryDirectory() as home:
                began = time.perf_counter()
                for options in runs:
                    job(Path(home) / "out", **options)
                seconds = time.perf_counter() - began
                digest = hashlib.sha256((Path(home) / "out" / file).read_bytes()).hexdigest()
            found.setdefault(work, {})[name] = {"sha256": digest, "seconds": round(seconds, 1)}
            print(f"{work}, {name}: {digest[:16]}, {seconds:.1f} s", flush=True)
    return found


def gates(record: dict[str, Any]) -> list[Gate]:
    """What must hold."""
    found = []
    if "empty" in record:
        found += [Gate("seconds of empty shards", record["empty"]["seconds"], 600.0)]
        found += [Gate("gigabytes of empty shards", record["empty"]["gigabytes"], 1.0)]
    if "overhead" in record:
        found += [Gate("share of the layer", record["overhead"]["ratio"], 0.03)]
        found += [Gate("rows that the job changes", record["overhead"]["differ"], 0)]
    if "engines" in record:
        digests = [{row["sha256"] for row in rows.values()} for rows in record["engines"].values()]
        found += [Gate("results that differ", sum(len(of_work) - 1 for of_work in digests), 0)]
    return found


def main() -> None:
    """Measure what was asked for, keep the other records, judge all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["empty", "overhead", "engines", []], default=[])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--shards", type=int, default=SHARDS)
    parser.add_argument("--json", type=Path, default=RESULTS / "jobs.json")
    given = parser.parse_args()
    record = json.loads(given.json.read_text()) if given.json.exists() else {}
    measures = {"empty": (empty, given.shards), "overhead": (overhead, given.rows), "engines": (engines, given.rows)}
    for name in given.parts or list(measures):
        measure, size = measures[name]
        record[name] = measure(size)
        print(f"{name}: {record[name]}", flush=True)
    record |= {"versions": versions(["torch", "pyarrow", "ray"]), "machine": machine()}
    record["gates"] = judged(gates(record))
    write(given.json, record)
    sys.exit(not all(gate["held"] for gate in record["gates"]))


if __name__ == "__main__":
    main()
