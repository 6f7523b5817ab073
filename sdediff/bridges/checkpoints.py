"""`read_checkpoint`: files of torch.save, old and new, and plain pickles, without running what is in them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff._utils.files import expanded, read_tensors
from sdediff.bridges.errors import BridgeError
from sdediff.bridges.pickles import Record, read_pickle
from sdediff.bridges.weights import Filler, numbers_of, storage_dtype

# The first value in files of torch.save before its zip format.
_LEGACY = 0x1950A86A20F9469CFC6C


def read_checkpoint(path: str | Path) -> Any:
    """The value in a file of torch.save or pickle.dump: dictionaries, lists, numbers, tensors, on the CPU.

    A file that ends in .safetensors is read as the dictionary of its tensors.
    Nothing in the file is imported, called or run: an object of another class is a `Record`, its class by name with
    arguments and state. Raises BridgeError: what is no such file, or a damaged one.
    """
    path = expanded(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BridgeError(f"{path}: cannot be read ({error.strerror}): give a file of torch.save") from error
    return _value(content, str(path), _zipped if content[:4] == b"PK\x03\x04" else _pickled)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name and the metadata of a safetensors file. BridgeError: a file that is none."""
    try:
        return read_tensors(path)
    except InputError as error:
        raise BridgeError(str(error)) from error


def _value(content: bytes, where: str, read: Callable[[bytes, str], tuple[Any, Callable[[Record], Tensor]]]) -> Any:
    try:
        value, storages = read(content, where)
        return Filler(storages)(value)
    except BridgeError as error:
        if str(error).startswith(where):
            raise
        raise BridgeError(f"{where}: {error}") from error
    except (TypeError, ValueError, LookupError, RuntimeError, RecursionError, MemoryError) as error:
        raise BridgeError(f"{where}: damaged ({type(error).__name__}): copy or download it again") from error


def _zipped(content: bytes, where: str) -> tuple[Any, Callable[[Record], Tensor]]:
    """torch.save since 1.6: data.pkl, and a file for each storage."""
    import io

    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        entries = {entry.filename: entry for entry in archive.infolist()}
        names = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
        if any(name.endswith("constants.pkl") for name in entries):
            raise BridgeError(f"{where}: a TorchScript archive, which is code: load it with torch.jit.load")
        if len(names) != 1 or len(entries) > 1_000_000:
            raise BridgeError(f"{where}: a zip file that torch.save did not write: give its checkpoint")
        folder = names[0].rpartition("/")[0]
        order = entries.get(f"{folder}/byteorder")
        if order is not None and order.file_size < 100 and archive.read(order).strip() != b"little":
            raise BridgeError(f"{where}: written on a big-endian machine, which is not read here")

        def member(name: str) -> bytes:
            entry = entries[name]
            # What torch writes is not compressed, so an entry is never larger than the file.
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(content):
                raise BridgeError(f"{where}: {name[:60]!r} is compressed, as torch.save does not: refused")
            return archive.read(entry)

        value, _ = read_pickle(member(names[0]), where)
    except (zipfile.BadZipFile, KeyError, NotImplementedError, EOFError, RuntimeError, OSError) as error:
        raise BridgeError(f"{where}: a damaged zip file ({type(error).__name__}): download it again") from error

    def stored(key: str, kind: Any, count: Any) -> Tensor:
        try:
            return numbers_of(member(f"{folder}/data/{key}"), storage_dtype(kind), count)
        except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
            raise BridgeError(f"the storage {key[:60]!r} is missing or damaged: download the file again") from error

    return value, lambda record: stored(*_storage(record))


def _storage(record: Any) -> tuple[str, Any, Any]:
    """Key, class and length of the storage that a persistent id names."""
    given = record.args[0] if isinstance(record, Record) and record.name == "persistent" and record.args else None
    if not isinstance(given, tuple) or len(given) < 5 or given[0] != "storage" or not isinstance(given[1], Record):
        raise BridgeError("a tensor without a storage: damaged, copy or download the file again")
    return str(given[2]), given[1], given[4]


def _pickled(content: bytes, where: str) -> tuple[Any, Callable[[Record], Tensor]]:
    """torch.save before 1.6, several pickles and then the storages; or one plain pickle."""
    value, end = read_pickle(content, where)
    if value != _LEGACY:
        return value, _nested
    parts: list[Any] = []
    view = memoryview(content)
    for _ in range(4):  # the version, the machine, the value, the keys of the storages
        part, length = read_pickle(bytes(view[end:]) if len(parts) == 3 else content[end:], where)
        parts.append(part)
        end += length
    value, keys = parts[2], parts[3]
    starts: dict[str, int] = {}
    kinds = _kinds(value)
    for key in keys if isinstance(keys, list) else []:
        if str(key) not in kinds:
            raise BridgeError(f"{where}: the storage {str(key)[:60]!r} belongs to no tensor: download it again")
        starts[str(key)] = end + 8
        end += 8 + int.from_bytes(content[end : end + 8], "little") * storage_dtype(kinds[str(key)]).itemsize

    def stored(key: str, kind: Any, count: Any) -> Tensor:
        if key not in starts:
            raise BridgeError(f"the storage {key[:60]!r} is missing: download the file again")
        size = storage_dtype(kind).itemsize * (count if isinstance(count, int) else 0)
        return numbers_of(content[starts[key] : starts[key] + size], storage_dtype(kind), count)

    return value, lambda record: stored(*_storage(record))


def _kinds(value: Any) -> dict[str, Any]:
    """The classes of the storages that a value names, by key."""
    kinds: dict[str, Any] = {}
    todo, seen = [value], set()
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Record):
            if part.name == "persistent" and part.args and part.args[0][:1] == ("storage",):
                key, kind, _ = _storage(part)
                kinds[key] = kind
            else:
                todo += [part.args, part.kwargs, part.state, part.items, part.pairs]
        elif isinstance(part, dict):
            todo += part.values()
        elif isinstance(part, list | tuple):
            todo += part
    return kinds


def _nested(record: Record) -> Tensor:
    """The numbers of a storage that was pickled by itself, as a file of torch.save inside of the pickle."""
    inner = record.args[0] if record.args and record.name == "torch.storage._load_from_bytes" else None
    if not isinstance(inner, bytes):
        raise BridgeError("a tensor without a storage: damaged, copy or download the file again")
    value, storages = (_zipped if inner[:4] == b"PK\x03\x04" else _pickled)(inner, "a tensor")
    return storages(value)
