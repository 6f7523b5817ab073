"""Processes and clocks as plain values, and back: ours by name, a user's own by its importable class."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from inspect import isabstract
from pathlib import Path
from typing import Any

from torch import nn

from sdediff._utils.errors import InputError
from sdediff._utils.references import plugin, plugins, raised, reference_to
from sdediff._utils.suggestions import meant, nearest
from sdediff.hub.errors import HubError
from sdediff.hub.trust import trusted_object
from sdediff.hub.values import decode, encode
from sdediff.model.clock import Clock
from sdediff.model.prediction import ModelError
from sdediff.sde import processes
from sdediff.sde.base import SDE, ClassDefault, SDEError
from sdediff.sde.learned import LearnedVP
from sdediff.sde.table import Table

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
    """A process as a dictionary: its class and fields; a table as kind and values.

    A class of the user's is a dataclass that can be imported, or one without arguments. HubError: others.
    """
    kind = type(sde)
    name = kind.__name__ if SDES.get(kind.__name__) is kind else class_name(kind, "processes")
    if name == "Table":
        return {"class": name, **_table_config(sde)}
    if name == "LearnedVP":
        return {"class": name, **sde.fields}  # type: ignore[attr-defined]
    if isinstance(sde, nn.Module):
        raise HubError(f"the process {name} has parameters, which a folder does not hold: write a factory of the model")
    fields: dict[str, Any] = {}
    if dataclasses.is_dataclass(sde):
        fields = {f.name: getattr(sde, f.name) for f in dataclasses.fields(sde) if f.init}
    elif vars(sde):
        raise HubError(f"the process {name} holds {', '.join(vars(sde))}: make it a dataclass, whose fields are saved")
    # What was not given stays so: a default of the class is no statement about the network.
    plain = {key: None if isinstance(v, ClassDefault) else encode(v, f"{name}.{key}") for key, v in fields.items()}
    return {"class": name, **plain}


def class_name(kind: type, plugins_of: str) -> str:
    """The name under which a plug-in registers a class, else its reference."""
    try:
        reference = reference_to(kind)
    except InputError as error:
        raise HubError(f"a {kind.__name__} cannot be saved: {error}") from error
    registered = (entry.name for entry in plugins(plugins_of).values() if entry.value.replace(" ", "") == reference)
    return next(registered, reference)


def _table_config(table: Any) -> dict[str, Any]:
    # JSON has no infinity: the last entry of a zero-terminal-SNR table is written as text.
    values = [v if math.isfinite(v) else str(v) for v in table.lams]
    kind = {"kind": "lams" if table.preserving else "lams_ve", "values": values}
    return {**kind, "descending": True} if table.descending else kind


def sde_from(config: Any, where: Path | str, trust: Collection[str] = ()) -> SDE:
    """The process of a config written by `sde_config` or by hand (kind betas, alpha_bars, sigmas). HubError names the
    fault."""
    fields = dict(section(config, "sde", where))
    name = str(fields.pop("class", None))
    if name == "Table":
        return _table_from(fields, where)
    if name == "LearnedVP":
        return _learned_from(fields, where)
    kind = SDES.get(name) or registered(name, "processes", "process", SDE, SDES, where, trust)
    values = _fields_of(kind, fields, where) if name in SDES else _decoded(fields, where, trust)
    try:
        return kind(**values)
    except Exception as error:  # a class of the user's may raise anything
        if isinstance(error, HubError):
            raise
        said = str(error) if isinstance(error, SDEError) else raised(error)
        raise HubError(f"{where}: the process {name} cannot be made ({said}): mend its fields") from error


def _table_from(fields: dict[str, Any], where: Path | str) -> Table:
    kind, descending = str(fields.get("kind")), fields.get("descending", False)
    if kind not in _TABLES:
        raise HubError(f"{where}: {nearest(kind, _TABLES, 'kind of table')}")
    if not isinstance(descending, bool):
        raise HubError(f"{where}: the table's descending={descending!r:.60}: write true or false")
    try:
        table = _TABLES[kind]([float(v) for v in fields["values"]])
    except (SDEError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise HubError(f"{where}: the process Table cannot be made ({error}): mend its fields") from error
    return dataclasses.replace(table, descending=True) if descending else table


def _learned_from(fields: dict[str, Any], where: Path | str) -> LearnedVP:
    width = fields.get("width", 1)
    if not isinstance(width, int) or not 1 <= width <= 1 << 20:
        raise HubError(f"{where}: LearnedVP's width={width!r:.60}: give a whole number of units, at most {1 << 20}")
    try:
        process = LearnedVP(**fields)
    except Exception as error:  # torch raises many kinds for numbers that it cannot take
        raise HubError(f"{where}: the process LearnedVP cannot be made ({raised(error)}): mend its fields") from error
    process.requires_grad_(False)
    return process


def _fields_of(kind: type[SDE], fields: dict[str, Any], where: Path | str) -> dict[str, Any]:
    """The given fields of a process of ours, numbers all."""
    valid = {f.name: f.default for f in dataclasses.fields(kind) if f.init}  # type: ignore[arg-type]
    given = {}
    for key, value in fields.items():
        if key not in valid:
            raise HubError(f"{where}: {kind.__name__} has no field {key!r}: {meant(key, valid)}")
        if value is None and isinstance(valid[key], ClassDefault):
            continue
        if not isinstance(value, bool | int | float) or not _finite(value):
            raise HubError(f"{where}: {kind.__name__}'s {key}={value!r:.60}: give a finite number")
        given[key] = value
    return given


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def _decoded(fields: dict[str, Any], where: Path | str, trust: Collection[str]) -> dict[str, Any]:
    objects = functools.partial(trusted_object, what="argument", kind=None, where=where, trust=trust)
    return {key: decode(value, str(where), objects) for key, value in fields.items() if value is not None}


def registered(
    name: str, kind: str, what: str, base: type, ours: Collection[str], where: Path | str, trust: Collection[str]
) -> Any:
    """A class by its name among the plug-ins, or by its reference where that is trusted."""
    if ":" in name:
        return trusted_object(name, what, base, where, trust)
    entries = plugins(kind)
    if name not in entries:
        raise HubError(f"{where}: {nearest(name, {*ours, *entries}, what)}")
    try:
        made = plugin(kind, entries[name])
    except InputError as error:
        raise HubError(f"{where}: {error}") from error
    if not (isinstance(made, type) and issubclass(made, base)):
        raise HubError(
            f"{where}: the plug-in {name!r} is a {type(made).__name__}, needed is a subclass of {base.__name__}"
        )
    return made


def clock_config(time: Any) -> Any:
    """A model's clock: a name, the fields of a `Clock`, or the reference of a function. HubError: other functions."""
    if isinstance(time, str):
        return time
    if isinstance(time, Clock):
        return dataclasses.asdict(time)
    try:
        return {"function": reference_to(time)}
    except InputError as error:
        raise HubError(f"the model's clock cannot be saved: {error}, or use an sd.Clock") from error


def clock_from(given: Any, where: Path | str, trust: Collection[str]) -> Any:
    """The clock that `clock_config` gave."""
    if isinstance(given, str):
        return given
    if not isinstance(given, dict):
        raise HubError(f"{where}: time={given!r:.60} is not what a model takes: mend it")
    if set(given) == {"function"}:
        return trusted_object(str(given["function"]), "clock", None, where, trust)
    try:
        return Clock(**given)
    except (ModelError, InputError, TypeError, OverflowError) as error:
        raise HubError(f"{where}: the clock cannot be made ({error}): mend time") from error


def section(given: Any, name: str, where: Path | str) -> dict[str, Any]:
    """A part of a config, which must be an object."""
    if not isinstance(given, dict):
        raise HubError(f"{where}: {name} must be an object with named fields, given {type(given).__name__}")
    return given
