"""manifest.json: the inputs and settings of a job, which decide whether a second command is the same job."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdediff._utils.errors import InputError
from sdediff._utils.files import whole
from sdediff.jobs.errors import JobError
from sdediff.model.score_model import ScoreModel

NAME = "manifest.json"
_FORMAT = 1
_COMPARED = ("data", "model", "settings", "versions")


class Manifest:
    """The inputs of a job, its notes (events such as a smaller micro-batch), and its result (facts of all shards)."""

    def __init__(self, folder: Path, inputs: dict[str, Any]) -> None:
        self.path = folder / NAME
        self.inputs = json.loads(json.dumps(inputs))
        text = json.dumps(_compared(self.inputs), sort_keys=True)
        self.id = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.notes: dict[str, Any] = {}
        self.result: dict[str, Any] = {}

    def read(self) -> bool:
        """Read notes and result from the file; False where there is none. JobError where it belongs to another job."""
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            if stored["format"] != _FORMAT:
                raise InputError(f"format {stored['format']}, this version reads {_FORMAT}")
            parts = {key: stored[key] for key in (*_COMPARED, "notes", "result")}
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, TypeError) as error:
            raise JobError(f"{self.path} is not a job's manifest ({error}): give another --out") from error
        old, new = _flat(_compared(stored)), _flat(_compared(self.inputs))
        changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if changed:
            changes = "; ".join(
                f"{key} is {_short(old.get(key))} there and {_short(new.get(key))} now" for key in changed
            )
            raise JobError(
                f"{self.path.parent} holds another job: {changes}: give what it was started with, or another --out"
            )
        self.notes, self.result = parts["notes"], parts["result"]
        return True

    def write(self) -> None:
        """Write the file, completely or not at all."""
        everything = {"format": _FORMAT, **self.inputs, "notes": self.notes, "result": self.result}
        with whole(self.path) as unfinished:
            unfinished.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")


def stored_threads(folder: Path) -> int | None:
    """The thread count in the manifest of a folder, if there is one."""
    try:
        return int(json.loads((folder / NAME).read_text(encoding="utf-8"))["settings"]["threads"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _compared(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The parts that must agree. A data file may have moved: its content counts, not its name."""
    data = {key: value for key, value in manifest["data"].items() if key != "name"}
    return {**{key: manifest[key] for key in _COMPARED}, "data": data}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with names such as settings.rtol."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, part in value.items() for k, v in _flat(part, f"{name}.{key}" if name else key).items()}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f'{text[:12]}..."'


def model_parts(model: ScoreModel) -> dict[str, Any]:
    """All that determines a model's outputs, as short texts: a hash of its weights, its network, process and clock."""
    net, parts = model.net, {}
    if isinstance(net, nn.Module):
        digest = hashlib.sha256()
        for name, value in sorted(net.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(_bytes(value))
        parts = {"sha256": digest.hexdigest(), "net": described(repr(net))}
    else:
        parts = {"net": described(net)}
    fields = ("sde", "predicts", "time", "sigma_data", "offset", "trained", "cond", "stats")
    return {**parts, **{key: described(getattr(model, key)) for key in fields}}


def described(value: Any) -> Any:
    """A value as JSON, equal in every process: plain values as they are, others by their class and content."""
    if value is None or isinstance(value, bool | int | float | str):
        return value if not isinstance(value, str) or len(value) <= 200 else _digest(value.encode())
    text = " ".join(_words(value, 0))
    return text if len(text) <= 200 else _digest(text.encode())


def _words(value: Any, depth: int) -> Iterator[str]:
    """The words that describe a value: types, names of fields, and digests of arrays."""
    if isinstance(value, Tensor | np.ndarray):
        yield f"{value.dtype}{tuple(value.shape)}:{_digest(_bytes(value))}"
    elif isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield f"{key}="
            yield from _words(part, depth + 1)
    elif value is None or isinstance(value, bool | int | float | str | torch.dtype | torch.device):
        yield str(value)
    else:
        # Not by repr: that of a plain object has an address, which differs between processes.
        kind = value if hasattr(value, "__qualname__") else type(value)
        yield f"{kind.__module__}.{kind.__qualname__}"
        if dataclasses.is_dataclass(value) and depth < 8:
            yield from _words({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, depth + 1)
        elif kind is not value and depth < 8:
            yield from _words(getattr(value, "__dict__", {}), depth + 1)


def _bytes(value: Any) -> bytes:
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return np.ascontiguousarray(value).tobytes()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
