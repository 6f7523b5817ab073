"""config.json: a model as plain values, and back. Classes by name, fields by name, tables as lists."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from inspect import isabstract
from pathlib import Path
from typing import Any

from torch import nn

from sdediff._utils.suggestions import meant, nearest
from sdediff.hub.errors import HubError
from sdediff.nets import NETS
from sdediff.sde import processes
from sdediff.sde.base import SDE, ClassDefault, SDEError
from sdediff.sde.learned import LearnedVP
from sdediff.sde.table import Table

FORMAT = 1
_LARGEST = 16 << 20  # bytes of a config.json; a table of a million training timesteps needs less
SDES: dict[str, type[SDE]] = {
    name: kind
    for name, kind in {**vars(processes), "Table": Table}.items()
    if isinstance(kind, type) and issubclass(kind, SDE) and dataclasses.is_dataclass(kind) and not isabstract(kind)
} | {"LearnedVP": LearnedVP}
_TABLES: dict[str, Callable[[list[float]], Table]] = {
    "betas": Table.from_betas,
    "alpha_bars": Table.from_alpha_bars,
    "sigmas": Table.from_sigmas,
    "lams": lambda lams: Table(tuple(lams)),
    "lams_ve": lambda lams: Table(tuple(lams), preserving=False),
}


def sde_config(sde: SDE) -> dict[str, Any]:
    """A process as a dictionary: its class and fields; a table as kind and values. HubError: not one of ours."""
    name = type(sde).__name__
    if SDES.get(name) is not type(sde):
        raise HubError(f"a {name} cannot be saved: give one of {', '.join(sorted(SDES))}, or save the net alone")
    if name == "Table":
        return {"class": name, **_table_config(sde)}
    if not dataclasses.is_dataclass(sde):
        return {"class": name, **sde.fields}  # type: ignore[attr-defined]
    fields = {f.name: getattr(sde, f.name) for f in dataclasses.fields(sde) if f.init}
    # What was not given stays so: a default of the class is no statement about the network.
    return {"class": name, **{key: None if isinstance(v, ClassDefault) else v for key, v in fields.items()}}


def _table_config(table: Any) -> dict[str, Any]:
    # JSON has no infinity: the last entry of a zero-terminal-SNR table is written as text.
    values = [v if math.isfinite(v) else str(v) for v in table.lams]
    return {"kind": "lams" if table.preserving else "lams_ve", "values": values}


def sde_from(config: Any, where: Path | str) -> SDE:
    """The process of a config written by `sde_config` or by hand (kind betas, alpha_bars, sigmas). HubError names the
    fault."""
    fields = dict(_section(config, "sde", where))
    name = str(fields.pop("class", None))
    if name not in SDES:
        raise HubError(f"{where}: {nearest(name, SDES, 'process')}")
    try:
        if name == "Table":
            kind = str(fields.get("kind"))
            if kind not in _TABLES:
                raise HubError(f"{where}: {nearest(kind, _TABLES, 'kind of table')}")
            return _TABLES[kind]([float(v) for v in fields["values"]])
        if name == "LearnedVP":
            return _learned(fields)
        valid = {f.name: f.default for f in dataclasses.fields(SDES[name]) if f.init}  # type: ignore[arg-type]
        for key, value in fields.items():
            if key not in valid:
                raise HubError(f"{where}: {name} has no field {key!r}: {meant(key, valid)}")
            if value is None and isinstance(valid[key], ClassDefault):
                continue
            if not isinstance(value, bool | int | float) or not math.isfinite(value):
                raise HubError(f"{where}: {name}'s {key}={value!r}: give a finite number")
        return SDES[name](**fields)
    except (SDEError, KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, HubError):
            raise
        raise HubError(f"{where}: the process {name} cannot be made ({error}): mend its fields") from error


def _learned(fields: dict[str, Any]) -> LearnedVP:
    process = LearnedVP(**fields)
    process.requires_grad_(False)
    return process


def net_config(net: Any) -> dict[str, Any]:
    """A network's class and constructor arguments. HubError: not a registered class with a `config`."""
    name = type(net).__name__
    config = getattr(net, "config", None)
    if NETS.get(name) is not type(net) or not isinstance(config, dict):
        raise HubError(f"a {name} cannot be saved: use one of {', '.join(NETS)}, or add its class to nets.NETS")
    return {"class": name, "config": dict(config)}


def net_maker(config: Any, tensors: int, where: Path | str) -> Callable[[], nn.Module]:
    """A function that builds the network of a config; `tensors`, the number in its weights, bounds its blocks."""
    given = _section(config, "net", where)
    name = str(given.get("class"))
    if name not in NETS:
        raise HubError(f"{where}: {nearest(name, NETS, 'network')}")
    arguments = _section(given.get("config", {}), "net.config", where)
    for key, value in arguments.items():
        size = len(value) if isinstance(value, list) else value if key == "blocks" else 0
        if isinstance(size, int) and size > tensors:
            raise HubError(f"{where}: {key}={value} needs more than the {tensors} tensors of the weights: mend it")

    def make() -> nn.Module:
        try:
            return NETS[name](**arguments)
        except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError, OverflowError) as error:
            raise HubError(f"{where}: the network {name} cannot be made ({error}): mend net.config") from error

    return make


def read(folder: Path) -> dict[str, Any]:
    """A folder's config.json, its format checked. HubError: missing, too large, not JSON, of another format."""
    path = folder / "config.json"
    if not path.is_file():
        raise HubError(f"{path}: no such file: a model folder holds config.json and model.safetensors")
    if path.stat().st_size > _LARGEST:
        raise HubError(f"{path}: {path.stat().st_size} bytes, more than a config can need: write it again")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise HubError(f"{path}: cannot be read as JSON ({error}): write it again with sdediff.save") from error
    config = _section(config, "the file", path)
    if config.get("format") != FORMAT:
        raise HubError(f"{path}: format {config.get('format')!r}, this version reads {FORMAT}: save it again")
    return config


def _section(given: Any, name: str, where: Path | str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise HubError(f"{where}: {name} must be an object with named fields, given {type(given).__name__}")
    return given
