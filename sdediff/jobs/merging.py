"""The end of a job: its shards become the result, and those of several folders come together in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdediff._utils.files import removed, whole
from sdediff.jobs.errors import JobError
from sdediff.jobs.folder import JobFolder, file_hash, writing
from sdediff.jobs.lock import JobLock
from sdediff.jobs.manifest import Manifest, other_job, stored_manifest
from sdediff.jobs.part import Part
from sdediff.jobs.stored import stored_work
from sdediff.jobs.work import Say, Work


def merge(job: JobFolder, manifest: Manifest) -> None:
    """Write the result from all shards, then its hash into the manifest, and remove the shards."""
    if job.result.is_dir():  # one that was damaged; a file is replaced
        removed(job.result)
    with whole(job.result) as unfinished:
        job.work.write(job.tables(), unfinished)
    lines = [job.done[number] for number in range(job.count)]
    common = job.work.common([line.facts for line in lines])
    given = input_identity(job.work, job)
    seconds = math.fsum(line.seconds for line in lines)
    manifest.result = {**common, "seconds": seconds, "sha256": file_hash(job.result), "input": given}
    manifest.result["file"] = job.result.name
    if given:
        manifest.sections["data"]["sha256"] = given
    manifest.write()
    job.clear()


def input_identity(work: Work, job: JobFolder) -> str:
    """The hash of the whole input, from the hashes that the shards were computed with."""
    last = work.blocks(range(job.units))
    digests: dict[int, str] = {}
    for line in job.done.values():
        for number, digest in zip(work.blocks(line.range), line.blocks, strict=True):
            partial = line.total != job.units and number == work.blocks(range(line.total)).stop - 1
            if not partial and digests.setdefault(number, digest) != digest:
                raise JobError(f"{job.path}: block {number} of the input changed between two shards: begin anew")
    if len(digests) < len(last):
        return work.identity(work.digests(range(job.units), job.units))
    return work.identity([digests[number] for number in last])


def gather(folder: Path, others: Sequence[Path], say: Say) -> JobFolder:
    """Copy the finished shards of other folders of the same job into one; each is verified first."""
    stored = _stored(folder if stored_manifest(folder) is not None else others[0] if others else folder)
    work = stored_work(stored)
    manifest = Manifest(folder, work.name, work.units, work.describe())
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not manifest.read():
            manifest.shard = stored["shard"]
            manifest.write()
    job = JobFolder(folder, work, work.units, manifest.shard, Part(), say)
    job.open()
    for other in others:
        theirs = _stored(other)
        if (theirs["shard"], theirs["units"]) != (manifest.shard, work.units):
            raise other_job(other, f"shards of {theirs['shard']} of {theirs['units']} there, of {manifest.shard} here")
        Manifest(other, work.name, work.units, work.describe()).read()  # refuses another job
        given = JobFolder(other, work, work.units, manifest.shard, Part(), say)
        given.open()
        for number, line in sorted(given.done.items()):
            if number not in job.done:
                job.adopt(line, given.file(number).read_bytes())
    return job


def finish(folder: Path, others: Sequence[Path], say: Say) -> JobFolder:
    """Merge the shards of a folder, after those of others were copied into it; JobError where some are missing."""
    with JobLock(folder, "job", say):
        job = gather(folder, others, say)
        if len(job.done) < job.count:
            missing = [number for number in range(job.count) if number not in job.done]
            raise JobError(
                f"{folder} lacks {len(missing)} of {job.count} shards, the first of them {missing[0]}: "
                "run the parts that compute them, or name the folders that hold them"
            )
        manifest = Manifest(folder, job.work.name, job.units, job.work.describe())
        manifest.read()
        with writing(folder):
            merge(job, manifest)
    return job


def _stored(folder: Path) -> dict[str, Any]:
    stored = stored_manifest(folder)
    if stored is None:
        raise JobError(f"{folder} holds no job: give the --out of one")
    return stored
