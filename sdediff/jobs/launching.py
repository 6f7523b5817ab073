"""`Launch`: how and where a job runs, which is the same for every work: its folder, engine, part and threads."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from sdediff._utils.checks import whole
from sdediff._utils.files import expanded
from sdediff.jobs.engine_names import engine_name, make_engine
from sdediff.jobs.errors import JobError
from sdediff.jobs.manifest import NAME, stored_threads
from sdediff.jobs.part import Part
from sdediff.jobs.planning import Estimate, estimate
from sdediff.jobs.running import Outcome, run
from sdediff.jobs.signals import threads
from sdediff.jobs.work import Recipe, Say, Work


@dataclass(frozen=True)
class Launch:
    """A checked set of the arguments that say how a job runs. keep: go on where units fail from the first."""

    folder: Path
    engine: str
    workers: int | None
    address: str | None
    part: Part
    threads: int
    micro_batch: int
    shard: int | None
    keep: bool
    progress: bool | None
    say: Say

    @classmethod
    def of(
        cls,
        out: str | Path,
        *,
        engine: str | None,
        workers: int | None,
        address: str | None,
        part: str | None,
        num_threads: int | None,
        micro_batch: int,
        shard: int | None,
        keep: bool,
        progress: bool | None,
        say: Say | None,
    ) -> Launch:
        """The arguments in their plain types, with their defaults; JobError for what cannot be."""
        folder = expanded(out, "out")
        whole("micro_batch", micro_batch, 1)
        if shard is not None and whole("shard", shard, 1) % micro_batch:
            near = micro_batch * -(-shard // micro_batch)
            raise JobError(f"shard={shard} is not a multiple of micro_batch={micro_batch}: write {near}")
        count = stored_threads(folder) if num_threads is None else threads_count(num_threads)
        return cls(
            folder, engine_name(engine, workers, address), workers, address, Part.of(part),
            count or torch.get_num_threads(), micro_batch, shard, keep, progress, say or stderr,
        )  # fmt: skip

    @property
    def first(self) -> bool:
        """Whether this begins a job: the folder has no manifest, and no part comes before this one."""
        return self.part.i == 0 and not (self.folder / NAME).exists()

    def estimate(self, work: Work) -> Estimate:
        """What the whole job will take with all of its workers and parts, from one micro-batch; writes nothing."""
        with threads(self.threads):
            return estimate(work, self.micro_batch, self.shard, self.say, (self.workers or 1) * self.part.n)

    def outcome(self, work: Work, recipe: Recipe | None) -> Outcome | None:
        """The end of the job, computed; None where other parts are not finished, which is reported."""
        outcome = run(
            work, self.folder, micro_batch=self.micro_batch, shard=self.shard, threads_count=self.threads,
            part=self.part, engine=make_engine(self.engine, self.workers, self.address, recipe, self.say),
            keep=self.keep, progress=self.progress, say=self.say,
        )  # fmt: skip
        if outcome.finished:
            return outcome
        self.say(f"{outcome.text}; the part that ends last writes the result")
        return None


_MOST_THREADS = 1024


def threads_count(given: int) -> int:
    """A number of threads that torch can have."""
    if whole("num_threads", given, 1) > _MOST_THREADS:
        raise JobError(f"num_threads={given}: torch takes at most {_MOST_THREADS} here: give the number of cores")
    return given


def stderr(line: str) -> None:
    """Write a message to stderr."""
    print(f"sdediff: {line}", file=sys.stderr, flush=True)
