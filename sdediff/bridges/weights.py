"""Tensors of the Records of a pickle, from the bytes of their storages."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff.bridges.errors import BridgeError
from sdediff.bridges.pickles import Record

_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_DEEPEST = 200

# From a storage's Record to its numbers, a tensor (n,).
Storages = Callable[[Record], Tensor]


class Filler:
    """Values of a pickle with Records of tensors and ordered dictionaries made into these; others stay inert.

    storages: gives the numbers of a storage. A value that is there twice is made once.
    """

    def __init__(self, storages: Storages) -> None:
        self.storages = storages
        self.read: dict[Any, tuple[Any, Tensor]] = {}
        self.made: dict[int, tuple[Any, Any]] = {}  # with the value itself, whose id is then nobody else's

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if depth > _DEEPEST:
            raise BridgeError(f"its values lie more than {_DEEPEST} deep in one another")
        if not isinstance(value, dict | list | tuple | Record):
            return value
        if id(value) not in self.made:
            self.made[id(value)] = value, value  # for a value that holds itself
            self.made[id(value)] = value, self._make(value, depth + 1)
        return self.made[id(value)][1]

    def _make(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {key: self(part, depth) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return type(value)([self(part, depth) for part in value])
        if value.args is None:
            return value
        if value.name in _TENSORS:
            return self._tensor(*value.args[:4])
        if value.name in _PARAMETERS and value.args:
            return self(value.args[0], depth)
        if value.name == "collections.OrderedDict":
            entries = value.args[0] if value.args and isinstance(value.args[0], list) else []
            return self({**dict(map(tuple, entries)), **value.pairs}, depth)
        for name in ("args", "kwargs", "state", "items", "pairs"):
            setattr(value, name, self(getattr(value, name), depth))
        return value

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
        key = _key(storage)
        if key not in self.read:
            self.read[key] = storage, self.storages(storage)
        numbers = self.read[key][1]
        sizes, strides = (tuple(v) if isinstance(v, tuple | list) else (v,) for v in (size, stride))
        whole = all(isinstance(n, int) and 0 <= n for n in (offset, *sizes, *strides))
        if not whole or len(sizes) != len(strides) or math.prod(sizes) > len(numbers):
            raise BridgeError("a tensor does not lie in its storage: damaged, copy or download the file again")
        if offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True)) >= max(len(numbers), 1):
            raise BridgeError("a tensor leaves its storage: damaged, copy or download the file again")
        if math.prod(sizes) == 0:
            return numbers.new_empty(sizes)
        return numbers.as_strided(sizes, strides, offset).clone()


def _key(storage: Any) -> Any:
    """What two records of one storage have in common: the key of a persistent id, else the record itself."""
    given = storage.args[0] if isinstance(storage, Record) and storage.name == "persistent" and storage.args else None
    named = isinstance(given, tuple) and len(given) > 2 and isinstance(given[2], str)
    return given[2] if isinstance(given, tuple) and named else id(storage)


def storage_dtype(record: Any) -> torch.dtype:
    """The dtype of a storage class by its name. BridgeError: none that is known."""
    name = record.name.rpartition(".")[2] if isinstance(record, Record) else "?"
    if name not in _STORAGES:
        raise BridgeError(f"tensors in {name[:60]!r} are not read here")
    return _STORAGES[name]


def numbers_of(content: bytes, dtype: torch.dtype, count: Any) -> Tensor:
    """The numbers in the bytes of a storage."""
    if not isinstance(count, int) or count < 0 or len(content) < count * dtype.itemsize:
        raise BridgeError(f"a storage of {count} numbers has {len(content)} bytes: damaged, copy or download it again")
    if not count:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(bytearray(content[: count * dtype.itemsize]), dtype=dtype)
