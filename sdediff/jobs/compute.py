"""One shard: its input copied and verified, computed by micro-batches; units that fail are found one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sdediff.jobs.errors import InputChanged, JobError
from sdediff.jobs.tables import make_table, table_bytes
from sdediff.jobs.work import Batch, Say, Work

# A run of so many failures without one success is that of the whole work, not of single units.
_HOPELESS = 16


@dataclass(frozen=True)
class Order:
    """A shard to compute. digests: the hashes that its input must have. keep: go on where every unit fails."""

    number: int
    units: range
    micro_batch: int
    digests: tuple[str, ...] = ()
    keep: bool = False


@dataclass(frozen=True)
class Receipt:
    """A computed shard: the bytes of its Parquet file, facts, seconds, and the micro-batch that fitted into memory."""

    order: Order
    content: bytes
    facts: dict[str, Any]
    seconds: float
    micro_batch: int
    failed: tuple[tuple[int, str], ...] = ()


@dataclass(eq=False)
class _Rows:
    """Columns that grow by micro-batches, and the units that failed."""

    work: Work
    keep: bool
    columns: dict[str, list[Any]]
    facts: dict[str, Any] = field(default_factory=dict)
    failed: list[tuple[int, str]] = field(default_factory=list)
    good: int = 0
    first: BaseException | None = None

    def add(self, batch: Batch, count: int) -> None:
        for name, column in self.columns.items():
            column.extend(batch.columns.get(name, [None] * count))
        self.facts, self.good = batch.facts or self.facts, self.good + count

    def add_failed(self, unit: int, error: BaseException, limit: int) -> None:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        row = self.work.failed(unit, text)
        for name, column in self.columns.items():
            column.append(unit if name == "index" else row.get(name))
        self.failed.append((unit, text))
        if not self.keep and not self.good and len(self.failed) >= limit:
            raise self.first or error


def compute(
    work: Work, order: Order, alive: Callable[[int], None] | None = None, ready: dict[range, Batch] | None = None
) -> Receipt:
    """Compute a shard. Where memory runs out the micro-batch is halved and the shard begun again.

    A micro-batch that raises is computed unit by unit, and what fails alone is recorded in its row. Where all fail, the
    error is raised. alive: called with the number of units of each micro-batch. ready: micro-batches computed before.
    """
    began, size = time.perf_counter(), order.micro_batch
    taken = work.take(order.units)
    if order.digests and taken.digests != order.digests:
        raise InputChanged(
            f"the input of {work.unit}s {order.units.start} to {order.units.stop - 1} changed while the job ran: "
            "its finished shards are of the earlier input; restore it, or begin anew in another folder"
        )
    while True:
        rows, before = _Rows(work, order.keep, {name: [] for name in work.schema().names}), 0.0
        try:
            for units in parts(order.units, size):
                batch = (ready or {}).get(units)
                if batch is not None:
                    rows.add(batch, len(units))
                    before += batch.seconds
                else:
                    _batch(work, taken.content, units, rows, min(len(order.units), max(_HOPELESS, size)))
                if alive is not None:
                    alive(len(units))
            break
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        if size == 1:
            raise JobError("memory ran out with one sample at a time: give another device, or fewer probes")
        size = size // 2
    content = table_bytes(make_table(rows.columns, work.schema()))
    return Receipt(order, content, rows.facts, before + time.perf_counter() - began, size, tuple(rows.failed))


def parts(units: range, size: int) -> list[range]:
    """Units cut into micro-batches."""
    return [range(start, min(start + size, units.stop)) for start in range(units.start, units.stop, size)]


def _batch(work: Work, content: Any, units: Sequence[int], rows: _Rows, limit: int) -> None:
    """Compute a micro-batch, or where it fails its units one by one."""
    try:
        rows.add(work.batch(content, units), len(units))
        return
    except Exception as error:
        if out_of_memory(error):
            raise
        rows.first = rows.first or error
        alone = error if len(units) == 1 else None
    for unit in units:
        try:
            if alone is not None:
                raise alone
            rows.add(work.batch(content, [unit]), 1)
        except Exception as error:
            if out_of_memory(error):
                raise
            rows.add_failed(unit, error, limit)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a device or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def freed(size: int, say: Say) -> None:
    """Report a smaller micro-batch, and give the device's cached memory back."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    say(f"memory ran out: {size} samples at a time from here on")
