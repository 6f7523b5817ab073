"""journal.jsonl: a line a finished shard, with the hashes of its file and of its input."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sdediff.jobs.work import Say

_LONGEST = 1 << 22  # bytes of a line
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Line:
    """A finished shard: its number and units, the units of the job when it was computed, hashes, time and facts."""

    n: int
    units: tuple[int, int]
    total: int
    sha256: str
    blocks: tuple[str, ...]
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def range(self) -> range:
        """The units of the shard."""
        return range(*self.units)

    def text(self) -> str:
        """The line as JSON, with a hash of itself."""
        content = json.dumps(asdict(self), sort_keys=True, allow_nan=False)
        return json.dumps({**json.loads(content), "check": _check(content)}, sort_keys=True) + "\n"

    @classmethod
    def of(cls, text: str) -> Line | None:
        """The line in a text; None where it was damaged, cut off or written by hand."""
        try:
            given = json.loads(text)
            check = given.pop("check")
            content = json.dumps(given, sort_keys=True, allow_nan=False)
            line = cls(**{**given, "units": tuple(given["units"]), "blocks": tuple(given["blocks"])})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return line if check == _check(content) and line._plain() else None

    def _plain(self) -> bool:
        """Whether every field has its type."""
        counts = (self.n, self.total, *self.units)
        hashes = (self.sha256, *self.blocks)
        return (
            len(self.units) == 2
            and all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts)
            and all(isinstance(value, str) and _HASH.fullmatch(value) for value in hashes)
            and isinstance(self.seconds, int | float)
            and math.isfinite(self.seconds)
            and isinstance(self.facts, dict)
        )


class Journal:
    """A file of lines that one process appends to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, line: Line, durable: bool = True) -> None:
        """Add a line; on return it is on the disk, if durable. A line that was cut off before is ended first."""
        with self.path.open("ab+") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END) >= 0) and file.read(1) != b"\n":
                file.write(b"\n")
            file.write(line.text().encode())
            file.flush()
            if durable:
                os.fsync(file.fileno())

    def read(self, say: Say) -> list[Line]:
        """The lines that are whole; how many were damaged is reported by `say`."""
        lines, damaged = [], 0
        try:
            with self.path.open("rb") as file:
                while raw := file.readline(_LONGEST):
                    line = Line.of(raw.decode("utf-8", errors="replace"))
                    if line is not None:
                        lines.append(line)
                    elif raw.endswith(b"\n") or len(raw) == _LONGEST:
                        damaged += 1  # the last line may have been cut off by the end of its process
        except FileNotFoundError:
            return []
        if damaged:
            say(f"{self.path}: {damaged} damaged lines: their shards are computed again")
        return lines


def _check(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:16]
