"""What the harness of `sdediff bench` adds: to the times that it reports, and to a cell beside its sampling.

A cell of digits-vp by dpmpp_2m at 20 calls is computed as the sweep does, in turns with the same samples drawn by
`sd.sample` alone. Reported are medians over the rounds. A round takes seconds of processor time, so that other work on
the machine counts little.

    python benchmarks/harness.py [--rounds 15] [--json benchmarks/results/harness.json]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import record
import torch

import sdediff as sd
from sdediff.benchmark import machine
from sdediff.benchmark.making import make_sweep
from sdediff.jobs import run

CALLS, SAMPLES = 20, 64


def arguments(seeds: int) -> dict:
    """A sweep of one solver on digits-vp."""
    return {
        "models": ["digits-vp"], "targets": None, "data": None, "solvers": ["dpmpp_2m"], "grids": None,
        "calls": [CALLS], "tolerances": [], "seeds": seeds, "seed": 0, "samples": SAMPLES, "batch": 100,
        "distances": ["energy"], "cond": None, "threads": 1,
    }  # fmt: skip


def plain(model: sd.ScoreModel, seed: int) -> float:
    """Seconds of processor time of the samples alone."""
    began = time.process_time()
    sd.sample(model, (SAMPLES, 1, 8, 8), calls=CALLS, seed=seed, progress=False)
    return time.process_time() - began


def main() -> None:
    """Measure, print and record."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--json", type=Path, default=record.RESULTS / "harness.json")
    given = options.parse_args()
    torch.set_num_threads(1)
    work = make_sweep(**arguments(given.rounds))
    model = work.tasks[0].model
    cells = [number for number, cell in enumerate(work.planned) if cell.entry.library == "sdediff"]
    plain(model, 0), work._drawn(cells[0])
    alone, drawn = [], []
    for at, number in enumerate(cells):
        for measured in ("alone", "drawn") if at % 2 else ("drawn", "alone"):
            if measured == "alone":
                alone.append(plain(model, at))
            else:
                began = time.process_time()
                work._drawn(number)
                drawn.append(time.process_time() - began)
        record.show(at + 1, len(cells))
    layer = layer_seconds()
    inside = median(b / a for a, b in zip(alone, drawn, strict=True)) - 1
    print(
        f"sampling alone {median(alone):.4f} s, in a cell {median(drawn):.4f} s, the job's layer {layer:.5f} s a cell"
    )
    gates = record.judged([
        record.Gate("sampling in a cell over sampling alone", inside, 0.01),
        record.Gate("the job's layer over sampling alone", layer / median(alone), 0.01),
    ])  # fmt: skip
    record.write(given.json, {
        "script": "benchmarks/harness.py", "machine": machine(), "rounds": len(cells), "calls": CALLS,
        "samples": SAMPLES, "alone_s": median(alone), "cell_s": median(drawn), "layer_s": layer,
        "inside": inside, "layer": layer / median(alone), "gates": gates,
    })  # fmt: skip


def layer_seconds(count: int = 400) -> float:
    """Seconds of processor time a cell that the job takes beside computing it: shards, journal, result."""
    work = make_sweep(**{**arguments(count), "samples": 20})
    facts = {"times": {"seconds": 0.1, "network_seconds": 0.1, "ratio": 1.0, "peak_bytes": None}}
    work._cell = lambda unit: ({**work._row(unit), "status": "ok"}, facts["times"])  # type: ignore[method-assign]
    with TemporaryDirectory() as folder:
        began = time.process_time()
        run(work, folder, micro_batch=1, shard=1, progress=False, say=lambda _: None)
        return (time.process_time() - began) / work.units


if __name__ == "__main__":
    main()
