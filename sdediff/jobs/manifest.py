"""manifest.json: the inputs and settings of a job, which decide whether a second command is the same job."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sdediff._utils.errors import InputError
from sdediff._utils.files import whole
from sdediff.jobs.errors import JobError

NAME = "manifest.json"
_FORMAT, _LARGEST = 2, 1 << 24
_SECTIONS = ("data", "model", "settings", "versions")
_KINDS = {"work": str, "units": int, "shard": int, "notes": dict, "result": dict, **dict.fromkeys(_SECTIONS, dict)}


class Manifest:
    """What defines a job, the size of its shards, its notes (such as a smaller micro-batch) and its result.

    units: the number of units now; `stored_units` is what the file says, which may be fewer: a job may grow.
    """

    def __init__(self, folder: Path, work: str, units: int, sections: dict[str, dict[str, Any]]) -> None:
        self.path, self.work, self.units = folder / NAME, work, units
        self.sections: dict[str, Any] = json.loads(json.dumps(sections))
        self.stored_units, self.shard = units, 0
        self.notes: dict[str, Any] = {}
        self.result: dict[str, Any] = {}

    def read(self, shard: int | None = None) -> bool:
        """Read the file; False where there is none. JobError where it is damaged or belongs to another job.

        shard: the number of units of a shard, where it was given and must agree.
        """
        stored = stored_manifest(self.path.parent)
        if stored is None:
            return False
        if stored["work"] != self.work:
            raise JobError(
                f"{self.path.parent} holds another job: of {stored['work']}, not of {self.work}: give another --out"
            )
        self._compare(stored, shard)
        self.stored_units, self.shard = stored["units"], stored["shard"]
        self.notes, self.result = stored["notes"], stored["result"]
        return True

    def _compare(self, stored: dict[str, Any], shard: int | None) -> None:
        old, new = _flat(_compared(stored)), _flat(_compared(self.sections))
        if shard is not None:
            old["shard"], new["shard"] = stored["shard"], shard
        if stored["units"] > self.units:
            counted = "data.rows" if "rows" in self.sections.get("data", {}) else "units"
            old[counted], new[counted] = stored["units"], self.units
        changes = differing(old, new)
        if changes:
            raise other_job(self.path.parent, changes)

    def write(self) -> None:
        """Write the file, completely or not at all."""
        everything = {
            "format": _FORMAT, "work": self.work, "units": self.units, "shard": self.shard, **self.sections,
            "notes": self.notes, "result": self.result,
        }  # fmt: skip
        everything["check"] = _check(everything)
        with whole(self.path) as unfinished:
            unfinished.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
        self.stored_units = self.units


def differing(old: dict[str, Any], new: dict[str, Any], one: str = "there", two: str = "now") -> str:
    """The fields in which two descriptions of a job differ, nested at will, in words; empty where they agree."""
    old, new = _flat(old), _flat(new)
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return "; ".join(f"{key} is {short(old.get(key))} {one} and {short(new.get(key))} {two}" for key in changed)


def other_job(folder: Path, changes: str) -> JobError:
    """The refusal of a folder that holds another job."""
    return JobError(
        f"{folder} holds another job: {changes}: give what it was started with, or another folder, --out of the command"
    )


def stored_manifest(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's manifest, checked; None where there is none. JobError where it is no manifest."""
    path = folder / NAME
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"it is larger than {_LARGEST >> 20} MiB")
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict) or stored.get("format") != _FORMAT:
            raise InputError(f"it is not of format {_FORMAT}")
        check = stored.pop("check", None)
        for key, kind in _KINDS.items():
            if not isinstance(stored.get(key), kind) or isinstance(stored[key], bool):
                raise InputError(f"{key} is missing or of another type")
        if check != _check(stored):
            raise InputError("it was damaged, or changed by hand")
        if stored["units"] < 1 or stored["shard"] < 1:
            raise InputError("units and shard are at least 1")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise JobError(f"{path} is not a job's manifest ({_line(error)}): give another --out, or remove it") from error
    return stored


def stored_threads(folder: Path) -> int | None:
    """The thread count in the manifest of a folder, if there is one."""
    try:
        stored = stored_manifest(folder)
        return None if stored is None else int(stored["settings"]["threads"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _compared(manifest: dict[str, Any]) -> dict[str, Any]:
    """The parts that must agree. Files may have moved, and data have grown: their content counts."""
    sections = {key: manifest.get(key, {}) for key in _SECTIONS}
    data = {key: value for key, value in sections["data"].items() if key not in ("name", "rows", "sha256")}
    model = {key: value for key, value in sections["model"].items() if key != "reference"}
    return {**sections, "data": data, "model": model}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with names such as settings.rtol."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, part in value.items() for k, v in _flat(part, f"{name}.{key}" if name else key).items()}


def short(value: Any) -> str:
    """A value as JSON, cut off where it is long."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f'{text[:12]}..."'


def _check(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
