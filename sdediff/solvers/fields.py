"""Whether the hyper-parameters of a solver are of the kinds that its class declares."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from sdediff._utils.checks import shown

_KINDS = {"int": int, "float": float, "bool": bool, "str": str}


def wrong_field(solver: Any) -> str | None:
    """What is wrong with the first field of another kind than its declaration allows, NaN included; None if nothing.

    Solvers inside of a solver are looked at too.
    """
    name = type(solver).__name__
    for field in dataclasses.fields(solver):
        value, kinds = getattr(solver, field.name), str(field.type).split(" | ")
        inside = dataclasses.is_dataclass(value) and hasattr(value, "step") and not isinstance(value, type)
        if inside and (fault := wrong_field(value)):
            return fault
        if kinds == ["Solver"] and not inside:
            return f"{field.name}={shown(value)} of {name}: needed is a Solver object"
        if not _allowed(value, kinds):
            return f"{field.name}={shown(value)} of {name}: needed is {field.type}, and no NaN"
    return None


def refusal(solver: Any, error: Exception) -> str:
    """What is wrong with a solver that failed in its own check: a field of another kind, or else what is needed."""
    needed = ", ".join(f"{field.name}: {field.type}" for field in dataclasses.fields(solver))
    return wrong_field(solver) or f"{type(solver).__name__} cannot be made ({error}): needed are {needed}"


def _allowed(value: Any, kinds: list[str]) -> bool:
    allowed = tuple(_KINDS.get(kind, object) for kind in kinds)
    if (object in allowed and set(kinds) - {"int", "float", "None"}) or (value is None and "None" in kinds):
        return True
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    whole = number and isinstance(value, int | np.integer)
    right = number if "float" in kinds else whole if "int" in kinds else isinstance(value, allowed)
    return (right or ("str" in kinds and isinstance(value, str))) and bool(value == value)
