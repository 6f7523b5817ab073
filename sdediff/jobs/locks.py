"""Who works on what: one lock a job, one claim a shard."""

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
# A claim from another host cannot be asked whether its process lives: silent for so many seconds, it is taken over.
# Work done twice is only lost, since both processes write the same bytes.
_SILENT, _EMPTY = 900.0, 2.0


def myself() -> dict[str, Any]:
    """This process: host, pid, when it started (pids return), and the time now."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"host": platform.node(), "pid": os.getpid(), "started": _started(os.getpid()), "since": now}


def _started(pid: int) -> str | None:
    """When a process started, in ticks since boot, where the system says so."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return None


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("host", "pid", "started"))


def _lives(pid: int, started: str | None) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    if started is not None:
        with suppress(OSError):  # a process that was killed and not yet waited for computes nothing more
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return False
    return started is None or _started(pid) in (None, started)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def named(who: dict[str, Any]) -> str:
    """A process in words."""
    if not who:
        return "another process"
    return f"process {who.get('pid')} on {who.get('host')} (since {who.get('since')})"


class JobLock:
    """The lock on a job's folder: held by one process, released by the system when that ends in any way.

    shared: of several processes of one job the first holds it and the others work beside it; when the holder
    ends another takes it. A lock that a dead process left is taken with a warning.
    """

    def __init__(self, folder: Path, shared: bool, say: Say) -> None:
        from filelock import FileLock

        self._lock = FileLock(folder / ".job.lock", timeout=0)
        self._holder, self._shared, self._say = folder / ".holder.json", shared, say

    def __enter__(self) -> JobLock:
        if not self.take() and not self._shared:
            raise JobError(
                f"{self._holder.parent} is held by {named(_read(self._holder))}: "
                "wait for it, end it, work beside it with --join, or give another --out"
            )
        return self

    def take(self) -> bool:
        """Whether this process holds the lock, after trying to."""
        from filelock import Timeout

        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire()
        except Timeout:
            return False
        if before := _read(self._holder):
            self._say(f"taking the lock over from {named(before)}, which ended without releasing it")
        with whole(self._holder) as unfinished:
            unfinished.write_text(json.dumps(myself()), encoding="utf-8")
        return True

    def __exit__(self, *_: object) -> None:
        if self._lock.is_locked:
            with suppress(OSError):
                self._holder.unlink(missing_ok=True)
            self._lock.release()


class Claims:
    """Claim files: NUMBER.claim says which process computes a shard. A claim of a dead process is taken over."""

    def __init__(self, folder: Path, say: Say) -> None:
        self._folder, self._say, self._me = folder, say, myself()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.claim"

    def take(self, number: int) -> bool:
        """Whether the shard is now this process's to compute."""
        path, text = self._path(number), json.dumps(self._me)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileNotFoundError:  # the folder went: another process has put the shards together
            return False
        except FileExistsError:
            other = _read(path)
            if self._busy(path, other):
                return False
            if other and not _same(other, self._me):
                self._say(f"taking shard {number} over from {named(other)}, which ended without finishing it")
            with whole(path) as unfinished:
                unfinished.write_text(text, encoding="utf-8")
            return _same(_read(path), self._me)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
        except BaseException:  # a claim without a name would hold others up
            self.release(number)
            raise
        return True

    def _busy(self, path: Path, who: dict[str, Any]) -> bool:
        try:
            silent = time.time() - path.stat().st_mtime
        except FileNotFoundError:  # released just now: it is looked at again in the next round
            return True
        if not who:
            return silent < _EMPTY
        if who.get("host") != self._me["host"]:
            return silent < _SILENT
        return not _same(who, self._me) and _lives(int(who.get("pid", 0)), who.get("started"))

    def touch(self, number: int) -> None:
        """Says that the work on a shard goes on."""
        with suppress(OSError):
            os.utime(self._path(number))

    def release(self, number: int) -> None:
        """Gives a shard back."""
        with suppress(OSError):
            self._path(number).unlink(missing_ok=True)
