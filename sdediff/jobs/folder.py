"""`JobFolder`: the files of a job, each verified when it is read back."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sdediff._utils.files import removed, whole
from sdediff.jobs.compute import Receipt
from sdediff.jobs.errors import JobError
from sdediff.jobs.journal import Journal, Line
from sdediff.jobs.part import Part
from sdediff.jobs.tables import table_bytes, table_from
from sdediff.jobs.work import Say, Work

if TYPE_CHECKING:
    import pyarrow as pa

JOURNAL = "journal"
# Seconds between two waits for the disk: a machine that stops loses the shards of no more, and they are computed again.
_SYNCED = 0.5


class JobFolder:
    """Shards, journals and result of a job of `units` units in shards of `step`; `done` holds the verified shards."""

    def __init__(self, path: Path, work: Work, units: int, step: int, part: Part, say: Say) -> None:
        self.path, self.work, self.units, self.step, self.part, self.say = path, work, units, step, part, say
        self.shards, self.result = path / "shards", path / work.result
        self.count = math.ceil(units / step)
        self.journal = Journal(path / f"{JOURNAL}{part.suffix}.jsonl")
        self.done: dict[int, Line] = {}
        self._last = 0.0

    def range(self, number: int) -> range:
        """The units of one shard."""
        return range(number * self.step, min((number + 1) * self.step, self.units))

    def file(self, number: int) -> Path:
        """The file of one shard."""
        return self.shards / f"{number:06d}.parquet"

    def open(self) -> None:
        """Read all journals and verify every shard; what is damaged is named and removed, leftovers are swept."""
        self._sweep()
        self.done = {}
        for line in self.lines():
            if self._usable(line):
                self.done[line.n] = line
        mine = set(self.part.mine(self.count))
        for name in self._names():
            number = int(name[:6]) if name[:6].isdigit() else -1
            if number not in self.done and (number in mine or number >= self.count):
                self.say(f"{self.shards / name} is damaged or of another job: it is computed again")
                (self.shards / name).unlink(missing_ok=True)

    def lines(self) -> list[Line]:
        """The lines of all parts' journals, those of a shard that was computed twice in the order of their files."""
        paths = sorted(self.path.glob(f"{JOURNAL}*.jsonl"))
        return [line for path in paths for line in Journal(path).read(self.say)]

    def count_written(self) -> None:
        """Count shards whose line was written just before a signal, too late for `done`."""
        for line in self.lines():
            if line.n < self.count and line.range == self.range(line.n):
                self.done.setdefault(line.n, line)

    def _usable(self, line: Line) -> bool:
        """Whether the shard of a line is one of this job's, and its file is what the line says."""
        if line.n >= self.count or line.range != self.range(line.n):
            return False
        if line.n % self.part.n != self.part.i:  # verified when all are merged
            return self.file(line.n).is_file()
        try:
            return hashlib.sha256(self.file(line.n).read_bytes()).hexdigest() == line.sha256
        except FileNotFoundError:
            return False

    def _names(self) -> list[str]:
        with suppress(FileNotFoundError):
            return sorted(entry.name for entry in os.scandir(self.shards) if entry.name.endswith(".parquet"))
        return []

    def _sweep(self) -> None:
        """Remove what this part's processes left unfinished when they were killed."""
        mine = set(self.part.mine(self.count))
        for path in self.shards.glob(".*.part"):
            number = path.name[1:7]
            if number.isdigit() and (int(number) in mine or int(number) >= self.count):
                path.unlink(missing_ok=True)
        if self.part.n == 1:
            for path in self.path.glob(".*.part"):
                removed(path)

    def missing(self) -> list[int]:
        """The numbers of this part's shards that are not finished."""
        return [number for number in self.part.mine(self.count) if number not in self.done]

    def finished_units(self) -> int:
        """The number of units in finished shards."""
        return sum(len(line.range) for line in self.done.values())

    def keep(self, receipt: Receipt) -> None:
        """Write a computed shard, then its line; both are on the disk, unless a shard was in the last half second."""
        number, order, now = receipt.order.number, receipt.order, time.monotonic()
        durable = now - self._last >= _SYNCED
        self._last = now if durable else self._last
        with whole(self.file(number), durable) as unfinished:
            unfinished.write_bytes(receipt.content)
        digest = hashlib.sha256(receipt.content).hexdigest()
        units = (order.units.start, order.units.stop)
        line = Line(number, units, self.units, digest, order.digests, receipt.seconds, receipt.facts)
        self.journal.append(line, durable)
        self.done[line.n] = line

    def adopt(self, line: Line, content: bytes) -> None:
        """Take a shard over from another folder of the same job."""
        with whole(self.file(line.n)) as unfinished:
            unfinished.write_bytes(content)
        self.journal.append(line)
        self.done[line.n] = line

    def tables(self) -> Iterator[pa.Table]:
        """The tables of all shards in order, each verified against the journal when it is read."""
        for number in range(self.count):
            content = self.file(number).read_bytes()
            try:
                if hashlib.sha256(content).hexdigest() != self.done[number].sha256:
                    raise JobError("its hash is not that of the journal")
                yield table_from(content, self.range(number))
            except JobError as error:
                self.file(number).unlink(missing_ok=True)
                self.done.pop(number, None)
                raise JobError(
                    f"{self.file(number)} is damaged ({error}) and was discarded: run the same command again"
                ) from error

    def recover(self) -> None:
        """Cut the result into shards again; those whose hash is not that of the journal are left to be computed."""
        lines = {line.n: line for line in self.lines() if line.n < self.count and line.range == self.range(line.n)}
        for number in self.part.mine(self.count):
            line = lines.get(number)
            if line is None or number in self.done:
                continue
            try:
                content = table_bytes(self.work.read(self.result, line.range))
            except Exception:  # a damaged file makes its readers raise an open set of types
                continue
            if hashlib.sha256(content).hexdigest() == line.sha256:
                with whole(self.file(number)) as unfinished:
                    unfinished.write_bytes(content)
                self.done[number] = line

    def clear(self) -> None:
        """Remove the shards, and leave one journal of all parts."""
        lines = [self.done[number] for number in sorted(self.done)]
        with whole(self.path / f"{JOURNAL}.jsonl") as unfinished:
            unfinished.write_text("".join(line.text() for line in lines), encoding="utf-8")
        for path in self.path.glob(f"{JOURNAL}-*.jsonl"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.shards, ignore_errors=True)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read in pieces, or of the names and hashes of a folder's; empty where there is none."""
    if path.is_dir():
        lines = [f"{file.name} {file_hash(file)}\n" for file in sorted(path.iterdir())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the errors of a disk into one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise JobError(
            f"{path} cannot be written ({reason}): finished shards stay; fix that and run it again"
        ) from error
