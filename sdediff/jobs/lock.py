"""The one lock of a job, or of a part of it: released by the system however its process ends."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sdediff._utils.files import whole
from sdediff.jobs.errors import JobError
from sdediff.jobs.work import Say


def process_name(process: dict[str, Any]) -> str:
    """A process in words, for messages."""
    if not process:
        return "another process"
    return f"process {process.get('pid')} on {process.get('host')} (since {process.get('since')})"


class JobLock:
    """The lock on a job's folder, or on one part of it; JobError with the process that holds it.

    Taking the lock of a process that ended without releasing it is reported by `say`.
    """

    def __init__(self, folder: Path, name: str, say: Say) -> None:
        from filelock import FileLock

        self._lock = FileLock(folder / f".{name}.lock", timeout=0)
        self._holder, self._say = folder / f".{name}.holder.json", say

    def __enter__(self) -> JobLock:
        from filelock import Timeout

        try:
            self._lock.acquire()
        except Timeout:
            raise JobError(
                f"{self._holder.parent} is held by {process_name(_read(self._holder))}: "
                "wait for it, end it, share the work by --part, or give another --out"
            ) from None
        if previous := _read(self._holder):
            self._say(f"taking the lock over from {process_name(previous)}, which ended without releasing it")
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with whole(self._holder) as unfinished:
            holder = {"host": platform.node(), "pid": os.getpid(), "since": now}
            unfinished.write_text(json.dumps(holder), encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._holder.unlink(missing_ok=True)
        self._lock.release()


def _read(path: Path) -> dict[str, Any]:
    """The process that a file names; empty where it cannot be read."""
    try:
        process = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return process if isinstance(process, dict) else {}
