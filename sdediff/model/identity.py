"""What determines a model's outputs, as one hash that is the same in every process."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdediff._utils.errors import InputError
from sdediff.model.score_model import ScoreModel

_FIELDS = ("sde", "predicts", "time", "sigma_data", "offset", "trained", "cond", "stats", "changes", "output")


def identity(model: ScoreModel) -> str:
    """SHA-256 of the weights and buffers, the network's modules, the process, the clock and all else of a model.

    InputError for a network without weights, and for parts that are functions of their own: two of them may have one
    name. The code of a class is not part of it.
    """
    net = model.net
    if not isinstance(net, nn.Module) or not net.state_dict():
        raise InputError(
            f"a {type(net).__name__} without weights cannot be recognised again: give a network with weights"
        )
    digest = hashlib.sha256(repr(net).encode())
    for name, value in sorted(net.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(_content(value))
    for name in _FIELDS:
        for word in words(getattr(model, name, None)):
            digest.update(f"{name} {word}\n".encode())
    return digest.hexdigest()


def words(value: Any, depth: int = 0, named: bool = False) -> Iterator[str]:
    """The words that describe a value: types, names of fields, and digests of arrays.

    named: functions, and what is nested more deeply than eight times, by their names; without, an InputError.
    """
    if isinstance(value, Tensor | np.ndarray):
        yield f"{value.dtype}{tuple(value.shape)}:{hashlib.sha256(_content(value)).hexdigest()}"
    elif value is None or isinstance(value, bool | int | float | str | torch.dtype | torch.device):
        yield repr(value)
    elif isinstance(value, dict | list | tuple):
        yield type(value).__name__
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield f"{key!r}="
            yield from words(part, depth + 1, named)
    elif hasattr(value, "__qualname__") or depth > 8:
        if named:
            kind = value if hasattr(value, "__qualname__") else type(value)
            yield f"{kind.__module__}.{kind.__qualname__}"
            return
        raise InputError(f"{getattr(value, '__qualname__', value)!r} cannot be recognised again: give plain values")
    else:
        yield f"{type(value).__module__}.{type(value).__qualname__}"
        if dataclasses.is_dataclass(value):
            yield from words({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, depth + 1, named)
        else:
            yield from words(getattr(value, "__dict__", {}), depth + 1, named)


def _content(value: Any) -> bytes:
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return np.ascontiguousarray(value).tobytes()
