"""model.safetensors, checked before anything is allocated: header, names, shapes, digest, finiteness."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import threading
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor, nn

from sdediff.hub.errors import HubError

Shapes = dict[str, tuple[int, ...]]
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_BYTES = {**_FLOATS, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
_LARGEST_HEADER = 100_000_000  # the format's own limit
_AGAIN = "copy or download it again"


class Stored(NamedTuple):
    """What a header says. shapes: of the tensors in the file; shared: names without a tensor of their own, and the name
    of the tensor that they share."""

    shapes: Shapes
    shared: dict[str, str]


def write(given: Mapping[str, Tensor], path: Path) -> str:
    """Writes tensors by name, whole or not at all; returns the file's SHA-256."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in given.items()}
    return _written(path, lambda unfinished: save_file(tensors, unfinished))


def write_module(net: nn.Module, path: Path) -> str:
    """Writes a network's state, a tensor that has several names once; returns the file's SHA-256."""
    extra = [name for name, value in net.state_dict().items() if not isinstance(value, Tensor)]
    if extra:
        raise HubError(f"the network's state holds {extra[0]}, which is no tensor: register it as a buffer")
    try:
        return _written(path, lambda unfinished: save_model(net, str(unfinished)))
    except RuntimeError as error:
        raise HubError(
            f"the network's tensors share memory in part ({' '.join(str(error).split())[:200]}): clone() those that do"
        ) from error


def _written(path: Path, save: Callable[[Path], None]) -> str:
    unfinished = path.with_name(path.name + ".part")
    try:
        save(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return digest(path)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            state.update(piece)
    return state.hexdigest()


def header(path: Path) -> Stored:
    """Names, shapes and shared names in a safetensors file, from its header alone.

    HubError: missing, empty, a pickle or a zip, a header that leaves the file, offsets that do not fill it.
    """
    if not path.is_file():
        raise HubError(f"{path}: no such file: a model folder holds config.json and model.safetensors")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise HubError(f"{path}: {size} bytes, no safetensors file: {_AGAIN}")
        length = int.from_bytes(start, "little")
        if length > min(size - 8, _LARGEST_HEADER):
            if start[:4] == b"PK\x03\x04" or (start[0] == 0x80 and start[1] <= 5 and start[2]):
                raise HubError(f"{path}: a pickle, which can run code: refused; ask for it in safetensors format")
            raise HubError(f"{path}: its header claims {length} of {size} bytes: cut short or damaged, {_AGAIN}")
        raw = file.read(length)
    try:
        table = json.loads(raw)
        notes = table.pop("__metadata__", None) or {}
        shapes = _shapes(table, size - 8 - length, path)
        shared = {name: other for name, other in notes.items() if other in shapes and name not in shapes}
        return Stored(shapes, shared)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, HubError):
            raise
        raise HubError(f"{path}: its header is damaged ({type(error).__name__}): {_AGAIN}") from error


def _shapes(table: Mapping[str, Any], size: int, path: Path) -> Shapes:
    shapes: Shapes = {}
    end = 0
    for name, entry in sorted(table.items(), key=lambda item: item[1]["data_offsets"]):
        shape, (begin, stop) = tuple(entry["shape"]), entry["data_offsets"]
        if entry["dtype"] not in _BYTES:
            raise HubError(f"{path}: {name} is stored as {entry['dtype']}: save it as one of {', '.join(_BYTES)}")
        if not all(isinstance(n, int) and n >= 0 for n in (*shape, begin, stop)):
            raise HubError(f"{path}: {name} has a shape or place that is no whole number: {_AGAIN}")
        if begin != end or stop - begin != math.prod(shape) * _BYTES[entry["dtype"]]:
            raise HubError(f"{path}: {name} does not lie where its shape says: damaged, {_AGAIN}")
        shapes[name], end = shape, stop
    if end != size:
        raise HubError(f"{path}: {size} bytes of weights where the header names {end}: cut short, {_AGAIN}")
    return shapes


def compare(have: Shapes, need: Shapes, path: Path) -> None:
    """HubError naming every missing, extra or renamed tensor and every wrong shape."""
    missing, extra = [n for n in need if n not in have], [n for n in have if n not in need]
    faults = []
    for name in list(missing):
        alike = [n for n in extra if have[n] == need[name]]
        renamed = difflib.get_close_matches(name, alike, n=1, cutoff=0.6)
        if renamed:
            faults.append(f"{name} is there as {renamed[0]}")
            missing.remove(name)
            extra.remove(renamed[0])
    faults += [f"missing {n}" for n in missing] + [f"extra {n}" for n in extra]
    faults += [f"{n} is {have[n]}, needed {need[n]}" for n in need if n in have and have[n] != need[n]]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise HubError(f"{path}: not this network's weights: {'; '.join(faults[:5])}{more}: mend names or net.config")


def read(path: Path, sha256: str | None, may_be_infinite: Container[str] = ()) -> dict[str, Tensor]:
    """The tensors of a file whose header was checked; HubError on another digest, NaN, and Inf where not allowed."""
    if sha256 is not None and digest(path) != sha256:
        raise HubError(f"{path}: its SHA-256 is not the one in config.json: damaged or replaced, {_AGAIN}")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise HubError(f"{path}: cannot be read ({error}): {_AGAIN}") from error
    bad = [name for name, value in tensors.items() if _faulty(value, name in may_be_infinite)]
    if bad:
        raise HubError(f"{path}: NaN or Inf in {bad[0]} ({len(bad)} such tensors): take an earlier file")
    return tensors


def _faulty(value: Tensor, may_be_infinite: bool) -> bool:
    value = value.float() if value.dtype.itemsize == 1 and value.is_floating_point() else value
    if not value.is_floating_point():
        return False
    return bool(torch.isnan(value).any()) if may_be_infinite else not bool(torch.isfinite(value).all())


def shapes_of(make: Callable[[], nn.Module]) -> Shapes | None:
    """Names and shapes of a network's state, built without memory; None where its class cannot be built so."""
    try:
        with torch.device("meta"):
            return {name: tuple(value.shape) for name, value in make().state_dict().items()}
    except HubError as error:
        if "meta" in str(error.__cause__).lower():
            return None
        raise


def fill(make: Callable[[], nn.Module], path: Path, stored: Stored, sha256: str | None) -> nn.Module:
    """The network with its weights in it, in the types of the file; eval mode, no gradients.

    The network is first built on the meta device, so nothing larger than the file is ever allocated.
    """
    have = {**stored.shapes, **{name: stored.shapes[other] for name, other in stored.shared.items()}}
    with _bounded(len(have), path):
        need = shapes_of(make)
        if need is not None:
            compare(have, need, path)
        with torch.random.fork_rng(devices=[]):
            net = make()
    state = net.state_dict()
    if need is None:
        compare(have, {name: tuple(value.shape) for name, value in state.items()}, path)
    tensors = read(path, sha256, {name for name, _ in net.named_buffers()})
    tensors.update({name: tensors[other] for name, other in stored.shared.items()})
    if any(tensors[name].dtype != value.dtype for name, value in state.items()):
        floats = {value.dtype for value in tensors.values() if value.is_floating_point()}
        if len(floats) == 1:
            net.to(next(iter(floats)))
    same = all(tensors[name].dtype == value.dtype for name, value in net.state_dict().items())
    net.load_state_dict(tensors, assign=not same)
    return net.eval().requires_grad_(False)


@contextmanager
def _bounded(tensors: int, path: Path) -> Iterator[None]:
    """Refuse to build networks of far more parts than the weights have tensors, whatever their arguments say."""
    counts, thread = {"parameters": 0, "parts": 0}, threading.get_ident()
    most = {"parameters": 2 * (tensors + 8), "parts": 2 * 100 * (tensors + 8)}

    def count(kind: str) -> None:
        if threading.get_ident() == thread:
            counts[kind] += 1
            if counts[kind] > most[kind]:
                raise HubError(
                    f"{path}: net.config needs more {kind} than the {tensors} tensors of the weights: mend it"
                )

    hooks = [
        nn.modules.module.register_module_parameter_registration_hook(lambda *_: count("parameters")),
        nn.modules.module.register_module_module_registration_hook(lambda *_: count("parts")),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
