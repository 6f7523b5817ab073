"""The work of one process: it claims shards, computes them, and puts all together when they are there."""

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


@dataclass(frozen=True, eq=False)
class Job:
    """One process's part in a job: what it computes, where it writes, what it says."""

    folder: Path
    scorer: Scorer
    manifest: Manifest
    shards: Shards
    shared: bool
    say: Say
    progress: bool | None
    skip_bad: bool

    def run(self) -> Summary:
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        files = FileLock(self.folder / ".files.lock")
        self.manifest.read()  # another job is refused before anything of it is touched
        with JobLock(self.folder, self.shared, self.say) as lock:
            with files:
                new = not self.manifest.read()
                if new:
                    self.manifest.write()
                if not self.finished():
                    self.shards.folder.mkdir(exist_ok=True)
                    self.shards.discard_damaged(self.say)
            if not new and self.first and (self.finished() or self.shards.done()):
                self.say(f"begun before: {self.where()}")
            if not self.finished():
                try:
                    for _ in track(self._work(lock), self.shards.count, "log likelihood", self.progress):
                        pass
                except (ValueError, TypeError) as error:
                    if not isinstance(error, JobError):
                        self._undo()  # the estimator refuses its options: nothing was begun
                    raise
            with files:
                return self._close()

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks for all ranks."""
        return int(os.environ.get("RANK") or 0) == 0

    def finished(self) -> bool:
        """Whether all shards have been put together, by this process or another."""
        if not self.manifest.result and self.manifest.path.exists():
            self.manifest.read()
        return bool(self.manifest.result) and (self.folder / MERGED).is_file()

    def where(self) -> str:
        """How far the job is, in words."""
        if self.finished():
            return f"all {self.shards.size} samples are done"
        done = sum(len(self.shards.rows(n)) for n in range(self.shards.count) if self.shards.path(n).exists())
        return f"{self.shards.done()} of {self.shards.count} shards, {done} of {self.shards.size} samples, are done"

    def _work(self, lock: JobLock) -> Iterator[int]:
        """Computes the shards that nobody else does until all are there; yields once for each that is."""
        claims = Claims(self.shards.folder, self.say)
        seen: set[int] = set()
        while missing := [n for n in range(self.shards.count) if n not in seen]:
            worked = False
            for number in missing:
                if not self.shards.path(number).exists():
                    if self.finished():
                        return
                    if not claims.take(number):
                        continue
                    try:
                        # Between the look and the claim another process may have finished it.
                        if not self.shards.path(number).exists() and not self.finished():
                            self._score(number, partial(claims.touch, number))
                    finally:
                        claims.release(number)
                worked = True
                seen.add(number)
                yield number
            lock.take()
            if not worked:
                time.sleep(_POLL)

    def _score(self, number: int, alive: Callable[[], None]) -> None:
        size = self.manifest.notes.get("micro_batch", self.begun_with)
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
            self._halved(size)
        self.shards.write(number, columns, facts)

    @property
    def begun_with(self) -> int:
        """The micro-batch that the job was begun with."""
        return int(self.manifest.made_of["settings"]["micro_batch"])

    def _halved(self, size: int) -> None:
        from filelock import FileLock

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.say(f"memory ran out: {size} samples at a time from here on")
        with FileLock(self.folder / ".files.lock"):
            self.manifest.read()
            self.manifest.notes["micro_batch"] = min(size, self.manifest.notes.get("micro_batch", size))
            self.manifest.write()

    def _undo(self) -> None:
        if not self.shards.done():
            self.manifest.path.unlink(missing_ok=True)
            with suppress(OSError):
                self.shards.folder.rmdir()

    def _close(self) -> Summary:
        """One file from the shards, what it says, and the shards away."""
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
        if self.first or not (self.folder / "report.html").exists():
            summary.save(self.folder)
            write_report(self.folder, summary)
        shutil.rmtree(self.shards.folder, ignore_errors=True)
        return summary
