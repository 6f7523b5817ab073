"""Which process works on what: one lock a job, one claim file a shard."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sdediff._utils.files import whole
from sdediff.jobs.errors import JobError

Say = Callable[[str], None]
# Whether a process on another host is alive cannot be tested: its claim is taken over once it was not touched for
# _TIMEOUT seconds. Work done twice is harmless, since both processes write the same bytes. A claim file without
# content is being written; after _UNWRITTEN seconds its process is taken for dead.
_TIMEOUT, _UNWRITTEN = 900.0, 2.0


def this_process() -> dict[str, Any]:
    """This process: host, pid, start time (pids are reused), and the time now."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"host": platform.node(), "pid": os.getpid(), "started": _started(os.getpid()), "since": now}


def _started(pid: int) -> str | None:
    """The start time of a process in ticks since boot; None where the system does not report it."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return None


def _same_process(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("host", "pid", "started"))


def _alive(pid: int, started: str | None) -> bool:
    """Whether the process with that pid and start time still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    if started is not None:
        with suppress(OSError):  # a zombie, killed but not yet waited for, computes nothing
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return False
    return started is None or _started(pid) in (None, started)


def _read(path: Path) -> dict[str, Any]:
    """The process that a file names; empty where it cannot be read."""
    try:
        process = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return process if isinstance(process, dict) else {}


def process_name(process: dict[str, Any]) -> str:
    """A process in words, for messages."""
    if not process:
        return "another process"
    return f"process {process.get('pid')} on {process.get('host')} (since {process.get('since')})"


class JobLock:
    """The lock on a job's folder, held by one process and released by the system however that process ends.

    shared: several processes work on one job; the first holds the lock, and when it ends another takes it. Taking the
    lock of a process that ended without releasing it is reported by `say`.
    """

    def __init__(self, folder: Path, shared: bool, say: Say) -> None:
        from filelock import FileLock

        self._lock = FileLock(folder / ".job.lock", timeout=0)
        self._holder, self._shared, self._say = folder / ".holder.json", shared, say

    def __enter__(self) -> JobLock:
        if not self.take() and not self._shared:
            raise JobError(
                f"{self._holder.parent} is held by {process_name(_read(self._holder))}: "
                "wait for it, end it, work beside it with --join, or give another --out"
            )
        return self

    def take(self) -> bool:
        """Try to take the lock; whether this process holds it."""
        from filelock import Timeout

        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire()
        except Timeout:
            return False
        if previous := _read(self._holder):
            self._say(f"taking the lock over from {process_name(previous)}, which ended without releasing it")
        with whole(self._holder) as unfinished:
            unfinished.write_text(json.dumps(this_process()), encoding="utf-8")
        return True

    def __exit__(self, *_: object) -> None:
        if self._lock.is_locked:
            with suppress(OSError):
                self._holder.unlink(missing_ok=True)
            self._lock.release()


class Claims:
    """Claim files: NUMBER.claim names the process that computes a shard. The claim of a dead process is taken over."""

    def __init__(self, folder: Path, say: Say) -> None:
        self._folder, self._say, self._process = folder, say, this_process()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.claim"

    def take(self, number: int) -> bool:
        """Try to claim a shard; whether this process has it."""
        path, text = self._path(number), json.dumps(self._process)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileNotFoundError:  # the folder is gone: another process has merged the shards
            return False
        except FileExistsError:
            other = _read(path)
            if self._busy(path, other):
                return False
            if other and not _same_process(other, self._process):
                self._say(f"taking shard {number} over from {process_name(other)}, which ended without finishing it")
            with whole(path) as unfinished:
                unfinished.write_text(text, encoding="utf-8")
            return _same_process(_read(path), self._process)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
        except BaseException:  # an empty claim would block other processes
            self.release(number)
            raise
        return True

    def _busy(self, path: Path, process: dict[str, Any]) -> bool:
        """Whether another process that may be alive has the claim."""
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:  # released just now: it is tried again in the next round
            return True
        if not process:
            return age < _UNWRITTEN
        if process.get("host") != self._process["host"]:
            return age < _TIMEOUT
        return not _same_process(process, self._process) and _alive(int(process.get("pid", 0)), process.get("started"))

    def touch(self, number: int) -> None:
        """Renew the claim: the work on the shard continues."""
        with suppress(OSError):
            os.utime(self._path(number))

    def release(self, number: int) -> None:
        """Give the claim up."""
        with suppress(OSError):
            self._path(number).unlink(missing_ok=True)
