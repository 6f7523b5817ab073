"""`run`: a work computed into a folder, by this process or others; interrupted at any moment, it continues."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sdediff._utils.files import expanded
from sdediff._utils.machine import versions
from sdediff._utils.progress import counting
from sdediff.jobs.compute import Order, Receipt, freed
from sdediff.jobs.engines import Engine, Local
from sdediff.jobs.errors import JobError, Stopped
from sdediff.jobs.folder import JobFolder, file_hash, writing
from sdediff.jobs.lock import JobLock
from sdediff.jobs.manifest import Manifest, other_job, short
from sdediff.jobs.merging import merge
from sdediff.jobs.part import Part
from sdediff.jobs.planning import Measured, measure, shard_size
from sdediff.jobs.signals import stoppable, threads
from sdediff.jobs.work import Say, Work


@dataclass(frozen=True)
class Outcome:
    """A run that ended: the job's manifest, whether its result is written, and how far it is in words."""

    manifest: Manifest
    finished: bool
    text: str


@dataclass(eq=False)
class _Run:
    """One process that computes a job, or its part of it."""

    work: Work
    path: Path
    micro_batch: int
    shard: int | None
    engine: Engine
    part: Part
    keep: bool
    progress: bool | None
    say: Say
    manifest: Manifest
    job: JobFolder | None = None
    expected: dict[int, tuple[str, ...]] = field(default_factory=dict)
    ended: bool = False

    def whole(self) -> Outcome:
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = JobLock(self.path, f"job{self.part.suffix}", self.say)
        with lock:
            measured = self._begin()
            if self.ended:
                return Outcome(self.manifest, True, self.text())
            self._compute(measured)
            return self._end()

    def _begin(self) -> Measured | None:
        """Read or make the manifest, open the folder, and compare the input with that of finished shards."""
        measured, new = None, not self.manifest.read(self.shard)
        if new:
            measured = measure(self.work, self.micro_batch, self.keep, self.say)
            with self.changing():
                if not self.manifest.read(self.shard):
                    slots = self.engine.slots * self.part.n
                    self.manifest.shard = self.shard or shard_size(self.work, self.micro_batch, measured.seconds, slots)
                    if measured.micro_batch < self.micro_batch:
                        self.manifest.notes["micro_batch"] = measured.micro_batch
                    self.manifest.write()
        self.job = JobFolder(self.path, self.work, self.work.units, self.manifest.shard, self.part, self.say)
        self.ended = self._finished()
        if not self.ended:
            self._open(self.job)
        elif self.job.shards.exists():  # killed between the result and the end of its shards
            self.job.open()
            self.job.clear()
        self._compare(self.job)
        if not new and (self.ended or self.job.done):
            self.say(f"begun before: {self.text()}")
        return measured

    def _open(self, job: JobFolder) -> None:
        """Verify finished shards; take what is still right from a result that was damaged, or that is to grow."""
        grown, ended = self.manifest.stored_units < self.work.units, bool(self.manifest.result)
        with writing(self.path):
            job.open()
            if ended and job.result.exists():
                if not grown:
                    self.say(f"{job.result} is damaged: what is not as the journal says is computed again")
                job.recover()
        if grown or ended:
            with self.changing():
                self.manifest.result = {}
                self.manifest.write()

    def _finished(self) -> bool:
        """Whether the result is written, of all units, and as its hash says."""
        result = self.manifest.result
        if not result or self.manifest.stored_units < self.work.units:
            return False
        return file_hash(self.path / self.work.result) == result.get("sha256")

    def _compare(self, job: JobFolder) -> None:
        """Refuse input that is not that of the finished shards, or of the result."""
        if self.ended:
            if self.part.n == 1:
                now = self.work.identity(self.work.digests(range(job.units), job.units))
                self._same(self.manifest.result.get("input", ""), now, "")
            return
        for number in self.part.mine(job.count):
            self.expected[number] = self.work.digests(job.range(number), job.units)
            line = job.done.get(number)
            if line is not None:
                blocks = self.work.digests(line.range, line.total)
                rows = f" ({self.work.unit}s {line.range.start} to {line.range.stop - 1})"
                self._same("".join(line.blocks), "".join(blocks), rows)

    def _same(self, there: str, now: str, rows: str) -> None:
        if there != now:
            raise other_job(self.path, f"data.sha256 is {short(there)} there and {short(now)} now{rows}")

    def _compute(self, measured: Measured | None) -> None:
        """Compute what is missing of this part."""
        job = self._job
        ready = measured.ready if measured is not None else {}
        with counting(job.units, self.work.name, self.progress, job.finished_units()) as advance:
            receipts = self.engine.receipts(self.work, self._orders(job.missing()), ready, advance)
            for receipt in receipts:
                self._note(receipt)
                with writing(self.path):
                    job.keep(receipt)

    def _orders(self, numbers: list[int]) -> Iterator[Order]:
        for number in numbers:
            size = self.manifest.notes.get("micro_batch", self.micro_batch)
            yield Order(number, self._job.range(number), size, self.expected[number], self.keep)

    @property
    def _job(self) -> JobFolder:
        if self.job is None:
            raise JobError(f"{self.path} has not been opened")
        return self.job

    def _note(self, receipt: Receipt) -> None:
        """Report units that failed, and a smaller micro-batch, which is stored for all processes."""
        if receipt.failed:
            unit, text = receipt.failed[0]
            more = f" ({len(receipt.failed)} such {self.work.unit}s up to here)" if len(receipt.failed) > 1 else ""
            self.say(f"{self.work.unit} {unit} failed: {text}{more}")
        size = self.manifest.notes.get("micro_batch", self.micro_batch)
        if receipt.micro_batch >= size:
            return
        while size > receipt.micro_batch:
            size //= 2
            freed(size, self.say)
        with self.changing():
            self.manifest.read()
            self.manifest.notes["micro_batch"] = min(size, self.manifest.notes.get("micro_batch", size))
            self.manifest.write()

    def _end(self) -> Outcome:
        """Merge all shards where no part is missing; another part may have done it."""
        job = self._job
        with self.changing():
            self.manifest.read()
            if self._finished():
                return Outcome(self.manifest, self.part.n == 1, f"all {job.units} {self.work.unit}s are done")
            if self.part.n > 1:
                job.open()
            if len(job.done) < job.count:
                return Outcome(self.manifest, False, self.text())
            merge(job, self.manifest)
            self.ended = True
        return Outcome(self.manifest, True, self.text())

    def text(self) -> str:
        """The number of finished shards and units, in words."""
        unit, job = f"{self.work.unit}s", self.job
        if job is None:
            return "nothing is done yet"
        if self.ended:
            return f"all {self.work.units} {unit} are done"
        done = f"{len(job.done)} of {job.count} shards, {job.finished_units()} of {job.units} {unit}, are done"
        return done if self.part.n == 1 else f"part {self.part} is at its end or stopped: {done}"

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock of files that all parts write."""
        from filelock import FileLock

        with writing(self.path), FileLock(self.path / ".files.lock"):
            yield


def run(
    work: Work,
    out: str | Path,
    *,
    micro_batch: int,
    shard: int | None = None,
    threads_count: int = 1,
    engine: Engine | None = None,
    part: Part | None = None,
    keep: bool = False,
    progress: bool | None = None,
    say: Say,
) -> Outcome:
    """Compute a work into a folder, or a part of it; whoever finishes the last shard writes the result.

    keep: go on where units fail from the first. Raises JobError, Stopped, and what the work raises for every unit.
    """
    path = expanded(out, "out")
    manifest = Manifest(path, work.name, work.units, {**work.describe(), "versions": _versions()})
    manifest.read(shard)  # refuses another job before any of its files is touched
    process = _Run(work, path, micro_batch, shard, engine or Local(), part or Part(), keep, progress, say, manifest)
    try:
        with threads(threads_count), stoppable():
            return process.whole()
    except Stopped as stop:
        if process.job is not None:
            process.job.count_written()
        raise Stopped(stop.number, process.text()) from None


def _versions() -> dict[str, Any]:
    return {"sdediff": versions()["sdediff"], "torch": torch.__version__}
