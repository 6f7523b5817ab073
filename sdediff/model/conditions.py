"""Conditions of a network: what they may be, and how they are cut to some of the samples.

One rule. A tensor with a row a sample, in dictionaries, lists and tuples at will, is cut by sample; all else is shared.
A row a sample means a first size of B, or the name's being in `per_sample`; a name in `shared` is never cut.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import shown
from sdediff._utils.errors import InputError, InputTypeError


def as_tensors(cond: Any) -> dict[str, Any]:
    """Conditions with arrays and lists of numbers as tensors, nested at will; other objects stay as they are."""
    if not isinstance(cond, dict) or not all(isinstance(name, str) for name in cond):
        raise InputTypeError(f"cond={shown(cond)}: give a dictionary of the network's keyword arguments")
    return {name: _as_tensor(name, value) for name, value in cond.items()}


def _as_tensor(name: str, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise InputTypeError(f"cond {name!r} is an array of {value.dtype}: give numbers, or a tensor")
        return torch.from_numpy(np.array(value))
    if isinstance(value, dict):
        return {key: _as_tensor(f"{name}[{key!r}]", part) for key, part in value.items()}
    if isinstance(value, list) and value and _numbers(value):
        try:
            return torch.tensor(value)
        except (TypeError, ValueError) as error:
            raise InputTypeError(f"cond {name!r} is a ragged list of numbers: give lists of one length") from error
    if type(value) in (list, tuple):
        return type(value)(_as_tensor(f"{name}[{i}]", part) for i, part in enumerate(value))
    return value


def _numbers(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_numbers, value))
    return isinstance(value, int | float)


def check_names(net: Callable[..., Any], names: Collection[str]) -> None:
    """Refuse conditions other than those that the signature of a network (x, clock, conditions) has."""
    try:
        given = inspect.signature(net.forward if isinstance(net, torch.nn.Module) else net).parameters.values()
    except (TypeError, ValueError):
        return  # a function of C, or an object that hides what it takes
    if any(p.kind is p.VAR_KEYWORD for p in given):
        return
    own = [p for p in list(given)[2:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes = f"its conditions are {', '.join(p.name for p in own)}" if own else "it takes none"
    for name in names:
        if name not in [p.name for p in own]:
            raise InputError(f"the network has no condition {name!r}: {takes}")
    for p in own:
        if p.default is p.empty and p.name not in names:
            raise InputError(f"the network needs the condition {p.name!r}: write cond={{{p.name!r}: ...}}")


def rows_of_conditions(
    cond: dict[str, Any], rows: Tensor, batch: int, per_sample: Collection[str] = (), shared: Collection[str] = ()
) -> dict[str, Any]:
    """Conditions of a batch cut to the samples `rows` (b,), which may repeat.

    Refuses what leaves open whether it has a row a sample: a vector of B fractions, which may be one number a sample
    or one vector for all, and B texts or other objects. Labels, whole numbers (B,), have a row a sample.
    """
    return {
        name: value if name in shared else _cut(name, value, rows, batch, name in per_sample)
        for name, value in cond.items()
    }


def _cut(name: str, value: Any, rows: Tensor, batch: int, declared: bool) -> Any:
    if isinstance(value, dict):
        return {key: _cut(f"{name}[{key!r}]", part, rows, batch, declared) for key, part in value.items()}
    if isinstance(value, Tensor):
        if not value.ndim or len(value) != batch:
            if declared:
                raise InputError(f"cond {name!r} has the shape {tuple(value.shape)}, declared with {batch} rows")
            return value
        if value.ndim == 1 and value.is_floating_point() and batch > 1 and not declared:
            raise InputError(_open(name, f"is a vector of {batch} numbers", batch) + f", or give it as ({batch}, 1)")
        return value[rows.to(value.device)]
    if type(value) in (list, tuple):
        if len(value) == batch > 1 and not any(isinstance(part, Tensor | dict | list | tuple) for part in value):
            if not declared:
                raise InputError(_open(name, f"is a {type(value).__name__} of {batch} entries", batch))
            return type(value)(value[i] for i in rows.tolist())
        return type(value)(_cut(f"{name}[{i}]", part, rows, batch, declared) for i, part in enumerate(value))
    return value


def _open(name: str, what: str, batch: int) -> str:
    root = name.partition("[")[0]
    return (
        f"cond {name!r} {what} for {batch} samples, one each or one for all: say which by "
        f'ScoreModel(..., per_sample=("{root}",)) or ScoreModel(..., shared=("{root}",))'
    )


def a_row_each(value: Any, count: int) -> Any:
    """A condition (1, M, ...) of all samples, nested at will, as one with a row for each of `count` samples."""
    if isinstance(value, dict):
        return {name: a_row_each(part, count) for name, part in value.items()}
    if isinstance(value, Tensor) and value.ndim > 1 and len(value) == 1 != count:
        return value.expand(count, *value.shape[1:])
    return value


def conditions_in_turn(cond: dict[str, Any] | None, rows: range, shared: Collection[str] = ()) -> dict[str, Any] | None:
    """The conditions of samples `rows` where tensors give their rows in turn, again from the first after the last.

    Tensors without dimensions, all that is no tensor, and names in `shared` are the same for every sample.
    """
    if cond is None:
        return None
    turns = torch.tensor(list(rows))
    return {name: v if name in shared else _in_turn(v, turns) for name, v in as_tensors(cond).items()}


def _in_turn(value: Any, turns: Tensor) -> Any:
    if isinstance(value, dict):
        return {key: _in_turn(part, turns) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_in_turn(part, turns) for part in value)
    if not isinstance(value, Tensor) or not value.ndim:
        return value
    return value[turns.to(value.device) % len(value)]
