"""The size of shards by time, and what a job will take, both from one micro-batch."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from sdediff.jobs.compute import Order, compute, freed, out_of_memory
from sdediff.jobs.work import Batch, Say, Work

# A kill loses the shards that are worked on: a 64th of a job, but five seconds at least and five minutes at most.
_LONGEST, _SHORTEST, _SHARE = 300.0, 5.0, 64
_MOST_BYTES = 1 << 26
# A first micro-batch of fewer seconds is timed a second time by `estimate`: it holds what is loaded at first use.
_BRIEF = 1.0


@dataclass(frozen=True)
class Measured:
    """The first micro-batch of a work: seconds a unit, the micro-batch that fitted, and what came out if all did."""

    seconds: float
    micro_batch: int
    ready: dict[range, Batch]


@dataclass(frozen=True)
class Estimate:
    """What a job will take: units, shards and their size, seconds of computing in all, and bytes of its shards.

    slots: shards that are computed at once; elapsed: the seconds that this takes.
    """

    units: int
    shard: int
    shards: int
    micro_batch: int
    unit_seconds: float
    seconds: float
    bytes: int
    slots: int
    elapsed: float

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return dict(vars(self))


def measure(work: Work, micro_batch: int, keep: bool, say: Say) -> Measured:
    """Compute the first micro-batch, timed. Where it fails, 16 units or more: what fails throughout is raised."""
    units, size = range(min(micro_batch, work.units)), micro_batch
    content = work.take(units).content
    began = time.perf_counter()
    try:
        batch = work.batch(content, units)
        taken = time.perf_counter() - began
        return Measured(taken / len(units), size, {units: batch._replace(seconds=taken)})
    except Exception as error:
        lacking = out_of_memory(error)
    more = units if lacking else range(min(max(16, micro_batch), work.units))
    receipt = compute(work, Order(0, more, size, keep=keep))
    while size > receipt.micro_batch:
        size //= 2
        freed(size, say)
    return Measured(receipt.seconds / len(more), size, {})


def shard_size(work: Work, micro_batch: int, unit_seconds: float, slots: int = 1) -> int:
    """The number of units of a shard: a micro-batch times a power of two, of about five minutes at most."""
    total = unit_seconds * work.units
    target = min(_LONGEST, max(_SHORTEST, total / max(_SHARE, 4 * slots)))
    units = min(target / max(unit_seconds, 1e-9), _MOST_BYTES / work.unit_bytes(), work.units)
    return int(micro_batch * 2 ** max(0, math.floor(math.log2(max(1.0, units / micro_batch)))))


def estimate(
    work: Work, micro_batch: int, shard: int | None = None, say: Say = lambda _: None, slots: int = 1
) -> Estimate:
    """What the whole work will take, from its first micro-batch. slots: shards that are computed at once.

    Nothing is written. Raises what the work raises for every unit of that micro-batch.
    """
    measured = measure(work, micro_batch, False, say)
    if measured.seconds * micro_batch < _BRIEF:
        again = measure(work, measured.micro_batch, False, say)
        measured = min(measured, again, key=lambda found: found.seconds)
    size = shard or shard_size(work, micro_batch, measured.seconds, slots)
    count, seconds = math.ceil(work.units / size), measured.seconds * work.units
    return Estimate(
        work.units, size, count, measured.micro_batch, measured.seconds, seconds, work.units * work.unit_bytes(),
        slots, math.ceil(count / slots) * min(size, work.units) * measured.seconds,
    )  # fmt: skip
