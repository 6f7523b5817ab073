"""What identifies the inputs of a job: descriptions of models and values that are equal in every process."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdediff.hub import provenance
from sdediff.model.score_model import ScoreModel


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
    fields = ("sde", "predicts", "time", "sigma_data", "offset", "trained", "cond", "stats", "output", "changes")
    origin = provenance(model)
    about = {"reference": origin.reference, "module": origin.module, "version": origin.version, "source": origin.source}
    return {**parts, **{key: described(getattr(model, key)) for key in fields}, **about}


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
