"""`Worker`, the part of one process in a job: it claims shards, computes them, and merges them at the end."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from sdediff._utils.progress import track
from sdediff.jobs.errors import JobError
from sdediff.jobs.locks import Claims, JobLock, Say
from sdediff.jobs.manifest import Manifest
from sdediff.jobs.report import write_report
from sdediff.jobs.scoring import Scorer, column_names, out_of_memory
from sdediff.jobs.shards import MERGED, Shards
from sdediff.jobs.summary import Summary, summarise

_POLL = 0.1


def first_rank() -> bool:
    """Whether this process reports for all that a launcher such as torchrun started."""
    return int(os.environ.get("RANK") or 0) == 0


@dataclass(frozen=True, eq=False)
class Worker:
    """The part of one process in a job: what it computes, where it writes, and how it reports."""

    folder: Path
    scorer: Scorer
    manifest: Manifest
    shards: Shards
    shared: bool
    say: Say
    progress: bool | None
    skip_bad: bool

    def run(self) -> Summary:
        """Compute all shards that no other process computes, and return the summary of the whole job."""
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        files = FileLock(self.folder / ".files.lock")
        self.manifest.read()  # refuses another job before any of its files is touched
        with JobLock(self.folder, self.shared, self.say) as lock:
            with files:
                new = not self.manifest.read()
                if new:
                    self.manifest.write()
                if not self.finished():
                    self.shards.folder.mkdir(exist_ok=True)
                    self.shards.discard_damaged(self.say)
            if not new and first_rank() and (self.finished() or self.shards.done()):
                self.say(f"begun before: {self.progress_text()}")
            if not self.finished():
                try:
                    for _ in track(self._work(lock), self.shards.count, "log likelihood", self.progress):
                        pass
                except (ValueError, TypeError) as error:
                    if not isinstance(error, JobError):
                        self._undo()  # log_likelihood refuses its arguments: no job was started
                    raise
            with files:
                return self._merge()

    def finished(self) -> bool:
        """Whether all shards have been merged, by this process or another."""
        if not self.manifest.result and self.manifest.path.exists():
            self.manifest.read()
        return bool(self.manifest.result) and (self.folder / MERGED).is_file()

    def progress_text(self) -> str:
        """The number of finished shards and samples, in words."""
        if self.finished():
            return f"all {self.shards.size} samples are done"
        done = sum(len(self.shards.rows(n)) for n in range(self.shards.count) if self.shards.path(n).exists())
        return f"{self.shards.done()} of {self.shards.count} shards, {done} of {self.shards.size} samples, are done"

    def _work(self, lock: JobLock) -> Iterator[int]:
        """Compute shards that no other process computes, until all are finished; yields once for each."""
        claims = Claims(self.shards.folder, self.say)
        finished: set[int] = set()
        while missing := [n for n in range(self.shards.count) if n not in finished]:
            worked = False
            for number in missing:
                if not self.shards.path(number).exists():
                    if self.finished():
                        return
                    if not claims.take(number):
                        continue
                    try:
                        # Another process may have finished it before it was claimed here.
                        if not self.shards.path(number).exists() and not self.finished():
                            self._score(number, partial(claims.touch, number))
                    finally:
                        claims.release(number)
                worked = True
                finished.add(number)
                yield number
            lock.take()
            if not worked:
                time.sleep(_POLL)

    def _score(self, number: int, alive: Callable[[], None]) -> None:
        """Compute and write one shard, with a smaller micro-batch where memory runs out."""
        size = self.manifest.notes.get("micro_batch", self.micro_batch)
        while True:
            try:
                columns, facts = self.scorer.shard(self.shards.rows(number), size, alive)
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            if size == 1:
                raise JobError("memory ran out with one sample at a time: give another device, or fewer probes")
            size = size // 2
            self._note_micro_batch(size)
        self.shards.write(number, columns, facts)

    @property
    def micro_batch(self) -> int:
        """The micro-batch of the job's settings."""
        return int(self.manifest.inputs["settings"]["micro_batch"])

    def _note_micro_batch(self, size: int) -> None:
        """Store a smaller micro-batch in the manifest, for all processes."""
        from filelock import FileLock

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.say(f"memory ran out: {size} samples at a time from here on")
        with FileLock(self.folder / ".files.lock"):
            self.manifest.read()
            self.manifest.notes["micro_batch"] = min(size, self.manifest.notes.get("micro_batch", size))
            self.manifest.write()

    def _undo(self) -> None:
        """Remove the manifest of a job without shards."""
        if not self.shards.done():
            self.manifest.path.unlink(missing_ok=True)
            with suppress(OSError):
                self.shards.folder.rmdir()

    def _merge(self) -> Summary:
        """Merge the shards, write summary and report, and remove the shards."""
        if not self.finished():
            facts = self.shards.merge(self.folder / MERGED, column_names(self.scorer.draws))
            common = next((f for f in facts if "dims" in f), {})
            result = {key: value for key, value in common.items() if key not in ("job", "seconds")}
            self.manifest.read()
            self.manifest.result = {**result, "seconds": math.fsum(f["seconds"] for f in facts)}
            self.manifest.write()
        summary = summarise(
            self.folder, self.manifest, self.scorer.model.card.get("name"), self.scorer.device, self.skip_bad
        )
        if first_rank() or not (self.folder / "report.html").exists():
            summary.save(self.folder)
            write_report(self.folder, summary)
        shutil.rmtree(self.shards.folder, ignore_errors=True)
        return summary
