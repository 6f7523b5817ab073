"""What the trainer costs over a bare loop of forward, backward and optimiser, at the digits' size, and its memory.

Rounds of updates of both in turn, in CPU seconds of one thread, each with the same network, batch and weights of the
average; the median over the rounds of their ratio counts, since a busy machine meets both alike. The memory is the most
that the process has held by then, torch itself and both networks included.

    python benchmarks/training.py [--rounds 12] [--updates 6]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from record import RESULTS, Gate, judged, show, versions, write
from torch import Tensor

import sdediff as sd
from sdediff.benchmark import machine
from sdediff.training import TrainingSettings, read_config, train

SYSTEMS = ("ddpm", "edm", "flow")
MOST = 0.05


def bare(net: torch.nn.Module, batches: list[tuple[Tensor, ...]], optimiser: torch.optim.Optimizer) -> float:
    """CPU seconds of forward, backward and optimiser on batches (x, clock, target) that lie ready."""
    began = time.process_time()
    for x, clock, target in batches:
        optimiser.zero_grad(set_to_none=True)
        (net(x, clock) - target).square().mean().backward()
        optimiser.step()
    return time.process_time() - began


def measure(name: str, rounds: int, updates: int) -> dict[str, float]:
    """Milliseconds an update of both, and the median ratio of a round."""
    config = read_config(name, {"training.updates": updates, "training.warmup": 1})
    data = sd.data("digits", "train")
    model, objective, size = config.model(data), config.objective(data), config.training.batch
    other = config.model(data).net.train().requires_grad_(True)
    adam = torch.optim.Adam(other.parameters(), lr=1e-4, betas=(0.9, 0.99), fused=True)
    ready = [(torch.randn(size, 1, 8, 8), torch.rand(size), torch.randn(size, 1, 8, 8)) for _ in range(updates)]
    ours, theirs = [], []
    for number in range(rounds + 1):  # the first warms up
        settings = TrainingSettings(updates=updates, batch=size, warmup=1, seed=number)
        times = []

        def report(update: int, loss: float, times: list[float] = times) -> None:
            times.append(time.process_time())

        began = time.process_time()
        log = train(model, config.rows(data), settings, objective, report)
        # Without the first update, which also prepares the run.
        ours.append((times[-1] - times[0]) / (updates - 1) if updates > 1 else times[-1] - began)
        theirs.append(bare(other, ready, adam) / updates)
        show(number, rounds)
    ratios = [a / b - 1 for a, b in zip(ours[1:], theirs[1:], strict=True)]
    return {
        "trainer_ms": 1e3 * statistics.median(ours[1:]), "bare_ms": 1e3 * statistics.median(theirs[1:]),
        "overhead": statistics.median(ratios), "peak_memory_mb": log.peak_memory / 1e6,
    }  # fmt: skip


def main() -> int:
    """Measure, print, write; exit status 1 when a gate fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help="default: " + ", ".join(SYSTEMS))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--updates", type=int, default=6)
    parser.add_argument("--json", type=Path, default=RESULTS / "training.json", help="where the record goes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name in given.systems or SYSTEMS:
        rows[name] = measure(name, given.rounds, given.updates)
        cells = rows[name]
        print(
            f"{name:10s}{cells['trainer_ms']:8.1f} ms{cells['bare_ms']:8.1f} ms{100 * cells['overhead']:7.1f} %"
            f"{cells['peak_memory_mb']:7.0f} MB"
        )
    held = judged([Gate(f"overhead of the trainer, {name}", row["overhead"], MOST) for name, row in rows.items()])
    write(given.json, {"machine": machine(), "versions": versions(["torch"]), "rows": rows, "gates": held})
    return 0 if all(line["held"] for line in held) else 1


if __name__ == "__main__":
    sys.exit(main())
