"""Constructor arguments as plain values of JSON, and back: tuples, dtypes, and classes and functions by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from sdediff._utils.errors import InputError
from sdediff._utils.references import reference_to
from sdediff.hub.errors import HubError

_DEEPEST = 50


def encode(value: Any, where: str, depth: int = 0) -> Any:
    """A value as JSON has it. HubError names what it cannot hold: give numbers, texts, lists, classes."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int | float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Mapping) and depth < _DEEPEST and all(isinstance(key, str) for key in value):
        coded = {key: encode(part, f"{where}[{key!r}]", depth + 1) for key, part in value.items()}
        return {"dict": coded} if _KINDS & set(coded) and len(coded) == 1 else coded
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        parts = [encode(part, f"{where}[{at}]", depth + 1) for at, part in enumerate(value)]
        return parts if isinstance(value, list) else {"tuple": parts}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if callable(value):
        try:
            return {"object": reference_to(value)}
        except InputError as error:
            raise HubError(f"{where} cannot be saved: {error}") from error
    raise HubError(
        f"{where} is a {type(value).__name__}, which a folder cannot hold: give numbers, texts, lists and dictionaries"
    )


_KINDS = {"float", "tuple", "dtype", "object", "dict"}


def decode(value: Any, where: str, import_object: Callable[[str], Any], depth: int = 0) -> Any:
    """The value that `encode` gave. import_object: from a reference to the class or function, which may refuse."""
    if depth > 2 * _DEEPEST:
        raise HubError(f"{where}: values nested more than {2 * _DEEPEST} deep: mend it")
    if isinstance(value, list):
        return [decode(part, where, import_object, depth + 1) for part in value]
    if not isinstance(value, dict):
        return value
    kind = next(iter(value)) if len(value) == 1 else ""
    inner = value.get(kind)
    if kind == "tuple" and isinstance(inner, list):
        return tuple(decode(part, where, import_object, depth + 1) for part in inner)
    if kind == "dict" and isinstance(inner, dict):
        return {key: decode(part, where, import_object, depth + 1) for key, part in inner.items()}
    if kind == "float" and inner in ("inf", "-inf", "nan"):
        return float(inner)
    if kind == "dtype" and isinstance(getattr(torch, str(inner), None), torch.dtype):
        return getattr(torch, str(inner))
    if kind == "object" and isinstance(inner, str):
        return import_object(inner)
    if kind in _KINDS:
        raise HubError(f"{where}: {{{kind!r}: {inner!r:.60}}} is no value that a model folder holds: mend it")
    return {key: decode(part, where, import_object, depth + 1) for key, part in value.items()}
