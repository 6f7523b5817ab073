"""What a folder holds of a job: how far it is, and whether every file is what the journal says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdediff._utils.files import expanded
from sdediff.jobs.errors import JobError
from sdediff.jobs.folder import JOURNAL, file_hash
from sdediff.jobs.journal import Journal, Line
from sdediff.jobs.manifest import stored_manifest
from sdediff.jobs.merging import finish
from sdediff.jobs.work import Say


@dataclass(frozen=True)
class JobStatus:
    """How far a job is: shards and units that are finished of all, seconds of computing so far and those to come."""

    folder: str
    work: str
    finished: bool
    shards: int
    shards_done: int
    units: int
    units_done: int
    seconds: float
    seconds_left: float | None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def job_status(folder: str | Path) -> JobStatus:
    """How far the job in a folder is, by its manifest and journals; JobError where there is none."""
    path, stored, lines = _opened(folder)
    done = {line.n: line for line in lines}
    units = sum(len(line.range) for line in done.values())
    seconds = math.fsum(line.seconds for line in done.values())
    finished = bool(stored["result"])
    left = 0.0 if finished else seconds / units * (stored["units"] - units) if units else None
    count = math.ceil(stored["units"] / stored["shard"])
    return JobStatus(
        str(path), stored["work"], finished, count, count if finished else len(done), stored["units"],
        stored["units"] if finished else units, round(seconds, 3), left,
    )  # fmt: skip


def verify_job(folder: str | Path) -> list[str]:
    """What is damaged in a job's folder, a sentence each; nothing is changed. JobError where there is no job."""
    damages: list[str] = []
    path, stored, lines = _opened(folder, damages)
    result = stored["result"]
    if result:
        name = f"{stored['work']}.parquet" if "file" not in result else str(result["file"])
        if file_hash(path / name) != result.get("sha256"):
            damages.append(f"{path / name} is not what was written: run the job again, which computes what is lost")
        return damages
    for line in lines:
        file = path / "shards" / f"{line.n:06d}.parquet"
        if file_hash(file) != line.sha256:
            damages.append(f"{file} is missing or damaged: it is computed again when the job goes on")
    return damages


def merge_jobs(folder: str | Path, others: Sequence[str | Path] = (), say: Say = lambda _: None) -> Path:
    """Write the result of a job whose shards are finished, here or in other folders of the same job; returns its path.

    JobError: no job, another job, damaged or missing shards.
    """
    folders = [expanded(path, "the folder") for path in (folder, *others)]
    return finish(folders[0], folders[1:], say).result


def _opened(folder: str | Path, damages: list[str] | None = None) -> tuple[Path, dict[str, Any], list[Line]]:
    path = expanded(folder, "the folder")
    stored = stored_manifest(path)
    if stored is None:
        raise JobError(f"{path} holds no job: give the --out of one")
    found: list[str] = [] if damages is None else damages
    lines = [line for journal in sorted(path.glob(f"{JOURNAL}*.jsonl")) for line in Journal(journal).read(found.append)]
    return path, stored, lines
