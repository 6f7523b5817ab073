"""Microseconds a network evaluation beyond the network, set-up included: sdediff beside its peers, in one run.

Three columns of ours: the first run on a new process value, every `sd.sample`, a `Sampler` used again; for VP and for
a user's plain class of two methods alike; at 10, 20 and 50 evaluations, the last jump to data included. Batch 1,
3x32x32, one thread, from a start that is given. Peers that are not installed are skipped. The table has microseconds of
this machine at rest; the bars are held to them scaled by the control to the machine that they were set on.

    python benchmarks/overhead.py [--repeats 40] [--json benchmarks/results/overhead.json]
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from overhead_cases import MODES, PEERS, PROCESSES, SHAPE, Case, one_call_solvers, our_cases
from record import RESULTS, Gate, judged, show, versions, write
from torch import Tensor

import sdediff as sd
from sdediff.benchmark import machine

CALLS = (10, 20, 50)
AGREE = 1.15  # two controls that the machine's speed did not change between
# The control, microseconds a step, of the machine that the bars were set on, by what the peers took there at 20 calls:
# k-diffusion's dpmpp_2m 41 and flow_matching's Euler 16, 1.04 and 1.08 times what they take where the control is 6.53.
BARS_AT = 6.9
# Microseconds an evaluation of `sd.sample` at 10, 20 and 50; a first run may take 1.5 times that.
BOUNDS = dict(zip(CALLS, (50.0, 30.0, 25.0), strict=True))
FIRST, CORRECTED = 1.5, 1.5
SAMPLER = 20.0  # a Sampler used again, at 20
# Statistics of every dimension, or principal directions.
WIDE = ("angle, per dimension", "angle, principal directions")

Times = dict[tuple[str, ...], dict[int, float]]


def control(x: Tensor, n: int) -> Tensor:
    """n steps of DPM++ 2M's arithmetic with ready numbers: what the machine's speed is told by."""
    y, last = x, x
    for b, p, q, r in [(-0.1, 0.99, 0.02, -0.01)] * n:
        x0 = torch.add(y, last, alpha=b)
        y, last = (y * p).add_(x0, alpha=q).add_(last, alpha=r), x0
    return y


def timed(run: Callable[[], Any]) -> float:
    """CPU microseconds of this thread in one run, whoever else is busy on the machine."""
    begin = time.thread_time_ns()
    run()
    return (time.thread_time_ns() - begin) / 1e3


def measure(cases: list[Case], x: Tensor, repeats: int, warm_up: int = 3) -> tuple[Times, float]:
    """Microseconds an evaluation of every row, and the control's a step, both at the speed of the machine at rest.

    Each measurement follows an untimed run of its row, so that the rows do not find each other's code in the caches.
    Neighbours on a host slow it down for seconds to minutes, so the control runs before and after every measurement. A
    row is the median, where both agree, of its time over the control's, times the control's fastest tenth.
    """
    rounds: dict[tuple[Any, ...], list[tuple[float, float, float]]] = {}
    gc.collect()
    gc.freeze()
    for turn in range(repeats + warm_up):
        for case in cases if turn % 2 else reversed(cases):
            for calls in CALLS:
                case.run(calls)
                before = timed(lambda: control(x, 20))
                took = timed(lambda case=case, calls=calls: case.run(calls))
                if turn >= warm_up:
                    rounds.setdefault((case.key, calls), []).append((took, before, timed(lambda: control(x, 20))))
        show(turn + 1, repeats + warm_up)
    gc.unfreeze()
    controls = [v for row in rounds.values() for _, *both in row for v in both]
    rest = statistics.quantiles(controls, n=10)[0]
    times: Times = {}
    for (key, calls), row in rounds.items():
        even = [r for r in row if max(r[1:]) <= AGREE * min(r[1:])] or row
        times.setdefault(key, {})[calls] = statistics.median(2 * rest * r[0] / (r[1] + r[2]) for r in even) / calls
    return times, rest / 20


def table(times: Times) -> Iterator[str]:
    """A line a row, its columns by mode and number of evaluations."""
    head = "".join(f"{mode + ' ' + str(calls):>12}" for mode in MODES for calls in CALLS)
    yield f"{'system':14}{'solver':34}{'process':9}{head}"
    for system, name, process in dict.fromkeys(key[:3] for key in times):
        found = [times.get((system, name, process, mode), {}).get(calls) for mode in MODES for calls in CALLS]
        yield f"{system:14}{name:34}{process:9}" + "".join(f"{'' if v is None else f'{v:.1f}':>12}" for v in found)


def gates(times: Times, control_us: float) -> Iterator[Gate]:
    """What must hold, of figures at the speed of the machine that the bars were set on."""
    speed = BARS_AT / control_us
    ours = [(name, corrects, process) for name, corrects in one_call_solvers().items() for process in PROCESSES]
    for name, corrects, process in [*ours, *((name, True, "VP") for name in WIDE)]:
        found = {mode: times["sdediff", name, process, mode] for mode in MODES}
        row = {mode: {calls: us * speed for calls, us in cells.items()} for mode, cells in found.items()}
        share = CORRECTED if corrects else 1.0
        for calls, bound in BOUNDS.items():
            yield Gate(f"{name}, {process}: sample at {calls}", row["sample"][calls], share * bound)
            yield Gate(f"{name}, {process}: first at {calls}", row["first"][calls], FIRST * share * bound)
        yield Gate(f"{name}, {process}: Sampler at 20", row["sampler"][20], SAMPLER)


def main() -> int:
    """Measure, print, write; exit status 1 when a gate fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40, help="interleaved rounds (40)")
    parser.add_argument("--json", type=Path, default=RESULTS / "overhead.json", help="where the record goes")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    value, x = torch.zeros(SHAPE), torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    cases, missing = list(our_cases(value, x)), {}
    for peer, make in PEERS.items():
        try:
            cases += make(value, x)
        except ImportError as error:
            missing[peer] = str(error)
    times, rest = measure(cases, x, chosen.repeats)
    place = machine() | {"load": round(os.getloadavg()[0], 1), "control_us_a_step": round(rest, 2)}
    print(f"{SHAPE}, float32, microseconds an evaluation, {chosen.repeats} rounds; {place}")
    print(*table(times), sep="\n")
    for peer, why in missing.items():
        print(f"skipped: {peer} ({why})")
    held = judged(gates(times, rest))
    write(chosen.json, {
        "shape": SHAPE, "dtype": "float32", "calls": CALLS, "repeats": chosen.repeats, "clock": "thread CPU time",
        "machine": place, "bars_at_control_us": BARS_AT,
        "versions": {"sdediff": sd.__version__, **versions(["torch", "numpy", *PEERS])},
        "skipped": missing,
        "rows": [dict(zip(("system", "solver", "process", "mode"), key, strict=True)) | {"us": row}
                 for key, row in times.items()],
        "gates": held,
    })  # fmt: skip
    return 0 if all(gate["held"] for gate in held) else 1


if __name__ == "__main__":
    sys.exit(main())
