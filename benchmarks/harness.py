"""What the harness of `sdediff bench` adds to the time of sampling, at dpmpp_2m with 20 calls of digits-vp.

What it adds does not depend on the network, so it is measured with one that costs nothing, where noise of the machine
does not hide it: the samples of a cell as the sweep draws them, watched and timed, in turns with the same drawn by
`sd.sample` alone. The job's layer (shard, journal, result) is measured on cells that compute nothing. Both are compared
with the time of the same samples of digits-vp. All are seconds of processor time, medians over the rounds.

    python benchmarks/harness.py [--rounds 200] [--json benchmarks/results/harness.json]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import record
import torch

import sdediff as sd
from sdediff.benchmark import SweepWork, Task, machine, make_sweep
from sdediff.jobs import run

CALLS, SAMPLES = 20, 64
SHAPE = (1, 8, 8)


def sweep(model: str | Task, seeds: int) -> SweepWork:
    """A sweep of one solver on a model."""
    return make_sweep(
        [model], None, None, ["dpmpp_2m"], None, [CALLS], [], seeds, 0, SAMPLES, 100, ["energy"], None, threads=1
    )  # fmt: skip


def empty_task() -> Task:
    """A network that returns its input."""
    data = torch.randn(100, *SHAPE, generator=torch.Generator().manual_seed(0))
    return Task("empty", sd.ScoreModel(lambda x, t: x, sd.VP()), data, data.flip(0), SAMPLES)


def seconds(run: Callable[[], object]) -> float:
    """Processor time of a call."""
    began = time.process_time()
    run()
    return time.process_time() - began


def alone(model: sd.ScoreModel, seed: int) -> float:
    """Seconds of a cell's samples without the harness."""
    return seconds(lambda: sd.sample(model, (SAMPLES, *SHAPE), calls=CALLS, seed=seed, progress=False))


def added(rounds: int) -> float:
    """Seconds that the harness adds to the samples of a cell."""
    work = sweep(empty_task(), rounds)
    model = work.tasks[0].model
    gaps = []
    for number, cell in enumerate(work.planned):
        if cell.entry.library == "sdediff":
            first = alone(model, cell.seed) if number % 4 < 2 else None
            drawn = seconds(lambda number=number: work.drawn(number))
            gaps.append(drawn - (alone(model, cell.seed) if first is None else first))
            record.show(cell.seed + 1, rounds)
    return median(gaps[1:])


def layer_seconds(count: int = 400) -> float:
    """Seconds a cell that the job takes beside computing it: shards, journal, result."""
    work = sweep(empty_task(), count)
    nothing = {"seconds": 0.1, "network_seconds": 0.1, "ratio": 1.0, "peak_bytes": None, "cpu": "", "device": "cpu"}
    rows = [{**work.failed(number, ""), "status": "ok"} for number in range(work.units)]
    work.cell = lambda unit: (rows[unit], nothing)  # type: ignore[method-assign]
    with TemporaryDirectory() as folder:
        taken = seconds(lambda: run(work, folder, micro_batch=1, shard=1, progress=False, say=lambda _: None))
    return taken / work.units


def main() -> int:
    """Measure, print and record."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--json", type=Path, default=record.RESULTS / "harness.json")
    given = options.parse_args()
    torch.set_num_threads(1)
    network = sd.load("digits-vp")
    sampling = median(alone(network, seed) for seed in range(7))
    inside, layer = added(given.rounds), layer_seconds()
    print(f"a cell's samples of digits-vp take {sampling:.4f} s; the harness adds {inside:.6f} s to sampling, and")
    print(f"the job's layer {layer:.6f} s to a cell")
    gates = record.judged([
        record.Gate("added to sampling, over sampling", inside / sampling, 0.01),
        record.Gate("added to sampling and by the job's layer, over sampling", (inside + layer) / sampling, 0.01),
    ])  # fmt: skip
    record.write(given.json, {
        "script": "benchmarks/harness.py", "machine": machine(),
        "versions": {"sdediff": sd.__version__, **record.versions(["torch", "numpy", "pyarrow"])},
        "rounds": given.rounds, "calls": CALLS, "samples": SAMPLES, "sampling_s": sampling, "added_s": inside,
        "layer_s": layer, "gates": gates,
    })  # fmt: skip
    return 0 if all(gate["held"] for gate in gates) else 1


if __name__ == "__main__":
    sys.exit(main())
