"""Checkpoints: model folders with the state of training beside them, written whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sdediff.hub import save
from sdediff.hub.weights import digest
from sdediff.training.settings import TrainingError, TrainingSettings
from sdediff.training.shards import all_like, like, whole

_NAME = re.compile(r"update-(\d{8})")
_STATE, _FACTS = "training.safetensors", "training.json"
# Settings that a resumed run may change.
_FREE = ("updates", "save_every", "keep", "shard")


class Progress:
    """What training changes along the way: networks, optimiser, averages, what an objective learns, and the count."""

    def __init__(self, modules: nn.Module, average: nn.Module, optimiser: Any, state: nn.Module | None) -> None:
        self.modules, self.average, self.optimiser, self.state = modules, average, optimiser, state
        self.done = 0

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, whole: where they are in shards, all processes ask together."""
        found = {f"net.{k}": v for k, v in self.modules.state_dict().items()}
        found |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        found |= {} if self.state is None else {f"objective.{k}": v for k, v in self.state.state_dict().items()}
        for i, entry in self.optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{i}.{k}": v for k, v in entry.items()}
        return {name: whole(value.detach()).cpu().contiguous().clone() for name, value in found.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take the values of `tensors`."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        for prefix, modules in (("net.", self.modules), ("average.", self.average)):
            modules.load_state_dict(all_like(under(prefix), modules.state_dict()))
        if self.state is not None:
            self.state.load_state_dict(under("objective."))
        entries: dict[int, dict[str, Tensor]] = {}
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        for name, value in under("optimiser.").items():
            number, _, key = name.partition(".")
            entries.setdefault(int(number), {})[key] = like(value, parameters[int(number)])
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": entries})


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints of a folder, the oldest first."""
    folder = out / "checkpoints"
    return sorted(p for p in folder.glob("update-*") if _NAME.fullmatch(p.name)) if folder.is_dir() else []


def write(
    out: Path, done: int, tensors: dict[str, Tensor], model: Any, settings: TrainingSettings, facts: dict[str, Any]
) -> Path:
    """Write the checkpoint after `done` updates, then remove those older than settings.keep of them.

    tensors: of its `Progress`. model: with the averaged weights. facts: plain values to keep. Nothing is replaced
    before the new folder is whole; TrainingError where it cannot be written, and the last one stays.
    """
    folder = out / "checkpoints"
    final = folder / f"update-{done:08d}"
    unfinished = folder / f".{final.name}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save(model, unfinished)
        save_file(tensors, unfinished / _STATE)
        written = {"updates": done, "settings": dataclasses.asdict(settings), **facts}
        written["sha256"] = _digests(unfinished / _STATE, written)
        (unfinished / _FACTS).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
        for file in unfinished.iterdir():
            _sync(file)
        if final.exists():
            shutil.rmtree(final)
        os.replace(unfinished, final)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        kept = checkpoints(out)
        stays = f"the last one, {kept[-1].name}, stays" if kept else "there is none yet"
        raise TrainingError(
            f"{final}: the checkpoint cannot be written ({error}): free space or give another folder; {stays}"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    for old in checkpoints(out)[: -settings.keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def read(path: Path, progress: Progress, settings: TrainingSettings) -> dict[str, Any]:
    """Go on from a checkpoint; returns its facts. TrainingError: damaged, or made with other settings."""
    try:
        facts = json.loads((path / _FACTS).read_text(encoding="utf-8"))
        tensors = load_file(path / _STATE)
        if facts.pop("sha256") != _digests(path / _STATE, facts):
            raise TrainingError("its SHA-256 is another than was written")
        given, done = facts["settings"], int(facts["updates"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}): remove it to go on from the one before") from error
    for name, value in dataclasses.asdict(settings).items():
        if name not in _FREE and given.get(name) != value:
            raise TrainingError(
                f"{name}={value!r}, and the checkpoint {path} was made with {given.get(name)!r}: give that, or another "
                "folder for a new run"
            )
    try:
        progress.restore(tensors)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(f"{path}: is of another network or optimiser ({reason}): give the one it has") from error
    progress.done = done
    return facts


def _digests(tensors: Path, facts: dict[str, Any]) -> list[str]:
    """SHA-256 of the tensors' file and of the facts."""
    text = json.dumps(facts, sort_keys=True, allow_nan=True)
    return [digest(tensors), hashlib.sha256(text.encode()).hexdigest()]


def check_out(out: Path, resume: bool) -> list[Path]:
    """The checkpoints to go on from; TrainingError where there are some and resume=False."""
    found = checkpoints(out)
    if found and not resume:
        raise TrainingError(
            f"{out} holds checkpoints up to {found[-1].name}: resume=True goes on, or give a new folder"
        )
    return found


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if os.name == "posix" or path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
